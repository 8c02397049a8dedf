"""SipHash-1-3; see hash.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef struct State:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3


cdef inline uint64_t turn(uint64_t x, int by) noexcept nogil:
    return (x << by) | (x >> (64 - by))


cdef inline void mix(State *s) noexcept nogil:
    s.v0 += s.v1
    s.v1 = turn(s.v1, 13) ^ s.v0
    s.v0 = turn(s.v0, 32)
    s.v2 += s.v3
    s.v3 = turn(s.v3, 16) ^ s.v2
    s.v0 += s.v3
    s.v3 = turn(s.v3, 21) ^ s.v0
    s.v2 += s.v1
    s.v1 = turn(s.v1, 17) ^ s.v2
    s.v2 = turn(s.v2, 32)


cdef uint64_t hash_bytes(const HashKey *key, const uint8_t *data, size_t n) noexcept nogil:
    """The hash of `n` bytes; words are read in the processor's order, so a hash means nothing outside this process."""
    cdef State s
    cdef uint64_t word
    cdef size_t at = 0
    s.v0 = key.a ^ <uint64_t>0x736F6D6570736575
    s.v1 = key.b ^ <uint64_t>0x646F72616E646F6D
    s.v2 = key.a ^ <uint64_t>0x6C7967656E657261
    s.v3 = key.b ^ <uint64_t>0x7465646279746573
    while n - at >= 8:
        memcpy(&word, data + at, 8)
        s.v3 ^= word
        mix(&s)
        s.v0 ^= word
        at += 8
    word = 0
    if n > at:
        memcpy(&word, data + at, n - at)
    word |= <uint64_t>n << 56
    s.v3 ^= word
    mix(&s)
    s.v0 ^= word
    s.v2 ^= 0xFF
    mix(&s)
    mix(&s)
    mix(&s)
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
