"""io_uring: the sends of a turn and the wait for the next one are one system call, and what has come is received in it.

Every connection begins in the poll set and is received from as with epoll. One that is short of words several times in a row, a
client after its login, becomes a *stream*: a multishot receive is left with the kernel, which fills buffers of a ring that the
worker owns. Whatever ends that (more than a buffer at once, bytes for a connection that is paused, no buffer left, the end of the
stream, an error) puts the connection back into the poll set, which says what there is. So a client that is not read is received
from once more at most; what that brought waits in `early`.

- The poll set is itself watched by the ring. Listeners and the eventfd are in it, and so are connections with more to send
  than their sockets take.
- With several workers an idle server may be taken over by another thread at any time, which the ring of this one does not
  allow: servers are streams with one worker only.
- A completion names its connection by handle, so one that comes late hits nobody. Whatever names a descriptor is prepared at
  the end of the turn, when nothing is closed any more, and handed over at once.
- A buffer goes back to the kernel when the sends out of it are over.
- Sends are over when they have been handed over; ring.pxd says why. Those that the kernel could not even look at (it has no
  memory) are made as plain ones.
- A ring that the kernel refuses to serve any more is left alone for ever (`ring_broken`). Its receives happen in our own calls only
  (IORING_SETUP_DEFER_TASKRUN), so what has not been told has not been received, and the poll set goes on where it ended.
- Where turns bring one event each, there is nothing to be put together, and the ring costs more than it saves. With
  `io_backend = auto` the worker then does without (`alone`) until there is more: no streams, no sends put off, the poll set only.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_give_back
from pgpool_core.engine.conn cimport conn_again, conn_doom, conn_sent
from pgpool_core.engine.io_epoll cimport *
from pgpool_core.engine.records cimport *
from pgpool_core.engine.ring cimport *
from pgpool_core.engine.sends cimport SENDS_A_TURN, Send, sends_clear
from pgpool_core.engine.slots cimport handle_of, slot_at, slot_of, slots_room
from pgpool_core.engine.suspend cimport suspend_rests, worker_has
from pgpool_core.engine.sys cimport (ENOBUFS, ENOMEM, SHUT_RDWR, pgpool_errno, pgpool_now_us, pgpool_send, shutdown,
                                     ssize_t)
from pgpool_core.pool.server cimport SV_IDLE, SV_USED
from pgpool_core.sync.atomic cimport pgpool_load8, pgpool_store32

cdef enum:
    SOON_A_TURN = 256
    CALM = 2                      # short receives in a row that make a stream
    MAX_BUFFERS = 256             # PGPOOL_RING_BUFFERS
    MAX_ERRORS = 100              # refused waits in a row, 1 ms each, before the ring is given up
    ONE = 256                     # an event, in the mean of events a turn
    FEW = ONE + ONE // 2          # below this mean a worker does without its ring
    MANY = 3 * ONE                # from this mean on it uses it again
    AT_FIRST = 4 * ONE
    ALONE_STREAMS = 64            # with more connections to take out of the ring than this, it stays
    TAG_SEND = 8                  # beside KIND_CLIENT and KIND_SERVER, which are receives
    TAG_SET = 9


cdef struct Uring:
    pgpool_ring *ring             # owned
    pgpool_event *events          # owned: PGPOOL_RING_EVENTS
    int32_t mean                  # of events a turn, over some 256 turns
    uint8_t alone
    uint32_t n_streams            # receives whose last completion has not come
    uint32_t n_soon
    uint32_t n_kept
    uint32_t errors
    uint8_t prepared              # something waits to be handed over
    uint8_t set_watched
    uint8_t set_more              # the poll set had more events than fit
    uint64_t soon[SOON_A_TURN]    # handles of those to become streams
    int32_t kept[MAX_BUFFERS]     # sends out of them are not over
    uint32_t order[SENDS_A_TURN]  # places of the sends handed over


cdef int uring_works() noexcept nogil:
    """Whether io_uring can be had here: 0, or -errno."""
    return pgpool_ring_works() if PGPOOL_RING_BUFFERS <= MAX_BUFFERS else -ENOBUFS


cdef bint start(Worker *w) noexcept nogil:
    cdef Uring *u = <Uring *>calloc(1, sizeof(Uring))
    w.uring = u
    if u == NULL:
        return False
    w.puts_off = 1
    u.mean = AT_FIRST
    if not epoll_start(w):
        return False
    u.events = <pgpool_event *>malloc(PGPOOL_RING_EVENTS * sizeof(pgpool_event))
    if u.events == NULL or pgpool_ring_open(&u.ring, PGPOOL_RING_BUFFERS) != 0:
        return False
    w.ring_fd = pgpool_ring_fd(u.ring)
    return True


cdef void give_up(Worker *w) noexcept nogil:
    """From here on `w` has epoll."""
    cdef Uring *u = <Uring *>w.uring
    w.io = IO_EPOLL
    w.ring_fd = -1
    if u != NULL:
        pgpool_ring_close(u.ring)
        free(u.events)
        free(u)
    w.uring = NULL


cdef void begin(Worker *w) noexcept nogil:
    if pgpool_ring_begin((<Uring *>w.uring).ring) != 0:
        give_up(w)


cdef void leave(Worker *w) noexcept nogil:
    IO_EPOLL.leave(w)                             # sends out of the ring's buffers
    give_up(w)


cdef void stop(Worker *w) noexcept nogil:
    give_up(w)
    epoll_stop(w)


cdef Conn *found(Worker *w, uint64_t tag) noexcept nogil:
    if tag >> 56 == KIND_CLIENT:
        return <Conn *>slot_of(&w.clients, tag)
    return <Conn *>slot_of(&w.plane.servers, tag)


cdef inline bint idles(Worker *w, Conn *c) noexcept nogil:
    """An idle server; with several workers nobody needs to know here, and only the pool's lock would tell."""
    cdef uint8_t state
    if c.kind != KIND_SERVER or w.plane.n_workers != 1:
        return False
    state = pgpool_load8(&(<ServerConn *>c).seat.state)
    return state == SV_IDLE or state == SV_USED


cdef void end_stream(Worker *w, Conn *c) noexcept nogil:
    """Have the kernel stop receiving: its last completion is on its way."""
    cdef Uring *u = <Uring *>w.uring
    if c.stream != STREAM_ON:
        return
    c.stream = STREAM_ENDING
    c.calm = 0
    u.prepared = 1
    if not pgpool_ring_cancel(u.ring, handle_of(&c.head, c.kind)):
        shutdown(c.fd, SHUT_RDWR)                 # the kernel takes nothing: that ends it too


cdef void stream_ended(Worker *w, Conn *c) noexcept nogil:
    """The last completion: the poll set will say what there is."""
    c.stream = STREAM_NONE
    w.gives = pgpool_load8(&w.plane.giving)
    if c.writing:
        epoll_rearm(w, c)                         # it is there already, for writing
    elif not epoll_add(w, c):
        w.up.closed(w, c, ENOMEM)
    if c.hup == HUP_HERE:
        conn_again(w, c)


cdef void remove(Worker *w, Conn *c) noexcept nogil:
    if c.stream >= STREAM_ON:
        if c.writing:
            epoll_remove(w, c)
        end_stream(w, c)
    else:
        epoll_remove(w, c)
    c.stream = STREAM_NONE


cdef bint let_go(Worker *w, Conn *c) noexcept nogil:
    if c.stream >= STREAM_ON:
        end_stream(w, c)
        return False
    remove(w, c)
    return True


cdef bint quiet(Worker *w, Conn *c) noexcept nogil:
    """Streams have to be ended first: until their last completion has come, the kernel may be receiving."""
    if c.stream == STREAM_SOON:
        c.stream = STREAM_NONE
    elif c.stream != STREAM_NONE:
        end_stream(w, c)
    return c.stream == STREAM_NONE


cdef void rearm(Worker *w, Conn *c) noexcept nogil:
    if c.early.len:
        conn_again(w, c)
    elif c.stream < STREAM_ON:
        epoll_rearm(w, c)


cdef void want_write(Worker *w, Conn *c, bint on) noexcept nogil:
    if c.stream < STREAM_ON:
        epoll_want_write(w, c, on)
    elif not on:
        epoll_remove(w, c)
    elif epoll_add(w, c):
        end_stream(w, c)
    else:
        w.up.closed(w, c, ENOMEM)


cdef void pump(Worker *w, Conn *c) noexcept nogil:
    """Receive as with epoll; then see whether `c` is to become a stream."""
    cdef Uring *u = <Uring *>w.uring
    cdef bint logs_in = c.kind == KIND_CLIENT and (<ClientConn *>c).login != NULL
    if w.suspended and suspend_rests(c):
        c.missed = 1
        return
    if idles(w, c):
        w.up.hangup(w, c)                         # it has been freed since it was to be read again
        return
    epoll_pump(w, c)
    if logs_in:
        return                                    # what came of it is no sign of what it will ask: many ask once, and leave
    if c.kind == KIND_SERVER and w.plane.n_workers != 1:
        return                                    # it may be another worker's by now
    if c.full_read or c.hup or c.writing:
        c.calm = 0
    elif c.stream == STREAM_NONE and c.tls == NULL and not c.doomed and c.fd >= 0:
        c.calm += 1
        if c.calm >= CALM:
            c.calm = 0
            if (u.n_soon < SOON_A_TURN and u.n_streams + u.n_soon < <uint32_t>PGPOOL_RING_STREAMS
                    and not u.alone and not w.ring_broken and u.errors == 0):
                c.stream = STREAM_SOON
                u.soon[u.n_soon] = handle_of(&c.head, c.kind)
                u.n_soon += 1


cdef void begin_streams(Worker *w, Uring *u) noexcept nogil:
    cdef Conn *c
    cdef uint32_t i
    for i in range(u.n_soon):
        c = found(w, u.soon[i])
        if c == NULL or c.stream != STREAM_SOON:
            continue
        c.stream = STREAM_NONE
        if (c.doomed or c.hup or c.writing or c.again or c.early.len or c.tls != NULL or w.ring_broken or u.errors
                or pgpool_load8(&w.plane.giving)):
            continue
        epoll_remove(w, c)
        if pgpool_ring_receive(u.ring, c.fd, handle_of(&c.head, c.kind)):
            c.stream = STREAM_ON
            u.n_streams += 1
            u.prepared = 1
        elif not epoll_add(w, c):
            w.up.closed(w, c, ENOMEM)
    u.n_soon = 0


cdef bint send_plain(Send *send) noexcept nogil:
    """Whether all of it has been sent."""
    cdef ssize_t sent = pgpool_send((<Conn *>send.conn).fd, send.at, send.len)
    send.result = <int>(sent if sent >= 0 else -pgpool_errno())
    return send.result == <int>send.len


cdef int hand_over(Worker *w, Uring *u, int wait_ms) noexcept nogil:
    """Give the kernel what this turn has prepared, and wait. 0, or -errno. Without the ring sends are made, and nothing waits."""
    cdef Send *send
    cdef uint32_t i, n = 0, left
    cdef int error = 0
    for i in range(w.sends.n):
        send = &w.sends.all[i]
        if send.conn == NULL:
            continue
        if not w.ring_broken and pgpool_ring_send(u.ring, (<Conn *>send.conn).fd, send.at, send.len, <uint64_t>TAG_SEND << 56 | i):
            u.order[n] = i
            n += 1
        elif not send_plain(send):
            wait_ms = 0                           # that is to be seen to first
    u.prepared = 0
    if w.ring_broken:
        return 0
    left = pgpool_ring_enter(u.ring, wait_ms, &error)
    for i in range(n - left, n):
        send_plain(&w.sends.all[u.order[i]])
    return error


cdef void sends_over(Worker *w, Uring *u) noexcept nogil:
    """Every send has its result: see to those that were not whole, give the buffers back."""
    cdef Send *send
    cdef uint32_t i
    for i in range(w.sends.n):
        send = &w.sends.all[i]
        if send.conn != NULL:
            (<Conn *>send.conn).queued = 0
    for i in range(w.sends.n):
        send = &w.sends.all[i]
        if send.conn != NULL and send.result != <int>send.len:
            conn_sent(w, <Conn *>send.conn, send.at, send.len, send.result)
    sends_clear(w.sends)
    for i in range(u.n_kept):
        pgpool_ring_give(u.ring, u.kept[i])
    u.n_kept = 0


cdef void keep_early(Worker *w, Uring *u, Conn *c, pgpool_event *e) noexcept nogil:
    """Bytes that nobody wants to see yet."""
    cdef bint kept = buf_add(&c.early, pgpool_ring_buffer(u.ring, e.buffer), <size_t>e.result)
    pgpool_ring_give(u.ring, e.buffer)
    if not kept:
        conn_doom(w, c, "out of memory")
    elif c.paused or (w.suspended and suspend_rests(c)):
        c.missed = 1
        end_stream(w, c)
    elif idles(w, c):
        w.up.hangup(w, c)
    else:
        if c.tls != NULL:                         # TLS has begun on a stream, which it is to be no longer
            end_stream(w, c)
        conn_again(w, c)


cdef void received(Worker *w, Uring *u, pgpool_event *e) noexcept nogil:
    cdef Conn *c = found(w, e.tag)
    cdef uint8_t *at = pgpool_ring_buffer(u.ring, e.buffer)
    cdef size_t n = <size_t>e.result
    cdef size_t held
    if c == NULL or c.doomed or c.stream < STREAM_ON:
        pgpool_ring_give(u.ring, e.buffer)        # it has been closed
        return
    if c.paused or c.early.len or c.tls != NULL or idles(w, c) or (w.suspended and suspend_rests(c)):
        keep_early(w, u, c, e)
        return
    held = c.held.len
    c.full_read = c.missed = 0
    if held and held <= HEADROOM:                 # show what was held back in front of what has come
        memcpy(w.buf + HEADROOM, at, n)
        pgpool_ring_give(u.ring, e.buffer)
        at = w.buf + HEADROOM - held
        memcpy(at, buf_bytes(&c.held), held)
        buf_give_back(&c.held, &w.spares)
        w.up.bytes(w, c, at, n + held)
    else:
        u.kept[u.n_kept] = e.buffer
        u.n_kept += 1
        w.sends.kept = at
        w.sends.kept_end = at + n
        w.up.bytes(w, c, at, n)
        w.sends.kept = w.sends.kept_end = NULL
    if n == <size_t>PGPOOL_RING_BUFFER and not c.doomed:
        end_stream(w, c)                          # there is a lot of it: fewer, larger receives


cdef void without_ring(Worker *w, Uring *u) noexcept nogil:
    """The ring is not entered again. Its streams go on in the poll set."""
    cdef Conn *c
    cdef ServerConn *s
    cdef uint32_t slot
    pgpool_store32(&w.ring_broken, 1)
    u.n_streams = 0
    u.set_watched = u.prepared = 0
    begin_streams(w, u)                           # none begins
    for slot in range(slots_room(&w.clients)):
        c = <Conn *>slot_at(&w.clients, slot)
        if c.head.live and c.stream >= STREAM_ON:
            stream_ended(w, c)
    if w.plane.n_workers != 1:
        return
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if worker_has(w, s) and s.conn.stream >= STREAM_ON:
            stream_ended(w, &s.conn)


cdef void lost(Worker *w, Uring *u) noexcept nogil:
    """The kernel has more to say than there was room for: whoever it may concern ends, and epoll does the rest."""
    cdef Conn *c
    cdef ServerConn *s
    cdef uint32_t slot
    for slot in range(slots_room(&w.clients)):
        c = <Conn *>slot_at(&w.clients, slot)
        if c.head.live and c.fd >= 0 and (c.queued or c.stream >= STREAM_ON):
            w.up.closed(w, c, ENOBUFS)
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if w.plane.n_workers == 1 and worker_has(w, s) and s.conn.fd >= 0 and s.conn.stream >= STREAM_ON:
            w.up.closed(w, &s.conn, ENOBUFS)
    without_ring(w, u)


cdef void weigh(Worker *w, Uring *u, int n) noexcept nogil:
    """A turn has brought `n` events: is the ring worth its while?"""
    if n == 0 or not w.plane.io_adapts or w.ring_broken:
        return
    u.mean += (n * ONE - u.mean) // 256 if n * ONE > u.mean else -((u.mean - n * ONE) // 256 + 1)
    if u.alone and u.mean > MANY:
        u.alone = 0
        w.puts_off = 1
    elif not u.alone and u.mean < FEW and u.n_streams <= ALONE_STREAMS:
        go_alone(w, u)


cdef void go_alone(Worker *w, Uring *u) noexcept nogil:
    """Take everything out of the ring. Its last completions are still to come; until then turns go on as before."""
    cdef Conn *c
    cdef ServerConn *s
    cdef uint32_t slot
    u.prepared = 1
    if u.set_watched and not pgpool_ring_cancel(u.ring, <uint64_t>TAG_SET << 56):
        return
    u.alone = 1
    if u.n_streams == 0:
        return
    for slot in range(slots_room(&w.clients)):
        c = <Conn *>slot_at(&w.clients, slot)
        if c.head.live and c.stream == STREAM_ON:
            end_stream(w, c)
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if w.plane.n_workers == 1 and worker_has(w, s) and s.conn.stream == STREAM_ON:
            end_stream(w, &s.conn)


cdef int completions(Worker *w, Uring *u) noexcept nogil:
    """What has happened: first the sends, which a paused connection may depend on. How often something was received."""
    cdef pgpool_event *e
    cdef Conn *c
    cdef uint32_t i, n
    cdef uint8_t tag
    cdef int receives = 0
    n = pgpool_ring_take(u.ring, u.events, PGPOOL_RING_EVENTS)
    if pgpool_ring_overflown(u.ring) and not w.ring_broken:
        lost(w, u)
    for i in range(n):
        if u.events[i].tag >> 56 == TAG_SEND:
            w.sends.all[<uint32_t>u.events[i].tag].result = u.events[i].result
    sends_over(w, u)
    for i in range(n):
        e = &u.events[i]
        tag = <uint8_t>(e.tag >> 56)
        if tag == TAG_SET:
            u.set_more = 1
            u.set_watched = e.more
        elif tag == KIND_CLIENT or tag == KIND_SERVER:
            if e.buffer >= 0:
                if e.result > 0:
                    receives += 1
                    received(w, u, e)
                else:
                    pgpool_ring_give(u.ring, e.buffer)
            if not e.more:
                if u.n_streams:
                    u.n_streams -= 1
                c = found(w, e.tag)
                if c != NULL and c.stream >= STREAM_ON:
                    stream_ended(w, c)
    return receives


cdef void turn(Worker *w, int timeout_ms) noexcept nogil:
    cdef Uring *u = <Uring *>w.uring
    cdef int error, n, more
    begin_streams(w, u)
    if w.doomed != NULL:
        timeout_ms = 0
    if u.n_streams == 0 and not (u.alone and u.set_watched):     # nothing that only the ring would tell
        if w.sends.n or u.prepared:
            hand_over(w, u, 0)
            completions(w, u)
            if w.again_head != NULL or w.doomed != NULL:
                timeout_ms = 0
        if u.alone or w.ring_broken:
            w.puts_off = 0
        w.accepts_left = 0
        n = epoll_turn(w, timeout_ms)
        u.set_more = n == EVENTS_A_TURN or w.accepts_left
        weigh(w, u, n)
        return
    if not u.set_watched and not u.alone and pgpool_ring_watch(u.ring, w.poll_fd, <uint64_t>TAG_SET << 56):
        u.set_watched = 1
    if u.set_more or not u.set_watched:
        timeout_ms = 0
    error = hand_over(w, u, timeout_ms)
    w.now_us = pgpool_now_us()
    n = completions(w, u)
    if error:
        u.errors += 1
        if u.errors > MAX_ERRORS:
            without_ring(w, u)
        epoll_turn(w, 1)
        return
    u.errors = 0
    if u.set_more or not u.set_watched:
        w.accepts_left = 0
        more = epoll_turn(w, 0)
        u.set_more = more == EVENTS_A_TURN or w.accepts_left     # the ring tells of a listener once, however many are left
        n += more
    weigh(w, u, n)


cdef Io uring_io
uring_io.start = start
uring_io.begin = begin
uring_io.leave = leave
uring_io.stop = stop
uring_io.add = epoll_add
uring_io.remove = remove
uring_io.let_go = let_go
uring_io.rearm = rearm
uring_io.want_write = want_write
uring_io.pump = pump
uring_io.listen = epoll_listen
uring_io.unlisten = epoll_unlisten
uring_io.quiet = quiet
uring_io.turn = turn
cdef const Io *IO_URING = &uring_io
