"""Bytes that wait: not yet sent, or not yet understood.

A worker keeps a few blocks for what waits within a turn or two (Spares), so that nothing is allocated for it. They are blocks like
any other: whoever frees one without giving it back takes nothing away but the spare.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove


cdef enum:
    BUF_FIRST = 64                # capacity at first: a startup packet fits, and thousands may log in at once
    BUF_NEXT = 512                # what outgrows that is likely to grow on
    BUF_MAX = 1 << 26             # never near in practice: what fills a Buf is stopped long before
    SPARES_MOST = 64              # blocks of BUF_NEXT bytes; none where AddressSanitizer is to see who uses them


cdef extern from * nogil:
    """
    #ifdef __SANITIZE_ADDRESS__
    #define PGPOOL_SPARES 0
    #else
    #define PGPOOL_SPARES 1
    #endif
    """
    const bint PGPOOL_SPARES


cdef struct Buf:                  # owns `at`; all zero = empty
    uint8_t *at
    uint32_t off                  # bytes taken from the front
    uint32_t len                  # bytes that are there, from `off`
    uint32_t cap


cdef struct Spares:               # owns the blocks; one thread's
    uint8_t *first                # in each, where the next one is
    uint32_t n


cdef inline uint8_t *buf_bytes(Buf *b) noexcept nogil:
    return b.at + b.off


cdef inline void buf_free(Buf *b) noexcept nogil:
    free(b.at)
    b.at = NULL
    b.off = b.len = b.cap = 0


cdef inline bint buf_add(Buf *b, const uint8_t *data, size_t n) noexcept nogil:
    """Append a copy of `data`; False, and nothing changed, when memory is short."""
    cdef uint8_t *fresh
    cdef size_t need = <size_t>b.len + n
    cdef size_t cap
    if need > BUF_MAX:
        return False
    if b.off + need > b.cap:
        if need <= b.cap:
            memmove(b.at, b.at + b.off, b.len)
            b.off = 0
        else:
            cap = BUF_FIRST if b.at == NULL and need <= BUF_FIRST else need if need > BUF_NEXT else BUF_NEXT
            if b.at != NULL and cap < b.cap + b.cap // 2:     # bit by bit: it is not copied for each of them
                cap = b.cap + b.cap // 2
            fresh = <uint8_t *>malloc(cap)
            if fresh == NULL:
                return False
            if b.len:
                memcpy(fresh, b.at + b.off, b.len)
            free(b.at)
            b.at = fresh
            b.off = 0
            b.cap = <uint32_t>cap
    if n:
        memcpy(b.at + b.off + b.len, data, n)
    b.len += <uint32_t>n
    return True


cdef inline void buf_spare(Buf *b, Spares *spares) noexcept nogil:
    """For `b`, if it has none, a block of the size that is kept; one that was given back, if there is one."""
    if not PGPOOL_SPARES or b.at != NULL:
        return
    if spares.n:
        b.at = spares.first
        memcpy(&spares.first, b.at, sizeof(uint8_t *))
        spares.n -= 1
    else:
        b.at = <uint8_t *>malloc(BUF_NEXT)
    if b.at != NULL:
        b.cap = BUF_NEXT


cdef inline void buf_give_back(Buf *b, Spares *spares) noexcept nogil:
    """Empty `b`, and keep its block if it is of the size that is kept."""
    if PGPOOL_SPARES and b.cap == BUF_NEXT and spares.n < SPARES_MOST:
        memcpy(b.at, &spares.first, sizeof(uint8_t *))
        spares.first = b.at
        spares.n += 1
        b.at = NULL
        b.off = b.len = b.cap = 0
    else:
        buf_free(b)


cdef inline void spares_free(Spares *spares) noexcept nogil:
    cdef uint8_t *block
    while spares.n:
        block = spares.first
        memcpy(&spares.first, block, sizeof(uint8_t *))
        spares.n -= 1
        free(block)


cdef inline void buf_take(Buf *b, size_t n) noexcept nogil:
    """Forget the first `n` bytes; an emptied Buf gives its memory back."""
    b.off += <uint32_t>n
    b.len -= <uint32_t>n
    if b.len == 0:
        buf_free(b)


cdef inline Buf buf_steal(Buf *b) noexcept nogil:
    """Move the bytes out of `b`, which is empty then; the caller frees what it got."""
    cdef Buf mine = b[0]
    b.at = NULL
    b.off = b.len = b.cap = 0
    return mine
