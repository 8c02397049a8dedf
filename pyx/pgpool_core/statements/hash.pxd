"""A hash of bytes that a peer cannot steer: SipHash-1-3 under a key drawn at start.

Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; one round a word and three at the end.
"""

from libc.stdint cimport uint8_t, uint64_t


cdef struct HashKey:
    uint64_t a
    uint64_t b


cdef uint64_t hash_bytes(const HashKey *key, const uint8_t *data, size_t n) noexcept nogil


cdef inline uint64_t hash_id(uint64_t id) noexcept nogil:
    """Spread numbers that nobody outside chooses."""
    return (id * <uint64_t>0x9E3779B97F4A7C15) >> 32
