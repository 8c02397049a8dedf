"""Writing SQL into a caller's buffer."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy, strlen


cdef struct TextOut:              # owns nothing; `at` runs on past `cap`, where nothing is written
    uint8_t *data
    size_t at
    size_t cap


cdef inline TextOut text_out(uint8_t *data, size_t cap) noexcept nogil:
    cdef TextOut o
    o.data = data
    o.at = 0
    o.cap = cap
    return o


cdef inline void put(TextOut *o, const void *text, size_t n) noexcept nogil:
    if o.at + n <= o.cap:
        memcpy(o.data + o.at, text, n)
    o.at += n


cdef inline void put_text(TextOut *o, const char *text) noexcept nogil:
    put(o, text, strlen(text))
