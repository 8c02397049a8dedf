"""A borrowed stretch of bytes."""

from libc.stdint cimport uint8_t, uint32_t


cdef struct Span:                 # borrows: valid as long as the buffer it points into
    const uint8_t *at
    uint32_t len
