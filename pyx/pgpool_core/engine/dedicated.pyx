"""The course of a replication client; see dedicated.pxd."""

from libc.stdint cimport uint64_t

from pgpool_core.engine.client_end cimport client_end, client_fatal
from pgpool_core.engine.conn cimport counters_of, plane_want
from pgpool_core.engine.counters cimport Counters, count_add, hist_add
from pgpool_core.engine.greeting cimport greet_dedicated
from pgpool_core.engine.orphan cimport server_lingers
from pgpool_core.engine.patience cimport patience_login
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server_end cimport server_close, server_drop
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.dedicated cimport dedicated_ask, dedicated_leave, dedicated_link
from pgpool_core.pool.pool cimport elapsed_us, pool_unlink
from pgpool_core.pool.server cimport SV_ACTIVE, SV_CLOSING
from pgpool_core.sync.atomic cimport pgpool_store64, pgpool_swap32


cdef void dedicated_request(Worker *w, ClientConn *c) noexcept nogil:
    """`c` has authenticated: have control open a server for it. client_login_timeout and query_wait_timeout bound the wait."""
    c.login.phase = LG_DEDICATED
    c.request_us = w.now_us
    patience_login(w, c)
    c.seat.pool = c.pool.pool
    c.seat.owner = c
    if not dedicated_ask(c.pool.pool, &c.seat, w.index, w.now_us):
        client_fatal(w, c, "57P01", "database removed")
    elif pgpool_swap32(&c.pool.pool.want, 1) == 0:
        plane_want(w.plane)


cdef void dedicated_adopt(Worker *w, ServerConn *s) noexcept nogil:
    """Control has opened `s` for a client of this worker, if that is still there."""
    cdef Counters *k
    cdef ClientConn *c
    cdef Client *seat = s.seat.client
    cdef uint64_t waited_us
    if seat != NULL and (<ClientConn *>seat.owner).conn.doomed:
        dedicated_leave(s.pool.pool, seat)
    seat = dedicated_link(s.pool.pool, &s.seat, w.now_us)
    if seat == NULL:
        server_close(w, s, "its client has left")
        return
    c = <ClientConn *>seat.owner
    k = counters_of(w, s.pool)
    waited_us = elapsed_us(w.now_us, c.request_us)
    count_add(&k.server_assignments, 1)
    count_add(&k.wait_us, waited_us)
    hist_add(&k.wait, waited_us)
    pgpool_store64(&s.request_us, w.now_us)
    greet_dedicated(w, c, s)


cdef void dedicated_retire(Worker *w, ServerConn *s) noexcept nogil:
    """Servers of this pool are elsewhere now, and this one would never become idle: its client is to connect anew."""
    cdef ClientConn *c
    if s.seat.state != SV_ACTIVE or s.seat.client == NULL:
        return
    c = <ClientConn *>s.seat.client.owner
    if s.cur.remain:                              # it has only a part of a message
        client_end(w, c, NULL, 0, "database configuration changed")
    else:
        client_fatal(w, c, "57P01", "database configuration changed")


cdef void dedicated_end(Worker *w, ServerConn *s, bint mid_message, bint orderly) noexcept nogil:
    """The client of `s` has left: what runs is cancelled (not after a Terminate), and the server closed.

    What it still sends is dropped, or a base backup would keep it from seeing either.
    """
    pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
    s.canceling = s.expect.owed != 0 and not orderly
    if mid_message:
        server_drop(w, s, "client left in mid-message")
    else:
        server_close(w, s, "replication client was closed")
    if s.canceling:
        server_lingers(w, s)
