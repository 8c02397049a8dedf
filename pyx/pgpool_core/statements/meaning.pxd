"""How long a text goes on meaning the same: what it says of the moment, and tables that have changed since it was first sent.

PostgreSQL settles at Parse what literals and parameters are. Another Parse of the same text is to find what is so by then.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.sync.mutex cimport pthread_mutex_t


cdef enum:
    CHANGES_KEPT = 32             # a power of two; who has missed more takes everything for changed
    CHANGE_LEN = 120              # bytes of names in one of them


cdef struct Change:
    uint32_t len                  # bytes of `names`; 0: anything may have changed
    uint8_t names[CHANGE_LEN]     # of tables, each with its zero


cdef struct Changes:              # shared by all threads
    pthread_mutex_t lock          # guards the ring
    uint64_t last                 # number of the last one; atomic
    Change[CHANGES_KEPT] ring


cdef void changes_init(Changes *changes) noexcept nogil
cdef void changes_free(Changes *changes) noexcept nogil
cdef void changes_add(Changes *changes, const uint8_t *names, uint32_t n) noexcept nogil
cdef bint changes_touch(Changes *changes, uint64_t since, uint64_t until, const uint8_t *text, uint32_t n) noexcept nogil
cdef bint text_mentions(const uint8_t *text, size_t n, const uint8_t *name, size_t length) noexcept nogil
cdef bint is_momentary(const uint8_t *text, uint32_t n) noexcept nogil
cdef bint is_ascii(const uint8_t *text, uint32_t n) noexcept nogil
