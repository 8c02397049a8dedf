"""The shape of a text: what is left of it without the values that programs write into it.

A string between single quotes is left empty, and digits that are no part of a word become one zero: `WHERE id = 17 AND b = 'x'` and
`WHERE id = 4 AND b = ''` are of one shape. `scan_sql` finds the same in texts of one shape, as long as no string in them is SQL
itself (`SqlScan.bodies`) and nothing in them has a name or a value (`SqlScan.name`, `SqlScan.value`).

Texts have no shape in which somebody else might see a string begin or end elsewhere: with a backslash outside of a quoted name, a
comment, or a dollar that quotes.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    SHAPE_MOST = 1000             # bytes of a shape, at most


cdef inline uint64_t shape_look(const uint8_t *shape, uint32_t len) noexcept nogil:
    """What the whole of it looks like, as a number."""
    cdef uint64_t look = len
    cdef uint64_t part
    while len >= 8:
        memcpy(&part, shape, 8)
        look = (look ^ part) * <uint64_t>0x9E3779B97F4A7C15
        look ^= look >> 32
        shape += 8
        len -= 8
    part = 0
    memcpy(&part, shape, len)
    look = (look ^ part) * <uint64_t>0x9E3779B97F4A7C15
    return look ^ look >> 32


cdef uint32_t shape_of(const uint8_t *text, size_t len, uint8_t *shape) noexcept nogil
