"""The queue of answers that a server owes; see expect.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

from pgpool_core.wire.codes cimport (BE_BIND_COMPLETE, BE_CLOSE_COMPLETE, BE_COMMAND_COMPLETE, BE_EMPTY_QUERY, BE_NO_DATA,
                                     BE_PARSE_COMPLETE, BE_PORTAL_SUSPENDED, BE_ROW_DESCRIPTION)


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


cdef inline uint8_t *slots(Expect *q) noexcept nogil:
    if q.ring == NULL:
        return q.inside
    return q.ring


cdef inline uint8_t kind_at(Expect *q, uint32_t i) noexcept nogil:
    return slots(q)[(q.head + i) & (q.cap - 1)]


cdef inline void drop(Expect *q) noexcept nogil:
    q.head = (q.head + 1) & (q.cap - 1)
    q.len -= 1


cdef inline bint ends_in_ready(uint8_t kind) noexcept nogil:
    return EXPECT_QUERY <= kind <= EXPECT_ASK_END


cdef inline bint is_sync(uint8_t kind) noexcept nogil:
    return kind == EXPECT_SYNC or kind == EXPECT_ASK or kind == EXPECT_ASK_END


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


cdef int put(Expect *q, uint8_t kind) noexcept nogil:
    if q.len == q.cap and grow(q) != EXPECT_OK:
        return EXPECT_FULL
    slots(q)[(q.head + q.len) & (q.cap - 1)] = kind
    q.len += 1
    return EXPECT_OK


cdef int expect_push(Expect *q, uint8_t kind) noexcept nogil:
    """The message `kind` has gone to the server; what will not be answered is not written down."""
    if is_sync(kind):
        if q.copying:
            q.silent = 1
            return EXPECT_OK
        q.skipping = 0
    elif q.skipping:
        return EXPECT_OK
    else:
        q.copying = 0                             # it has failed, and the error is under way; or the server ends over this
    if put(q, kind) != EXPECT_OK:
        return EXPECT_FULL
    q.owed += ends_in_ready(kind)
    return EXPECT_OK


cdef uint8_t expect_head(Expect *q) noexcept nogil:
    """The message whose answer is arriving now; EXPECT_NONE when the server owes nothing."""
    cdef uint8_t kind
    while q.len:
        kind = slots(q)[q.head]
        if kind != EXPECT_STRUCK and kind != EXPECT_COPY_END:
            return kind
        drop(q)
    return EXPECT_NONE


cdef void expect_answer(Expect *q, uint8_t be_type) noexcept nogil:
    """A message has come that may be the last answer to an extended one: ParseComplete, CommandComplete and so on."""
    cdef uint8_t kind = expect_head(q)
    cdef bint last
    if kind == EXPECT_NAMED:
        last = be_type == BE_PARSE_COMPLETE or be_type == BE_CLOSE_COMPLETE
    elif kind == EXPECT_BIND:
        last = be_type == BE_BIND_COMPLETE
    elif kind == EXPECT_DESCRIBE:
        last = be_type == BE_ROW_DESCRIPTION or be_type == BE_NO_DATA
    elif kind == EXPECT_EXECUTE:
        last = be_type == BE_COMMAND_COMPLETE or be_type == BE_PORTAL_SUSPENDED or be_type == BE_EMPTY_QUERY
    else:
        return
    if not last:
        return
    drop(q)
    if kind == EXPECT_EXECUTE:
        q.copying = q.silent = 0


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
            slots(q)[(q.head + i) & (q.cap - 1)] = EXPECT_STRUCK
        return True
    if kind < EXPECT_NAMED:
        return False
    while q.len:
        kind = slots(q)[q.head]
        if is_sync(kind):
            return False
        q.owed -= ends_in_ready(kind)
        drop(q)
    q.skipping = 1
    return False


cdef uint8_t expect_ready(Expect *q) noexcept nogil:
    """ReadyForQuery has come: take off the request that it answers and tell which it was.

    EXPECT_NONE for a ReadyForQuery that nobody asked for. Whatever copy was going on is over, and whatever was skipped.
    """
    cdef uint8_t kind = EXPECT_NONE
    q.copying = q.silent = q.skipping = 0
    if q.owed:
        while not ends_in_ready(kind):
            kind = slots(q)[q.head]
            drop(q)
        q.owed -= 1
    if q.len == 0 and q.ring != NULL:
        expect_free(q)
    return kind


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
        if slots(q)[at] == EXPECT_SYNC:
            q.silent = 1
            q.owed -= 1
            slots(q)[at] = EXPECT_STRUCK
    if n < q.len:
        slots(q)[(q.head + n) & (q.cap - 1)] = EXPECT_STRUCK
    else:
        q.copying = 1


cdef int expect_copy_ends(Expect *q) noexcept nogil:
    """The client sends CopyDone or CopyFail; where nothing is under way, its copy has failed and the server drops it."""
    if q.copying:
        q.copying = 0
        return EXPECT_OK
    if q.skipping or q.len == 0:
        return EXPECT_OK
    return put(q, EXPECT_COPY_END)
