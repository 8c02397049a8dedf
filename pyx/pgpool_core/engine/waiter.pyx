"""Waiting clients that give up; see waiter.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from pgpool_core.engine.buf cimport Buf, buf_bytes, buf_free, buf_steal
from pgpool_core.engine.client cimport client_go_on
from pgpool_core.engine.conn cimport conn_doom, conn_hold, conn_receive, conn_send, plane_post, worker_wake
from pgpool_core.engine.console cimport console_tell
from pgpool_core.engine.mailbox cimport MAIL_CANCEL_DONE, MAIL_CANCEL_ELSEWHERE, MAIL_CONSOLE_CANCEL, Mail, mailbox_post
from pgpool_core.engine.orphan cimport server_ask_cancel
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport client_of
from pgpool_core.engine.sys cimport ssize_t
from pgpool_core.engine.timers cimport timer_clear
from pgpool_core.pool.pool cimport pool_leave_queue
from pgpool_core.pool.server cimport Server
from pgpool_core.sync.atomic cimport pgpool_load8
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.build cimport build_error, build_ready
from pgpool_core.wire.codes cimport FE_FUNCTION_CALL, FE_QUERY, FE_SYNC, FE_TERMINATE, TX_IDLE
from pgpool_core.wire.expect cimport EXPECT_CHORE, expect_head
from pgpool_core.wire.scan cimport CLIENT_MARKS, HEADER_LEN, SCAN_FOUND, Cursor, Frame, scan_past, scan_to


cdef void client_hangup(Worker *w, ClientConn *c) noexcept nogil:
    """A client that is not being read has closed its side.

    One that waits for a server, or whose next message does, is dropped, unless it said good-bye (Terminate) behind its query: PostgreSQL
    would run that query.
    """
    cdef ssize_t n
    cdef uint8_t *end
    if c.state == CL_CONSOLE and c.busy:
        conn_doom(w, &c.conn, "client unexpected eof")
    if c.state != CL_WAITING and not (c.state == CL_ACTIVE and c.awaiting | c.holding):
        return
    while c.conn.held.len < 2 * STASH_MAX:
        n = conn_receive(w, &c.conn, w.buf + HEADROOM, RECV_SIZE)
        if n <= 0:
            break
        if not conn_hold(w, &c.conn, w.buf + HEADROOM, <size_t>n):
            return
    if c.conn.held.len >= HEADER_LEN:
        end = buf_bytes(&c.conn.held) + c.conn.held.len - HEADER_LEN
        if end[0] == FE_TERMINATE and load_be32(end + 1) == 4:
            return
    conn_doom(w, &c.conn, "client unexpected eof")


cdef bint cancel_elsewhere(Worker *w, uint64_t key, uint64_t canceller) noexcept nogil:
    """Nobody here has this cancel key: control may know who else to ask. True while it does."""
    cdef Mail mail
    if not pgpool_load8(&w.plane.elsewhere):
        return False
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_CANCEL_ELSEWHERE
    mail.a = key
    mail.canceller = canceller
    return plane_post(w, &mail)


cdef bint cancel_waits(ServerConn *s, const ClientConn *c, uint64_t canceller) noexcept nogil:
    """A cancel request for `c` would hit what we ask `s`: it waits until that is answered, where something of the client's comes behind it."""
    if s.cancel_due or (s.expect.owed == 1 and not (c.holding and c.conn.held.len)):
        return False
    s.cancel_due = 1
    s.canceller = canceller
    return canceller != 0


cdef void cancel_goes_on(Worker *w, ServerConn *s, uint64_t canceller) noexcept nogil:
    """What it waited for has been answered: the client's own is running now. NULL for `s`: it is not any more."""
    cdef bint told = False
    if s != NULL and client_of(s) != NULL and s.expect.owed:
        told = server_ask_cancel(w, s, canceller)
    if canceller and not told:
        cancel_over(w, canceller)


cdef void cancel_over(Worker *w, uint64_t canceller) noexcept nogil:
    """Tell the worker of whoever sent a cancel request that it is over. A full ring: the connection ends by its timeout."""
    cdef Mail mail
    cdef Worker *other = &w.plane.workers[(canceller >> 56) - 1]
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_CANCEL_DONE
    mail.client = canceller
    if mailbox_post(&other.inbox, &mail):
        worker_wake(other)


cdef bint client_cancel(Worker *w, ClientConn *c, uint64_t canceller) noexcept nogil:
    """A cancel request with the right key has come for `c`; True while it is on its way to a server.

    A running query is cancelled at its server; one that waits in the queue is answered here, as PostgreSQL would, and
    the session lives on. Source: PostgreSQL docs, "Canceling Requests in Progress".
    """
    cdef Buf mine
    cdef Cursor cur
    cdef Frame f
    cdef size_t pos = 0, n
    cdef ServerConn *s
    cdef bint answered = False
    if c.state == CL_CONSOLE:
        if c.busy:
            console_tell(w, c, MAIL_CONSOLE_CANCEL)
        return False
    if c.state == CL_ACTIVE and c.seat.server != NULL:
        s = <ServerConn *>(<Server *>c.seat.server).owner
        if s.chore == CHORE_DOUBT:
            return False                          # nothing of the client's is known to be under way, and our question must not fail
        if (s.chore == CHORE_PROBE or s.chore == CHORE_SETTINGS) and expect_head(&s.expect) == EXPECT_CHORE \
                and not (s.expect.copying or s.in_doubt):
            return cancel_waits(s, c, canceller)
        return (s.expect.len or s.expect.copying or s.in_doubt) and server_ask_cancel(w, s, canceller)
    if c.state != CL_WAITING or not pool_leave_queue(c.pool.pool, &c.seat):
        return False
    timer_clear(&w.timers, &c.conn.timer)
    c.state = CL_IDLE
    cur.remain = 0
    cur.type = 0
    mine = buf_steal(&c.conn.held)
    n = build_error(w.scratch, SCRATCH_SIZE, "ERROR", "57014", "canceling statement due to user request", NULL)
    while scan_to(&cur, CLIENT_MARKS, w.plane.max_packet_size, buf_bytes(&mine), mine.len, &pos, &f) == SCAN_FOUND:
        scan_past(&cur, &f, mine.len, &pos)
        if f.type == FE_QUERY or f.type == FE_FUNCTION_CALL or f.type == FE_SYNC:
            n += build_ready(w.scratch + n, SCRATCH_SIZE - n, TX_IDLE)
            answered = True
            break
    c.cur = cur                                   # the rest of a long message is dropped as it comes
    c.skip_to_sync = not answered
    conn_send(w, &c.conn, w.scratch, n)
    if pos < mine.len:
        conn_hold(w, &c.conn, buf_bytes(&mine) + pos, mine.len - pos)
    buf_free(&mine)
    client_go_on(w, c)
    return False
