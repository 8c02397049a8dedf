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
cdef int expect_push(Expect *q, uint8_t kind) noexcept nogil
cdef uint8_t expect_head(Expect *q) noexcept nogil
cdef void expect_answer(Expect *q, uint8_t be_type) noexcept nogil
cdef bint expect_error(Expect *q) noexcept nogil
cdef uint8_t expect_ready(Expect *q) noexcept nogil
cdef void expect_copy_begins(Expect *q) noexcept nogil
cdef int expect_copy_ends(Expect *q) noexcept nogil
