"""A borrowed stretch of bytes."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, strlen


cdef extern from * nogil:
    """
    #define PGPOOL_HASH_BEGIN 2166136261u
    """
    const uint32_t HASH_BEGIN "PGPOOL_HASH_BEGIN"


cdef struct Span:                 # borrows: valid as long as the buffer it points into
    const uint8_t *at
    uint32_t len


cdef inline Span text_span(const char *text) noexcept nogil:
    cdef Span s
    s.at = <const uint8_t *>text
    s.len = <uint32_t>strlen(text)
    return s


cdef inline uint32_t hash_on(uint32_t h, Span s) noexcept nogil:
    """FNV-1a, from 32 bits that stand for what came before (HASH_BEGIN: nothing)."""
    cdef uint32_t i
    for i in range(s.len):
        h = (h ^ s.at[i]) * <uint32_t>16777619
    return h


cdef inline uint32_t hash_apart(uint32_t h) noexcept nogil:
    """As if a zero byte stood here, so that two names in a row are not another two."""
    return h * <uint32_t>16777619


cdef inline bint same(Span a, Span b) noexcept nogil:
    return a.len == b.len and memcmp(a.at, b.at, a.len) == 0
