"""The way of a client's bytes to a server; see client.pxd.

A client without a server keeps what it has sent until that holds a message which asks for an answer (Query, Sync, Flush,
FunctionCall) or grows beyond STASH_MAX; only then does it ask its pool. A linked client's bytes go straight from the
receive buffer to the server (`relay`).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.engine.align cimport rights_tell, settings_align, settings_differ
from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_give_back, buf_steal
from pgpool_core.engine.chore cimport server_chore
from pgpool_core.engine.client_end cimport client_end, client_fatal, client_parts, protocol_error
from pgpool_core.engine.conn cimport conn_doom, conn_hold, conn_resume, conn_send, conn_shut, counters_of, plane_want
from pgpool_core.engine.console cimport console
from pgpool_core.engine.counters cimport Counters, count_add, hist_add
from pgpool_core.engine.listen cimport TAKE_DONE, TAKE_NOT, listen_may, listen_take
from pgpool_core.engine.loan cimport loan_linked
from pgpool_core.engine.login cimport login_bytes
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.patience cimport patience_stalls, patience_waits
from pgpool_core.engine.records cimport *
from pgpool_core.engine.relay cimport relay
from pgpool_core.engine.server cimport server_free
from pgpool_core.engine.server_end cimport server_lost
from pgpool_core.engine.slots cimport slot_release
from pgpool_core.engine.timers cimport TIMER_NONE, timer_clear
from pgpool_core.pool.client cimport WAIT_NONE, Client
from pgpool_core.pool.pool cimport POOL_CHECK, POOL_CLOSE, POOL_CLOSED, POOL_ENDING, POOL_GOT, POOL_QUEUED, Pool, pool_request
from pgpool_core.pool.server cimport Server
from pgpool_core.statements.text cimport MAX_TEXT_LEN
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load64, pgpool_load8, pgpool_store64, pgpool_swap32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.build cimport build_error, build_ready
from pgpool_core.wire.codes cimport *
from pgpool_core.wire.scan cimport CLIENT_MARKS, HEADER_LEN, SCAN_END, Cursor, Frame, scan_past, scan_to, scan_whole

cdef enum:
    IDLE_KEEPS = 0                # more is to come before anybody needs to see it
    IDLE_STOPS = 1                # nothing more is to be read now
    IDLE_ASKS = 2                 # a server is to answer
    IDLE_STREAMS = 3              # it is more than is kept: a server is to have what there is

    ASKS_OTHERWISE = 0            # a message out of the ordinary
    ASKS_LATER = 1                # it is answered when another one asks
    ASKS_NOW = 2


cdef int client_bytes(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """Take all `n` bytes; nonzero when nothing more is to be read from this client now. NULL: its `out` has been sent."""
    cdef ServerConn *s
    if data == NULL:
        if c.state == CL_LINGER:
            conn_shut(w, &c.conn)
        elif c.state == CL_ACTIVE and c.seat.server != NULL:
            s = <ServerConn *>(<Server *>c.seat.server).owner
            if s.conn.paused:
                conn_resume(w, &s.conn)
        return 0
    if c.state == CL_LOGIN:
        return login_bytes(w, c, data, n)
    if c.state == CL_LINGER or c.leaving:
        return 0
    if c.state == CL_WAITING or c.holding:
        conn_hold(w, &c.conn, data, n)
        c.conn.paused = 1
        return 1
    if c.conn.held.len == 0:
        return use(w, c, data, n)
    if is_amid_text(c, n):
        return text_goes_on(w, c, data, n)
    return use_held(w, c, data, n)


cdef inline bint is_amid_text(const ClientConn *c, size_t n) noexcept nogil:
    """Whether `n` bytes more do not end the Query or Parse that is held: relay would hold it again, and copy it each time."""
    cdef const uint8_t *held = buf_bytes(<Buf *>&c.conn.held)
    cdef uint32_t length
    if c.state != CL_ACTIVE or c.cur.remain or c.conn.held.len < HEADER_LEN or (held[0] != FE_QUERY and held[0] != FE_PARSE):
        return False
    length = load_be32(held + 1)
    return length <= MAX_TEXT_LEN and c.conn.held.len + n < <size_t>length + 1


cdef int text_goes_on(Worker *w, ClientConn *c, const uint8_t *data, size_t n) noexcept nogil:
    if not buf_add(&c.conn.held, data, n):
        conn_doom(w, &c.conn, "out of memory")
        return 1
    patience_stalls(w, c, <ServerConn *>(<Server *>c.seat.server).owner)
    return c.conn.paused


cdef int use_held(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """Use what is held, with these bytes behind it."""
    cdef Buf mine
    cdef int stop
    if not buf_add(&c.conn.held, data, n):
        conn_doom(w, &c.conn, "out of memory")
        return 1
    mine = buf_steal(&c.conn.held)                # `use` may hold the rest again
    stop = use(w, c, buf_bytes(&mine), mine.len)
    buf_give_back(&mine, &w.spares)
    return stop


cdef int use(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    cdef size_t used
    cdef int stop
    if c.state == CL_ACTIVE:
        return relay(w, c, data, n)
    if c.state == CL_CONSOLE:
        return console(w, c, data, n)
    while True:
        used = 0
        stop = idle(w, c, data, n, &used)
        if used == 0:
            return stop
        data += used                              # so much was answered without a server
        n -= used


cdef inline int client_next(Worker *w, ClientConn *c, Cursor *cur, uint32_t max_body, const uint8_t *data, size_t n,
                     size_t *pos, Frame *f) noexcept nogil:
    """The next message of a client without a server: 1 = `f` is whole, 0 = it is still to come, -1 = `c` ends."""
    cdef int r = scan_to(cur, CLIENT_MARKS, max_body, data, n, pos, f)
    if r == SCAN_END:
        return 0
    if r < 0:
        protocol_error(w, c, data + pos[0])
        return -1
    if f.type == FE_TERMINATE:
        client_parts(w, c)
        return -1
    return scan_whole(f, n, pos[0])


cdef extern from * nogil:
    """
    static inline uint8_t pgpool_asks(uint8_t fe_type) {
        static const uint8_t asks[256] = {
            ['Q'] = 2, ['S'] = 2, ['F'] = 2, ['H'] = 2, ['P'] = 1, ['B'] = 1, ['D'] = 1, ['E'] = 1, ['C'] = 1,
        };
        return asks[fe_type];
    }
    """
    uint8_t how_it_asks "pgpool_asks"(uint8_t fe_type)      # ASKS_*


cdef inline bint asks(uint8_t kind) noexcept nogil:
    """A message whose answer is waited for."""
    return how_it_asks(kind) == ASKS_NOW


cdef inline bint plainly_asks(const uint8_t *data, size_t n, uint32_t max_body) noexcept nogil:
    """Whether whole messages, none of them out of the ordinary, lead to one that asks: what nearly always comes."""
    cdef uint8_t how
    cdef uint32_t length                          # of the body; of a broken message longer than anything that there is
    cdef size_t at = 0
    while at + HEADER_LEN <= n:
        how = how_it_asks(data[at])
        length = load_be32(data + at + 1) - 4
        at += HEADER_LEN + <size_t>length
        if length > max_body or at > n:
            return False
        if how != ASKS_LATER:
            return how == ASKS_NOW
    return False


cdef int idle(Worker *w, ClientConn *c, uint8_t *data, size_t n, size_t *used) noexcept nogil:
    """A client without a server has sent something: ask for a server once that is worth one.

    `used` is written where some of it has been answered here and the rest is to be looked at again.
    """
    cdef size_t start = 0, part
    cdef int r = IDLE_ASKS
    c.idle_us = w.now_us
    if c.cur.remain or c.skip_to_sync or w.plane.disable_pqexec or not plainly_asks(data, n, w.plane.max_packet_size):
        r = gather(w, c, data, n, &start)
        if r <= IDLE_STOPS:
            return r
    c.scanned = 0
    c.cur.type = 0
    if r == IDLE_ASKS and listen_may(c, data + start, n - start):
        r = listen_take(w, c, data + start, n - start, &part)
        start += part
        if r == TAKE_DONE:
            used[0] = start
            return 0
        if r != TAKE_NOT:
            conn_hold(w, &c.conn, data + start, n - start)
            c.conn.paused = 1
            return 1
    return request(w, c, data + start, n - start)


cdef int gather(Worker *w, ClientConn *c, uint8_t *data, size_t n, size_t *begin) noexcept nogil:
    """Look at what has come message by message, and keep it until it asks for something; IDLE_*.

    `begin` is where it begins that a server is to see.
    """
    cdef size_t start = 0, pos, part
    cdef Cursor cur
    cdef Frame f
    cdef uint8_t kind
    cdef uint32_t length
    cdef bint wants = False
    cdef int r
    while True:                                   # what nobody needs to see: a late end of a failed COPY, a cancelled group
        if c.cur.remain:
            part = n - start
            if c.cur.remain < part:
                part = c.cur.remain
            start += part
            c.cur.remain -= <uint32_t>part
            if c.cur.remain:
                return IDLE_KEEPS
        if n - start < HEADER_LEN:
            break
        kind = data[start]
        length = load_be32(data + start + 1)
        if length < 4 or length - 4 > w.plane.max_packet_size or CLIENT_MARKS[kind] == 2:
            protocol_error(w, c, data + start)
            return IDLE_STOPS
        if c.skip_to_sync and kind == FE_SYNC:
            c.skip_to_sync = 0
            conn_send(w, &c.conn, w.scratch, build_ready(w.scratch, SCRATCH_SIZE, TX_IDLE))
        elif not (kind == FE_COPY_DATA or kind == FE_COPY_DONE or kind == FE_COPY_FAIL
                  or (c.skip_to_sync and kind != FE_TERMINATE)):
            break
        c.cur.remain = length - 4
        start += HEADER_LEN
    cur.remain = 0
    cur.type = 0
    pos = start + c.scanned
    while not wants:
        r = client_next(w, c, &cur, w.plane.max_packet_size, data, n, &pos, &f)
        if r < 0:
            return IDLE_STOPS
        if r == 0:
            break
        if f.type == FE_QUERY and w.plane.disable_pqexec:
            client_fatal(w, c, "0A000", "PQexec disallowed")
            return IDLE_STOPS
        wants = asks(f.type)
        scan_past(&cur, &f, n, &pos)
    if not wants and n - start < STASH_MAX:
        c.scanned = <uint32_t>(pos - start)
        if cur.remain:
            c.scanned = 0                         # inside a CopyData, whose end this call alone knows
        conn_hold(w, &c.conn, data + start, n - start)
        return IDLE_KEEPS
    begin[0] = start
    return IDLE_ASKS if wants else IDLE_STREAMS


cdef bint refused(Worker *w, ClientConn *c) noexcept nogil:
    """While no server can be had, clients that come are told why instead of waiting."""
    cdef PoolRecord *pool = c.pool
    cdef size_t n = 0
    if pgpool_load32(&pool.pool.total) != pgpool_load32(&pool.pool.dedicated_total) \
            or pgpool_load64(&pool.error_until_us) <= w.now_us:
        return False
    pthread_mutex_lock(&pool.lock)
    if pool.error.len and pool.error.len <= SCRATCH_SIZE and pool.error_until_us > w.now_us:
        n = pool.error.len
        memcpy(w.scratch, buf_bytes(&pool.error), n)
    pthread_mutex_unlock(&pool.lock)
    if n:
        client_end(w, c, w.scratch, n, "server login failed")
    return n != 0


cdef int request(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """Get a server for `c`: link and forward, or wait."""
    cdef Server *seat = NULL
    cdef ServerConn *s
    cdef Pool *pool = c.pool.pool
    cdef uint32_t before = w.index
    cdef int verdict
    if refused(w, c):
        return 1
    c.request_us = w.now_us
    c.seat.mark = c.settings
    verdict = pool_request(pool, &c.seat, w.index, w.now_us, &seat, &before)
    while verdict == POOL_CLOSE:
        note(w.plane, <ServerConn *>seat.owner, SERVER_CLOSE)
        seat = NULL
        verdict = pool_request(pool, &c.seat, w.index, w.now_us, &seat, &before)
    if verdict == POOL_CLOSED:
        client_fatal(w, c, "57P01", "database removed")
        return 1
    if verdict == POOL_ENDING:
        client_fatal(w, c, "57P01", "server shutting down")
        return 1
    if seat != NULL and before != w.index:
        s = <ServerConn *>seat.owner
        w.io.remove(&w.plane.workers[before], &s.conn)
        count_add(&counters_of(w, c.pool).steals, 1)
        if not w.io.add(w, &s.conn):
            server_lost(w, s, "cannot be watched")
            if verdict == POOL_GOT:               # `c` has heard of it
                return 1
            verdict = POOL_QUEUED
    if verdict == POOL_GOT:
        linked(w, c, <ServerConn *>seat.owner)
        if c.state != CL_ACTIVE or c.conn.doomed:
            return 1
        if c.holding:
            conn_hold(w, &c.conn, data, n)
            c.conn.paused = 1
            return 1
        return relay(w, c, data, n)
    c.state = CL_WAITING
    c.conn.paused = 1
    if conn_hold(w, &c.conn, data, n):            # else it ends, and leaves the queue
        c.seat.noticed = 0
        patience_waits(w, c)
    if verdict == POOL_CHECK:
        server_chore(w, <ServerConn *>seat.owner, CHORE_CHECK)
    elif c.seat.unserved and pgpool_swap32(&pool.want, 1) == 0:
        plane_want(w.plane)
    return 1


cdef void client_request(Worker *w, ClientConn *c) noexcept nogil:
    """Get a server for a borrower, or wait."""
    request(w, c, NULL, 0)
    if c.state == CL_ACTIVE:
        loan_linked(w, c)
    elif c.loan != NULL:
        c.loan.waited = 1


cdef void linked(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """`c` has `s` now: its settings are replayed in front of its bytes."""
    cdef Counters *k = counters_of(w, c.pool)
    cdef uint64_t waited_us = w.now_us - c.request_us if w.now_us > c.request_us else 0
    c.state = CL_ACTIVE
    c.awaiting = c.unnamed_here = c.unnamed_fresh = 0
    timer_clear(&w.timers, &c.conn.timer)
    count_add(&k.server_assignments, 1)
    count_add(&k.wait_us, waited_us)
    hist_add(&k.wait, waited_us)
    pgpool_store64(&s.request_us, w.now_us)
    s.was_reset = s.error_last = s.chore_again = s.canceling = s.query_in_group = s.run = 0
    s.xact_start_us = 0
    s.asked_us = c.request_us
    s.foreign = s.last_client != c.id
    s.last_client = c.id
    if s.foreign and pgpool_load8(&c.pool.reads_sequences):
        s.sequences_due = 1
    if s.sequences_due or settings_differ(c, s):
        settings_align(w, c, s)
    elif c.rights != s.rights:
        rights_tell(w, c, s)


cdef void client_go_on(Worker *w, ClientConn *c) noexcept nogil:
    """Use what is held, and read again: what `c` was waiting for has come."""
    cdef Buf mine = buf_steal(&c.conn.held)
    c.conn.paused = 0
    if mine.len:
        use(w, c, buf_bytes(&mine), mine.len)
        buf_give_back(&mine, &w.spares)
    if not c.conn.paused and not c.conn.doomed:
        conn_resume(w, &c.conn)


cdef void client_granted(Worker *w, Client *seat) noexcept nogil:
    """A waiter's turn has come: it has a server, whose socket is in this worker's poll set, or none ever will."""
    cdef ClientConn *c = <ClientConn *>seat.owner
    cdef Server *server = <Server *>seat.server
    cdef Buf *error
    cdef size_t n
    seat.waiting = WAIT_NONE
    if c.state != CL_WAITING:                     # it has left meanwhile
        if server != NULL:
            server_free(w, <ServerConn *>server.owner)
        if c.state == CL_GONE:
            slot_release(&w.clients, &c.conn.head)
        return
    if server == NULL:
        pthread_mutex_lock(&c.pool.lock)
        error = &c.pool.first_error if c.pool.first_error.len else &c.pool.error
        n = error.len if error.len <= SCRATCH_SIZE else 0
        if n:
            memcpy(w.scratch, buf_bytes(error), n)
        pthread_mutex_unlock(&c.pool.lock)
        if n == 0:
            n = build_error(w.scratch, SCRATCH_SIZE, "FATAL", "08006", "server connection failed", NULL)
        client_end(w, c, w.scratch, n, "server login failed")
        return
    linked(w, c, <ServerConn *>server.owner)
    if not c.holding and not c.conn.doomed and c.state == CL_ACTIVE:
        client_go_on(w, c)
    elif c.loan != NULL and c.state == CL_ACTIVE:
        loan_linked(w, c)


cdef void client_released(Worker *w, ClientConn *c) noexcept nogil:
    """Its server has gone back to the pool: whatever it sends next asks anew."""
    c.state = CL_IDLE
    c.idle_us = w.now_us
    c.scanned = 0
    if c.conn.timer.kind != TIMER_NONE:
        timer_clear(&w.timers, &c.conn.timer)
    if c.leaving:
        client_parts(w, c)
    elif c.awaiting:
        c.awaiting = 0
        client_go_on(w, c)
    elif c.conn.paused:
        conn_resume(w, &c.conn)
    if pgpool_load8(&w.plane.giving):
        w.gives = 1
    if pgpool_load8(&w.plane.draining):
        client_drain(w, c)


cdef void client_drain(Worker *w, ClientConn *c) noexcept nogil:
    """Send `c` away if nothing of it is under way: it holds no server, waits for none, and is not in the middle of a message.

    While clients are given to another process, only one that cannot be is sent away.
    """
    if pgpool_load8(&w.plane.giving) and c.conn.tls == NULL:
        w.gives = 1
        return
    if c.state == CL_IDLE and not c.conn.doomed and not c.holding and not c.awaiting and c.conn.held.len == 0 \
            and c.cur.remain == 0:
        client_fatal(w, c, "57P01", "pooler is shutting down")
