"""Random bytes for salts and nonces: taken from libcrypto many at a time, since each call costs it a lock and a system call."""

from libc.stdint cimport uint8_t

cdef enum:
    CHANCE_MOST = 64              # bytes that may be asked for at one time

cdef bint chance_take(uint8_t *out, size_t n) noexcept nogil
