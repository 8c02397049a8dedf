"""Servers whose client has left; see orphan.pxd."""

from libc.stdint cimport uint8_t, uint64_t

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.chore cimport server_settle
from pgpool_core.engine.conn cimport conn_again, conn_doom, conn_send, plane_post, plane_wake
from pgpool_core.engine.dedicated cimport dedicated_end
from pgpool_core.engine.doubt cimport doubt_ask, doubt_may_end
from pgpool_core.engine.leak cimport leak_released
from pgpool_core.engine.loan cimport loan_seize
from pgpool_core.engine.inquiry cimport inquiry_part
from pgpool_core.engine.mailbox cimport MAIL_CANCEL, Mail
from pgpool_core.engine.named cimport named_part
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport client_of
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.engine.slots cimport handle_of
from pgpool_core.engine.timers cimport TIMER_CLOSE, TIMER_DRAIN, timer_set
from pgpool_core.pool.pool cimport pool_unlink
from pgpool_core.pool.server cimport SV_ACTIVE, SV_BEING_CANCELED
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load8, pgpool_store32, pgpool_store8, pgpool_swap32
from pgpool_core.wire.build cimport build_copy_fail, build_empty
from pgpool_core.wire.codes cimport FE_SYNC
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK, EXPECT_QUERY, EXPECT_SYNC, expect_copy_ends, expect_head

cdef enum:
    CANCEL_AGAIN_US = 150000      # between cancel requests for the query of a client that has left


cdef void server_orphan(Worker *w, ServerConn *s, bint mid_message, bint orderly) noexcept nogil:
    """The client of `s` has left. Cancel what runs (not after a Terminate), end what is half done, drain the answers.

    A message of which the server has only a part can never be ended: that server is closed.
    """
    if s.seat.dedicated:
        dedicated_end(w, s, mid_message, orderly)
        return
    if s.lent:
        loan_seize(w, s)
        return
    inquiry_part(w, s, client_of(s))
    named_part(s)
    leak_released(s, client_of(s))
    pool_unlink(s.pool.pool, &s.seat, SV_BEING_CANCELED, w.now_us)
    s.conn.paused = 0
    s.query_start_us = 0
    if mid_message:
        server_quit(w, s, "client left in mid-message")
        return
    if s.in_doubt or s.copy_doubt:
        server_quit(w, s, "client left, and it is not known what was still to be answered")
        return
    server_unsure(s)
    if s.expect.copying or s.open_group:
        if not server_ends_copy(w, s):
            return
    elif s.conn.out.len and not s.conn.writing:
        conn_send(w, &s.conn, w.scratch, 0)       # settings that waited for the client's bytes
    s.drain_until_us = w.now_us + w.plane.drain_timeout_us
    s.canceling = not orderly
    timer_set(&w.timers, &s.conn.timer, TIMER_DRAIN, s.drain_until_us)
    if s.expect.owed and s.canceling:
        server_drains(w, s)
    conn_again(w, &s.conn)
    server_settle(w, s)


cdef void server_unsure(ServerConn *s) noexcept nogil:
    """A Sync of a client that has left is in the copy at hand: nobody asks whether it will be answered, and `s` ends instead."""
    if s.expect.silent:
        s.expect.silent = 0
        pgpool_store8(&s.seat.close_needed, 1)


cdef bint server_ends_copy(Worker *w, ServerConn *s) noexcept nogil:
    """End the COPY and the group that the client of `s` has left open; False when `s` had to be given up."""
    cdef size_t n = 0
    if s.expect.copying:
        n = build_copy_fail(w.scratch, SCRATCH_SIZE, "client has left")
        expect_copy_ends(&s.expect)
        if expect_head(&s.expect) != EXPECT_QUERY:
            s.open_group = 1                      # the extended protocol: the server skips until a Sync
    if s.open_group:
        s.open_group = 0
        if ask(s, EXPECT_SYNC) != EXPECT_OK:
            server_quit(w, s, "out of memory")
            return False
        n += build_empty(w.scratch + n, SCRATCH_SIZE - n, FE_SYNC)
    conn_send(w, &s.conn, w.scratch, n)
    return True


cdef void server_drains(Worker *w, ServerConn *s) noexcept nogil:
    """Look at a draining server: its patience may be over, or its query be due for a cancel request.

    A request that reaches PostgreSQL before the query has begun is ignored there, so it is repeated. A question of ours is not cancelled: what the client
    has sent behind it waits for the next look.
    """
    cdef bint ours = s.chore != CHORE_NONE and expect_head(&s.expect) == EXPECT_CHORE
    if w.now_us >= s.drain_until_us:
        server_quit(w, s, "not clean in time (server_drain_timeout)")
    else:
        look_again(w, s, TIMER_DRAIN, s.canceling and not (ours and s.expect.owed == 1), s.expect.owed and not ours)


cdef void server_lingers(Worker *w, ServerConn *s) noexcept nogil:
    """Look at a server in SV_CLOSING that has not ended yet: it may be running what had not begun when it was to be cancelled."""
    if w.now_us >= s.drain_until_us:
        conn_doom(w, &s.conn, s.conn.reason)
    else:
        look_again(w, s, TIMER_CLOSE, s.canceling, s.canceling)


cdef void look_again(Worker *w, ServerConn *s, uint8_t kind, bint soon, bint cancel) noexcept nogil:
    """Ask for a cancel, where none is under way, and set the timer."""
    cdef uint64_t again_us = w.now_us + CANCEL_AGAIN_US
    if not soon or again_us > s.drain_until_us:
        again_us = s.drain_until_us
    elif cancel and pgpool_load32(&s.cancels) == 0:
        server_ask_cancel(w, s, 0)
    timer_set(&w.timers, &s.conn.timer, kind, again_us)


cdef bint server_ask_cancel(Worker *w, ServerConn *s, uint64_t canceller) noexcept nogil:
    """Have control carry a cancel request to `s`, which goes to nobody else until that is done.

    True when `canceller` (0: nobody) will hear of that.

    Where control's ring is full, a mark in the record stands for the letter: control looks for it when the ring is empty.
    """
    cdef Mail mail
    mail.kind = MAIL_CANCEL
    mail.client = 0
    mail.server = handle_of(&s.conn.head, KIND_SERVER)
    mail.a = s.backend_pid
    mail.b = mail.len = 0
    mail.canceller = canceller
    mail.data = NULL
    pgpool_add32(&s.cancels, 1)
    if plane_post(w, &mail):
        return True
    if pgpool_swap32(&s.cancel_missed, 1) != 0:
        pgpool_add32(&s.cancels, -1)              # one is waiting already, and does for both
    pgpool_store32(&w.plane.cancels_missed, 1)
    plane_wake(w.plane)
    return False


cdef void server_cancel_done(Worker *w, ServerConn *s) noexcept nogil:
    """No more cancel requests are under way to `s`: if it waited for that, it goes on.

    It may have gone on by itself and live elsewhere by now. One that is in SV_BEING_CANCELED stays with its worker.
    """
    cdef ClientConn *c
    cdef uint8_t state = pgpool_load8(&s.seat.state)
    if state == SV_ACTIVE and pgpool_load32(&s.seat.worker) == w.index and s.in_doubt and not s.conn.doomed:
        c = client_of(s)
        if c != NULL and doubt_may_end(s, c):
            doubt_ask(w, s, c)
        return
    if state != SV_BEING_CANCELED:
        return
    if pgpool_load32(&s.seat.worker) != w.index:
        note(w.plane, s, SERVER_CANCEL_DONE)
    elif not s.conn.doomed:
        server_settle(w, s)
