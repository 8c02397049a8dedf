"""Asking a server for something of our own, and what follows from the answer; see chore.pxd."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.advice cimport advise_tell
from pgpool_core.engine.align cimport rights_tell, settings_align, settings_aligned, settings_tell
from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.buf cimport buf_bytes
from pgpool_core.engine.client cimport client_go_on, client_released
from pgpool_core.engine.conn cimport conn_push, conn_send
from pgpool_core.engine.databases cimport databases_done
from pgpool_core.engine.doubt cimport doubt_answered
from pgpool_core.engine.functions cimport functions_changed
from pgpool_core.engine.leak cimport leak_answered, leak_ask
from pgpool_core.engine.inquiry cimport inquiry_answered, inquiry_cleaned, inquiry_left, inquiry_lost
from pgpool_core.engine.loan cimport loan_linked
from pgpool_core.engine.records cimport *
from pgpool_core.engine.redo cimport redo_send
from pgpool_core.engine.server cimport client_of, server_free
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.engine.timers cimport TIMER_DRAIN, timer_clear, timer_set
from pgpool_core.pool.pool cimport MODE_SESSION, pool_move, pool_unlink
from pgpool_core.pool.server cimport SV_BEING_CANCELED, SV_TESTED
from pgpool_core.session.settings cimport block_ref, block_unref
from pgpool_core.sync.atomic cimport pgpool_load8, pgpool_load32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.build cimport build_query
from pgpool_core.wire.codes cimport TX_IDLE
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK


cdef void server_chore(Worker *w, ServerConn *s, uint8_t chore) noexcept nogil:
    """Have an unlinked server (SV_TESTED) run a query of ours; its answer comes to chore_done."""
    cdef size_t n
    cdef PoolRecord *pool = s.pool
    if chore == CHORE_ROLLBACK:
        n = build_query(w.scratch, SCRATCH_SIZE, <const uint8_t *>"ROLLBACK", 8)
    elif chore == CHORE_CLEAN:
        n = build_query(w.scratch, SCRATCH_SIZE, <const uint8_t *>"DISCARD ALL", 11)
    elif chore == CHORE_LEAK:
        n = leak_ask(w, s)
    else:
        pthread_mutex_lock(&pool.lock)
        if chore == CHORE_RESET:
            n = build_query(w.scratch, SCRATCH_SIZE, buf_bytes(&pool.reset_query), pool.reset_query.len)
        else:
            n = build_query(w.scratch, SCRATCH_SIZE, buf_bytes(&pool.check_query), pool.check_query.len)
        pthread_mutex_unlock(&pool.lock)
    if n == 0 or ask(s, EXPECT_CHORE) != EXPECT_OK:
        server_quit(w, s, "out of memory")
        return
    s.chore = chore
    s.chore_failed = 0
    s.drain_until_us = w.now_us + w.plane.drain_timeout_us
    timer_set(&w.timers, &s.conn.timer, TIMER_DRAIN, s.drain_until_us)
    conn_send(w, &s.conn, w.scratch, n)


cdef bint chore_done(Worker *w, ServerConn *s) noexcept nogil:
    """ReadyForQuery after a chore; True when the server is no longer this worker's to read.

    Its client may have let it go meanwhile, as one does that ends: it may be another worker's then, too, which is the caller's to see.
    """
    cdef uint8_t chore = s.chore
    cdef ClientConn *c = client_of(s)
    s.chore = CHORE_NONE
    if chore == CHORE_SETTINGS:
        settings_aligned(w, s)
        if c != NULL and s.chore_failed and s.chore_again:
            s.sequences_due = s.foreign and pgpool_load8(&c.pool.reads_sequences)
            settings_align(w, c, s)
            return False
        s.chore_again = 0
        if c != NULL and not s.chore_failed:
            settings_tell(w, c, s.settings)
            rights_tell(w, c, s)
            if c.start == c.settings:             # what it began with, in PostgreSQL's spelling
                block_unref(w.plane.settings, c.start)
                c.start = block_ref(w.plane.settings, s.settings)
            block_unref(w.plane.settings, c.settings)
            c.settings = block_ref(w.plane.settings, s.settings)
            if c.loan != NULL:
                loan_linked(w, c)
            elif c.holding:
                c.holding = 0
                client_go_on(w, c)
        elif c == NULL and s.seat.state == SV_BEING_CANCELED:
            return server_settle(w, s)
        return False
    if chore == CHORE_PROBE:
        if c != NULL:
            inquiry_answered(w, s, c)
            if s.chore == CHORE_PROBE:            # asked again
                return False
            if c.pin_due and c.state == CL_ACTIVE:
                advise_tell(w, c)
            return go_on(w, s, c)
        elif s.seat.state == SV_BEING_CANCELED:
            inquiry_left(w, s)
            return server_settle(w, s)
        return False
    if chore == CHORE_DOUBT:
        if c == NULL or doubt_answered(w, s, c):
            return s.chore == CHORE_NONE
        return go_on(w, s, c)
    if chore == CHORE_BACK:
        return c == NULL and s.seat.state == SV_BEING_CANCELED and server_settle(w, s)
    if chore == CHORE_BEGIN:
        if s.chore_failed:
            server_quit(w, s, "a transaction could not be begun anew")
            return True
        if c != NULL:
            redo_send(w, s, c)
        elif s.seat.state == SV_BEING_CANCELED:
            return server_settle(w, s)
        return False
    timer_clear(&w.timers, &s.conn.timer)
    if s.chore_failed:
        if chore == CHORE_CHECK:
            server_quit(w, s, "server_check_query failed")
        elif chore == CHORE_RESET:
            server_quit(w, s, "server_reset_query failed")
        elif chore == CHORE_CLEAN:
            server_quit(w, s, "DISCARD ALL failed")
        elif chore == CHORE_LEAK:
            server_quit(w, s, "leak_check failed")
        else:
            server_quit(w, s, "ROLLBACK failed")
        return True
    if chore == CHORE_LEAK:
        leak_answered(w, s)
    elif chore == CHORE_CLEAN or (chore == CHORE_RESET and s.pool.reset_is_discard):
        inquiry_cleaned(w, s)
    return server_settle(w, s)


cdef bint go_on(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """A client that was held while the probe was under way goes on, with the settings that are its own. It may let `s` go.

    True where it goes on with another server: what this one has lost can only be had of a new one.
    """
    if not c.holding or c.state != CL_ACTIVE:
        return False
    c.holding = 0
    if c.conn.held.len and c.settings != s.settings:
        if is_free(s, c) and inquiry_lost(w, s, s.settings):
            pool_unlink(s.pool.pool, &s.seat, SV_BEING_CANCELED, w.now_us)
            client_released(w, c)
            server_settle(w, s)
            if c.state == CL_IDLE and not c.conn.doomed:
                client_go_on(w, c)
            return True
        settings_align(w, c, s)
    if c.holding or c.seat.server != &s.seat:
        return False
    client_go_on(w, c)
    if c.seat.server == &s.seat:
        conn_push(w, &s.conn)                     # the replay, where nothing of the client's has taken it along
    return False


cdef inline bint is_free(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """Whether nothing of `c` is at `s`, or keeps it there."""
    return s.expect.owed == 0 and s.tx_status == TX_IDLE and not (s.open_group or s.expect.copying or s.lent or s.in_doubt) \
        and not (s.suspect | c.pins | c.unnamed_fresh) and not c.leaving and c.pool.pool.settings.mode != MODE_SESSION


cdef bint server_settle(Worker *w, ServerConn *s) noexcept nogil:
    """An unlinked server: do the next thing that makes it clean, and when there is none, let it go back.

    True when it has gone back or is being closed: not to be read by this worker any more.
    """
    cdef bint reset
    if s.expect.owed or s.expect.copying or s.open_group or s.cur.remain or s.chore != CHORE_NONE:
        return False
    if s.database_ddl:
        databases_done(w.plane, s)
    if s.function_ddl:
        functions_changed(w.plane, s)
    if pgpool_load32(&s.cancels):
        if s.seat.state != SV_BEING_CANCELED:
            pool_move(s.pool.pool, &s.seat, SV_BEING_CANCELED, w.now_us)
        return False
    if s.seat.state != SV_TESTED:
        pool_move(s.pool.pool, &s.seat, SV_TESTED, w.now_us)
    if s.tx_status != TX_IDLE:
        server_chore(w, s, CHORE_ROLLBACK)
        return False
    reset = not s.was_reset and s.pool.reset_query.len and (
        s.pool.reset_always or s.pool.pool.settings.mode == MODE_SESSION)
    if reset:
        s.was_reset = 1
        server_chore(w, s, CHORE_RESET)
        return False
    if s.dirty:
        server_chore(w, s, CHORE_CLEAN)
        return False
    if s.leak != NULL and s.leak.due:
        server_chore(w, s, CHORE_LEAK)
        return False
    timer_clear(&w.timers, &s.conn.timer)
    server_free(w, s)
    return True
