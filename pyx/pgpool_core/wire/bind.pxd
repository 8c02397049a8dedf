"""The values in a Bind message. Source: PostgreSQL docs, "Message Formats", Bind."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr

from pgpool_core.wire.be cimport load_be16, load_be32
from pgpool_core.wire.span cimport Span


cdef inline bint bind_next(const uint8_t *body, uint32_t n, uint32_t *at, Span *value) noexcept nogil:
    """The next value that is not NULL; `*at` begins at 0. False behind the last one, and where the message is broken."""
    cdef const uint8_t *zero
    cdef uint32_t i, length
    if at[0] == 0:                                # portal, statement, format codes, number of values
        for i in range(2):
            zero = <const uint8_t *>memchr(body + at[0], 0, n - at[0])
            if zero == NULL:
                return False
            at[0] = <uint32_t>(zero - body) + 1
        if n - at[0] < 2:
            return False
        length = 2 * <uint32_t>load_be16(body + at[0]) + 2
        if n - at[0] < length + 2:
            return False
        at[0] += length + 2
    while n - at[0] >= 4:
        length = load_be32(body + at[0])
        at[0] += 4
        if length == <uint32_t>-1:
            continue
        if length > n - at[0]:
            return False
        value.at = body + at[0]
        value.len = length
        at[0] += length
        return True
    return False
