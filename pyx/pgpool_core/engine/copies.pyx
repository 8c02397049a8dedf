"""How many Syncs a failed COPY has read; see copies.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, strlen

from pgpool_core.engine.asked cimport answered, ask
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport SEND_LATER, conn_send
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.wire.be cimport store_be32
from pgpool_core.wire.build cimport build_copy_fail, build_empty, build_ready
from pgpool_core.wire.codes cimport *
from pgpool_core.wire.expect cimport EXPECT_ASK, EXPECT_ASK_END, EXPECT_NONE, EXPECT_OK, expect_copy_ends, expect_head

cdef const char *REASON = "pgpool_core: the client has sent what may not come in a COPY"
cdef const char *NOBODY = "pgpool_core has no statement of this name"


cdef bint copies_grows(ClientConn *c, ServerConn *s, uint8_t fe_type) noexcept nogil:
    """The rest of `copies_waits`, where a copy may be under way."""
    if fe_type == FE_TERMINATE or s.seat.dedicated or s.in_doubt:
        return False
    if s.copy_doubt:
        return True
    if fe_type == FE_SYNC:
        s.run |= RUN_SYNC
        return False
    if fe_type == FE_COPY_DONE or fe_type == FE_COPY_FAIL:
        s.run |= RUN_ENDED
        return False
    if fe_type == FE_FLUSH:
        return False
    if not s.expect.silent and (not s.run & RUN_SYNC or expect_head(&s.expect) == EXPECT_NONE):
        s.run = 0
        return False
    if not s.run & RUN_ENDED or s.expect.copying:
        s.copy_doubt = COPY_UNSURE
    elif not s.run & RUN_FLUSHED:                 # the copy has an end: its answer tells
        s.run |= RUN_FLUSH
    return True


cdef void copies_flush(Worker *w, ServerConn *s) noexcept nogil:
    """Have `s` send what it has to say so far."""
    cdef size_t n = build_empty(w.scratch, SCRATCH_SIZE, FE_FLUSH)
    s.run ^= RUN_FLUSH | RUN_FLUSHED
    conn_send(w, &s.conn, w.scratch, n)


cdef void copies_ask(Worker *w, ServerConn *s) noexcept nogil:
    """Ask `s`, whose client is between two messages."""
    cdef uint8_t *out = w.scratch
    cdef size_t n = 0
    cdef size_t name = strlen(NOBODY) + 1
    if not s.copy_doubt & COPY_FAILED:
        n = build_copy_fail(out, SCRATCH_SIZE, REASON)
        expect_copy_ends(&s.expect)
    n += build_empty(out + n, SCRATCH_SIZE - n, FE_SYNC)
    out[n] = FE_CLOSE
    store_be32(out + n + 1, <uint32_t>(5 + name))
    out[n + 5] = 0x53                             # 'S': a statement
    memcpy(out + n + 6, NOBODY, name)
    n += 6 + name
    n += build_empty(out + n, SCRATCH_SIZE - n, FE_SYNC)
    s.copy_doubt |= COPY_ASKED
    s.ready_kept = 0
    if ask(s, EXPECT_ASK) != EXPECT_OK or ask(s, EXPECT_ASK_END) != EXPECT_OK:
        server_quit(w, s, "out of memory")
        return
    conn_send(w, &s.conn, out, n)


cdef void copies_ready(Worker *w, ServerConn *s, ClientConn *c, Counters *k) noexcept nogil:
    """ReadyForQuery in front of CloseComplete: that before it was the client's."""
    cdef uint8_t[8] ready
    cdef size_t n
    if s.ready_kept and c != NULL:
        n = build_ready(ready, sizeof(ready), s.ready_kept)
        count_add(&k.sent, n)
        if conn_send(w, &c.conn, ready, n) == SEND_LATER:
            s.conn.paused = 1
    if s.ready_kept:
        s.copy_doubt &= ~COPY_SKIPS
    s.ready_kept = s.tx_status


cdef bint copies_closed(ServerConn *s) noexcept nogil:
    """CloseComplete: the ReadyForQuery before it was ours. False where there was none."""
    if s.ready_kept == 0:
        return False
    s.ready_kept = 0
    answered(s)
    return True


cdef void copies_over(ServerConn *s, ClientConn *c) noexcept nogil:
    """All is known. Where `s` would be skipping to a Sync, ours has ended that, and the client's messages are dropped instead."""
    if c != NULL and s.copy_doubt & COPY_SKIPS:
        c.skip_to_sync = 1
    s.copy_doubt = 0
    s.run = 0


cdef bint copies_inside(Worker *w, ClientConn *c, const uint8_t *body, uint32_t n) noexcept nogil:
    """ErrorResponse behind the question: whether the copy has lasted until our CopyFail; then `c` ends, as PostgreSQL ends it."""
    cdef size_t length = strlen(REASON)
    cdef size_t i
    for i in range(n - length if n > length else 0):
        if memcmp(body + i, REASON, length) == 0:
            client_fatal(w, c, "08P01", "unexpected message type during COPY from stdin")
            return True
    return False
