"""The SQL that makes a server stand as a client wants it."""

from libc.stdint cimport uint8_t

from pgpool_core.session.settings cimport Block


cdef enum:
    REPLAY_OK = 0
    REPLAY_TOO_LONG = -1          # more than `cap` bytes: `replay_bound` says how many are enough


cdef size_t replay_bound(const Block *have, const Block *want) noexcept nogil
cdef int replay_write(const Block *have, const Block *want, uint8_t *out, size_t cap, size_t *out_len,
                      bint *must_wait) noexcept nogil
