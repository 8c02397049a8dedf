"""Which answers to Parse and Close a server still owes, in order.

PostgreSQL answers each with a message of its own, or, after an error, skips everything up to the Sync. An entry takes
effect when it is answered, and is forgotten without effect when its group ends first: nothing is ever undone.

A *group* is what one ReadyForQuery ends, numbered as they are sent. Bind and Describe have no entries that are answered;
a mark says which of the client's names they used, for an error that may have to name it.
Used by the thread that has the server.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.statements.names cimport Name
from pgpool_core.statements.prepared cimport Prepared
from pgpool_core.statements.text cimport Statement
from pgpool_core.wire.codes cimport BE_PARSE_COMPLETE


cdef enum:
    OWED_PASS_PARSE = 0           # not ours to look at: the unnamed statement
    OWED_PASS_CLOSE = 1           # a portal, the unnamed statement
    OWED_PARSE = 2                # the client's own, under the name at the server
    OWED_PARSE_OURS = 3           # put in front of a message that needs it
    OWED_AGAIN = 4                # the client's Parse of a name that it has already: an error is due
    OWED_KNOWN = 5                # sent as Close of nothing, where the server has the text: its answer becomes ParseComplete
    OWED_CLOSE = 6                # the client's, sent as Close of nothing: the server keeps the statement
    OWED_CLOSE_OURS = 7           # eviction, or an outdated plan
    OWED_USE = 8                  # a mark: Bind or Describe
    OWED_JUDGED = 9               # the client's Parse, sent under the name ASIDE: the server has the text, but is to say whether it may
    OWED_ASIDE = 10               # Close of that name, in front of it
    OWED_DROP = 11                # Close of nothing, ours: behind an Execute that has taken the client's name away

    ANSWER_FORWARD = 0
    ANSWER_SWALLOW = 1            # the client has not asked for it
    ANSWER_AS_PARSE = 2           # forward it as ParseComplete: the type byte is all that differs
    ANSWER_BROKEN = -1            # not what is due: the server breaks the protocol

    OWED_OK = 0
    OWED_FULL = -1                # OWED_MAX entries, or memory is short

    OWED_MAX = 1 << 17


cdef struct OwedEntry:            # owns a hold on `statement`; holds `name`
    Statement *statement          # what `name` will stand for; NULL: nothing
    Name *name                    # NULL: none, or its client has left
    uint64_t id                   # of the statement in whose name the message went to the server
    uint64_t epoch                # OWED_PARSE, OWED_PARSE_OURS: of the statement when it was sent
    uint64_t group
    uint32_t count                # messages in a row that this entry stands for: OWED_PASS_* only
    uint8_t kind                  # OWED_*


cdef struct Owed:                 # all zero = empty
    OwedEntry *ring               # NULL until the first push
    uint32_t cap                  # a power of two
    uint32_t head
    uint32_t len
    uint64_t sent                 # number of the group that is being sent
    uint64_t answered             # of the one being answered; no more than `sent`
    uint64_t pushed               # entries ever pushed: the place of the next one
    uint64_t last_answered        # place of the last entry that is not a mark
    uint64_t barrier              # 1 + number of a group behind which all names are uncertain; 0 = none


cdef int owed_grow(Owed *q, uint32_t n) noexcept nogil
cdef int owed_pass(Owed *q, uint8_t fe_type) noexcept nogil
cdef void owed_push(Owed *q, uint8_t kind, uint64_t id, Statement *statement, uint64_t epoch, Name *name) noexcept nogil
cdef void owed_use(Owed *q, uint64_t id, Name *name) noexcept nogil
cdef OwedEntry *owed_at(Owed *q, uint32_t i) noexcept nogil
cdef int owed_answer(Owed *q, Prepared *set, uint8_t be_type) noexcept nogil
cdef void owed_end_group(Owed *q, Prepared *set) noexcept nogil
cdef void owed_orphan(Owed *q) noexcept nogil
cdef void owed_free(Owed *q, Prepared *set) noexcept nogil


cdef inline int owed_reserve(Owed *q, uint32_t n) noexcept nogil:
    """Make room for `n` pushes, which cannot fail then."""
    return OWED_OK if q.len + n <= q.cap else owed_grow(q, n)


cdef inline void owed_request(Owed *q) noexcept nogil:
    """A message that a ReadyForQuery will answer has been sent (and written down in `expect`): Sync, Query, our chores."""
    q.sent += 1


cdef inline void owed_ready(Owed *q, Prepared *set) noexcept nogil:
    """ReadyForQuery has come, the answer to some request."""
    if q.answered < q.sent:
        q.answered += 1
    if q.len:
        owed_end_group(q, set)


cdef inline bint owed_passed(Owed *q, uint8_t be_type) noexcept nogil:
    """What `owed_answer` does where a message is answered that went to the server as it was; False: ask that."""
    cdef OwedEntry *e
    if q.len == 0:
        return True
    e = &q.ring[q.head]
    if e.kind != (OWED_PASS_PARSE if be_type == BE_PARSE_COMPLETE else OWED_PASS_CLOSE):
        return False
    e.count -= 1
    if e.count == 0:                              # it holds neither a statement nor a name
        q.head = (q.head + 1) & (q.cap - 1)
        q.len -= 1
    return True


cdef inline void owed_struck(Owed *q, uint32_t n) noexcept nogil:
    """`n` Syncs will never be answered, because a COPY has swallowed them: their groups are one with what follows."""
    q.answered += n


cdef inline void owed_barrier(Owed *q) noexcept nogil:
    """The group being sent holds a DEALLOCATE or DISCARD: names in later groups wait until it is answered."""
    q.barrier = q.sent + 1


cdef inline bint owed_unsure(const Owed *q, uint32_t flights, uint64_t group) noexcept nogil:
    """Something in flight can still fail without the message that is to be sent now failing with it.

    In the same group it cannot: PostgreSQL skips the rest of a group after an error.
    """
    return flights != 0 and group < q.sent and q.answered < q.sent
