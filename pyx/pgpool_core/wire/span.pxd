"""A borrowed stretch of bytes."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, strlen


cdef struct Span:                 # borrows: valid as long as the buffer it points into
    const uint8_t *at
    uint32_t len


cdef inline Span text_span(const char *text) noexcept nogil:
    cdef Span s
    s.at = <const uint8_t *>text
    s.len = <uint32_t>strlen(text)
    return s


cdef inline bint same(Span a, Span b) noexcept nogil:
    return a.len == b.len and memcmp(a.at, b.at, a.len) == 0
