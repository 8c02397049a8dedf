"""What a server has been asked and still owes: `expect`, and in step with it the queue of prepared statements."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport ServerConn
from pgpool_core.statements.owed cimport owed_ready, owed_request, owed_struck
from pgpool_core.wire.expect cimport expect_copy_begins, expect_error, expect_push, expect_ready


cdef inline int ask(ServerConn *s, uint8_t kind) noexcept nogil:
    """A message that `s` will answer goes to it; EXPECT_FULL when too much is unanswered."""
    cdef uint32_t before = s.expect.owed
    cdef int status = expect_push(&s.expect, kind)
    if s.expect.owed != before:
        owed_request(&s.owed)
    return status


cdef inline uint8_t answered(ServerConn *s) noexcept nogil:
    """ReadyForQuery has come from `s`; which request it answers, EXPECT_NONE for none."""
    owed_ready(&s.owed, &s.prepared)
    return expect_ready(&s.expect)


cdef inline bint error_comes(ServerConn *s) noexcept nogil:
    """ErrorResponse has come from `s`: what it skips over it is not owed any more. True: nobody knows which Syncs are."""
    cdef uint32_t before = s.expect.owed
    cdef bint doubt = expect_error(&s.expect)
    owed_struck(&s.owed, before - s.expect.owed)
    return doubt


cdef inline void copy_begins(ServerConn *s) noexcept nogil:
    """CopyInResponse or CopyBothResponse has come from `s`."""
    cdef uint32_t before = s.expect.owed
    expect_copy_begins(&s.expect)
    owed_struck(&s.owed, before - s.expect.owed)
