"""Each thread has a stock of its own; see chance.pxd. What has been taken is wiped, and nothing of it outlives a fork: the threads that
log clients in are not there in the child."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from pgpool_core.auth.crypto cimport OPENSSL_cleanse, RAND_bytes

cdef extern from * nogil:
    """
    #define CHANCE_STOCK 1024
    static __thread struct { unsigned char bytes[CHANCE_STOCK]; size_t left; } pgpool_chance;
    """
    ctypedef struct Stock:
        unsigned char *bytes
        size_t left
    const int CHANCE_STOCK
    Stock pgpool_chance


cdef bint chance_take(uint8_t *out, size_t n) noexcept nogil:
    """`n` random bytes, CHANCE_MOST at most; False where there is no randomness."""
    if n > CHANCE_MOST:
        return False
    if pgpool_chance.left < n:
        pgpool_chance.left = 0
        if RAND_bytes(pgpool_chance.bytes, CHANCE_STOCK) != 1:
            return False
        pgpool_chance.left = CHANCE_STOCK
    pgpool_chance.left -= n
    memcpy(out, pgpool_chance.bytes + pgpool_chance.left, n)
    OPENSSL_cleanse(pgpool_chance.bytes + pgpool_chance.left, n)
    return True
