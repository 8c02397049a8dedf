"""What login users may: limits and timeouts of their own, which go before those of the pool they come to."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.wire.span cimport Span


cdef enum:
    PATIENCE_QUERY_WAIT = 0       # timeouts of clients, each in us, 0 = none
    PATIENCE_QUERY = 1
    PATIENCE_TRANSACTION = 2
    PATIENCE_IDLE_TRANSACTION = 3
    PATIENCE_CLIENT_IDLE = 4
    PATIENCES = 5

    TERMS_OK = 0
    TERMS_FULL = -1               # max_user_client_connections
    TERMS_NO_MEMORY = -2

    AS_ALL = 0xFFFFFFFF           # max_clients: nothing of their own


cdef struct Terms:                # one for each login user who has an entry in [users] or a client here
    Terms *next                   # in its bucket
    uint64_t[PATIENCES] patience  # UINT64_MAX = as the pool says; atomic
    uint32_t max_clients          # max_user_client_connections, 0 = any number; under the table's lock, as what follows
    uint32_t clients
    uint32_t round                # of the last terms_set; 0 = [users] says nothing
    uint32_t name_len
    unsigned char[1] name


cdef struct TermsTable:
    pthread_mutex_t lock
    Terms **buckets
    uint32_t max_clients          # for users who have no limit of their own; 0 = any number
    uint32_t round


cdef TermsTable *terms_new() noexcept nogil
cdef void terms_free(TermsTable *table) noexcept nogil
cdef int terms_enter(TermsTable *table, Span user, Terms **out) noexcept nogil
cdef int terms_stay(TermsTable *table, Span user, Terms **out) noexcept nogil
cdef void terms_leave(TermsTable *table, Terms *terms) noexcept nogil
cdef void terms_begin(TermsTable *table, uint32_t max_clients) noexcept nogil
cdef bint terms_set(TermsTable *table, Span user, uint32_t max_clients, const uint64_t *patience) noexcept nogil
cdef void terms_end(TermsTable *table) noexcept nogil
