"""Writing SQL into a caller's buffer.

Texts of others are kept as bytes of the database's encoding and written in ASCII: a server reads that the same
whatever client_encoding it stands at.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, strlen

from pgpool_core.wire.span cimport Span


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


cdef inline bint plain(Span text) noexcept nogil:
    """Whether `text` is ASCII."""
    cdef uint32_t i
    for i in range(text.len):
        if text.at[i] >= 0x80:
            return False
    return True


cdef inline void put_bytes(TextOut *o, Span text) noexcept nogil:
    """An expression for `text`: 2 bytes for one of its bytes, and 96."""
    cdef const char *digits = "0123456789abcdef"
    cdef uint32_t i
    put_text(o, "pg_catalog.convert_from(pg_catalog.decode('")
    for i in range(text.len):
        put(o, digits + (text.at[i] >> 4), 1)
        put(o, digits + (text.at[i] & 15), 1)
    put_text(o, "', 'hex'), pg_catalog.getdatabaseencoding())")
