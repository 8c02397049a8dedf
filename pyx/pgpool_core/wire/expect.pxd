"""Which answers a server still owes: one entry per message that it will answer, in the order of sending.

Every message of the extended protocol has exactly one last answer, and so has every message that ends in a ReadyForQuery.
Two rules of PostgreSQL strike entries out, and a pooler that does not know them waits for answers that never come:

- After an error in a message of the extended protocol everything up to the next Sync is skipped: other such messages,
  but also a Query or FunctionCall on the way, whose ReadyForQuery does not come. The error of a Query, of a FunctionCall
  or of a Sync itself (a deferred constraint) skips nothing.
- COPY FROM STDIN makes PostgreSQL ignore the Syncs that it reads before CopyDone or CopyFail. Where the copy fails, only
  PostgreSQL knows how many that were: rows may be looked at long after they have come. Then the server has to be asked
  (`EXPECT_ASK`): a Sync, the Close of nothing and another Sync, whose CloseComplete tells which ReadyForQuery was the last
  of the client's. While a Sync may be in doubt, the client's messages other than those of the copy are not sent, so that
  nothing but Syncs can be unanswered then.

Source: PostgreSQL docs, "Message Flow", Extended Query and COPY Operations.
"""

from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    EXPECT_NONE = 0
    EXPECT_QUERY = 1              # Query or FunctionCall: answered up to its own ReadyForQuery
    EXPECT_SYNC = 2               # Sync: ends a group of extended messages
    EXPECT_CHORE = 3              # a Query of ours (reset, check, settings, rollback): its answer is not the client's
    EXPECT_ASK = 4                # a Sync of ours, and a Close behind it: how many Syncs were read in a failed copy
    EXPECT_ASK_END = 5            # the Sync of ours that ends the question
    EXPECT_COPY_END = 6           # CopyDone or CopyFail: brings no answer, marks the place
    EXPECT_STRUCK = 7             # what the server will not answer
    EXPECT_NAMED = 8              # Parse or Close; the extended messages are the last kinds
    EXPECT_BIND = 9
    EXPECT_DESCRIBE = 10
    EXPECT_EXECUTE = 11
    EXPECT_PASSING = 12           # no entry: what `ended_by` says of messages that only pass through

    EXPECT_OK = 0
    EXPECT_FULL = -1              # more than EXPECT_MAX messages unanswered, or out of memory

    EXPECT_INLINE = 32
    EXPECT_MAX = 1 << 22          # unanswered messages on one server; each costs a byte


cdef struct Expect:               # owns `ring` when it is not `inside`
    uint8_t *ring                 # NULL while `inside` is enough
    uint32_t cap                  # a power of two
    uint32_t head
    uint32_t len                  # entries, struck ones and copy ends included
    uint32_t owed                 # entries that a ReadyForQuery will answer
    uint8_t inside[EXPECT_INLINE]
    uint8_t silent                # a Sync has gone into the copy at hand: unanswered, unless the copy fails before it is read
    uint8_t copying               # the server reads CopyData: Syncs are ignored until the client ends the copy
    uint8_t skipping              # an extended message has failed: the server skips what comes, up to a Sync not sent yet


cdef void expect_init(Expect *q) noexcept nogil
cdef void expect_free(Expect *q) noexcept nogil
cdef int expect_grow(Expect *q) noexcept nogil
cdef bint expect_error(Expect *q) noexcept nogil
cdef void expect_copy_begins(Expect *q) noexcept nogil
cdef int expect_copy_ends(Expect *q) noexcept nogil


cdef inline uint8_t *expect_slots(Expect *q) noexcept nogil:
    if q.ring == NULL:
        return q.inside
    return q.ring


cdef inline void expect_drop(Expect *q) noexcept nogil:
    q.head = (q.head + 1) & (q.cap - 1)
    q.len -= 1


cdef inline bint ends_in_ready(uint8_t kind) noexcept nogil:
    return EXPECT_QUERY <= kind <= EXPECT_ASK_END


cdef inline bint is_sync(uint8_t kind) noexcept nogil:
    return kind == EXPECT_SYNC or kind == EXPECT_ASK or kind == EXPECT_ASK_END


cdef inline int expect_put(Expect *q, uint8_t kind) noexcept nogil:
    if q.len == q.cap and expect_grow(q) != EXPECT_OK:
        return EXPECT_FULL
    expect_slots(q)[(q.head + q.len) & (q.cap - 1)] = kind
    q.len += 1
    return EXPECT_OK


cdef inline int expect_push(Expect *q, uint8_t kind) noexcept nogil:
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
    if expect_put(q, kind) != EXPECT_OK:
        return EXPECT_FULL
    q.owed += ends_in_ready(kind)
    return EXPECT_OK


cdef inline uint8_t expect_head(Expect *q) noexcept nogil:
    """The message whose answer is arriving now; EXPECT_NONE when the server owes nothing."""
    cdef uint8_t kind
    while q.len:
        kind = expect_slots(q)[q.head]
        if kind != EXPECT_STRUCK and kind != EXPECT_COPY_END:
            return kind
        expect_drop(q)
    return EXPECT_NONE


cdef extern from * nogil:
    """
    static inline uint8_t pgpool_ended_by(uint8_t be_type) {
        static const uint8_t ended[256] = {
            ['1'] = 8, ['3'] = 8, ['2'] = 9, ['T'] = 10, ['n'] = 10, ['C'] = 11, ['s'] = 11, ['I'] = 11,
            ['D'] = 12, ['d'] = 12, ['H'] = 12, ['N'] = 12, ['V'] = 12, ['t'] = 12,
        };
        return ended[be_type];
    }
    """
    # Which message of the extended protocol has its last answer in one of this type: EXPECT_NAMED and so on.
    # EXPECT_PASSING: none, and it changes nothing else. EXPECT_NONE: none, and it may.
    uint8_t ended_by "pgpool_ended_by"(uint8_t be_type)


cdef inline void expect_answer(Expect *q, uint8_t be_type) noexcept nogil:
    """A message has come that may be the last answer to an extended one: ParseComplete, CommandComplete and so on."""
    cdef uint8_t kind = expect_head(q)
    if kind < EXPECT_NAMED or ended_by(be_type) != kind:
        return
    expect_drop(q)
    if kind == EXPECT_EXECUTE:
        q.copying = q.silent = 0


cdef inline uint8_t expect_ready(Expect *q) noexcept nogil:
    """ReadyForQuery has come: take off the request that it answers and tell which it was.

    EXPECT_NONE for a ReadyForQuery that nobody asked for. Whatever copy was going on is over, and whatever was skipped.
    """
    cdef uint8_t kind = EXPECT_NONE
    q.copying = q.silent = q.skipping = 0
    if q.owed:
        while not ends_in_ready(kind):
            kind = expect_slots(q)[q.head]
            expect_drop(q)
        q.owed -= 1
    if q.len == 0 and q.ring != NULL:
        expect_free(q)
    return kind
