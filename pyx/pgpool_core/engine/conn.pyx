"""Connections: sending what the kernel takes now, keeping the rest; see conn.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from pgpool_core.engine.buf cimport BUF_NEXT, Buf, buf_add, buf_bytes, buf_free, buf_spare, buf_take
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.mailbox cimport Mail, mailbox_post
from pgpool_core.engine.records cimport (AGAIN_NEXT, AGAIN_NOT, HUP_HERE, KIND_SERVER, SCRATCH_SIZE, STREAM_NONE, STREAM_ON, Conn,
                                         Plane, PoolRecord, Worker)
from pgpool_core.engine.secure cimport secure_bye, secure_last, secure_put, secure_receive, secure_send
from pgpool_core.engine.sends cimport SEND_MAX, Send, sends_add, sends_clear
from pgpool_core.engine.sys cimport (EAGAIN, EINTR, SHUT_WR, close, pgpool_errno, pgpool_no_data, pgpool_recv, pgpool_send,
                                     pgpool_send2, shutdown, ssize_t, write)
from pgpool_core.engine.timers cimport timer_clear
from pgpool_core.sync.atomic cimport pgpool_store_ptr, pgpool_swap32
from pgpool_core.tls.session cimport tls_free

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t, size_t)


cdef int conn_send_else(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """conn_send, whatever is to be sent in whatever state."""
    if c.tls != NULL:
        return secure_send(w, c, data, n)
    return conn_write(w, c, data, n)


cdef int conn_write(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Send bytes as they are; what the kernel does not take now is copied to `out`.

    A back end that sends at the turn's end is trusted to: it says later, by `blocked`, what the kernel did not take.
    """
    cdef ssize_t sent = 0
    cdef size_t queued
    if c.doomed or c.fd < 0:
        return SEND_DEAD
    if w.puts_off and put_off(w, c, data, n):
        return SENT
    if conn_settle(w, c) == SEND_DEAD:
        return SEND_DEAD
    queued = c.out.len
    if not c.writing:
        while True:
            if queued:
                sent = pgpool_send2(c.fd, buf_bytes(&c.out), queued, data, n)
            else:
                sent = pgpool_send(c.fd, data, n)
            if sent >= 0 or pgpool_errno() != EINTR:
                break
        if sent == <ssize_t>(queued + n):
            if queued:
                buf_free(&c.out)
            return SENT
        if sent < 0:
            if pgpool_errno() != EAGAIN:
                return broken(w, c)
            sent = 0
        if <size_t>sent < queued:
            buf_take(&c.out, <size_t>sent)
            sent = 0
        elif queued:
            buf_free(&c.out)
            sent -= <ssize_t>queued
        c.writing = 1
        w.io.want_write(w, c, True)
    if not buf_add(&c.out, data + sent, n - <size_t>sent):
        conn_doom(w, c, "out of memory")
        return SEND_DEAD
    return SEND_LATER


cdef bint put_off(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Leave a send to the turn's end: the first of its connection that is neither long nor behind one that waits."""
    if c.queued or c.writing or n == 0 or c.out.len + n > SEND_MAX:
        return False
    c.queued = <uint16_t>sends_add(w.sends, c, buf_bytes(&c.out), c.out.len, data, <uint32_t>n)
    if c.queued and c.out.len:
        buf_free(&c.out)
    return c.queued != 0


cdef inline int make(Worker *w, Conn *c, Send *send) noexcept nogil:
    """Make a send that was put off."""
    cdef ssize_t sent
    send.conn = NULL
    c.queued = 0
    sent = pgpool_send(c.fd, send.at, send.len)
    if sent == <ssize_t>send.len:
        return SENT
    while sent < 0 and pgpool_errno() == EINTR:
        sent = pgpool_send(c.fd, send.at, send.len)
    return conn_sent(w, c, send.at, send.len, sent if sent >= 0 else -pgpool_errno())


cdef int conn_settle_one(Worker *w, Conn *c) noexcept nogil:
    """conn_settle, where there is one."""
    return make(w, c, &w.sends.all[c.queued - 1])


cdef void conn_settle_all(Worker *w) noexcept nogil:
    """Make the sends that were left to the turn's end, which is now, in the order in which they were left."""
    cdef Send *send = w.sends.all
    cdef Send *end = send + w.sends.n
    while send < end:
        if send.conn != NULL:
            make(w, <Conn *>send.conn, send)
        send += 1
    sends_clear(w.sends)


cdef int conn_sent(Worker *w, Conn *c, const uint8_t *data, size_t n, ssize_t result) noexcept nogil:
    """What has become of a send that was put off: bytes sent, or -errno. The rest goes in front of `out`."""
    cdef Buf rest
    if result == <ssize_t>n:
        return SENT
    if result < 0:
        if result != -EAGAIN and result != -EINTR:
            return broken(w, c)
        result = 0
    memset(&rest, 0, sizeof(Buf))
    if not buf_add(&rest, data + result, n - <size_t>result) or not buf_add(&rest, buf_bytes(&c.out), c.out.len):
        buf_free(&rest)
        conn_doom(w, c, "out of memory")
        return SEND_DEAD
    buf_free(&c.out)
    c.out = rest
    c.writing = 1
    w.io.want_write(w, c, True)
    w.up.blocked(w, c)
    return SEND_LATER


cdef bint conn_put(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Bytes that go ahead of the next that are sent; False when memory is short."""
    if c.tls != NULL:
        return secure_put(w, c, data, n)
    return buf_add(&c.out, data, n)


cdef ssize_t conn_receive_else(Worker *w, Conn *c, uint8_t *into, size_t cap) noexcept nogil:
    """conn_receive, whatever there is to be received from."""
    cdef size_t n = c.early.len
    if c.tls != NULL:
        return secure_receive(w, c, into, cap)
    if n:
        n = n if n < cap else cap
        memcpy(into, buf_bytes(&c.early), n)
        buf_take(&c.early, n)
        return <ssize_t>n
    if c.stream >= STREAM_ON:
        return pgpool_no_data()
    return pgpool_recv(c.fd, into, cap)


cdef void conn_mix_more(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """conn_mix, where there is no room."""
    conn_mixed(w, c)
    if n > SCRATCH_SIZE // 2:
        conn_send(w, c, data, n)
    else:
        conn_mix(w, c, data, n)


cdef int conn_mixed(Worker *w, Conn *c) noexcept nogil:
    """Send what has been mixed."""
    cdef uint32_t n = w.mixed
    w.mixed = 0
    return conn_send(w, c, w.mix, n) if n else SENT


cdef int conn_flush(Worker *w, Conn *c) noexcept nogil:
    """The socket takes more: send from `out`."""
    cdef ssize_t sent
    if conn_settle(w, c) != SENT:
        return SEND_DEAD if c.doomed else SEND_LATER
    while c.out.len:
        sent = pgpool_send(c.fd, buf_bytes(&c.out), c.out.len)
        if sent < 0:
            if pgpool_errno() == EINTR:
                continue
            if pgpool_errno() != EAGAIN:
                return broken(w, c)
            if not c.writing:
                c.writing = 1
                w.io.want_write(w, c, True)
            return SEND_LATER
        buf_take(&c.out, <size_t>sent)
    if c.writing:
        c.writing = 0
        w.io.want_write(w, c, False)
    return SENT


cdef int conn_push(Worker *w, Conn *c) noexcept nogil:
    """Send what waits for the next bytes. What waits for the socket goes on waiting: whoever is not read meanwhile hears of its room."""
    return SEND_LATER if c.writing else conn_flush(w, c)


cdef int broken(Worker *w, Conn *c) noexcept nogil:
    """A send failed. A server may have said why: what it sent before is read first, and then it ends, whatever its socket is like.

    Nothing more is sent to it: what comes next might be the middle of a message, and would be taken for the beginning of one.
    """
    if c.kind == KIND_SERVER:
        shutdown(c.fd, SHUT_WR)
        c.hup = HUP_HERE
        c.paused = 0
        conn_again(w, c)
    else:
        conn_doom(w, c, "client unexpected eof")
    return SEND_DEAD


cdef void conn_resume(Worker *w, Conn *c) noexcept nogil:
    """`c` may be read again; it is, next turn, unless its socket is known to be empty."""
    c.paused = 0
    if c.missed or c.full_read or c.hup:
        conn_again(w, c)


cdef void conn_again(Worker *w, Conn *c) noexcept nogil:
    """Read `c` in the next turn, whether or not the kernel reports it."""
    if c.again:
        return
    c.again = AGAIN_NEXT
    c.again_next = NULL
    if w.again_tail != NULL:
        w.again_tail.again_next = c
    else:
        w.again_head = c
    w.again_tail = c


cdef void conn_not_again(Worker *w, Conn *c) noexcept nogil:
    """Take `c` off that list: it ends, or another worker takes it over. In the crowd it only is passed over when its time comes."""
    cdef Conn **at = &w.again_head
    cdef Conn *before = NULL
    if c.again != AGAIN_NEXT:
        c.again = AGAIN_NOT
        return
    while at[0] != c:
        before = at[0]
        at = &before.again_next
    at[0] = c.again_next
    if w.again_tail == c:
        w.again_tail = before
    c.again = AGAIN_NOT


cdef void conn_doom(Worker *w, Conn *c, const char *reason) noexcept nogil:
    """End `c` when this turn's events have been handled: nothing that is being worked on disappears underneath."""
    if c.doomed:
        return
    c.doomed = 1
    c.reason = reason
    c.doomed_next = w.doomed
    w.doomed = c


cdef void conn_shut(Worker *w, Conn *c) noexcept nogil:
    """Everything has been sent: end our side of the stream."""
    if c.tls != NULL:
        secure_bye(w, c)
    if not c.writing and conn_settle(w, c) == SENT:
        shutdown(c.fd, SHUT_WR)


cdef void conn_close(Worker *w, Conn *c) noexcept nogil:
    """Close the socket and free the buffers; the slot is the caller's matter."""
    timer_clear(&w.timers, &c.timer)
    conn_not_again(w, c)
    if c.fd >= 0:
        if c.queued:
            w.sends.all[c.queued - 1].conn = NULL
            pgpool_send(c.fd, w.sends.all[c.queued - 1].at, w.sends.all[c.queued - 1].len)
            c.queued = 0
        if c.tls != NULL:
            secure_last(c)
        if c.stream != STREAM_NONE:
            w.io.remove(w, c)
        close(c.fd)                                  # which takes it out of the poll set
        c.fd = -1
    buf_free(&c.out)
    buf_free(&c.early)
    buf_free(&c.held)
    tls_free(c.tls)
    c.tls = NULL


cdef bint conn_keep(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """conn_hold, where there are some."""
    if n <= BUF_NEXT:
        buf_spare(&c.held, &w.spares)
    if not buf_add(&c.held, data, n):
        conn_doom(w, c, "out of memory")
        return False
    return True


cdef void plane_wake(Plane *plane) noexcept nogil:
    """Let control look at its mail."""
    cdef uint64_t one = 1
    if pgpool_swap32(&plane.signalled, 1) == 0:
        write(plane.control_fd, &one, 8)


cdef void plane_want(Plane *plane) noexcept nogil:
    """Let control plan: a pool may need a server, or a slot has become free."""
    if pgpool_swap32(&plane.want, 1) == 0:
        plane_wake(plane)


cdef bint plane_post(Worker *w, Mail *mail) noexcept nogil:
    """Send mail to control; False when its ring is full (then `mail.data` is still the caller's)."""
    mail.worker = w.index
    if not mailbox_post(&w.plane.outbox, mail):
        w.mail_lost += 1
        plane_wake(w.plane)
        return False
    plane_wake(w.plane)
    return True


cdef bint worker_wake(Worker *w) noexcept nogil:
    """Let a worker look at its mail, its notes and its grants. False: it has been told already and has not looked yet."""
    cdef uint64_t one = 1
    if pgpool_swap32(&w.signalled, 1) != 0:
        return False
    write(w.wake_fd, &one, 8)
    return True


cdef Counters *counters_new(Worker *w, PoolRecord *pool) noexcept nogil:
    """Its first ones."""
    cdef size_t size = (sizeof(Counters) + 127) // 128 * 128
    cdef Counters *counters = <Counters *>aligned_alloc(128, size)
    if counters == NULL:
        return w.spare_counters
    memset(counters, 0, size)
    pgpool_store_ptr(<void *>&w.counters[pool.pool.id], counters)
    return counters
