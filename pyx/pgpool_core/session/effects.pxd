"""What a text may do to its session without saying so: names of functions, tables and views that lead to such a thing.

A table of names, made by control from PostgreSQL's catalogs and never changed afterwards. It lies in one stretch of
memory, so that every worker has a copy of its own. Names are compared without schema, quotes and case, and a run of bytes
above 127 counts as one: the table may say too much, and client_encoding does not matter.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum:
    EFFECT_NAME_LEN = 63          # bytes of a name that PostgreSQL keeps; what a longer one stands for is not known


cdef struct Effect:
    uint64_t sum                  # name_sum; 0 = an empty place
    uint32_t flags                # SQL_*: what may happen where the name stands
    uint32_t written              # SQL_*: the same where the text also changes rows of something


cdef struct Effects:              # in front of its places and its settings
    uint32_t size                 # bytes, all of it
    uint32_t serial               # how many changes the database had been seen to make when it was read
    uint32_t generation           # no two tables have the same
    uint32_t mask                 # of places; their number less one
    uint32_t count                # names
    uint32_t settings_len         # bytes behind the places: custom settings that may be set, each ended by a zero
    uint8_t pairs[128]            # a bit for each first and last byte that a name has


cdef bint effects_valid(const Effects *table, size_t n) noexcept nogil
cdef const Effect *effects_find(const Effects *table, const uint8_t *at, size_t len) noexcept nogil
cdef const uint8_t *effects_settings(const Effects *table) noexcept nogil


cdef inline uint32_t name_pair(const uint8_t *at, size_t len) noexcept nogil:
    """The bit of `pairs` for a name of one byte or more."""
    return ((at[0] & 31 if at[0] < 0x80 else 0) << 5) | (at[len - 1] & 31 if at[len - 1] < 0x80 else 0)


cdef inline bint effects_may(const Effects *table, const uint8_t *at, size_t len) noexcept nogil:
    """False: the name of one byte or more is not in the table."""
    cdef uint32_t pair = name_pair(at, len)
    return (table.pairs[pair >> 3] >> (pair & 7)) & 1
