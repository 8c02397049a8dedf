"""What a session has been told to be: the reported settings that follow a client from server to server.

A `Block` is an immutable, interned set of settings, so "does this server stand as this client wants it" is one
comparison of pointers. Blocks are shared by all threads and counted; the table's mutex guards the counts.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.pool.sync cimport pthread_mutex_t
from pgpool_core.wire.span cimport Span


cdef enum:
    SETTINGS_BUCKETS = 4096
    MAX_BLOCK_LEN = 8192          # names and values with their terminators; a longer block is refused
    MAX_SETTING_LEN = 4096        # one value

    SETTINGS_OK = 0
    SETTINGS_TOO_LONG = -1
    SETTINGS_NO_MEMORY = -2


cdef struct Block:                # owned by its table; everything but `refs` and `verified` never changes
    Block *next
    uint32_t refs
    uint32_t hash
    uint32_t len                  # bytes in `data`
    uint8_t verified              # a server has stood exactly like this: replaying it cannot fail on its values
    uint8_t data[1]               # name, zero, value, zero; sorted by name


cdef struct Settings:             # the table
    pthread_mutex_t lock
    Block **buckets


cdef Settings *settings_new() noexcept nogil
cdef void settings_free(Settings *table) noexcept nogil
cdef bint setting_tracked(Span name, Span *canonical) noexcept nogil
cdef Block *block_ref(Settings *table, Block *block) noexcept nogil
cdef void block_unref(Settings *table, Block *block) noexcept nogil
cdef int block_with(Settings *table, Block *base, Span name, Span value, Block **out) noexcept nogil
cdef bint block_get(const Block *block, Span name, Span *value) noexcept nogil
cdef int block_replay(const Block *have, const Block *want, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil
