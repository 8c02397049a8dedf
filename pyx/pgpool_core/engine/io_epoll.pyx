"""Edge-triggered epoll; each connection is registered once.

A short receive means that the socket is drained, so the receive that would say EAGAIN is saved; bytes that come later
are a new edge. EPOLLOUT is asked for only after a short send: a unix socket would otherwise report it each time the
peer reads. Source: epoll(7), "Level-triggered and edge-triggered".
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.engine.buf cimport buf_bytes, buf_give_back
from pgpool_core.engine.conn cimport SENT, conn_again, conn_flush, conn_receive, conn_settle_all
from pgpool_core.engine.crowd cimport crowd_add, crowd_goes_on, crowd_has
from pgpool_core.engine.records cimport (HEADROOM, HUP_HERE, HUP_THERE, KIND_CLIENT, KIND_LISTENER, KIND_SERVER, KIND_WAKE,
                                         RECV_SIZE, STREAM_ON, Conn, Io, ServerConn, Worker)
from pgpool_core.engine.slots cimport handle_of, slot_of
from pgpool_core.engine.suspend cimport suspend_rests
from pgpool_core.engine.sys cimport *
from pgpool_core.pool.server cimport SV_IDLE, SV_USED
from pgpool_core.sync.atomic cimport pgpool_load8, pgpool_load32

cdef bint epoll_start(Worker *w) noexcept nogil:
    """An empty set with the worker's eventfd in it."""
    cdef epoll_event ev
    w.poll_fd = epoll_create1(EPOLL_CLOEXEC)
    if w.poll_fd < 0:
        return False
    ev.events = EPOLLIN | EPOLLET
    ev.data.u64 = <uint64_t>KIND_WAKE << 56
    return epoll_ctl(w.poll_fd, EPOLL_CTL_ADD, w.wake_fd, &ev) == 0


cdef void begin(Worker *w) noexcept nogil:
    """Nothing here belongs to a thread."""


cdef void leave(Worker *w) noexcept nogil:
    """There will be no other turn: what was left to its end is sent, and what comes now at once."""
    conn_settle_all(w)
    w.puts_off = 0


cdef void epoll_stop(Worker *w) noexcept nogil:
    """Give the set back."""
    if w.poll_fd >= 0:
        close(w.poll_fd)
        w.poll_fd = -1


cdef inline int control(Worker *w, Conn *c, int op, bint write) noexcept nogil:
    cdef epoll_event ev
    ev.events = EPOLLIN | EPOLLRDHUP | EPOLLET
    if write:
        ev.events |= EPOLLOUT
    ev.data.u64 = handle_of(&c.head, c.kind)
    return epoll_ctl(w.poll_fd, op, c.fd, &ev)


cdef bint epoll_add(Worker *w, Conn *c) noexcept nogil:
    return control(w, c, EPOLL_CTL_ADD, c.writing) == 0


cdef void epoll_remove(Worker *w, Conn *c) noexcept nogil:
    cdef epoll_event ev
    epoll_ctl(w.poll_fd, EPOLL_CTL_DEL, c.fd, &ev)


cdef bint epoll_let_go(Worker *w, Conn *c) noexcept nogil:
    epoll_remove(w, c)
    return True


cdef void epoll_rearm(Worker *w, Conn *c) noexcept nogil:
    control(w, c, EPOLL_CTL_MOD, c.writing)


cdef void epoll_want_write(Worker *w, Conn *c, bint on) noexcept nogil:
    control(w, c, EPOLL_CTL_MOD, on)


cdef void epoll_listen(Worker *w, int fd, uint32_t index) noexcept nogil:
    cdef epoll_event ev
    ev.events = EPOLLIN | EPOLLEXCLUSIVE
    ev.data.u64 = <uint64_t>KIND_LISTENER << 56 | index
    epoll_ctl(w.poll_fd, EPOLL_CTL_ADD, fd, &ev)


cdef void epoll_unlisten(Worker *w, int fd) noexcept nogil:
    cdef epoll_event ev
    epoll_ctl(w.poll_fd, EPOLL_CTL_DEL, fd, &ev)


cdef bint quiet(Worker *w, Conn *c) noexcept nogil:
    """Nothing is received but by epoll_pump."""
    return True


cdef inline bint hung_up(Conn *c) noexcept nogil:
    """The other side has closed, and nobody but us reads what it has sent before."""
    return c.hup and c.stream < STREAM_ON


cdef void epoll_pump(Worker *w, Conn *c) noexcept nogil:
    """Receive until the socket is drained, the engine has enough, or it is the others' turn (sbuf_loopcnt)."""
    cdef ssize_t n
    cdef uint8_t *at
    cdef size_t held
    cdef uint64_t received = 0
    cdef bint early
    c.missed = c.paused
    while received < w.plane.bytes_a_turn:
        if c.doomed or c.fd < 0:
            return
        if w.suspended and suspend_rests(c):
            c.missed = 1                             # it may not rest any more before that is over
            return
        if c.paused:
            c.missed = 1
            if hung_up(c):
                w.up.hangup(w, c)
            return
        early = c.early.len != 0
        n = conn_receive(w, c, w.buf + HEADROOM, RECV_SIZE)
        if n > 0:
            received += <uint64_t>n
            c.full_read = n == RECV_SIZE or early or (c.tls != NULL and c.tls.more)
            at = w.buf + HEADROOM
            held = c.held.len
            if held and held <= HEADROOM:            # show what was held back in front of what has come
                at -= held
                memcpy(at, buf_bytes(&c.held), held)
                buf_give_back(&c.held, &w.spares)
                n += <ssize_t>held
            if w.up.bytes(w, c, at, <size_t>n):
                if c.kind == KIND_CLIENT and c.paused and hung_up(c) and not c.doomed:
                    w.up.hangup(w, c)                # a client that asked and hung up at once: no other event will come
                return
            if not c.full_read and not c.hup:
                return
        elif n == 0:
            w.up.closed(w, c, 0)
            return
        elif pgpool_errno() == EAGAIN:
            c.full_read = 0
            if c.hup == HUP_HERE and w.io.quiet(w, c):
                w.up.closed(w, c, EAGAIN)
            return
        elif pgpool_errno() != EINTR:
            w.up.closed(w, c, pgpool_errno())
            return
    conn_again(w, c)


cdef inline void ready(Worker *w, Conn *c, uint32_t events) noexcept nogil:
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        c.hup = HUP_THERE
    if events & EPOLLOUT and c.out.len and c.writing:
        if conn_flush(w, c) == SENT:
            w.up.bytes(w, c, NULL, 0)                # all sent: who waited for that may go on
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        if crowd_has(c) and (w.crowd.n or not crowd_goes_on(w)):
            crowd_add(w, c)
        else:
            w.io.pump(w, c)


cdef int epoll_turn(Worker *w, int timeout_ms) noexcept nogil:
    """Wait for events and report them; how many there were, EVENTS_A_TURN at most."""
    cdef epoll_event[EVENTS_A_TURN] ev
    cdef Conn *c
    cdef ServerConn *s
    cdef uint64_t handle
    cdef uint8_t kind
    cdef int i
    cdef int n = epoll_wait(w.poll_fd, ev, EVENTS_A_TURN, timeout_ms)
    w.now_us = pgpool_now_us()
    for i in range(n):
        handle = ev[i].data.u64
        kind = <uint8_t>(handle >> 56)
        if kind == KIND_CLIENT:
            c = <Conn *>slot_of(&w.clients, handle)
            if c != NULL and not c.doomed:
                ready(w, c, ev[i].events)
        elif kind == KIND_SERVER:
            c = <Conn *>slot_of(&w.plane.servers, handle)
            if c == NULL:
                continue
            # The state is read before the worker: another worker that takes an idle server over writes them the
            # other way round, so a state other than idle goes with the worker seen.
            s = <ServerConn *>c
            kind = pgpool_load8(&s.seat.state)
            if pgpool_load32(&s.seat.worker) != w.index or c.doomed:
                continue
            if (kind == SV_IDLE or kind == SV_USED) and w.suspended:
                continue                             # reported again when that is over
            if kind == SV_IDLE or kind == SV_USED:
                w.up.hangup(w, c)                    # something happens on an idle server
            else:
                ready(w, c, ev[i].events)
        elif kind == KIND_LISTENER:
            w.up.accept(w, <uint32_t>handle)
        else:
            w.up.woken(w)
    return n if n > 0 else 0


cdef void turn(Worker *w, int timeout_ms) noexcept nogil:
    """Make the sends of the last turn, and wait. They are made together, because whom a send wakes may take the processor from the
    worker, which then has nothing left to do but to wait; where turns bring one event each, each send is made at once.
    """
    if w.sends.n:
        conn_settle_all(w)
        if w.again_head != NULL or w.doomed != NULL:
            timeout_ms = 0
    w.puts_off = epoll_turn(w, timeout_ms) > 1


cdef Io epoll_io
epoll_io.start = epoll_start
epoll_io.begin = begin
epoll_io.leave = leave
epoll_io.stop = epoll_stop
epoll_io.add = epoll_add
epoll_io.remove = epoll_remove
epoll_io.let_go = epoll_let_go
epoll_io.rearm = epoll_rearm
epoll_io.want_write = epoll_want_write
epoll_io.pump = epoll_pump
epoll_io.listen = epoll_listen
epoll_io.unlisten = epoll_unlisten
epoll_io.quiet = quiet
epoll_io.turn = turn
cdef const Io *IO_EPOLL = &epoll_io
