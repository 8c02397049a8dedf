"""Who a client is; see proof.pxd.

Source: PostgreSQL docs, "Message Flow", Start-up; the texts that tools grep for are PgBouncer's.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf

from pgpool_core.auth.client_login cimport (
    AUTH_CERT, AUTH_LDAP, AUTH_MD5, AUTH_PLAIN, AUTH_TRUST, LOGIN_BAD_PASSWORD, LOGIN_ELSEWHERE, LOGIN_EMPTY_PASSWORD, LOGIN_MORE,
    LOGIN_OK, LOGIN_PROTOCOL, MAX_PASSWORD_LEN, login_begin, login_password, login_recheck,
)
from pgpool_core.auth.credentials cimport Credential, credential_wipe, credentials_mock, credentials_mock_kinds
from pgpool_core.auth.crypto cimport OPENSSL_cleanse
from pgpool_core.auth.startup cimport Startup
from pgpool_core.auth.strikes cimport StrikeVerdict, strikes_add
from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_free, buf_take
from pgpool_core.engine.client_end cimport client_fatal, client_log, uncount, with_name
from pgpool_core.engine.conn cimport conn_doom, conn_send
from pgpool_core.engine.login cimport login_passed
from pgpool_core.engine.question cimport SECRET_FOUND, SECRET_NOBODY, ask_control, route_known, secret_of
from pgpool_core.engine.records cimport *
from pgpool_core.engine.timers cimport TIMER_LOGIN, timer_set
from pgpool_core.engine.turns cimport turn_give
from pgpool_core.sync.atomic cimport pgpool_store64
from pgpool_core.tls.peer cimport peer_is_named
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport FE_PASSWORD, FE_TERMINATE
from pgpool_core.wire.span cimport Span


cdef void authenticate(Worker *w, ClientConn *c, LoginRecord *l, Span user, Credential *known,
                       int secret) noexcept nogil:
    cdef bint has_secret = secret == SECRET_FOUND
    cdef size_t n = 0
    cdef int r
    cdef Span binding
    cdef uint8_t method = l.told - 1 if l.told else w.plane.auth_type
    if l.console == POLICY_CONSOLE_TRUSTED + 1:
        login_passed(w, c, l)
        return
    if secret == SECRET_NOBODY:
        known.kinds = credentials_mock_kinds(w.plane.credentials)
    elif not has_secret:
        credentials_mock(w.plane.credentials, user, known)
    l.phase = LG_AUTH
    binding.at, binding.len = NULL, 0
    if c.conn.tls != NULL:
        binding.at, binding.len = c.conn.tls.context.binding, c.conn.tls.context.binding_len
    if method == AUTH_CERT and not l.told and (c.conn.tls == NULL or not peer_is_named(c.conn.tls.ssl, user)):
        has_secret = False                        # control has looked itself where it has told
    r = login_begin(&l.auth, method, w.plane.credentials, known, has_secret, user, binding, w.scratch, SCRATCH_SIZE, &n)
    if n:
        conn_send(w, &c.conn, w.scratch, n)
    if r != LOGIN_MORE:
        verdict_of(w, c, l, r)


cdef bint password_message(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
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
    if ((again and l.auth.method == AUTH_MD5) or l.auth.method == AUTH_PLAIN or l.auth.method == AUTH_LDAP) and not buf_add(&l.answer, at + 5, length - 4):
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
        ask_control(w, c, l, LG_ELSEWHERE)
        return False
    if r == LOGIN_BAD_PASSWORD and again:
        l.again = 1
        ask_control(w, c, l, LG_AGAIN)
        return False
    forget_answer(l)
    verdict_of(w, c, l, r)
    return c.state == CL_LOGIN


cdef void verdict_of(Worker *w, ClientConn *c, LoginRecord *l, int r) noexcept nogil:
    """The end of the authentication, good or bad."""
    if r == LOGIN_OK:
        login_passed(w, c, l)
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
    cdef const Startup *s = &l.packet
    if l.failed == LOGIN_EMPTY_PASSWORD:
        client_fatal(w, c, "28P01", "empty password returned by client")
    else:
        if l.auth.method == AUTH_CERT:
            client_fatal(w, c, "28000", "certificate authentication failed")
        elif l.auth.method == AUTH_LDAP:
            with_name(w, c, "28000", "LDAP authentication failed for user \"", s.user, "\"")
        elif l.auth.method == AUTH_TRUST:
            with_name(w, c, "28000", "\"trust\" authentication failed for user \"", s.user, "\"")
        else:
            with_name(w, c, "28P01", "password authentication failed for user \"", s.user, "\"")


cdef void looked_again(Worker *w, ClientConn *c, LoginRecord *l, uint8_t verdict) noexcept nogil:
    """Control has looked the user up anew: what has failed may be right by now. A SCRAM exchange has to be begun anew by the client."""
    cdef const Startup *s = &l.packet
    cdef Credential known
    cdef int r = LOGIN_BAD_PASSWORD
    if secret_of(w, l, s, &known) == SECRET_FOUND:
        r = login_recheck(&l.auth, &known, buf_bytes(&l.answer), l.answer.len)
    credential_wipe(&known)
    if r == LOGIN_ELSEWHERE:
        ask_control(w, c, l, LG_ELSEWHERE)
        return
    forget_answer(l)
    l.phase = LG_AUTH
    if r == LOGIN_OK and verdict == POLICY_RETRY and not route_known(w, c, l):
        return
    verdict_of(w, c, l, r)


cdef void checked_elsewhere(Worker *w, ClientConn *c, LoginRecord *l, uint8_t verdict) noexcept nogil:
    """Control knows whether the password was right, and where the login leads."""
    l.phase = LG_AUTH
    if verdict != POLICY_WRONG and not route_known(w, c, l):
        return
    verdict_of(w, c, l, LOGIN_BAD_PASSWORD if verdict == POLICY_WRONG else LOGIN_OK)


cdef void forget_answer(LoginRecord *l) noexcept nogil:
    """It may hold a password."""
    if l.answer.len:
        OPENSSL_cleanse(buf_bytes(&l.answer), l.answer.len)
    buf_free(&l.answer)
