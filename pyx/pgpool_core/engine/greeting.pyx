"""AuthenticationOk to ReadyForQuery; see greeting.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from pgpool_core.auth.cancel_key cimport CANCEL_KEY_LEN, cancel_key_write
from pgpool_core.auth.startup cimport REPLICATION_NONE, Startup
from pgpool_core.engine.align cimport rights_of
from pgpool_core.engine.buf cimport Buf, buf_bytes, buf_free
from pgpool_core.engine.caller cimport caller_known
from pgpool_core.engine.client cimport client_go_on
from pgpool_core.engine.client_end cimport client_end, client_fatal
from pgpool_core.engine.conn cimport conn_hold, conn_send, counters_of, plane_post
from pgpool_core.engine.counters cimport Counters, count_add, hist_add
from pgpool_core.engine.loan cimport loan_greeted
from pgpool_core.engine.login cimport login_end
from pgpool_core.engine.mailbox cimport MAIL_LOG, Mail
from pgpool_core.engine.parameters cimport choose_settings
from pgpool_core.engine.patience cimport patience_look
from pgpool_core.engine.records cimport *
from pgpool_core.engine.timers cimport timer_clear
from pgpool_core.pool.pool cimport MODE_SESSION, MODE_STATEMENT, pool_client_comes
from pgpool_core.session.regulars cimport Regular, regular_find, regular_greeting, regular_learn
from pgpool_core.session.settings cimport Block, block_entry, block_get, block_ref, block_unref
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.session cimport tls_info
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.build cimport build_auth_ok, build_error, build_key, build_parameter, build_ready
from pgpool_core.wire.codes cimport TX_IDLE
from pgpool_core.wire.span cimport Span, same, text_span


cdef enum:
    OWN_MOST = 16                 # settings of a client that are looked up quickly
    POOLERS_LEN = 10              # of POOLERS

cdef const char *POOLERS = "pgbouncer."        # what poolers report of themselves
cdef const char *RELEASE = "1.26.1"            # of PgBouncer, as SHOW VERSION
cdef const char *CONSOLE_RELEASE = "1.26.1/bouncer"


cdef struct Own:                  # the settings of a client, taken apart
    const Block *settings         # borrowed
    uint32_t n
    bint whole                    # there are no others
    Span names[OWN_MOST]
    Span values[OWN_MOST]


cdef size_t build_cancel_key(Worker *w, ClientConn *c, uint8_t *out, size_t cap) noexcept nogil:
    """BackendKeyData."""
    cdef uint8_t[CANCEL_KEY_LEN] key
    cancel_key_write(&w.plane.cancel_keys, w.index, c.conn.head.slot, c.secret, key)
    return build_key(out, cap, load_be32(key), load_be32(&key[4]))


cdef void read_own(const Block *settings, Own *own) noexcept nogil:
    """Take `settings` apart once, for all that is asked about them."""
    cdef uint32_t at = 0
    own.settings = settings
    own.n = 0
    while settings != NULL and at < settings.len and own.n < OWN_MOST:
        at = block_entry(settings, at, &own.names[own.n], &own.values[own.n])
        own.n += 1
    own.whole = settings == NULL or at >= settings.len


cdef inline bint own_value(const Own *own, Span name, Span *value) noexcept nogil:
    cdef uint32_t i
    for i in range(own.n):
        if same(own.names[i], name):
            value[0] = own.values[i]
            return True
    return not own.whole and block_get(own.settings, name, value)


cdef size_t put_pooler(const ClientConn *c, uint8_t *out, size_t cap) noexcept nogil:
    """What PgBouncer from 1.26 on reports of itself, by which drivers find that they talk to a pooler, and to which."""
    cdef char[12] number
    cdef uint8_t mode = MODE_SESSION if c.replication != REPLICATION_NONE else c.pool.pool.settings.mode
    cdef const char *word = "session" if mode == MODE_SESSION else "statement" if mode == MODE_STATEMENT else "transaction"
    cdef size_t n = build_parameter(out, cap, text_span("pgbouncer.version"), text_span(RELEASE))
    n += build_parameter(out + n, cap - n, text_span("pgbouncer.pool_mode"), text_span(word))
    snprintf(number, sizeof(number), "%u", c.pool.max_prepared)
    return n + build_parameter(out + n, cap - n, text_span("pgbouncer.max_prepared_statements"), text_span(number))


cdef size_t greeting(Worker *w, ClientConn *c, Buf *parameters, uint32_t *key_at) noexcept nogil:
    """Write AuthenticationOk, what the client is told about its server, its cancel key (at `key_at`), login_notify_message, ReadyForQuery.

    0: too long. A notice that is too long beside the rest is left out.
    """
    cdef uint8_t *out = w.scratch
    cdef size_t n = build_auth_ok(out, SCRATCH_SIZE)
    cdef uint32_t at = 0
    cdef Span name, value
    cdef Own own
    read_own(c.settings, &own)
    n += put_pooler(c, out + n, SCRATCH_SIZE - n)
    while at < parameters.len:
        name = text_span(<const char *>buf_bytes(parameters) + at)
        value = text_span(<const char *>name.at + name.len + 1)
        at += name.len + value.len + 2
        if name.len > POOLERS_LEN and memcmp(name.at, POOLERS, POOLERS_LEN) == 0:
            continue                              # the server is a pooler itself: which one the client talks to counts
        own_value(&own, name, &value)
        if c.rights == RIGHTS_UNKNOWN:
            c.rights = rights_of(name, value)
        if build_parameter(out + n, SCRATCH_SIZE - n - 32, name, value) == 0:
            return 0
        n += 5 + name.len + value.len + 2
    key_at[0] = <uint32_t>n
    n += build_cancel_key(w, c, out + n, SCRATCH_SIZE - n)
    pthread_mutex_lock(&w.plane.ignored_lock)
    if 0 < w.plane.login_notice.len <= SCRATCH_SIZE - n - 16:
        memcpy(out + n, buf_bytes(&w.plane.login_notice), w.plane.login_notice.len)
        n += w.plane.login_notice.len
    pthread_mutex_unlock(&w.plane.ignored_lock)
    n += build_ready(out + n, SCRATCH_SIZE - n, TX_IDLE)
    return n


cdef void greeted(Worker *w, ClientConn *c, size_t n, uint8_t state) noexcept nogil:
    """Send the greeting, `n` bytes of scratch, and count `c` as logged in."""
    cdef Counters *k = counters_of(w, c.pool)
    conn_send(w, &c.conn, w.scratch, n)
    count_add(&k.client_logins, 1)
    count_add(&k.login_us, w.now_us - c.login.started_us)
    hist_add(&k.login, w.now_us - c.login.started_us)
    pool_client_comes(c.pool.pool)
    enter(w, c, c.login, state)


cdef size_t greet_again(Worker *w, ClientConn *c, LoginRecord *l, uint64_t version) noexcept nogil:
    """Begin as others have who came with the same packet, and write what they were told; 0: nobody has."""
    cdef const Regular *known = regular_find(w.regulars, c.pool, version, buf_bytes(&l.startup), l.startup.len)
    if known == NULL:
        return 0
    c.settings = block_ref(w.plane.settings, known.settings)
    c.start = block_ref(w.plane.settings, known.settings)
    c.rights = known.rights
    memcpy(w.scratch, regular_greeting(known), known.greeting_len)
    build_cancel_key(w, c, w.scratch + known.key_at, SCRATCH_SIZE - known.key_at)
    return known.greeting_len


cdef size_t greet_anew(Worker *w, ClientConn *c, LoginRecord *l, uint64_t version) noexcept nogil:
    """Choose its settings and write the greeting; 0: the client has been refused, or is one of our own, who needs none."""
    cdef Regular fresh
    cdef size_t n
    if choose_settings(w, c, l) != 0:
        return 0
    if c.loan != NULL:
        loan_greeted(w, c)
        return 0
    pthread_mutex_lock(&c.pool.lock)
    n = greeting(w, c, &c.pool.welcome, &fresh.key_at)
    pthread_mutex_unlock(&c.pool.lock)
    if n == 0:
        client_fatal(w, c, "54000", "the server's parameters are too long")
        return 0
    if not w.plane.application_name_add_host:
        fresh.whose, fresh.version, fresh.bytes = c.pool, version, NULL
        fresh.packet_len, fresh.greeting_len = l.startup.len, <uint32_t>n
        fresh.rights, fresh.settings = c.rights, c.settings
        regular_learn(w.regulars, w.plane.settings, &fresh, buf_bytes(&l.startup), w.scratch)
    return n


cdef void greet(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """One send: what the pool's servers have reported, with what the client has asked for."""
    cdef uint64_t version = <uint64_t>pgpool_load32(&w.plane.retold) << 32 | pgpool_load32(&c.pool.retold)
    cdef size_t n = 0
    if c.loan == NULL and not w.plane.application_name_add_host:      # which would tell one client from the next
        n = greet_again(w, c, l, version)
    if n == 0:
        n = greet_anew(w, c, l, version)
    if n == 0:
        return
    c.seat.pool = c.pool.pool
    c.seat.owner = c
    c.seat.worker = w.index
    greeted(w, c, n, CL_IDLE)


cdef void greet_dedicated(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """`s`, which `c` waited for, is linked to it: greet with what that server has reported."""
    cdef size_t n
    cdef uint32_t key_at
    block_unref(w.plane.settings, c.settings)
    c.settings = block_ref(w.plane.settings, s.settings)
    n = greeting(w, c, &s.greeting, &key_at)
    buf_free(&s.greeting)
    if n != 0:
        greeted(w, c, n, CL_ACTIVE)
        return
    n = build_error(w.scratch, SCRATCH_SIZE, "FATAL", "54000", "the server's parameters are too long", NULL)
    greeted(w, c, n, CL_ACTIVE)
    client_end(w, c, NULL, 0, "the server's parameters are too long")


cdef void greet_console(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """The same for the console, which stands for a server of its own. Source: what PgBouncer 1.26 sends."""
    cdef uint8_t *out = w.scratch
    cdef size_t n = build_auth_ok(out, SCRATCH_SIZE)
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("pgbouncer.version"), text_span(RELEASE))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("server_version"), text_span(CONSOLE_RELEASE))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("client_encoding"), text_span("UTF8"))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("server_encoding"), text_span("UTF8"))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("DateStyle"), text_span("ISO"))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("TimeZone"), text_span("GMT"))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("standard_conforming_strings"), text_span("on"))
    n += build_parameter(out + n, SCRATCH_SIZE - n, text_span("is_superuser"), text_span("on"))
    n += build_cancel_key(w, c, out + n, SCRATCH_SIZE - n)
    n += build_ready(out + n, SCRATCH_SIZE - n, TX_IDLE)
    conn_send(w, &c.conn, out, n)
    c.is_admin = l.console != POLICY_CONSOLE_STATS + 1
    pgpool_add32(&w.plane.console_logins, 1)
    enter(w, c, l, CL_CONSOLE)


cdef void enter(Worker *w, ClientConn *c, LoginRecord *l, uint8_t state) noexcept nogil:
    """Logged in. What came behind the login messages is used now."""
    cdef bint held = True
    if w.plane.log_connections:
        log_login(w, c, l)
    if l.input.len:
        held = conn_hold(w, &c.conn, buf_bytes(&l.input), l.input.len)
    login_end(w, c)
    caller_known(c)
    timer_clear(&w.timers, &c.conn.timer)
    c.state = state
    c.idle_us = w.now_us
    patience_look(w, c)
    if held:
        client_go_on(w, c)


cdef void log_login(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    cdef LogRecord *line = <LogRecord *>calloc(1, sizeof(LogRecord))
    cdef Mail mail
    cdef const Startup *s = &l.packet
    if line == NULL:
        return
    memcpy(line.user, s.user.at, s.user.len)
    memcpy(line.database, s.database.at, s.database.len)
    memcpy(line.text, b"login attempt: ", 16)
    line.level = 1
    line.worker = w.index
    line.id = c.id
    line.peer = c.peer
    line.pool = c.pool
    line.method = l.method
    line.replication = c.replication
    line.took_us = w.now_us - l.started_us + 1
    if c.conn.tls != NULL:
        tls_info(c.conn.tls, line.tls)
    mail.kind = MAIL_LOG
    mail.client = mail.server = mail.a = mail.b = 0
    mail.len = sizeof(LogRecord)
    mail.data = line
    if not plane_post(w, &mail):
        free(line)
