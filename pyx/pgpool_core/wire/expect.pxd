"""Which answers a server still owes: one entry per message that ends in a ReadyForQuery.

The queue keeps the order of requests, because COPY FROM STDIN makes PostgreSQL ignore the Syncs that arrive before
CopyDone or CopyFail: they must be struck out, or a pooler waits for answers that never come.
Source: PostgreSQL docs, "Message Flow", COPY Operations.
"""

from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    EXPECT_NONE = 0
    EXPECT_QUERY = 1              # Query or FunctionCall: answered up to its own ReadyForQuery
    EXPECT_SYNC = 2               # Sync: ends a group of extended messages
    EXPECT_CHORE = 3              # a Query of ours (reset, check, settings, rollback): its answer is not the client's
    EXPECT_COPY_END = 4           # CopyDone or CopyFail: brings no ReadyForQuery, marks the place
    EXPECT_STRUCK = 5             # a Sync that the server will not answer

    EXPECT_OK = 0
    EXPECT_FULL = -1              # more than EXPECT_MAX requests unanswered, or out of memory

    EXPECT_INLINE = 16
    EXPECT_MAX = 1 << 20          # unanswered requests on one server; each costs a byte


cdef struct Expect:               # owns `ring` when it is not `inside`
    uint8_t *ring                 # NULL until the first push
    uint32_t cap                  # a power of two
    uint32_t head
    uint32_t len                  # entries, struck ones and copy ends included
    uint32_t owed                 # entries that a ReadyForQuery will answer
    uint32_t ends                 # copy ends in front of the head: of copies that no CopyInResponse has begun yet
    uint8_t inside[EXPECT_INLINE]
    uint8_t silent                # a Sync went into the copy at hand: unanswered, unless an error ends the copy before it is read
    uint8_t copying               # the server reads CopyData: Syncs are ignored until the client ends the copy


cdef void expect_init(Expect *q) noexcept nogil
cdef void expect_free(Expect *q) noexcept nogil
cdef int expect_push(Expect *q, uint8_t kind) noexcept nogil
cdef uint8_t expect_head(Expect *q) noexcept nogil
cdef uint8_t expect_ready(Expect *q) noexcept nogil
cdef void expect_copy_begins(Expect *q) noexcept nogil
cdef int expect_copy_ends(Expect *q) noexcept nogil
