"""Standing still; see suspend.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.client cimport client_request
from pgpool_core.engine.conn cimport SENT, conn_again, conn_doom, conn_settle, plane_post
from pgpool_core.engine.mailbox cimport MAIL_SUSPENDED, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.engine.slots cimport slot_at, slot_live, slots_room
from pgpool_core.pool.server cimport SV_ACTIVE, SV_CLOSING, SV_IDLE, SV_LOGIN, SV_USED, Server
from pgpool_core.sync.atomic cimport pgpool_load8, pgpool_load32


cdef bint suspend_rests(const Conn *c) noexcept nogil:
    """Not in the middle of a message, nothing left to be sent: it need not be read.

    What clients have asked who wait, in the queue or for an answer to what came before, is kept whole while nobody is read.
    """
    cdef const ClientConn *client
    if c.kind == KIND_SERVER:
        return (<const ServerConn *>c).seat.state != SV_CLOSING and c.out.len == 0 and c.held.len == 0 \
            and (<const ServerConn *>c).cur.remain == 0
    client = <const ClientConn *>c
    if client.loan != NULL:
        return not client.loan.told
    if client.state == CL_CONSOLE or client.state == CL_LINGER or c.out.len:
        return False
    if client.state == CL_LOGIN:
        return client.login == NULL or client.login.input.len == 0
    if client.state == CL_WAITING or client.holding or client.awaiting:
        return True
    return c.held.len == 0 and client.cur.remain == 0 and not owes_sync(client)


cdef bint owes_sync(const ClientConn *c) noexcept nogil:
    """PostgreSQL has told half a message, and keeps the rest until the group of messages is ended, which only the client can do."""
    cdef const ServerConn *s
    if c.state != CL_ACTIVE or c.seat.server == NULL:
        return False
    s = <const ServerConn *>(<Server *>c.seat.server).owner
    return s.open_group and s.cur.remain != 0


cdef inline bint ends(const ClientConn *c) noexcept nogil:
    """Nobody waits for it: the console, or one that has had its last message."""
    return c.conn.doomed or c.state == CL_CONSOLE or c.state == CL_LINGER or c.state == CL_GONE


cdef bint worker_has(Worker *w, ServerConn *s) noexcept nogil:
    """`s` is open and in this worker's poll set, where it stays as long as the worker does nothing else."""
    cdef uint32_t state
    if not slot_live(&s.conn.head) or pgpool_load32(&s.seat.worker) != w.index:
        return False
    state = pgpool_load8(&s.seat.state)
    return state > SV_LOGIN and state <= SV_CLOSING


cdef uint32_t unsettled(Worker *w, bint drop) noexcept nogil:
    """How many are in the middle of something; with `drop` they end."""
    cdef uint32_t slot, n = 0
    cdef ClientConn *c
    cdef ServerConn *s
    for slot in range(slots_room(&w.clients)):
        c = <ClientConn *>slot_at(&w.clients, slot)
        if not c.conn.head.live or ends(c) or (conn_settle(w, &c.conn) == SENT and suspend_rests(&c.conn)):
            continue
        n += 1
        if c.conn.missed and not c.conn.paused:
            conn_again(w, &c.conn)                # it was at rest when that came
        if drop:
            conn_doom(w, &c.conn, "suspend_timeout")
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if not worker_has(w, s) or s.conn.doomed or s.seat.state == SV_CLOSING:
            continue
        if s.seat.state == SV_IDLE or s.seat.state == SV_USED:     # at rest, and perhaps another worker's by now
            continue
        if conn_settle(w, &s.conn) == SENT and suspend_rests(&s.conn):
            continue
        n += 1
        if drop and s.seat.state >= SV_ACTIVE:
            server_quit(w, s, "suspend_timeout")
    return n


cdef void listeners(Worker *w) noexcept nogil:
    """Leave the listening sockets alone, or watch them again."""
    cdef uint32_t i
    for i in range(w.listening):
        if not pgpool_load8(&w.plane.listeners[i].live):
            continue
        if w.suspended:
            w.io.unlisten(w, w.plane.listeners[i].fd)
        else:
            w.io.listen(w, w.plane.listeners[i].fd, i)


cdef void go_on(Worker *w) noexcept nogil:
    """Have everything reported that has come meanwhile."""
    cdef uint32_t slot
    cdef ClientConn *c
    cdef ServerConn *s
    for slot in range(slots_room(&w.clients)):
        c = <ClientConn *>slot_at(&w.clients, slot)
        if not c.conn.head.live or c.conn.doomed:
            continue
        if c.conn.fd >= 0:
            w.io.rearm(w, &c.conn)
        elif c.loan != NULL and c.state == CL_IDLE:
            client_request(w, c)                  # it has come meanwhile
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if worker_has(w, s) and not s.conn.doomed:
            w.io.rearm(w, &s.conn)


cdef void suspend_mail(Worker *w, uint64_t a) noexcept nogil:
    """Control says what to do, and is told how many connections are not at rest yet. `a`: token * 4 + SUSPEND_*."""
    cdef Mail mail
    cdef uint32_t how = a & 3
    cdef bint changes = w.suspended != (how != SUSPEND_END)
    w.suspended = how != SUSPEND_END
    if changes:
        listeners(w)
        if not w.suspended:
            go_on(w)
    mail.kind = MAIL_SUSPENDED
    mail.client = mail.server = 0
    mail.a = a >> 2
    mail.b = unsettled(w, how == SUSPEND_DROP) if w.suspended else 0
    mail.data = NULL
    mail.len = 0
    plane_post(w, &mail)                          # where it is lost, control asks again
