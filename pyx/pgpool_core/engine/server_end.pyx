"""Ends of servers; see server_end.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, strlen

from pgpool_core.engine.buf cimport buf_free
from pgpool_core.engine.chore cimport server_chore
from pgpool_core.engine.client_end cimport client_end, client_fatal
from pgpool_core.engine.conn cimport conn_again, conn_close, conn_doom, conn_send, conn_settle, counters_of, plane_post, plane_want
from pgpool_core.engine.counters cimport count_add
from pgpool_core.engine.databases cimport databases_done
from pgpool_core.engine.functions cimport functions_changed
from pgpool_core.engine.inquiry cimport inquiry_free
from pgpool_core.engine.mailbox cimport MAIL_SERVER_CLOSED, Mail
from pgpool_core.engine.named cimport named_free, named_part
from pgpool_core.engine.notes cimport slot_forget
from pgpool_core.engine.orphan cimport server_lingers
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport client_of, half_told
from pgpool_core.engine.sys cimport SHUT_WR, shutdown
from pgpool_core.engine.timers cimport TIMER_CLOSE, timer_set
from pgpool_core.engine.waiter cimport cancel_goes_on
from pgpool_core.pool.plan cimport plan_gone
from pgpool_core.pool.pool cimport Pool, pool_next_check, pool_unlink, pool_waiting
from pgpool_core.pool.server cimport SV_ACTIVE, SV_CLOSING, Server
from pgpool_core.session.settings cimport block_unref
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load8
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.build cimport build_empty
from pgpool_core.wire.codes cimport FE_TERMINATE, TX_IDLE
from pgpool_core.wire.expect cimport expect_free

cdef enum:
    CLOSE_US = 30000000           # how long PostgreSQL may take to close after Terminate while the slot stays counted


cdef void server_close(Worker *w, ServerConn *s, const char *reason) noexcept nogil:
    """Say good-bye to a server in SV_CLOSING; its slot is given back when PostgreSQL has closed its side."""
    cdef size_t n = build_empty(w.scratch, SCRATCH_SIZE, FE_TERMINATE)
    s.conn.reason = reason
    s.conn.paused = 0
    close_in_time(w, s)
    conn_send(w, &s.conn, w.scratch, n)
    conn_again(w, &s.conn)


cdef void server_quit(Worker *w, ServerConn *s, const char *reason) noexcept nogil:
    """Give up a server whose state is not known: tell its client, end our side, wait for PostgreSQL to end its own."""
    cdef ClientConn *c = client_of(s)
    cdef bint cut = half_told(s)
    if s.seat.state == SV_CLOSING or s.conn.doomed:
        return
    pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
    named_part(s)                                 # its client may be gone before it is
    server_drop(w, s, reason)
    if c != NULL and cut:
        client_end(w, c, NULL, 0, reason)
    elif c != NULL:
        client_fatal(w, c, "08P01", reason)


cdef void server_drop(Worker *w, ServerConn *s, const char *reason) noexcept nogil:
    """End our side of a server in SV_CLOSING that cannot be told Terminate; it counts until it has ended its own."""
    s.conn.reason = reason
    s.conn.paused = 0
    s.cur.remain = 0
    conn_settle(w, &s.conn)
    buf_free(&s.conn.out)
    buf_free(&s.conn.held)
    if s.conn.fd >= 0:
        shutdown(s.conn.fd, SHUT_WR)
    close_in_time(w, s)
    conn_again(w, &s.conn)


cdef void close_in_time(Worker *w, ServerConn *s) noexcept nogil:
    s.drain_until_us = w.now_us + CLOSE_US
    timer_set(&w.timers, &s.conn.timer, TIMER_CLOSE, s.drain_until_us)


cdef inline void crashed(Worker *w, ClientConn *c, bint said) noexcept nogil:
    """Tell the client of a server that is lost; `said`: it knows why, or has a part of a message."""
    if c == NULL:
        return
    if said:
        client_end(w, c, NULL, 0, "server closed the connection")
    else:
        client_fatal(w, c, "08006", "server conn crashed?")


cdef void server_lost(Worker *w, ServerConn *s, const char *reason) noexcept nogil:
    """The server is of no more use: its client, if any, is told, and the connection ends with this turn."""
    cdef ClientConn *c = client_of(s)
    if s.conn.doomed:
        return
    if s.seat.state != SV_CLOSING:
        pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
        named_part(s)
    conn_doom(w, &s.conn, reason)
    crashed(w, c, s.error_last or s.cur.remain)


cdef void server_unsent(Worker *w, ServerConn *s) noexcept nogil:
    """server_lost, but nobody has told PostgreSQL: `s` counts until that has ended it, and what it may be running is cancelled."""
    cdef ClientConn *c = client_of(s)
    cdef bint said = s.error_last or s.cur.remain
    if s.seat.state == SV_CLOSING or s.conn.doomed:
        return
    pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
    named_part(s)
    s.canceling = s.expect.owed != 0
    server_drop(w, s, "server conn crashed?")
    server_lingers(w, s)
    crashed(w, c, said)


cdef void server_outdated(Worker *w, ServerConn *s) noexcept nogil:
    """server_fast_close: part `s`, which is not to be used again, from a client that has nothing under way on it."""
    cdef ClientConn *c = client_of(s)
    if c == NULL or c.state != CL_ACTIVE or pgpool_load8(&s.seat.state) != SV_ACTIVE or s.conn.doomed or s.seat.dedicated:
        return
    if s.expect.owed == 0 and s.tx_status == TX_IDLE and not s.open_group and not s.expect.copying and s.cur.remain == 0 \
            and c.cur.remain == 0 and c.conn.held.len == 0 and not c.holding and s.chore == CHORE_NONE:
        client_fatal(w, c, "57P01", "database configuration changed")


cdef void server_gone(Worker *w, ServerConn *s) noexcept nogil:
    """The end of a server: close the socket, give the slot back, let control plan anew."""
    cdef Mail mail
    cdef Pool *pool = s.pool.pool
    if s.cancel_due:
        s.cancel_due = 0
        cancel_goes_on(w, NULL, s.canceller)
    if s.database_ddl:
        databases_done(w.plane, s)
    if s.function_ddl:
        s.expect.owed = 0
        functions_changed(w.plane, s)
    mail.kind = MAIL_SERVER_CLOSED
    mail.client = <uint64_t>(s.conn.reason if s.conn.reason != NULL else <const char *>"closed")   # static text
    mail.server = s.id
    mail.a = pool.id
    mail.b = w.now_us - s.adopted_us
    mail.len = <uint32_t>strlen(s.host) if s.host != NULL else 0
    mail.data = malloc(mail.len) if mail.len else NULL
    if mail.data != NULL:
        memcpy(mail.data, s.host, mail.len)
    else:
        mail.len = 0
    mail.canceller = s.port
    if not plane_post(w, &mail):
        free(mail.data)
    pthread_mutex_lock(&pool.lock)                # who looks at it under the lock sees all of it, or nothing
    s.ending = 1
    pthread_mutex_unlock(&pool.lock)
    conn_close(w, &s.conn)
    expect_free(&s.expect)
    block_unref(w.plane.settings, s.settings)
    block_unref(w.plane.settings, s.wanted)
    block_unref(w.plane.settings, s.begun)
    block_unref(w.plane.settings, s.back)
    s.settings = s.wanted = s.begun = s.back = NULL
    buf_free(&s.greeting)
    inquiry_free(s)
    named_free(s)
    plan_gone(w.plane.set, &s.seat, w.now_us)
    slot_forget(w.plane, s)
    if pool_waiting(pool, False):
        check_another(w, pool)
    if pool_waiting(pool, True) or pgpool_load32(&w.plane.set.starving):
        plane_want(w.plane)


cdef void check_another(Worker *w, Pool *pool) noexcept nogil:
    """A server that was to be checked for a waiter is lost to it: check the next one that has been idle for long."""
    cdef uint32_t before = w.index
    cdef Server *seat = pool_next_check(pool, w.index, w.now_us, &before)
    cdef ServerConn *s
    if seat == NULL:
        return
    s = <ServerConn *>seat.owner
    if before != w.index:
        w.io.remove(&w.plane.workers[before], &s.conn)
        count_add(&counters_of(w, s.pool).steals, 1)
        if not w.io.add(w, &s.conn):
            server_lost(w, s, "cannot be watched")
            return
    server_chore(w, s, CHORE_CHECK)
