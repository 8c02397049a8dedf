"""The queue of answers that a server owes; see expect.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc


cdef void expect_init(Expect *q) noexcept nogil:
    """An empty queue; `q` may hold anything before."""
    q.ring = NULL
    q.cap = EXPECT_INLINE
    q.head = q.len = q.owed = 0
    q.copying = q.silent = q.skipping = 0


cdef void expect_free(Expect *q) noexcept nogil:
    """Forget every entry and give memory back."""
    free(q.ring)
    expect_init(q)


cdef inline uint8_t kind_at(Expect *q, uint32_t i) noexcept nogil:
    return expect_slots(q)[(q.head + i) & (q.cap - 1)]


cdef int expect_grow(Expect *q) noexcept nogil:
    """Twice the room."""
    cdef uint32_t i
    cdef uint8_t *bigger
    cdef uint8_t *old = expect_slots(q)
    if q.cap >= EXPECT_MAX:
        return EXPECT_FULL
    bigger = <uint8_t *>malloc(q.cap * 2)
    if bigger == NULL:
        return EXPECT_FULL
    for i in range(q.len):
        bigger[i] = old[(q.head + i) & (q.cap - 1)]
    free(q.ring)
    q.ring = bigger
    q.cap *= 2
    q.head = 0
    return EXPECT_OK


cdef bint expect_error(Expect *q) noexcept nogil:
    """ErrorResponse has come: the end of a copy, and where an extended message has failed, of all up to the Sync.

    True when nobody knows which of the Syncs behind the copy will be answered: none of them is written down any more.
    """
    cdef uint8_t kind = expect_head(q)
    cdef bint doubt = q.silent
    cdef uint32_t i
    q.copying = q.silent = 0
    if doubt:
        for i in range(kind < EXPECT_NAMED, q.len):       # a Query itself is answered
            kind = kind_at(q, i)
            if kind == EXPECT_ASK:
                break
            q.owed -= ends_in_ready(kind)
            expect_slots(q)[(q.head + i) & (q.cap - 1)] = EXPECT_STRUCK
        return True
    if kind < EXPECT_NAMED:
        return False
    while q.len:
        kind = expect_slots(q)[q.head]
        if is_sync(kind):
            return False
        q.owed -= ends_in_ready(kind)
        expect_drop(q)
    q.skipping = 1
    return False


cdef void expect_copy_begins(Expect *q) noexcept nogil:
    """CopyInResponse or CopyBothResponse has come: strike out the Syncs that the server will read as part of the copy.

    They are those behind the Query or Execute being answered, up to the client's CopyDone or CopyFail. If the client has
    not ended the copy yet, those still to come are not written down (`copying`). Where anything else stands behind them,
    no CopyData does in between: either the copy fails before it reads anything, or the connection ends over it.
    """
    cdef uint32_t i, at, n = 1
    expect_head(q)
    q.silent = q.copying = 0
    while n < q.len and (kind_at(q, n) == EXPECT_SYNC or kind_at(q, n) == EXPECT_STRUCK):
        n += 1
    if n < q.len and kind_at(q, n) != EXPECT_COPY_END:
        return
    for i in range(1, n):
        at = (q.head + i) & (q.cap - 1)
        if expect_slots(q)[at] == EXPECT_SYNC:
            q.silent = 1
            q.owed -= 1
            expect_slots(q)[at] = EXPECT_STRUCK
    if n < q.len:
        expect_slots(q)[(q.head + n) & (q.cap - 1)] = EXPECT_STRUCK
    else:
        q.copying = 1


cdef int expect_copy_ends(Expect *q) noexcept nogil:
    """The client sends CopyDone or CopyFail; where nothing is under way, its copy has failed and the server drops it."""
    if q.copying:
        q.copying = 0
        return EXPECT_OK
    if q.skipping or q.len == 0:
        return EXPECT_OK
    return expect_put(q, EXPECT_COPY_END)
