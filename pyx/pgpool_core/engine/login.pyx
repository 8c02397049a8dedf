"""Logging clients in without Python; see login.pxd."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from pgpool_core.auth.client_login cimport MAX_PASSWORD_LEN, login_wipe
from pgpool_core.auth.crypto cimport OPENSSL_cleanse
from pgpool_core.auth.startup cimport MAX_STARTUP_LEN, REPLICATION_NONE
from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_free
from pgpool_core.engine.client_end cimport client_end, client_fatal
from pgpool_core.engine.conn cimport conn_doom, plane_want
from pgpool_core.engine.dedicated cimport dedicated_request
from pgpool_core.engine.first_packet cimport first_packet
from pgpool_core.engine.forwarding cimport forwarded
from pgpool_core.engine.greeting cimport greet, greet_console
from pgpool_core.engine.parameters cimport choose_settings
from pgpool_core.engine.patience cimport patience_login
from pgpool_core.engine.proof cimport forget_answer, password_message
from pgpool_core.engine.question cimport ASKS_MOST, ask_control, route, tell_key
from pgpool_core.engine.records cimport *
from pgpool_core.engine.turns cimport turn_give, turn_over
from pgpool_core.pool.dedicated cimport dedicated_leave
from pgpool_core.pool.pool cimport Pool, pool_has
from pgpool_core.pool.server cimport SV_LOGIN
from pgpool_core.sync.atomic cimport pgpool_swap32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock


cdef int login_bytes(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """Take all `n` bytes of a client that is logging in; nonzero when nothing more is to be read now."""
    cdef LoginRecord *l = c.login
    if l.input.len + n > MAX_STARTUP_LEN + MAX_PASSWORD_LEN or not buf_add(&l.input, data, n):
        conn_doom(w, &c.conn, "login messages are too long")
        return 1
    if l.phase == LG_AUTH:
        OPENSSL_cleanse(data, n)                  # it may be a password
    while c.state == CL_LOGIN and not c.conn.doomed and l.input.len:
        if l.phase == LG_FORWARDED:
            if not forwarded(w, c, l):
                break
        elif l.phase == LG_STARTUP:
            if not first_packet(w, c, l):
                break
        elif l.phase == LG_AUTH:
            if not password_message(w, c, l):
                break
        else:
            return 0                              # pipelined: used after the greeting
    return c.conn.doomed


cdef void login_go_on(Worker *w, ClientConn *c) noexcept nogil:
    """Use what has come while the login waited."""
    if c.state == CL_LOGIN and c.login.phase == LG_AUTH and c.login.input.len:
        login_bytes(w, c, w.scratch, 0)


cdef void login_turn(Worker *w, ClientConn *c) noexcept nogil:
    route(w, c, c.login, False)
    login_go_on(w, c)


cdef void login_passed(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Authenticated: greet, or wait until there is a greeting."""
    cdef PoolRecord *pool = c.pool
    if pool == NULL and not l.console and l.late_error.len == 0 and l.passed < ASKS_MOST:
        l.passed += 1                             # only now: what a stranger names costs no pool
        ask_control(w, c, l, LG_PASSED)
        return
    turn_give(w, l)
    l.method = l.auth.method + 1 if l.phase == LG_AUTH else 0
    if l.auth.has_key and pool != NULL:
        tell_key(w, l)
    login_wipe(&l.auth)
    if l.late_error.len:
        client_end(w, c, buf_bytes(&l.late_error), l.late_error.len, "login refused")
        return
    if l.console:
        greet_console(w, c, l)
        return
    if pool == NULL:
        client_fatal(w, c, "XX000", "internal error: login without a route")
        return
    if c.replication != REPLICATION_NONE:
        if choose_settings(w, c, l) == 0:         # only looked at: its server is started with them
            dedicated_request(w, c)
        return
    login_await(w, c, l)


cdef bint old_may_greet(Pool *pool) noexcept nogil:
    """Servers that were opened before RECONNECT are in use, or nobody may open another: what they have reported will do."""
    cdef bint may
    pthread_mutex_lock(&pool.lock)
    may = pool.paused != 0 or pool_has(pool) > pool.count[SV_LOGIN] - pool.dedicated_opening
    pthread_mutex_unlock(&pool.lock)
    return may


cdef bint has_greeting(PoolRecord *pool) noexcept nogil:
    cdef bint known, old
    pthread_mutex_lock(&pool.lock)
    known, old = pool.welcome.len != 0, pool.welcome_old
    pthread_mutex_unlock(&pool.lock)
    return known and (not old or old_may_greet(pool.pool))


cdef void login_await(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Greet `c`, which may come in, as soon as its pool has a greeting."""
    cdef PoolRecord *pool = c.pool
    l.phase = LG_WELCOME
    if has_greeting(pool):
        greet(w, c, l)
        return
    l.counted = 1
    c.request_us = w.now_us                       # since when it waits
    patience_login(w, c)
    pthread_mutex_lock(&pool.pool.lock)
    pool.pool.logins_waiting += 1
    pthread_mutex_unlock(&pool.pool.lock)
    turn_over(w, c, l)
    welcome(w, c, False)                    # it may have come, or failed, in between
    if c.state == CL_LOGIN and pgpool_swap32(&pool.pool.want, 1) == 0:
        plane_want(w.plane)


cdef void login_greetings(Worker *w) noexcept nogil:
    cdef LoginRecord *l = w.waits_for_greeting.first
    cdef LoginRecord *following
    while l != NULL:
        following = l.turn_next
        welcome(w, l.turn_of, True)               # `l` may have gone
        l = following


cdef void welcome(Worker *w, ClientConn *c, bint waited) noexcept nogil:
    """The pool's greeting may be there, or its first server has refused us; who has waited hears the server itself.

    Where it cannot be reached, clients go on waiting (`first_error` is empty); the program around us, which borrows, is told.
    """
    cdef PoolRecord *pool = c.pool
    cdef Buf *error
    cdef size_t n = 0
    if c.conn.doomed:
        return
    if has_greeting(pool):
        greet(w, c, c.login)
        return
    pthread_mutex_lock(&pool.lock)
    error = &pool.first_error if waited and pool.first_error.len else &pool.error
    if (pool.first_error.len or c.loan != NULL) and error.len and error.len <= SCRATCH_SIZE and pool.error_until_us > w.now_us:
        n = error.len
        memcpy(w.scratch, buf_bytes(error), n)
    pthread_mutex_unlock(&pool.lock)
    if n:
        client_end(w, c, w.scratch, n, "server login failed")


cdef bint login_unsaid(const ClientConn *c) noexcept nogil:
    """A monitor has looked whether somebody is here, or psql goes to ask for a password: no line of the log, as with PgBouncer."""
    cdef const LoginRecord *l = c.login
    if c.state != CL_LOGIN or l == NULL or l.input.len or (c.conn.tls != NULL and not c.conn.tls.established):
        return False
    return l.phase == LG_STARTUP or l.phase == LG_FORWARDED or l.phase == LG_AUTH


cdef void login_end(Worker *w, ClientConn *c) noexcept nogil:
    """Free what only a login needs."""
    cdef LoginRecord *l = c.login
    if l == NULL:
        return
    turn_give(w, l)
    if l.counted:
        pthread_mutex_lock(&c.pool.pool.lock)
        c.pool.pool.logins_waiting -= 1
        pthread_mutex_unlock(&c.pool.pool.lock)
    if l.phase == LG_DEDICATED:
        dedicated_leave(c.pool.pool, &c.seat)     # before the startup packet goes, which control reads
    login_wipe(&l.auth)
    forget_answer(l)
    buf_free(&l.input)
    buf_free(&l.startup)
    buf_free(&l.late_error)
    free(l)
    c.login = NULL
