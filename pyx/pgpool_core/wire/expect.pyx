"""The queue of answers that a server owes; see expect.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc


cdef void expect_init(Expect *q) noexcept nogil:
    """An empty queue; `q` may hold anything before."""
    q.ring = NULL
    q.cap = EXPECT_INLINE
    q.head = q.len = q.owed = q.ends = 0
    q.copying = q.silent = 0


cdef void expect_free(Expect *q) noexcept nogil:
    """Forget every entry and give memory back."""
    free(q.ring)
    expect_init(q)


cdef inline uint8_t *slots(Expect *q) noexcept nogil:
    if q.ring == NULL:
        return q.inside
    return q.ring


cdef int grow(Expect *q) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t *bigger
    cdef uint8_t *old = slots(q)
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


cdef int expect_push(Expect *q, uint8_t kind) noexcept nogil:
    """The request `kind` has gone to the server; a Sync inside a COPY is not written down."""
    if kind == EXPECT_SYNC and q.copying:
        q.silent = 1
        return EXPECT_OK
    if q.len == q.cap and grow(q) != EXPECT_OK:
        return EXPECT_FULL
    slots(q)[(q.head + q.len) & (q.cap - 1)] = kind
    q.len += 1
    if kind != EXPECT_COPY_END:
        q.owed += 1
    return EXPECT_OK


cdef uint8_t expect_head(Expect *q) noexcept nogil:
    """The request whose answer is arriving now; EXPECT_NONE when the server owes nothing."""
    cdef uint8_t kind
    while q.len:
        kind = slots(q)[q.head]
        if kind != EXPECT_STRUCK and kind != EXPECT_COPY_END:
            return kind
        if kind == EXPECT_COPY_END:
            q.ends += 1
        q.head = (q.head + 1) & (q.cap - 1)
        q.len -= 1
    return EXPECT_NONE


cdef uint8_t expect_ready(Expect *q) noexcept nogil:
    """ReadyForQuery has come: take off the request that it answers and tell which it was.

    EXPECT_NONE for a ReadyForQuery that nobody asked for. Whatever copy was going on is over.
    """
    cdef uint8_t kind = expect_head(q)
    q.copying = q.silent = 0
    q.ends = 0
    if kind != EXPECT_NONE:
        q.head = (q.head + 1) & (q.cap - 1)
        q.len -= 1
        q.owed -= 1
    if q.owed == 0:
        q.len = 0
        if q.ring != NULL:
            expect_free(q)
    return kind


cdef void expect_copy_begins(Expect *q) noexcept nogil:
    """CopyInResponse or CopyBothResponse has come: strike out the Syncs that the server will read as part of the copy.

    They are those between the request being answered (itself included, when it is a Sync) and the client's CopyDone or
    CopyFail. If the client has not ended the copy yet, those still to come are not written down (`copying`).
    In the extended protocol a client need not wait for this message: its copy end may stand before the Sync of its group.
    """
    cdef uint8_t *ring = slots(q)
    cdef uint32_t i = 0, at
    if expect_head(q) == EXPECT_QUERY:
        i = 1
        q.ends = 0                # a copy that a Query begins ends behind it
    elif q.ends:
        q.ends -= 1
        return
    while i < q.len:
        at = (q.head + i) & (q.cap - 1)
        if ring[at] == EXPECT_COPY_END:
            ring[at] = EXPECT_STRUCK
            return
        if ring[at] == EXPECT_SYNC:
            ring[at] = EXPECT_STRUCK
            q.owed -= 1
            q.silent = 1
        i += 1
    q.copying = 1


cdef int expect_copy_ends(Expect *q) noexcept nogil:
    """The client sends CopyDone or CopyFail, or the server has ended the copy with an error."""
    if q.copying:
        q.copying = 0
        return EXPECT_OK
    if q.owed == 0:
        q.ends += 1               # sent ahead of its Sync; or late, after the copy had failed, and the server drops it
        return EXPECT_OK
    return expect_push(q, EXPECT_COPY_END)
