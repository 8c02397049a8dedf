"""The shape of a text; see shape.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memset

from pgpool_core.session.sqltoken cimport *

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    typedef uint8_t pgpool_sixteen __attribute__((vector_size(16)));
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define PGPOOL_FIRST(mask) (__builtin_ctzll(mask) / 8)
    #define PGPOOL_FRONT(mask) (((mask) & -(mask)) - 1)
    #else
    #define PGPOOL_FIRST(mask) (__builtin_clzll(mask) / 8)
    #define PGPOOL_FRONT(mask) (~(~0ULL >> __builtin_clzll(mask)))
    #endif
    static inline uint32_t pgpool_copy_cold(uint8_t *to, const uint8_t *at, uint32_t *quotes) {
        pgpool_sixteen all, hot, quote;
        uint64_t heat[2], name[2];
        uint32_t n = 16;
        memcpy(&all, at, 16);
        memcpy(to, &all, 16);
        hot = (pgpool_sixteen)((all - 0x2F) <= (uint8_t)10) | (pgpool_sixteen)(all == 0x24) | (pgpool_sixteen)(all == 0x27)
            | (pgpool_sixteen)(all == 0x2D) | (pgpool_sixteen)(all == 0x5C);      /* / and digits; $ quote - backslash */
        quote = (pgpool_sixteen)(all == 0x22);
        memcpy(heat, &hot, 16);
        memcpy(name, &quote, 16);
        if (heat[0]) {
            n = PGPOOL_FIRST(heat[0]);
            name[0] &= PGPOOL_FRONT(heat[0]);
            name[1] = 0;
        } else if (heat[1]) {
            n = 8 + PGPOOL_FIRST(heat[1]);
            name[1] &= PGPOOL_FRONT(heat[1]);
        }
        if (name[0] | name[1])
            *quotes += ((name[0] & 0x0101010101010101ULL) + (name[1] & 0x0101010101010101ULL)) * 0x0101010101010101ULL >> 56;
        return n;
    }
    """
    # Copy 16 bytes; how many of them are in front of a hot one, to whose double quotes `quotes` counts up.
    uint32_t copy_cold "pgpool_copy_cold"(uint8_t *to, const uint8_t *at, uint32_t *quotes) nogil

cdef uint8_t hot[256]             # bytes that are not simply copied, or not everywhere


cdef void are_hot(bytes letters):
    for letter in letters:
        hot[<uint8_t>letter] = 1


memset(hot, 0, sizeof(hot))
are_hot(b"/0123456789$'-\\")


cdef uint32_t shape_of(const uint8_t *text, size_t len, uint8_t *shape) noexcept nogil:
    """Write the text's shape into SHAPE_MOST bytes; how many it has, 0 where it has none."""
    cdef const uint8_t *kinds = BYTE_KINDS
    cdef const uint8_t *at = text
    cdef const uint8_t *end = text + len
    cdef const uint8_t *close
    cdef uint8_t *to = shape
    cdef uint8_t *full = shape + SHAPE_MOST
    cdef uint32_t n
    cdef uint8_t kind
    cdef bint in_word
    cdef uint32_t quotes = 0          # double ones
    while True:
        n = 16
        while n == 16 and end - at >= 16 and full - to >= 16:
            n = copy_cold(to, at, &quotes)
            at += n
            to += n
        if n == 16:
            while at < end and to < full and not hot[at[0]]:
                quotes += at[0] == 0x22
                to[0] = at[0]
                to += 1
                at += 1
        if at == end:
            return 0 if quotes & 1 else <uint32_t>(to - shape)
        if to == full:
            return 0
        kind = kinds[at[0]]
        in_word = at > text and kinds[(at - 1)[0]] <= BYTE_DOLLAR
        if quotes & 1 or (kind == BYTE_DIGIT and in_word):     # in a name, quoted or not, or behind a dollar: it stays as it is
            to[0] = at[0]
            to += 1
            at += 1
        elif kind == BYTE_DIGIT:
            while at < end and kinds[at[0]] == BYTE_DIGIT:
                at += 1
            to[0] = 0x30
            to += 1
        elif kind == BYTE_QUOTE:
            close = <const uint8_t *>memchr(at + 1, 0x27, end - at - 1)
            if close is NULL or memchr(at, 0x5C, close - at) is not NULL or full - to < 2:
                return 0
            to[0] = to[1] = 0x27
            to += 2
            at = close + 1
        elif at + 1 == end or at[0] == 0x5C or (kind == BYTE_DOLLAR and (in_word or kinds[at[1]] != BYTE_DIGIT)) \
                or (kind == BYTE_MINUS and at[1] == 0x2D) or (kind == BYTE_SLASH and at[1] == 0x2A):
            return 0
        else:
            to[0] = at[0]
            to += 1
            at += 1
