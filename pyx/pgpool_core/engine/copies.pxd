"""Syncs that a failed COPY may have read: the server is asked how many of them it will answer.

PostgreSQL ignores a Sync that it reads in a COPY FROM STDIN and answers one that it reads behind the error of the copy,
and it may find an error long after it has read the row. So once a copy has failed that a Sync went into, or when anything
but a message of the copy comes while one may be in there, the client waits, and behind its bytes go a Sync, the Close of
nothing and another Sync. Of the ReadyForQuerys in front of CloseComplete the last is ours, the others are the client's.
A CopyFail goes in front where the client has not ended the copy: if that is what makes the copy fail, PostgreSQL would
have ended the connection over the client's message, and so do we.
Source: PostgreSQL, CopyGetData and PostgresMain; docs, "COPY Operations".
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.wire.codes cimport FE_COPY_DATA, FE_COPY_DONE, FE_COPY_FAIL, FE_FLUSH, FE_SYNC


cdef enum:
    RUN_SYNC = 1                  # since the client's last message of another kind: a Sync
    RUN_DATA = 2                  # CopyData
    RUN_ENDED = 4                 # CopyDone or CopyFail
    RUN_FLUSH = 8                 # a Flush of ours is due: the end of the copy is not told before something asks for it
    RUN_FLUSHED = 16              # it has been sent

    COPY_UNSURE = 1                # the client goes on, and nobody knows whether in a copy
    COPY_FAILED = 2              # a copy has failed that had Syncs in it: none of them is in `expect` any more
    COPY_SKIPS = 4               # by Execute, and the server has answered no Sync since: it skips what comes
    COPY_ASKED = 8               # the question is on its way


cdef bint copies_grows(ClientConn *c, ServerConn *s, uint8_t fe_type) noexcept nogil
cdef void copies_flush(Worker *w, ServerConn *s) noexcept nogil
cdef void copies_ask(Worker *w, ServerConn *s) noexcept nogil
cdef void copies_ready(Worker *w, ServerConn *s, ClientConn *c, Counters *k) noexcept nogil
cdef bint copies_closed(ServerConn *s) noexcept nogil
cdef void copies_over(ServerConn *s, ClientConn *c) noexcept nogil
cdef bint copies_inside(Worker *w, ClientConn *c, const uint8_t *body, uint32_t n) noexcept nogil


cdef inline bint copies_waits(ClientConn *c, ServerConn *s, uint8_t fe_type) noexcept nogil:
    """A message of `c` is next: whether it has to wait until it is known which Syncs `s` answers."""
    if c.cur.type == FE_COPY_DATA:
        s.run |= RUN_DATA
    if s.copy_doubt | s.expect.silent or s.run & (RUN_DATA | RUN_ENDED):
        return copies_grows(c, s, fe_type)
    if fe_type == FE_SYNC:
        s.run |= RUN_SYNC
    elif fe_type == FE_COPY_DONE or fe_type == FE_COPY_FAIL:
        s.run |= RUN_ENDED
    elif fe_type != FE_FLUSH:
        s.run = 0
    return False
