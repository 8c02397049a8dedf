"""Sending, and the two lists of a turn: those to be read again, those that end."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.records cimport SCRATCH_SIZE, STREAM_ON, Conn, Plane, PoolRecord, Worker
from pgpool_core.engine.sends cimport SEND_MAX, sends_keep
from pgpool_core.engine.sys cimport pgpool_recv, ssize_t


cdef enum:
    SENT = 0
    SEND_LATER = 1                # the rest waits in `out`
    SEND_DEAD = -1                # the connection is broken; it ends with this turn


cdef int conn_send_else(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil
cdef int conn_write(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil
cdef bint conn_put(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil
cdef void conn_mix_more(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil
cdef int conn_mixed(Worker *w, Conn *c) noexcept nogil
cdef int conn_flush(Worker *w, Conn *c) noexcept nogil
cdef int conn_push(Worker *w, Conn *c) noexcept nogil
cdef int conn_settle_one(Worker *w, Conn *c) noexcept nogil
cdef void conn_settle_all(Worker *w) noexcept nogil
cdef int conn_sent(Worker *w, Conn *c, const uint8_t *data, size_t n, ssize_t result) noexcept nogil
cdef ssize_t conn_receive_else(Worker *w, Conn *c, uint8_t *into, size_t cap) noexcept nogil
cdef void conn_resume(Worker *w, Conn *c) noexcept nogil
cdef void conn_again(Worker *w, Conn *c) noexcept nogil
cdef void conn_not_again(Worker *w, Conn *c) noexcept nogil
cdef void conn_doom(Worker *w, Conn *c, const char *reason) noexcept nogil
cdef void conn_shut(Worker *w, Conn *c) noexcept nogil
cdef void conn_close(Worker *w, Conn *c) noexcept nogil
cdef bint conn_keep(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil

cdef void plane_wake(Plane *plane) noexcept nogil
cdef void plane_want(Plane *plane) noexcept nogil
cdef bint plane_post(Worker *w, Mail *mail) noexcept nogil
cdef bint worker_wake(Worker *w) noexcept nogil
cdef Counters *counters_new(Worker *w, PoolRecord *pool) noexcept nogil


cdef inline int conn_send(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Send `n` bytes behind what `out` holds, encrypted where `c` has TLS.

    Here is what nearly all sends are: plain, short, the first of the connection in a turn at whose end it is made.
    """
    if w.puts_off and c.tls == NULL and not (c.doomed | c.writing | c.queued | c.out.len) and n != 0 and n <= SEND_MAX \
            and c.fd >= 0 and sends_keep(w.sends, c, data, <uint32_t>n):
        c.queued = <uint16_t>w.sends.n
        return SENT
    return conn_send_else(w, c, data, n)


cdef inline void conn_mix(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Add a piece to what goes to `c` in one send; a long one goes at once, behind what is there."""
    if n == 0:
        return
    if w.mixed + n > SCRATCH_SIZE:
        conn_mix_more(w, c, data, n)
        return
    memcpy(w.mix + w.mixed, data, n)
    w.mixed += <uint32_t>n


cdef inline int conn_settle(Worker *w, Conn *c) noexcept nogil:
    """Send now what was left to the turn's end: something else happens to the socket."""
    return conn_settle_one(w, c) if c.queued else SENT


cdef inline ssize_t conn_receive(Worker *w, Conn *c, uint8_t *into, size_t cap) noexcept nogil:
    """Receive: what io_uring has received early, then from the socket, unless that is still io_uring's to read."""
    if c.tls == NULL and c.early.len == 0 and c.stream < STREAM_ON:
        return pgpool_recv(c.fd, into, cap)
    return conn_receive_else(w, c, into, cap)


cdef inline bint conn_hold(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Keep bytes that cannot be used yet, in front of those to come; False when memory is short, and `c` ends."""
    return n == 0 or conn_keep(w, c, data, n)


cdef inline Counters *counters_of(Worker *w, PoolRecord *pool) noexcept nogil:
    """This worker's counters for `pool`; those that nobody looks at when memory is short."""
    cdef Counters *counters = w.counters[pool.pool.id]
    return counters if counters != NULL else counters_new(w, pool)
