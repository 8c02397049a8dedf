"""The settings that follow a client from server to server.

A `Block` is an immutable, interned set of settings, so "does this server stand as this client wants it" is one
comparison of pointers. Blocks are shared by all threads and counted; the table's mutex guards the counts.

The six *tracked* settings are reported by PostgreSQL whenever they change, so a block always has them. Any other
setting is in a block when it differs from what a fresh server connection has. Names are as PostgreSQL spells them;
those that it does not list (`app.tenant`) are in lower case. Both are bytes of the database's encoding, which is how
PostgreSQL takes a startup packet too.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.wire.span cimport Span


cdef enum:
    SETTINGS_BUCKETS = 4096
    MAX_BLOCK_LEN = 1 << 20       # names and values with their terminators; a longer block is refused
    MAX_TRACKED_LEN = 1 << 15     # beyond that, for what PostgreSQL reports: it has happened already
    MAX_NAME_LEN = 255
    MAX_IDENTIFIER_LEN = 63       # PostgreSQL cuts what stands as an identifier in SQL; a string it does not cut

    SETTINGS_OK = 0
    SETTINGS_TOO_LONG = -1
    SETTINGS_NO_MEMORY = -2
    SETTINGS_BAD_NAME = -3        # empty, too long, or with a byte that no setting's name has


cdef struct Block:                # owned by its table; everything but `refs` and `verified` never changes
    Block *next
    uint32_t refs
    uint32_t hash
    uint32_t len                  # bytes in `data`
    uint8_t trailing              # client_encoding has characters whose later bytes are ASCII: SJIS, BIG5, GBK ...
    uint8_t verified              # a server has stood exactly like this: replaying it does not fail on its values
    uint8_t data[1]               # name, zero, value, zero; sorted by name


cdef struct Settings:             # the table
    pthread_mutex_t lock
    Block **buckets


cdef Settings *settings_new() noexcept nogil
cdef void settings_free(Settings *table) noexcept nogil
cdef bint setting_tracked(Span name, Span *canonical) noexcept nogil
cdef int setting_name(Span name, uint8_t *out, Span *canonical) noexcept nogil
cdef Block *block_ref(Settings *table, Block *block) noexcept nogil
cdef void block_unref(Settings *table, Block *block) noexcept nogil
cdef bint block_sound(const uint8_t *data, uint32_t n) noexcept nogil
cdef int block_of(Settings *table, const uint8_t *data, uint32_t n, bint verified, Block **out) noexcept nogil
cdef int block_with(Settings *table, Block *base, Span name, Span value, Block **out) noexcept nogil
cdef bint put_setting(Settings *table, Block **block, Span name, Span value) noexcept nogil
cdef bint block_get(const Block *block, Span name, Span *value) noexcept nogil
cdef uint32_t block_entry(const Block *block, uint32_t at, Span *name, Span *value) noexcept nogil
