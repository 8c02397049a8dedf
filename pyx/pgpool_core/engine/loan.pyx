"""The worker's side of loans; see loan.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strlen

from pgpool_core.auth.startup cimport STARTUP_OK, startup_parse
from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_free, buf_steal
from pgpool_core.engine.caller cimport caller_says
from pgpool_core.engine.client cimport client_request
from pgpool_core.engine.client_end cimport client_fatal, client_leave
from pgpool_core.engine.chore cimport server_settle
from pgpool_core.engine.conn cimport (conn_doom, conn_not_again, conn_push, conn_settle, counters_of, plane_wake)
from pgpool_core.engine.counters cimport Counters, Histogram, count_add, hist_add
from pgpool_core.engine.leak cimport leak_released
from pgpool_core.engine.login cimport login_await, login_end
from pgpool_core.engine.orphan cimport server_ask_cancel, server_lingers
from pgpool_core.engine.patience cimport patience_login
from pgpool_core.engine.question cimport admitted
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport server_parameter
from pgpool_core.engine.server_end cimport server_drop, server_lost, server_quit
from pgpool_core.engine.slots cimport slot_new
from pgpool_core.engine.sys cimport close, pgpool_dup
from pgpool_core.engine.timers cimport timer_clear, timer_of
from pgpool_core.pool.pool cimport pool_client_comes, pool_unlink
from pgpool_core.pool.server cimport SV_ACTIVE, SV_BEING_CANCELED, SV_CLOSING, Server
from pgpool_core.session.settings cimport SETTINGS_OK
from pgpool_core.sync.atomic cimport (pgpool_add32, pgpool_cas_ptr, pgpool_load8, pgpool_load_ptr, pgpool_next64,
                                      pgpool_or32, pgpool_store8, pgpool_swap32, pgpool_swap_ptr)
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.session cimport tls_free
from pgpool_core.wire.build cimport build_error
from pgpool_core.wire.span cimport Span, text_span

cdef enum:
    DUE_NOW = 1
    DUE_LATER = 2                 # when its socket's stream has ended

cdef extern from "<openssl/rand.h>" nogil:
    int RAND_bytes(unsigned char *, int)

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)

cdef extern from "<unistd.h>" nogil:
    int getpid()


cdef void tell(Worker *w, Loan *loan, uint32_t what) noexcept nogil:
    """Let control know."""
    cdef void *head
    if pgpool_or32(&loan.news, what) == 0:
        while True:
            head = pgpool_load_ptr(&w.plane.news)
            loan.news_next = <Loan *>head
            if pgpool_cas_ptr(<void **>&w.plane.news, head, loan):
                break
    plane_wake(w.plane)


cdef void loan_free(Plane *plane, Loan *loan) noexcept nogil:
    """The end of a loan; nobody has it any more."""
    pthread_mutex_lock(&plane.loan_lock)
    if loan.prev != NULL:
        loan.prev.next = loan.next
    else:
        plane.loans = loan.next
    if loan.next != NULL:
        loan.next.prev = loan.prev
    pthread_mutex_unlock(&plane.loan_lock)
    if loan.fd >= 0:
        close(loan.fd)
    tls_free(loan.tls)
    buf_free(&loan.startup)
    buf_free(&loan.unread)
    buf_free(&loan.message)
    buf_free(&loan.queries)
    buf_free(&loan.xacts)
    buf_free(&loan.parameters)
    free(loan)


cdef void loans_read(Worker *w) noexcept nogil:
    """What control wants, in the order in which it was said."""
    cdef Loan *loan = <Loan *>pgpool_swap_ptr(<void *>&w.orders, NULL)
    cdef Loan *first = NULL
    cdef Loan *next
    cdef uint32_t orders
    while loan != NULL:
        next = loan.orders_next
        loan.orders_next = first
        first = loan
        loan = next
    while first != NULL:
        loan = first
        first = loan.orders_next
        orders = pgpool_swap32(&loan.orders, 0)
        if orders & LOAN_FORGET:
            forget(w, loan)
            continue
        if orders & LOAN_ASK:
            begin(w, loan)
        if orders & LOAN_RETURN:
            returned(w, loan)
        elif orders & LOAN_LEAVE:
            leave(w, loan)


# -- coming in -----------------------------------------------------------------------------------------------------------


cdef void begin(Worker *w, Loan *loan) noexcept nogil:
    """Somebody wants a server: a client without a socket, who need not log in."""
    cdef Span user
    cdef ClientConn *c = <ClientConn *>slot_new(&w.clients)
    if c == NULL:
        tell(w, loan, LOAN_ENDED)
        return
    c.conn.fd = -1
    c.conn.kind = KIND_CLIENT
    timer_of(c, &c.conn.timer)
    timer_of(c, &c.watch)
    c.peer.family = 1
    c.peer.pid = getpid()
    RAND_bytes(<unsigned char *>&c.secret, 4)
    c.id = pgpool_next64(&w.plane.last_id)
    c.connect_us = c.request_us = w.now_us
    c.pool = loan.pool
    c.loan = loan
    loan.client = c
    pgpool_add32(&w.n_clients, 1)
    c.login = <LoginRecord *>calloc(1, sizeof(LoginRecord))
    if c.login == NULL or not buf_add(&c.login.startup, buf_bytes(&loan.startup), loan.startup.len):
        client_fatal(w, c, "53200", "out of memory")
        return
    if startup_parse(buf_bytes(&c.login.startup), c.login.startup.len, &c.login.packet) != STARTUP_OK:
        client_fatal(w, c, "08P01", "malformed startup packet")
        return
    user = c.login.packet.user
    if not caller_says(c, user, text_span("")):
        client_fatal(w, c, "53200", "out of memory")
        return
    if pgpool_load8(&w.plane.draining):
        client_fatal(w, c, "57P01", "pooler is shutting down")
        return
    c.counted = 1
    if pgpool_add32(&w.plane.n_clients, 1) > w.plane.max_client_conn:
        client_fatal(w, c, "53300", "no more connections allowed (max_client_conn)")
        return
    if not admitted(w, c, user):
        return
    c.login.started_us = w.now_us
    patience_login(w, c)
    login_await(w, c, c.login)
    if c.login != NULL:
        loan.waited = 1                           # for the pool's first server


cdef void loan_greeted(Worker *w, ClientConn *c) noexcept nogil:
    """It is known what the servers of its pool are like: ask for one."""
    c.seat.pool = c.pool.pool
    c.seat.owner = c
    c.seat.worker = w.index
    pool_client_comes(c.pool.pool)
    login_end(w, c)
    timer_clear(&w.timers, &c.conn.timer)
    c.state = CL_IDLE
    c.idle_us = w.now_us
    c.holding = 1                                 # for good: nothing of it passes through here
    if not w.suspended:
        client_request(w, c)


# -- to the borrower -----------------------------------------------------------------------------------------------------


cdef void loan_linked(Worker *w, ClientConn *c) noexcept nogil:
    """`c` has a server; as soon as that stands as `c` wants it, it is lent."""
    cdef ServerConn *s
    if c.conn.doomed or c.loan == NULL or c.seat.server == NULL:
        return
    s = <ServerConn *>(<Server *>c.seat.server).owner
    if s.chore != CHORE_NONE:
        conn_push(w, &s.conn)                     # the settings, which wait for bytes of a client
        return
    lend_soon(w, c.loan, DUE_NOW)


cdef void lend_soon(Worker *w, Loan *loan, uint8_t when) noexcept nogil:
    """Not at once: what has come from the server is still being looked at."""
    if not loan.due:
        loan.due = when
        loan.due_next = w.due
        w.due = loan


cdef void not_due(Worker *w, Loan *loan) noexcept nogil:
    """Take `loan` off that list: it ends."""
    cdef Loan **at = &w.due
    if not loan.due:
        return
    while at[0] != loan:
        at = &at[0].due_next
    at[0] = loan.due_next
    loan.due = 0


cdef bint loans_wait(const Worker *w) noexcept nogil:
    """Some server can be lent now; others wait for what the ring will say."""
    cdef const Loan *loan = w.due
    while loan != NULL and loan.due != DUE_NOW:
        loan = loan.due_next
    return loan != NULL


cdef void loans_lend(Worker *w) noexcept nogil:
    """The end of a turn."""
    cdef Loan *loan = w.due
    cdef Loan *next
    cdef ClientConn *c
    w.due = NULL
    while loan != NULL:
        next = loan.due_next
        loan.due = 0
        c = loan.client
        if not c.conn.doomed and c.state == CL_ACTIVE and c.seat.server != NULL:
            lend(w, c, loan, <ServerConn *>(<Server *>c.seat.server).owner)
        loan = next


cdef void lend(Worker *w, ClientConn *c, Loan *loan, ServerConn *s) noexcept nogil:
    """Let go of the socket of `s` and tell control all about it."""
    cdef size_t n
    if s.conn.doomed or s.seat.state != SV_ACTIVE or s.chore != CHORE_NONE:
        return                                    # it ends, and so does `c`
    conn_settle(w, &s.conn)
    if s.expect.owed or s.cur.remain or s.conn.out.len or s.conn.writing or (s.conn.tls != NULL and s.conn.early.len):
        server_quit(w, s, "in the middle of a message when it was to be lent")
        return
    loan.fd = pgpool_dup(s.conn.fd)
    if loan.fd < 0:
        client_fatal(w, c, "53000", "too many open file descriptors")
        return
    if not w.io.let_go(w, &s.conn):
        close(loan.fd)
        loan.fd = -1
        lend_soon(w, loan, DUE_LATER)
        return
    conn_not_again(w, &s.conn)
    timer_clear(&w.timers, &s.conn.timer)
    pgpool_store8(&s.lent, 1)
    s.conn.paused = 1
    s.conn.missed = s.conn.full_read = 0
    loan.unread = buf_steal(&s.conn.held)
    if not buf_add(&loan.unread, buf_bytes(&s.conn.early), s.conn.early.len):
        client_fatal(w, c, "53200", "out of memory")
        return
    buf_free(&s.conn.early)
    loan.server = s.id
    loan.backend_pid = s.backend_pid
    loan.forgotten = s.prepared.clears
    loan.family_unix = s.family_unix
    loan.key_len = s.key_len
    memcpy(loan.backend_key, s.backend_key, s.key_len)
    n = strlen(s.host)
    memcpy(loan.host, s.host, n if n < sizeof(loan.host) else sizeof(loan.host) - 1)
    loan.port = s.port
    loan.told = 1
    loan.tls = s.conn.tls                         # two would use it otherwise
    s.conn.tls = NULL
    tell(w, loan, LOAN_LENT)


# -- and back ------------------------------------------------------------------------------------------------------------


cdef void count_times(Buf *times, uint64_t *sum, Histogram *h) noexcept nogil:
    cdef uint64_t *at = <uint64_t *>buf_bytes(times)
    cdef uint32_t i
    for i in range(times.len // 8):
        count_add(sum, at[i])
        hist_add(h, at[i])


cdef void count(Worker *w, Loan *loan) noexcept nogil:
    """What the borrower has done counts like what clients do."""
    cdef Counters *k = counters_of(w, loan.pool)
    count_add(&k.received, loan.received)
    count_add(&k.sent, loan.sent)
    count_add(&k.queries, loan.queries.len // 8)
    count_add(&k.xacts, loan.xacts.len // 8)
    count_times(&loan.queries, &k.query_us, &k.query)
    count_times(&loan.xacts, &k.xact_us, &k.xact)


cdef void reported(Worker *w, ServerConn *s, Buf *parameters) noexcept nogil:
    """What the server has said to the borrower about its settings."""
    cdef uint8_t *at = buf_bytes(parameters)
    cdef size_t left = parameters.len, name, value
    while left:
        name = strnlen(<const char *>at, left) + 1
        if name >= left:
            return
        value = strnlen(<const char *>at + name, left - name) + 1
        if name + value > left:
            return
        if server_parameter(w, s, NULL, at, <uint32_t>(name + value), True) != SETTINGS_OK:
            pgpool_store8(&s.seat.close_needed, 1)    # nobody knows how it stands
        at += name + value
        left -= name + value


cdef void returned(Worker *w, Loan *loan) noexcept nogil:
    """The borrower has done with its server, which is cleaned before anybody else gets it."""
    cdef ClientConn *c = loan.client
    cdef ServerConn *s
    cdef uint8_t how = loan.returned
    cdef uint8_t status = loan.tx_status
    count(w, loan)
    if c == NULL or c.conn.doomed:
        return                                    # taken away: control hears, or has heard, of that
    s = <ServerConn *>(<Server *>c.seat.server).owner
    reported(w, s, &loan.parameters)
    s.conn.tls = loan.tls
    loan.tls = NULL
    c.loan = NULL
    loan_free(w.plane, loan)
    pgpool_store8(&s.lent, 0)
    s.conn.paused = 0
    s.function_ddl |= how & RETURNED_FUNCTIONS
    leak_released(s, c)
    if how & RETURNED_BROKEN:
        pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
        watch(w, s, "broken while it was lent", how & RETURNED_BUSY != 0)
    else:
        s.tx_status = status
        if how & RETURNED_DIRTY:
            s.dirty = 1
        if how & RETURNED_SPENT:
            pgpool_store8(&s.seat.close_needed, 1)
        pool_unlink(s.pool.pool, &s.seat, SV_BEING_CANCELED, w.now_us)
        if w.io.add(w, &s.conn):
            server_settle(w, s)
        else:
            server_lost(w, s, "cannot be watched")
    c.state = CL_IDLE
    client_leave(w, c)                            # at once: who borrows next may be one too many otherwise


cdef void watch(Worker *w, ServerConn *s, const char *reason, bint busy) noexcept nogil:
    """A server in SV_CLOSING about which nothing is known: it counts until PostgreSQL has ended it. What it may be running is cancelled."""
    if not w.io.add(w, &s.conn):
        if busy:
            server_ask_cancel(w, s, 0)
        conn_doom(w, &s.conn, reason)
        return
    server_drop(w, s, reason)
    s.canceling = busy
    server_lingers(w, s)


cdef void loan_seize(Worker *w, ServerConn *s) noexcept nogil:
    """The borrower is sent away with a server that it may be using this very moment: that one ends.

    Not before control has closed its end: else the borrower would see a part of what happens to the server.
    """
    cdef Loan *loan = (<ClientConn *>s.seat.client.owner).loan
    loan.seized = s
    pgpool_store8(&s.lent, 0)
    pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)


cdef void forget(Worker *w, Loan *loan) noexcept nogil:
    """Control has nothing of it any more."""
    if loan.seized != NULL:
        watch(w, loan.seized, "its borrower was sent away", True)
    loan_free(w.plane, loan)


# -- ends ----------------------------------------------------------------------------------------------------------------


cdef void leave(Worker *w, Loan *loan) noexcept nogil:
    """Nobody waits for it any more."""
    cdef ClientConn *c = loan.client
    if c == NULL or loan.told:
        return                                    # LOAN_ENDED or LOAN_LENT is on its way
    c.loan = NULL
    not_due(w, loan)
    loan_free(w.plane, loan)
    c.leaving = 1
    if not c.conn.doomed:
        client_leave(w, c)


cdef void loan_refuse(Worker *w, ClientConn *c, const uint8_t *message, size_t n, const char *reason) noexcept nogil:
    """`c` is sent away; `message` is for the borrower."""
    buf_free(&c.loan.message)
    buf_add(&c.loan.message, message, n)
    conn_doom(w, &c.conn, reason)


cdef void loan_over(Worker *w, ClientConn *c) noexcept nogil:
    """The end of a borrower who has not left by itself."""
    cdef Loan *loan = c.loan
    cdef const char *reason = c.conn.reason
    c.loan = NULL
    loan.client = NULL
    not_due(w, loan)
    if loan.message.len == 0 and reason != NULL:
        buf_add(&loan.message, w.scratch, build_error(w.scratch, SCRATCH_SIZE, "FATAL", "57P01", reason, NULL))
    tell(w, loan, LOAN_ENDED)
