"""Logging clients in without Python; see login.pxd.

Control is asked (MAIL_POLICY) only for a route or a secret that nobody has asked for before, and for the console.
Source: PostgreSQL docs, "Message Flow", Start-up; the texts that tools grep for are PgBouncer's.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.auth.cancel_key cimport CANCEL_KEY_LEN, CANCEL_OURS, CANCEL_PEER, CancelWho, cancel_key_read
from pgpool_core.auth.client_login cimport (AUTH_ANY, AUTH_CERT, AUTH_HBA, AUTH_LDAP, AUTH_MD5, AUTH_PEER, AUTH_PLAIN, AUTH_TRUST, LOGIN_BAD_PASSWORD,
                                            LOGIN_ELSEWHERE, LOGIN_EMPTY_PASSWORD,
                                            LOGIN_MORE, LOGIN_OK, LOGIN_PROTOCOL, MAX_PASSWORD_LEN, login_begin, login_password,
                                            login_recheck, login_wipe)
from pgpool_core.auth.credentials cimport Credential, credential_wipe, credentials_get, credentials_mock, credentials_settle
from pgpool_core.auth.startup cimport *
from pgpool_core.auth.strikes cimport StrikeVerdict, strikes_add
from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_free, buf_steal, buf_take
from pgpool_core.engine.client_end cimport client_end, client_fatal, client_log, uncount, with_name
from pgpool_core.engine.conn cimport conn_again, conn_doom, conn_send, conn_write, plane_post, plane_want, worker_wake
from pgpool_core.engine.dedicated cimport dedicated_request
from pgpool_core.engine.forwarding cimport forwarded
from pgpool_core.engine.greeting cimport greet, greet_console
from pgpool_core.engine.mailbox cimport MAIL_CLIENT_KEY, MAIL_FIND_CANCEL, MAIL_PEER_CANCEL, MAIL_POLICY, Mail, mailbox_post
from pgpool_core.engine.parameters cimport choose_settings
from pgpool_core.engine.records cimport *
from pgpool_core.engine.routes cimport routes_get
from pgpool_core.engine.secure cimport secure_accept
from pgpool_core.engine.slots cimport handle_of
from pgpool_core.engine.sys cimport pgpool_peer
from pgpool_core.engine.timers cimport TIMER_LOGIN, timer_set
from pgpool_core.engine.terms cimport TERMS_FULL, TERMS_OK, terms_enter
from pgpool_core.engine.turns cimport turn_give, turn_take
from pgpool_core.engine.waiter cimport cancel_elsewhere
from pgpool_core.pool.dedicated cimport dedicated_leave
from pgpool_core.pool.limits cimport Group
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load8, pgpool_store64, pgpool_swap32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.peer cimport NAMES_MAX, peer_is_named, peer_names
from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.codes cimport FE_PASSWORD, FE_TERMINATE
from pgpool_core.wire.span cimport Span, same, text_span

cdef extern from "<openssl/crypto.h>" nogil:
    void OPENSSL_cleanse(void *, size_t)


cdef enum:
    ASKS_MOST = 16                # times that control is asked about one login, should reloads follow each other closely
    SCOPED_LEN = 256              # of a name in the table of secrets: a database, a zero, a user
    CANCEL_CODE = 80877102        # CancelRequest; it is never answered, not even a malformed one


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
            if not startup(w, c, l):
                break
        elif l.phase == LG_AUTH:
            if not password(w, c, l):
                break
        else:
            return 0                              # pipelined: used after the greeting
    return c.conn.doomed


cdef void startup_error(Worker *w, ClientConn *c, int status) noexcept nogil:
    """A first packet that cannot be obeyed."""
    if status == STARTUP_OLD_PROTOCOL:
        client_fatal(w, c, "0A000", "old V2 protocol not supported")
    elif status == STARTUP_DIRECT_TLS:
        client_fatal(w, c, "0A000", "TLS is not switched on (client_tls_sslmode)")
    elif status == STARTUP_NO_USER:
        client_fatal(w, c, "28000", "no username supplied")
    elif status == STARTUP_NAME_TOO_LONG:
        client_fatal(w, c, "28000", "username too long")
    elif status == STARTUP_BAD_LAYOUT:
        client_fatal(w, c, "08P01", "invalid startup packet layout: expected terminator as last byte")
    else:
        client_fatal(w, c, "08P01", "bad packet header: invalid length or protocol of startup packet")


cdef bint startup(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Use one startup packet or request out of `input`; False when it is not whole or the login is over."""
    cdef Startup s
    cdef size_t n
    cdef int r = startup_parse(buf_bytes(&l.input), l.input.len, &s)
    if r == STARTUP_NEED_MORE:
        return False
    if r == STARTUP_SSL or r == STARTUP_GSS:
        if l.input.len > s.packet_len or c.conn.early.len:
            if r == STARTUP_SSL:
                client_fatal(w, c, "08P01", "received unencrypted data after SSL request")
            else:
                client_fatal(w, c, "08P01", "received unencrypted data after GSSAPI encryption request")
            return False
        if l.ssl_asked >= 2 or c.conn.tls != NULL:
            client_fatal(w, c, "08P01", "too many encryption requests")
            return False
        l.ssl_asked += 1
        buf_free(&l.input)
        if r == STARTUP_SSL and secure_accept(w, c):
            conn_write(w, &c.conn, <const uint8_t *>"S", 1)
        else:
            conn_send(w, &c.conn, <const uint8_t *>"N", 1)
        return False
    if r == STARTUP_DIRECT_TLS and secure_accept(w, c):
        direct_tls(w, c, l)
        return False
    if r == STARTUP_CANCEL:
        if cancel(w, c, &s):
            l.phase = LG_CANCEL
            buf_free(&l.input)
        else:
            conn_doom(w, &c.conn, "cancel request")
        return False
    if r == STARTUP_BAD_LENGTH and l.input.len >= 8 and load_be32(buf_bytes(&l.input) + 4) == CANCEL_CODE:
        conn_doom(w, &c.conn, "malformed cancel request")
        return False
    if r != STARTUP_OK:
        startup_error(w, c, r)
        return False
    if not encrypted_enough(w, c, l):
        return False
    if not buf_add(&l.startup, buf_bytes(&l.input), s.packet_len):
        conn_doom(w, &c.conn, "out of memory")
        return False
    buf_take(&l.input, s.packet_len)
    startup_parse(buf_bytes(&l.startup), l.startup.len, &s)
    if s.minor or s.protocol_options:
        n = build_negotiate(buf_bytes(&l.startup), &s, w.scratch, SCRATCH_SIZE)
        if n == 0:
            client_fatal(w, c, "08P01", "too many protocol options")
            return False
        conn_send(w, &c.conn, w.scratch, n)
    r = startup_replication(&s)
    if r == REPLICATION_BAD:
        with_name(w, c, "22023", "invalid value for parameter \"replication\": \"", s.replication, "\"")
        return False
    c.replication = <uint8_t>r
    c.user = <char *>calloc(1, s.user.len + 1)
    if c.user == NULL:
        conn_doom(w, &c.conn, "out of memory")
        return False
    memcpy(c.user, s.user.at, s.user.len)
    c.asked = <char *>calloc(1, s.database.len + 1)
    if c.asked != NULL:                           # only the log wants it
        memcpy(c.asked, s.database.at, s.database.len)
    if same(s.database, text_span("pgbouncer")):
        if c.replication != REPLICATION_NONE:
            client_fatal(w, c, "0A000", "the console takes no replication connections")
            return False
    else:
        c.counted = 1
        if pgpool_add32(&w.plane.n_clients, 1) > w.plane.max_client_conn:
            client_fatal(w, c, "53300", "no more connections allowed (max_client_conn)")
            return False
    if not same(s.database, text_span("pgbouncer")) and not turn_take(w, c, l):
        l.phase = LG_TURN
        return True
    route(w, c, l, False)
    return True


cdef void go_on(Worker *w, ClientConn *c) noexcept nogil:
    """Use what has come while the login waited."""
    if c.state == CL_LOGIN and c.login.phase == LG_AUTH and c.login.input.len:
        login_bytes(w, c, w.scratch, 0)


cdef void login_turn(Worker *w, ClientConn *c) noexcept nogil:
    route(w, c, c.login, False)
    go_on(w, c)


cdef void direct_tls(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """What has come was TLS already, without an SSLRequest: have it received again, as that."""
    l.direct_tls = 1
    if not buf_add(&l.input, buf_bytes(&c.conn.early), c.conn.early.len):
        conn_doom(w, &c.conn, "out of memory")
        return
    buf_free(&c.conn.early)
    c.conn.early = buf_steal(&l.input)
    conn_again(w, &c.conn)


cdef bint encrypted_enough(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Whether who begins a session here has come as client_tls_sslmode wants it; else `c` ends."""
    if c.conn.tls == NULL:
        if c.peer.family != 1 and pgpool_load8(&w.plane.tls_required):
            client_fatal(w, c, "08P01", "SSL required")
            return False
    elif l.direct_tls and not c.conn.tls.alpn:
        client_fatal(w, c, "08P01", "TLS without SSLRequest needs the ALPN protocol \"postgresql\"")
        return False
    return True


cdef bint cancel(Worker *w, ClientConn *c, Startup *s) noexcept nogil:
    """A CancelRequest: find the client by its key, on whatever worker it lives, or the peer. Nothing is answered, as PostgreSQL.

    True when it is under way: `c` stays open until PostgreSQL has been told, so that the end of its connection means, as with
    PostgreSQL, that no later query is hit.
    """
    cdef uint8_t[CANCEL_KEY_LEN] key
    cdef CancelWho who
    cdef Mail mail
    cdef int whose
    if s.cancel_key.len != 4:
        return False
    store_be32(key, s.cancel_pid)
    memcpy(&key[4], s.cancel_key.at, 4)
    whose = cancel_key_read(&w.plane.cancel_keys, key, &who)
    mail.server = <uint64_t>s.cancel_pid << 32 | load_be32(&key[4])
    mail.len = 0
    mail.data = NULL
    mail.worker = w.index
    mail.canceller = handle_of(&c.conn.head, <uint8_t>(w.index + 1))
    if whose == CANCEL_PEER:
        mail.kind = MAIL_PEER_CANCEL
        mail.client = who.peer_id
        mail.a = s.cancel_pid
        mail.b = load_be32(&key[4])
        return plane_post(w, &mail)
    if whose != CANCEL_OURS or who.worker >= w.plane.n_workers:
        return cancel_elsewhere(w, mail.server, mail.canceller)
    mail.kind = MAIL_FIND_CANCEL
    mail.client = who.slot
    mail.a = who.secret
    mail.b = who.secret_mask
    if not mailbox_post(&w.plane.workers[who.worker].inbox, &mail):
        return False
    worker_wake(&w.plane.workers[who.worker])
    return True


cdef Span scoped_name(const Startup *s, uint8_t *out) noexcept nogil:
    """The name under which control keeps a secret that holds for one database: written to `out`, SCOPED_LEN bytes."""
    cdef Span name
    memcpy(out, s.database.at, s.database.len)
    out[s.database.len] = 0
    memcpy(out + s.database.len + 1, s.user.at, s.user.len)
    name.at, name.len = out, s.database.len + 1 + s.user.len
    return name


cdef bint secret_of(Worker *w, LoginRecord *l, const Startup *s, Credential *known) noexcept nogil:
    """Copy out what the login is checked against: of auth_file, else what auth_query has said for its database."""
    cdef uint8_t[SCOPED_LEN] name
    l.listed = credentials_get(w.plane.credentials, s.user, known)
    if l.listed or not w.plane.looks_up:
        return l.listed
    return credentials_get(w.plane.credentials, scoped_name(s, name), known)


cdef void ask(Worker *w, ClientConn *c, LoginRecord *l, uint8_t phase) noexcept nogil:
    """Ask control, and wait for the answer in `phase`."""
    cdef uint8_t[NAMES_MAX] names
    cdef size_t data_len, names_len = 0
    cdef Mail mail
    l.phase = phase
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_POLICY
    if c.conn.tls != NULL:
        names_len = peer_names(c.conn.tls.ssl, names, NAMES_MAX)
        mail.a = names_len + 1
    mail.client = handle_of(&c.conn.head, <uint8_t>(w.index + 1))
    mail.b = phase == LG_AGAIN
    mail.len = l.startup.len
    if phase == LG_ELSEWHERE:
        mail.server = l.answer.len
    data_len = sizeof(pgpool_peer) + l.startup.len + names_len + mail.server
    mail.data = malloc(data_len)
    if mail.data != NULL:
        memcpy(mail.data, &c.peer, sizeof(pgpool_peer))
        memcpy(<uint8_t *>mail.data + sizeof(pgpool_peer), buf_bytes(&l.startup), l.startup.len)
        memcpy(<uint8_t *>mail.data + sizeof(pgpool_peer) + l.startup.len, names, names_len)
        if mail.server:
            memcpy(<uint8_t *>mail.data + data_len - mail.server, buf_bytes(&l.answer), mail.server)
    if mail.data == NULL or not plane_post(w, &mail):
        if mail.data != NULL:
            OPENSSL_cleanse(mail.data, data_len)
        free(mail.data)
        client_fatal(w, c, "53300", "too many logins wait for a decision")


cdef void forget_answer(LoginRecord *l) noexcept nogil:
    """It may hold a password."""
    if l.answer.len:
        OPENSSL_cleanse(buf_bytes(&l.answer), l.answer.len)
    buf_free(&l.answer)


cdef bint forgotten(Worker *w, ClientConn *c, LoginRecord *l, bint has_secret) noexcept nogil:
    """Control has said where the login leads and what proves it, and a reload has taken that away before it was read."""
    cdef int method = l.told - 1 if l.told else w.plane.auth_type
    if l.late_error.len or l.console == POLICY_CONSOLE_TRUSTED + 1:
        return False
    return (c.pool == NULL and not l.console) or not (has_secret or method == AUTH_ANY or method == AUTH_PEER or method == AUTH_LDAP)


cdef void route(Worker *w, ClientConn *c, LoginRecord *l, bint asked) noexcept nogil:
    """Find pool and secret of the login, asking control once for what is not known here; then authenticate."""
    cdef Startup s
    cdef Credential known
    cdef bint has_secret
    startup_parse(buf_bytes(&l.startup), l.startup.len, &s)
    if not l.console:
        c.pool = <PoolRecord *>routes_get(w.plane.routes, s.database, s.user)
    has_secret = secret_of(w, l, &s, &known)
    if asked and forgotten(w, c, l, has_secret) and l.asked < ASKS_MOST:
        l.asked += 1
        l.console = 0
        credential_wipe(&known)
        ask(w, c, l, LG_POLICY)
        return
    if not asked and (c.pool == NULL or w.plane.auth_type == AUTH_HBA or (not has_secret and w.plane.auth_type != AUTH_ANY and w.plane.auth_type != AUTH_LDAP)
                      or (w.plane.looks_up == 2 and not l.listed)):
        credential_wipe(&known)
        ask(w, c, l, LG_POLICY)
        return
    if c.pool != NULL and c.terms == NULL and not admitted(w, c, s.user):
        credential_wipe(&known)
        return
    authenticate(w, c, l, s.user, &known, has_secret)
    credential_wipe(&known)


cdef bint admitted(Worker *w, ClientConn *c, Span user) noexcept nogil:
    """Count `c` as a client of its database and its user; False when it is one too many."""
    cdef Group *database = c.pool.pool.database
    cdef uint32_t limit = pgpool_load32(&database.client_limit)
    cdef bint fits = pgpool_add32(&database.clients, 1) <= limit or limit == 0
    cdef int status = TERMS_OK
    if fits:
        status = terms_enter(w.plane.terms, user, &c.terms)
    if fits and status == TERMS_OK:
        return True
    pgpool_add32(&database.clients, -1)
    if not fits:
        client_fatal(w, c, "53300", "client connections exceeded (max_db_client_connections)")
    elif status == TERMS_FULL:
        client_fatal(w, c, "53300", "client connections exceeded (max_user_client_connections)")
    else:
        conn_doom(w, &c.conn, "out of memory")
    return False


cdef void authenticate(Worker *w, ClientConn *c, LoginRecord *l, Span user, Credential *known,
                       bint has_secret) noexcept nogil:
    cdef size_t n = 0
    cdef int r
    cdef Span binding
    cdef uint8_t method = l.told - 1 if l.told else w.plane.auth_type
    if l.console == POLICY_CONSOLE_TRUSTED + 1:
        passed(w, c, l)
        return
    if not has_secret:
        credentials_mock(w.plane.credentials, user, known)
    l.phase = LG_AUTH
    binding.at, binding.len = NULL, 0
    if c.conn.tls != NULL:
        binding.at, binding.len = c.conn.tls.context.binding, c.conn.tls.context.binding_len
    if method == AUTH_CERT and not l.told and (c.conn.tls == NULL or not peer_is_named(c.conn.tls.ssl, user)):
        has_secret = False                        # control has looked itself where it has told
    r = login_begin(&l.auth, method, known, has_secret, user, binding, w.scratch, SCRATCH_SIZE, &n)
    if n:
        conn_send(w, &c.conn, w.scratch, n)
    if r != LOGIN_MORE:
        verdict_of(w, c, l, r)


cdef void verdict_of(Worker *w, ClientConn *c, LoginRecord *l, int r) noexcept nogil:
    """The end of the authentication, good or bad."""
    cdef Startup s
    if r == LOGIN_OK:
        passed(w, c, l)
        return
    if r == LOGIN_PROTOCOL:
        client_fatal(w, c, "08P01", "malformed authentication message")
        return
    l.failed = r
    if not held_back(w, c, l):
        login_told(w, c)


cdef bint held_back(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Whether the failed login has to wait for its answer, or gets none, because of others from the same address."""
    cdef StrikeVerdict verdict
    cdef char[160] text
    pgpool_store64(&w.logins_failed, w.logins_failed + 1)
    if w.plane.auth_failure_delay_us == 0 or c.peer.family == 1:
        return False
    strikes_add(&w.plane.strikes, c.peer.family, c.peer.addr, w.now_us, w.plane.auth_failure_delay_us, &verdict)
    if verdict.notable:
        snprintf(text, sizeof(text), "%u failed logins from this address, answers are delayed (auth_failure_delay)", verdict.count)
        client_log(w, c, 2, text, False)
    if verdict.silent:
        conn_doom(w, &c.conn, "too many failed logins from this address (auth_failure_delay)")
        return True
    if verdict.due_us == 0:
        return False
    l.phase = LG_HELD
    turn_give(w, l)
    uncount(w, c)                                 # while it waits it takes nobody's place
    timer_set(&w.timers, &c.conn.timer, TIMER_LOGIN, verdict.due_us)
    return True


cdef void login_told(Worker *w, ClientConn *c) noexcept nogil:
    cdef LoginRecord *l = c.login
    cdef Startup s
    if l.failed == LOGIN_EMPTY_PASSWORD:
        client_fatal(w, c, "28P01", "empty password returned by client")
    else:
        startup_parse(buf_bytes(&l.startup), l.startup.len, &s)
        if l.auth.method == AUTH_CERT:
            client_fatal(w, c, "28000", "certificate authentication failed")
        elif l.auth.method == AUTH_LDAP:
            with_name(w, c, "28000", "LDAP authentication failed for user \"", s.user, "\"")
        elif l.auth.method == AUTH_TRUST:
            with_name(w, c, "28000", "\"trust\" authentication failed for user \"", s.user, "\"")
        else:
            with_name(w, c, "28P01", "password authentication failed for user \"", s.user, "\"")


cdef bint password(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Use one 'p' message out of `input`; False when it is not whole or the login is over."""
    cdef uint8_t *at = buf_bytes(&l.input)
    cdef uint32_t length
    cdef size_t n = 0
    cdef bint again
    cdef int r
    if at[0] != FE_PASSWORD:
        if at[0] == FE_TERMINATE:
            conn_doom(w, &c.conn, "client close request during login")
        else:
            client_fatal(w, c, "08P01", "expected password response")
        return False
    if l.input.len < 5:
        return False
    length = load_be32(at + 1)
    if length < 4 or length - 4 > MAX_PASSWORD_LEN:
        client_fatal(w, c, "08P01", "malformed authentication message")
        return False
    if l.input.len < length + 1:
        return False
    again = w.plane.looks_up and not l.listed and not l.again
    if (again and (l.auth.method == AUTH_PLAIN or l.auth.method == AUTH_MD5) or l.auth.method == AUTH_LDAP) and not buf_add(&l.answer, at + 5, length - 4):
        conn_doom(w, &c.conn, "out of memory")
        return False
    r = login_password(&l.auth, at + 5, length - 4, w.scratch, SCRATCH_SIZE, &n)
    OPENSSL_cleanse(at, length + 1)
    buf_take(&l.input, length + 1)
    if n:
        conn_send(w, &c.conn, w.scratch, n)
    if r == LOGIN_MORE:
        return True
    if r == LOGIN_ELSEWHERE:
        ask(w, c, l, LG_ELSEWHERE)
        forget_answer(l)
        return False
    if r == LOGIN_BAD_PASSWORD and again:
        l.again = 1
        ask(w, c, l, LG_AGAIN)
        return False
    forget_answer(l)
    verdict_of(w, c, l, r)
    return c.state == CL_LOGIN


cdef void looked_again(Worker *w, ClientConn *c, LoginRecord *l, uint8_t verdict) noexcept nogil:
    """Control has looked the user up anew: what has failed may be right by now. A SCRAM exchange has to be begun anew by the client."""
    cdef Startup s
    cdef Credential known
    cdef int r = LOGIN_BAD_PASSWORD
    startup_parse(buf_bytes(&l.startup), l.startup.len, &s)
    if secret_of(w, l, &s, &known):
        r = login_recheck(&l.auth, &known, buf_bytes(&l.answer), l.answer.len)
    credential_wipe(&known)
    forget_answer(l)
    l.phase = LG_AUTH
    if r == LOGIN_OK and verdict == POLICY_RETRY and c.pool == NULL and not l.console:
        c.pool = <PoolRecord *>routes_get(w.plane.routes, s.database, s.user)
        if c.pool != NULL and not admitted(w, c, s.user):
            return
    verdict_of(w, c, l, r)


cdef void checked_elsewhere(Worker *w, ClientConn *c, LoginRecord *l, uint8_t verdict) noexcept nogil:
    """Control knows whether the password was right, and where the login leads."""
    cdef Startup s
    l.phase = LG_AUTH
    startup_parse(buf_bytes(&l.startup), l.startup.len, &s)
    if verdict != POLICY_WRONG and c.pool == NULL and not l.console:
        c.pool = <PoolRecord *>routes_get(w.plane.routes, s.database, s.user)
        if c.pool != NULL and not admitted(w, c, s.user):
            return
    verdict_of(w, c, l, LOGIN_BAD_PASSWORD if verdict == POLICY_WRONG else LOGIN_OK)


cdef void tell_key(Worker *w, LoginRecord *l) noexcept nogil:
    """Control opens servers with the key that the client's login has revealed; before any server is asked for on its behalf."""
    cdef uint8_t[SCOPED_LEN] name
    cdef Startup s
    cdef Mail mail
    startup_parse(buf_bytes(&l.startup), l.startup.len, &s)
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_CLIENT_KEY
    mail.len = sizeof(l.auth.client_key)
    mail.data = malloc(mail.len)
    if mail.data == NULL:
        return
    memcpy(mail.data, l.auth.client_key, mail.len)
    if not plane_post(w, &mail):                  # the next login tells it
        OPENSSL_cleanse(mail.data, mail.len)
        free(mail.data)
        return
    credentials_settle(w.plane.credentials, s.user if l.listed else scoped_name(&s, name))


cdef void passed(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Authenticated: greet, or wait until there is a greeting."""
    cdef PoolRecord *pool = c.pool
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


cdef void login_await(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Greet `c`, which may come in, as soon as its pool has a greeting."""
    cdef PoolRecord *pool = c.pool
    cdef bint known
    l.phase = LG_WELCOME
    pthread_mutex_lock(&pool.lock)
    known = pool.welcome.len != 0
    pthread_mutex_unlock(&pool.lock)
    if known:
        greet(w, c, l)
        return
    l.counted = 1
    pthread_mutex_lock(&pool.pool.lock)
    pool.pool.logins_waiting += 1
    pthread_mutex_unlock(&pool.pool.lock)
    login_welcome(w, c, False)                    # it may have come, or failed, in between
    if c.state == CL_LOGIN and pgpool_swap32(&pool.pool.want, 1) == 0:
        plane_want(w.plane)


cdef void login_welcome(Worker *w, ClientConn *c, bint waited) noexcept nogil:
    """The pool's greeting may be there, or opening its first server has failed; who has waited hears the server itself."""
    cdef PoolRecord *pool = c.pool
    cdef Buf *error = &pool.first_error if waited else &pool.error
    cdef size_t n = 0
    cdef bint known
    if c.login == NULL or c.login.phase != LG_WELCOME or c.state != CL_LOGIN:
        return
    pthread_mutex_lock(&pool.lock)
    known = pool.welcome.len != 0
    if not known and error.len and error.len <= SCRATCH_SIZE and pool.error_until_us > w.now_us:
        n = error.len
        memcpy(w.scratch, buf_bytes(error), n)
    pthread_mutex_unlock(&pool.lock)
    if known:
        greet(w, c, c.login)
    elif n:
        client_end(w, c, w.scratch, n, "server login failed")


cdef void login_verdict(Worker *w, ClientConn *c, uint64_t said, uint8_t *error, size_t n) noexcept nogil:
    """Control has answered MAIL_POLICY."""
    cdef LoginRecord *l = c.login
    cdef uint8_t verdict = said & 0xFF
    if c.state != CL_LOGIN or l == NULL or (l.phase != LG_POLICY and l.phase != LG_AGAIN and l.phase != LG_ELSEWHERE):
        return
    buf_free(&l.late_error)
    if l.phase == LG_ELSEWHERE and verdict == POLICY_WRONG:
        checked_elsewhere(w, c, l, verdict)
        return
    if verdict == POLICY_REFUSE:
        client_end(w, c, error, n, "login refused")
        return
    if verdict == POLICY_REFUSE_LATE:
        if not buf_add(&l.late_error, error, n):
            conn_doom(w, &c.conn, "out of memory")
            return
    elif verdict != POLICY_RETRY:
        l.console = verdict + 1
    if l.phase == LG_AGAIN:
        looked_again(w, c, l, verdict)
        return
    if l.phase == LG_ELSEWHERE:
        checked_elsewhere(w, c, l, verdict)
        return
    l.told = <uint8_t>(said >> 8)
    route(w, c, l, True)
    go_on(w, c)


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
