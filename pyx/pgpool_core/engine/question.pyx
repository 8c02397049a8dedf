"""Where a login leads and what it is checked against: looked up here, or asked of control; see question.pxd.

Control is asked (MAIL_POLICY) only for a route or a secret that nobody has asked for before, for auth_type = hba and ldap, and for the console; for a
route once more when the login has passed, for its pool is made then.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.auth.client_login cimport AUTH_ANY, AUTH_HBA, AUTH_LDAP, AUTH_PEER, AUTH_PLAIN, AUTH_SCRAM
from pgpool_core.auth.credentials cimport CRED_NOBODY, Credential, credential_wipe, credentials_get, credentials_settle
from pgpool_core.auth.crypto cimport OPENSSL_cleanse
from pgpool_core.auth.startup cimport Startup
from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_free
from pgpool_core.engine.client_end cimport client_end, client_fatal
from pgpool_core.engine.conn cimport conn_doom, plane_post
from pgpool_core.engine.login cimport login_go_on, login_passed
from pgpool_core.engine.mailbox cimport MAIL_CLIENT_KEY, MAIL_POLICY, MAIL_POLICY_GONE, Mail
from pgpool_core.engine.proof cimport authenticate, checked_elsewhere, forget_answer, looked_again
from pgpool_core.engine.records cimport *
from pgpool_core.engine.routes cimport routes_get
from pgpool_core.engine.slots cimport handle_of
from pgpool_core.engine.sys cimport pgpool_peer
from pgpool_core.engine.terms cimport TERMS_FULL, TERMS_OK, terms_enter
from pgpool_core.pool.limits cimport Group
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32
from pgpool_core.tls.peer cimport NAMES_MAX, peer_names
from pgpool_core.wire.span cimport Span


cdef enum:
    SCOPED_LEN = 256              # of a name in the table of secrets: a database, a zero, a user


cdef void route(Worker *w, ClientConn *c, LoginRecord *l, bint asked) noexcept nogil:
    """Find pool and secret of the login, asking control once for what is not known here; then authenticate."""
    cdef const Startup *s = &l.packet
    cdef Credential known
    cdef int secret
    cdef bint has_secret
    if not l.console:
        c.pool = <PoolRecord *>routes_get(w.plane.routes, s.database, s.user)
    secret = secret_of(w, l, s, &known)
    has_secret = secret == SECRET_FOUND
    if asked and forgotten(w, c, l, has_secret) and l.asked < ASKS_MOST:
        l.asked += 1
        l.console = 0
        credential_wipe(&known)
        ask_control(w, c, l, LG_POLICY)
        return
    if not asked and not (secret == SECRET_NOBODY and AUTH_PLAIN <= w.plane.auth_type <= AUTH_SCRAM and w.plane.looks_up != LOOKS_UP_EACH) and (
                      c.pool == NULL or w.plane.auth_type == AUTH_HBA or (not has_secret and w.plane.auth_type != AUTH_ANY and w.plane.auth_type != AUTH_LDAP)
                      or (w.plane.looks_up == LOOKS_UP_EACH and not l.listed)):
        credential_wipe(&known)
        ask_control(w, c, l, LG_POLICY)
        return
    if c.pool != NULL and c.terms == NULL and not admitted(w, c, s.user):
        credential_wipe(&known)
        return
    authenticate(w, c, l, s.user, &known, secret)
    credential_wipe(&known)


cdef int secret_of(Worker *w, LoginRecord *l, const Startup *s, Credential *known) noexcept nogil:
    """Copy out what the login is checked against: of auth_file, else what control has said for its database."""
    cdef uint8_t[SCOPED_LEN] name
    l.listed = credentials_get(w.plane.credentials, s.user, known)
    if l.listed:
        return SECRET_FOUND
    if not credentials_get(w.plane.credentials, scoped_name(s, name), known):
        return SECRET_NONE
    return SECRET_NOBODY if known.kinds & CRED_NOBODY else SECRET_FOUND


cdef Span scoped_name(const Startup *s, uint8_t *out) noexcept nogil:
    """The name under which control keeps a secret that holds for one database: written to `out`, SCOPED_LEN bytes."""
    cdef Span name
    memcpy(out, s.database.at, s.database.len)
    out[s.database.len] = 0
    memcpy(out + s.database.len + 1, s.user.at, s.user.len)
    name.at, name.len = out, s.database.len + 1 + s.user.len
    return name


cdef bint forgotten(Worker *w, ClientConn *c, LoginRecord *l, bint has_secret) noexcept nogil:
    """Control has said where the login leads and what proves it, and a reload has taken that away before it was read."""
    cdef int method = l.told - 1 if l.told else w.plane.auth_type
    if l.late_error.len or l.console == POLICY_CONSOLE_TRUSTED + 1:
        return False
    return not (has_secret or method == AUTH_ANY or method == AUTH_PEER or method == AUTH_LDAP)


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


cdef bint route_known(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Whether the login may go on: now that control has said where it leads, it counts there."""
    cdef const Startup *s = &l.packet
    if c.pool != NULL or l.console:
        return True
    c.pool = <PoolRecord *>routes_get(w.plane.routes, s.database, s.user)
    return c.pool == NULL or admitted(w, c, s.user)


cdef inline bint waits_for_control(const LoginRecord *l) noexcept nogil:
    return l.phase == LG_POLICY or l.phase == LG_AGAIN or l.phase == LG_ELSEWHERE or l.phase == LG_PASSED


cdef void stop_asking(Worker *w, ClientConn *c) noexcept nogil:
    """The login is over. Control need not answer any more; where its ring is full, it does."""
    cdef Mail mail
    if c.login != NULL and waits_for_control(c.login):
        memset(&mail, 0, sizeof(Mail))
        mail.kind = MAIL_POLICY_GONE
        mail.client = asker(w, c)
        plane_post(w, &mail)


cdef inline uint64_t asker(Worker *w, ClientConn *c) noexcept nogil:
    """Who asks, for control and for the answer's way back."""
    return handle_of(&c.conn.head, <uint8_t>(w.index + 1))


cdef void ask_control(Worker *w, ClientConn *c, LoginRecord *l, uint8_t phase) noexcept nogil:
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
    mail.client = asker(w, c)
    mail.b = 1 if phase == LG_AGAIN else 2 if phase == LG_PASSED else 0
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
    if phase == LG_ELSEWHERE:
        forget_answer(l)                          # now: where nothing can be asked, the login ends below
    if mail.data == NULL or not plane_post(w, &mail):
        if mail.data != NULL:
            OPENSSL_cleanse(mail.data, data_len)
        free(mail.data)
        client_fatal(w, c, "53300", "too many logins wait for a decision")


cdef void login_verdict(Worker *w, ClientConn *c, uint64_t said, uint8_t *error, size_t n) noexcept nogil:
    """Control has answered MAIL_POLICY."""
    cdef LoginRecord *l = c.login
    cdef uint8_t verdict = said & 0xFF
    if c.state != CL_LOGIN or l == NULL or not waits_for_control(l):
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
    if l.phase == LG_PASSED:
        l.phase = LG_AUTH
        if route_known(w, c, l):
            login_passed(w, c, l)
        return
    l.told = <uint8_t>(said >> 8)
    route(w, c, l, True)
    login_go_on(w, c)


cdef void tell_key(Worker *w, LoginRecord *l) noexcept nogil:
    """Control opens servers with the key that the client's login has revealed; before any server is asked for on its behalf."""
    cdef uint8_t[SCOPED_LEN] name
    cdef const Startup *s = &l.packet
    cdef Mail mail
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
    credentials_settle(w.plane.credentials, s.user if l.listed else scoped_name(s, name))
