"""The plain part of an answer: whole messages that the client simply gets, each noted where somebody waits for it.

Nearly all that servers say is of this kind. What is not, or not whole, is left to `server_bytes`, which knows everything.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport ServerConn
from pgpool_core.statements.owed cimport owed_passed
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport BE_BIND_COMPLETE, BE_COMMAND_COMPLETE
from pgpool_core.wire.expect cimport (EXPECT_ASK_END, EXPECT_BIND, EXPECT_CHORE, EXPECT_EXECUTE, EXPECT_NAMED, EXPECT_NONE, Expect,
                                      ended_by, expect_head)
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.stretch cimport Stretch, stretch_head, stretch_next, stretch_owed, stretch_took


cdef inline bint is_ours(uint8_t kind) noexcept nogil:
    """The answer to such a request is not the client's."""
    return EXPECT_CHORE <= kind <= EXPECT_ASK_END


cdef inline bint tag_matters(const ServerConn *s, const uint8_t *tag, uint32_t n) noexcept nogil:
    """Whether a CommandComplete may say DEALLOCATE or DISCARD, or is to."""
    return s.retag != 0 or n == 0 or tag[0] == 0x44      # 'D'


cdef inline bint is_bound(ServerConn *s, const uint8_t *data, size_t n) noexcept nogil:
    """Whether what comes next is the answer to a Bind, which has gone well."""
    return n >= HEADER_LEN and data[0] == BE_BIND_COMPLETE and expect_head(&s.expect) == EXPECT_BIND


cdef inline size_t answers_past(ServerConn *s, const uint8_t *data, size_t n, size_t at) noexcept nogil:
    """Behind the plain messages that begin at `at`, where a message begins; `s` has a client, and no group that may be sent again."""
    cdef Expect *q = &s.expect
    cdef Stretch owed = stretch_owed(q)
    cdef uint8_t head = stretch_head(&owed)
    cdef uint8_t kind, ended
    cdef uint32_t length                          # of the body; of a broken message longer than anything that there is
    if is_ours(head):
        return at
    while n - at >= HEADER_LEN:
        kind = data[at]
        ended = ended_by(kind)
        length = load_be32(data + at + 1) - 4
        if ended == EXPECT_NONE or length > n - at - HEADER_LEN:
            break
        if ended == EXPECT_NAMED:
            if length or not owed_passed(&s.owed, kind):
                break
        elif kind == BE_COMMAND_COMPLETE and tag_matters(s, data + at + HEADER_LEN, length):
            break
        at += HEADER_LEN + <size_t>length
        if ended == head:
            if ended == EXPECT_EXECUTE:
                q.copying = q.silent = 0
            stretch_next(&owed)
            head = stretch_head(&owed)
            if is_ours(head):
                break
    stretch_took(&owed, q)
    return at
