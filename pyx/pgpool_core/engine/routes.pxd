"""Which pool a login of (database, user) goes to, as far as control has said so already."""

from libc.stdint cimport uint32_t

from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.wire.span cimport Span


cdef struct Route:
    Route *next
    void *target                  # borrowed
    uint32_t database_len
    uint32_t user_len
    unsigned char names[1]        # database, then user


cdef struct Routes:
    pthread_mutex_t lock
    Route **buckets
    uint32_t count


cdef Routes *routes_new() noexcept nogil
cdef void routes_free(Routes *routes) noexcept nogil
cdef bint routes_put(Routes *routes, Span database, Span user, void *target) noexcept nogil
cdef void *routes_get(Routes *routes, Span database, Span user) noexcept nogil
cdef void routes_drop(Routes *routes, const void *target) noexcept nogil
cdef void routes_clear(Routes *routes) noexcept nogil
