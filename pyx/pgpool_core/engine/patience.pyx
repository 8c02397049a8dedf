"""Timeouts of clients; see patience.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport strlen

from pgpool_core.engine.buf cimport buf_bytes
from pgpool_core.engine.client_end cimport client_end, client_fatal
from pgpool_core.engine.conn cimport conn_doom, conn_send
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport half_told
from pgpool_core.engine.terms cimport *
from pgpool_core.engine.timers cimport TIMER_LOGIN, TIMER_PATIENCE, TIMER_QUERY_WAIT, TIMER_STALL, timer_clear, timer_set
from pgpool_core.pool.pool cimport MODE_SESSION
from pgpool_core.pool.server cimport Server
from pgpool_core.sync.atomic cimport pgpool_load32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.build cimport build_error, build_notice
from pgpool_core.wire.codes cimport FE_FUNCTION_CALL, FE_QUERY, TX_IDLE
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span

cdef enum:
    NEVER = 0                     # that clock does not run
    LATELY_US = 30000000          # an attempt that was due again so long ago says nothing of now


cdef void give_up(Worker *w, ClientConn *c, ServerConn *s, const char *sqlstate, const char *text) noexcept nogil:
    """End `c`; what runs at `s` is cancelled and rolled back. A client that has only a part of a message hears nothing."""
    if s != NULL and half_told(s):
        conn_doom(w, &c.conn, text)
    else:
        client_fatal(w, c, sqlstate, text)


cdef inline uint64_t query_since(const ServerConn *s) noexcept nogil:
    """Since when the client has had to wait for the answer that `s` owes it, its time in the queue included; NEVER: none."""
    if s.query_start_us == 0 and not s.open_group:
        return NEVER
    if s.asked_us:
        return s.asked_us
    return s.query_start_us if s.query_start_us else s.group_us


cdef inline bint over(Worker *w, uint64_t since_us, uint64_t patience, uint64_t *next_us) noexcept nogil:
    """Whether a clock that has run since `since_us` has run out; else when to look again."""
    cdef uint64_t deadline_us = (since_us if since_us != NEVER else w.now_us) + patience
    if patience == 0:
        return False
    if since_us != NEVER and deadline_us <= w.now_us:
        return True
    if deadline_us < next_us[0]:
        next_us[0] = deadline_us
    return False


cdef bint patience_stalls(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    cdef uint32_t this_one = c.cur.remain != 0 and (c.cur.type == FE_QUERY or c.cur.type == FE_FUNCTION_CALL)   # owed from its header on
    cdef uint32_t ours = s.chore != CHORE_NONE    # a replay may wait for the message, to go in one send with it
    if (c.cur.remain == 0 and c.conn.held.len == 0) or c.awaiting or c.holding or s.expect.owed != this_one + ours \
            or s.tx_status != TX_IDLE or s.expect.copying or c.pool.pool.settings.mode == MODE_SESSION or s.seat.dedicated:
        return False
    timer_set(&w.timers, &c.conn.timer, TIMER_STALL, w.now_us + w.plane.message_stall_timeout_us)
    return True


cdef void patience_login(Worker *w, ClientConn *c) noexcept nogil:
    cdef uint64_t limit_us = w.plane.client_login_timeout_us
    cdef uint64_t at_us = c.login.started_us + limit_us if limit_us else <uint64_t>-1
    timer_clear(&w.timers, &c.conn.timer)
    if c.login.phase == LG_WELCOME or c.login.phase == LG_DEDICATED:
        limit_us = patience_us(c, PATIENCE_QUERY_WAIT)
        if limit_us:
            at_us = min(at_us, c.request_us + limit_us)
    if at_us != <uint64_t>-1:
        timer_set(&w.timers, &c.conn.timer, TIMER_LOGIN, at_us)


cdef void patience_look(Worker *w, ClientConn *c) noexcept nogil:
    """End `c` where one of its timeouts is over; else look again when the next one could be."""
    cdef ServerConn *s = NULL
    cdef uint64_t next_us = <uint64_t>-1
    cdef uint64_t query_us = NEVER, xact_us = NEVER, idle_xact_us = NEVER, idle_us = NEVER
    timer_clear(&w.timers, &c.watch)
    if c.pool == NULL or c.replication or not (c.state == CL_IDLE or c.state == CL_WAITING or c.state == CL_ACTIVE):
        return
    if c.state == CL_IDLE:
        idle_us = NEVER if c.holding else c.idle_us
    elif c.state == CL_ACTIVE and c.seat.server != NULL:
        s = <ServerConn *>(<Server *>c.seat.server).owner
        query_us = query_since(s)
        xact_us = s.xact_start_us if s.xact_start_us or not s.open_group else s.group_us
        if query_us == NEVER and s.expect.owed == 0 and s.chore == CHORE_NONE and not c.holding:
            if s.tx_status != TX_IDLE:
                idle_xact_us = s.ready_us
            elif c.pool.pool.settings.mode != MODE_SESSION:      # it keeps its server for its session state
                idle_us = max(s.ready_us, c.idle_us)         # it may have come a moment ago
    if over(w, query_us, patience_us(c, PATIENCE_QUERY), &next_us):
        give_up(w, c, s, "57014", "query timeout")
    elif over(w, xact_us, patience_us(c, PATIENCE_TRANSACTION), &next_us):
        give_up(w, c, s, "25P04", "transaction timeout")
    elif over(w, idle_xact_us, patience_us(c, PATIENCE_IDLE_TRANSACTION), &next_us):
        give_up(w, c, s, "25P03", "idle transaction timeout")
    elif over(w, idle_us, patience_us(c, PATIENCE_CLIENT_IDLE), &next_us):
        give_up(w, c, s, "57P05", "client_idle_timeout")
    elif next_us != <uint64_t>-1:
        timer_set(&w.timers, &c.watch, TIMER_PATIENCE, next_us)


cdef void never_served(Worker *w, ClientConn *c, const char *sqlstate, const char *text) noexcept nogil:
    """End `c`, which has waited for too long; DETAIL is why the pool's last attempt to open a server has failed, where one has lately."""
    cdef PoolRecord *pool = c.pool
    cdef const uint8_t *at
    cdef Span detail
    cdef size_t n = 0
    detail.at = NULL
    detail.len = 0
    if pool != NULL:
        pthread_mutex_lock(&pool.lock)
        if pool.error.len > HEADER_LEN and w.now_us < pool.error_until_us + LATELY_US:
            at = buf_bytes(&pool.error) + HEADER_LEN
            while at[0] != 0 and at[0] != 0x4D:   # 'M'; the last field is followed by a zero byte
                at += strlen(<const char *>at) + 1
            if at[0]:
                detail.at = at + 1
                detail.len = <uint32_t>strlen(<const char *>at + 1)
                n = build_error(w.scratch, SCRATCH_SIZE, "FATAL", sqlstate, text, &detail)
        pthread_mutex_unlock(&pool.lock)
    if n:
        client_end(w, c, w.scratch, n, text)
    else:
        client_fatal(w, c, sqlstate, text)


cdef void patience_waits(Worker *w, ClientConn *c) noexcept nogil:
    """The same for a client in the queue, which is told once that it waits (query_wait_notify)."""
    cdef uint64_t next_us = <uint64_t>-1
    cdef uint64_t notify_us = 0 if c.seat.noticed else w.plane.query_wait_notify_us
    timer_clear(&w.timers, &c.conn.timer)
    if over(w, c.request_us, patience_us(c, PATIENCE_QUERY_WAIT), &next_us):
        if pgpool_load32(&c.pool.pinned) and pgpool_load32(&c.pool.pinned) >= pgpool_load32(&c.pool.pool.total):
            client_fatal(w, c, "53000", "query_wait_timeout: clients keep every server of the pool for their session state"
                                        " (see SHOW PINS)")
        else:
            never_served(w, c, "53000", "query_wait_timeout")
        return
    if over(w, c.request_us, patience_us(c, PATIENCE_QUERY), &next_us):
        client_fatal(w, c, "57014", "query_timeout")
        return
    if over(w, c.request_us, notify_us, &next_us):
        c.seat.noticed = 1
        conn_send(w, &c.conn, w.scratch, build_notice(w.scratch, SCRATCH_SIZE, "NOTICE", "00000",
                  "No server connection available in postgres backend, client being queued", NULL))
    if next_us != <uint64_t>-1:
        timer_set(&w.timers, &c.conn.timer, TIMER_QUERY_WAIT, next_us)
