"""Doors to `auth` for tests and fuzz targets.

Every input is copied to memory of exactly its size and every output has exactly its capacity, so that a sanitizer
sees one byte too many on either side.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.auth.cancel_key cimport (
    CANCEL_KEY_LEN, CANCEL_OURS, CANCEL_PEER, CancelKeys, CancelWho, cancel_key_read, cancel_key_write,
)
from pgpool_core.auth.client_login cimport (
    LOGIN_MORE, LOGIN_NO_SPACE, MAX_LOGIN_REPLY, ClientLogin, login_begin, login_password, login_wipe,
)
from pgpool_core.auth.credentials cimport (
    CREDENTIALS_OK, Credential, Credentials, credential_md5, credential_plain, credential_scram, credentials_clear,
    credentials_free, credentials_get, credentials_mock, credentials_mock_by, credentials_new, credentials_put,
)
from pgpool_core.auth.digest cimport (
    DIGEST_OK, MD5_LEN, SHA256_LEN, hmac_sha256, md5, pbkdf2_sha256, sha256,
)
from pgpool_core.auth.startup cimport (
    STARTUP_NEED_MORE, STARTUP_OK, Startup, build_negotiate, startup_next_param, startup_parse,
    startup_replication,
)
from pgpool_core.auth.strikes cimport Strikes as CStrikes, StrikeVerdict, strikes_add, strikes_free, strikes_init
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.span cimport Span


cdef uint8_t *exact_copy(const uint8_t *at, size_t length) except NULL:
    cdef uint8_t *copy = <uint8_t *>malloc(length if length > 0 else 1)
    if copy is NULL:
        raise MemoryError
    memcpy(copy, at, length)
    return copy


cdef Span span_of(bytes data):
    cdef Span span
    span.at, span.len = <const uint8_t *>data, <uint32_t>len(data)
    return span


cdef object text_of(Span span):
    return None if span.at is NULL else (<const char *>span.at)[:span.len]


cdef void cancel_keys(CancelKeys *keys, int peer_id, bytes permutation):
    keys.peer_id = <uint16_t>peer_id
    memset(keys.permutation, 0, SHA256_LEN)
    memcpy(keys.permutation, <const char *>permutation, min(len(permutation), SHA256_LEN))


def cancel_key(int peer_id, bytes permutation, uint32_t worker, uint32_t slot, uint32_t secret):
    """The key that a process writes for a client."""
    cdef CancelKeys keys
    cdef uint8_t[CANCEL_KEY_LEN] key
    cancel_keys(&keys, peer_id, permutation)
    cancel_key_write(&keys, worker, slot, secret, key)
    return bytes(key[:CANCEL_KEY_LEN])


def cancel_whose(int peer_id, bytes permutation, bytes key):
    """("ours", worker, slot, secret, mask), ("peer", id) or None."""
    cdef CancelKeys keys
    cdef CancelWho who
    cdef uint8_t *exact = exact_copy(key, len(key))
    cdef int whose
    cancel_keys(&keys, peer_id, permutation)
    whose = cancel_key_read(&keys, exact, &who)
    free(exact)
    if whose == CANCEL_OURS:
        return ("ours", who.worker, who.slot, who.secret, who.secret_mask)
    return ("peer", who.peer_id) if whose == CANCEL_PEER else None


def startup_feed(bytes data, chunks=()):
    """Show `data` to startup_parse in growing pieces; sizes beyond `chunks` are all that is left.

    Returns the first final status, or STARTUP_NEED_MORE, and what was read.
    """
    cdef Startup parsed
    cdef size_t have = 0
    cdef uint8_t *buf
    cdef int status = STARTUP_NEED_MORE
    cdef uint32_t at
    cdef Span name, value
    sizes = iter(chunks)
    found = {"status": STARTUP_NEED_MORE}
    while status == STARTUP_NEED_MORE and have < <size_t>len(data):
        have = min(len(data), have + max(1, next(sizes, len(data))))
        buf = exact_copy(data, have)
        try:
            with nogil:
                status = startup_parse(buf, have, &parsed)
            found = {"status": status}
            if status >= 0 and status != STARTUP_NEED_MORE:
                found.update(packet_len=parsed.packet_len, major=parsed.major, minor=parsed.minor,
                             cancel_pid=parsed.cancel_pid, cancel_key=text_of(parsed.cancel_key))
            if status == STARTUP_OK:
                found.update(user=text_of(parsed.user), database=text_of(parsed.database),
                             replication=text_of(parsed.replication), options=text_of(parsed.options),
                             application_name=text_of(parsed.application_name),
                             replication_kind=startup_replication(&parsed),
                             protocol_options=parsed.protocol_options)
                at = parsed.first_param
                found["params"] = params = []
                while startup_next_param(buf, &parsed, &at, &name, &value) == 1:
                    params.append((text_of(name), text_of(value)))
        finally:
            free(buf)
    return found


def startup_negotiate(bytes data, size_t cap):
    """The NegotiateProtocolVersion for a whole StartupMessage; empty when it does not fit."""
    cdef Startup parsed
    cdef uint8_t *buf = exact_copy(data, len(data))
    cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
    cdef size_t written
    try:
        if out is NULL:
            raise MemoryError
        if startup_parse(buf, len(data), &parsed) != STARTUP_OK:
            raise ValueError("not a StartupMessage")
        written = build_negotiate(buf, &parsed, out, cap)
        return (<const char *>out)[:written]
    finally:
        free(buf)
        free(out)


cdef class Secret:
    """One Credential, filled as the engine fills it; ValueError where it is refused."""
    cdef Credential credential

    def __init__(self, bytes user=b"", *, bytes plain=None, bytes md5=None, scram=None):
        cdef int status = CREDENTIALS_OK
        memset(&self.credential, 0, sizeof(Credential))
        if plain is not None:
            status |= credential_plain(&self.credential, span_of(user), span_of(plain))
        if md5 is not None:
            status |= credential_md5(&self.credential, span_of(md5))
        if scram is not None:
            iterations, salt, stored_key, server_key = scram
            status |= credential_scram(&self.credential, iterations, span_of(salt), span_of(stored_key),
                                       span_of(server_key))
        if status != CREDENTIALS_OK:
            raise ValueError("refused")

    @property
    def kinds(self):
        return self.credential.kinds

    @property
    def raw(self):
        """Every byte of it."""
        return (<const char *>&self.credential)[:sizeof(Credential)]

    @property
    def salt(self):
        return (<const char *>self.credential.salt)[:self.credential.salt_len]

    @property
    def iterations(self):
        return self.credential.iterations


cdef class Table:
    """A Credentials table of its own; `mock_key`: what users who do not exist are made of, None: random."""
    cdef Credentials *table

    def __cinit__(self, bytes mock_key=bytes(SHA256_LEN)):
        self.table = credentials_new()
        if self.table is NULL:
            raise MemoryError
        if mock_key is not None:
            if len(mock_key) != SHA256_LEN:
                raise ValueError("a key has 32 bytes")
            credentials_mock_by(self.table, <const uint8_t *><const char *>mock_key)

    def __dealloc__(self):
        credentials_free(self.table)

    def put(self, bytes user, Secret secret):
        cdef Span name = span_of(user)
        cdef int status
        with nogil:
            status = credentials_put(self.table, name, &secret.credential)
        return status

    def get(self, bytes user):
        cdef Secret copy = Secret()
        cdef Span name = span_of(user)
        cdef int found
        with nogil:
            found = credentials_get(self.table, name, &copy.credential)
        return copy if found else None

    def mock(self, bytes user):
        cdef Secret made = Secret()
        if credentials_mock(self.table, span_of(user), &made.credential) != CREDENTIALS_OK:
            raise RuntimeError("libcrypto failed")
        return made

    def clear(self):
        with nogil:
            credentials_clear(self.table)


cdef Table STRANGERS = Table()


cdef class Login:
    """One ClientLogin; each call returns the status and the bytes to send."""
    cdef ClientLogin login

    def __dealloc__(self):
        login_wipe(&self.login)

    def begin(self, int auth_type, bytes user, Secret secret=None, *, bint known=True, size_t cap=MAX_LOGIN_REPLY,
              bytes binding=b""):
        cdef Span name = span_of(user)
        cdef Span bound = span_of(binding)
        cdef const Credential *credential = NULL if secret is None else &secret.credential
        cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
        cdef size_t out_len = 0
        cdef int status
        try:
            if out is NULL:
                raise MemoryError
            with nogil:
                status = login_begin(&self.login, auth_type, STRANGERS.table, credential, known, name, bound, out, cap, &out_len)
            return status, (<const char *>out)[:out_len]
        finally:
            free(out)

    def password(self, bytes body, *, size_t cap=MAX_LOGIN_REPLY):
        cdef uint8_t *buf = exact_copy(body, len(body))
        cdef uint32_t body_len = len(body)
        cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
        cdef size_t out_len = 0
        cdef int status
        try:
            if out is NULL:
                raise MemoryError
            with nogil:
                status = login_password(&self.login, buf, body_len, out, cap, &out_len)
            return status, (<const char *>out)[:out_len]
        finally:
            free(buf)
            free(out)

    def wipe(self):
        login_wipe(&self.login)

    @property
    def method(self):
        return self.login.method

    @property
    def raw(self):
        """Every byte of it: to see that secrets are gone."""
        return (<const char *>&self.login)[:sizeof(ClientLogin)]


def login_feed(int auth_type, bytes user, Secret secret, bytes stream, chunks=(), *, bint known=True,
               size_t cap=MAX_LOGIN_REPLY, bytes binding=b""):
    """Log in with a stream of 'p' messages that arrives in pieces; sizes beyond `chunks` are all that is left.

    Returns (status, length of the reply) of each step, the first being login_begin's. Ends with the first final
    status, at a byte that is no 'p', at a length word below 4, or where the stream ends.
    """
    cdef Login door = Login()
    cdef bytearray have = bytearray()
    cdef size_t at = 0
    cdef uint32_t length
    status, reply = door.begin(auth_type, user, secret, known=known, cap=cap, binding=binding)
    steps = [(status, len(reply))]
    sizes = iter(chunks)
    while status == LOGIN_MORE and at < <size_t>len(stream):
        size = max(1, next(sizes, len(stream)))
        have += stream[at:at + size]
        at += size
        while status == LOGIN_MORE and len(have) >= 5:
            length = load_be32(<const uint8_t *>(<const char *>have) + 1)
            if have[0] != c'p' or length < 4:
                return steps
            if <size_t>len(have) < <size_t>length + 1:
                break
            status, reply = door.password(bytes(have[5:length + 1]), cap=cap)
            steps.append((status, len(reply)))
            del have[:length + 1]
    return steps


def reply_cap_needed(int auth_type, bytes user, Secret secret, bodies):
    """Repeat each step of a login with one byte more of room until it fits; the smallest room of each."""
    cdef Login door = Login()
    needed = []
    cap = 0
    while (answer := door.begin(auth_type, user, secret, cap=cap))[0] == LOGIN_NO_SPACE:
        cap += 1
    needed.append((cap, len(answer[1])))
    for body in bodies:
        cap = 0
        while (answer := door.password(body, cap=cap))[0] == LOGIN_NO_SPACE:
            cap += 1
        needed.append((cap, len(answer[1])))
    return needed


def hash_of(str kind, *parts, bytes key=None, int iterations=1):
    """sha256, hmac_sha256, md5 or pbkdf2_sha256 (password, salt) of `parts`."""
    cdef Span spans[8]
    cdef uint8_t out[SHA256_LEN]
    cdef int count = 0
    cdef int status
    for part in parts:
        spans[count] = span_of(part)
        count += 1
    if kind == "sha256":
        status = sha256(spans[0].at, spans[0].len, out)
    elif kind == "hmac_sha256":
        if len(key) != SHA256_LEN:
            raise ValueError("a key has 32 bytes")
        status = hmac_sha256(key, spans, count, out)
    elif kind == "md5":
        status = md5(spans, count, out)
    else:
        status = pbkdf2_sha256(spans[0], spans[1], iterations, out)
    if status != DIGEST_OK:
        raise RuntimeError("libcrypto failed")
    return (<const char *>out)[:MD5_LEN if kind == "md5" else SHA256_LEN]


cdef class Strikes:
    """Failed logins by address."""

    cdef CStrikes strikes

    def __cinit__(self):
        if not strikes_init(&self.strikes):
            raise MemoryError

    def __dealloc__(self):
        strikes_free(&self.strikes)

    def add(self, bytes addr, uint64_t now_us, uint64_t delay_us):
        """When to answer (0 = at once, None = never), the count, and whether it is worth a line in the log."""
        cdef StrikeVerdict verdict
        cdef uint8_t *exact = exact_copy(addr, len(addr))
        strikes_add(&self.strikes, 4 if len(addr) == 4 else 6, exact, now_us, delay_us, &verdict)
        free(exact)
        return None if verdict.silent else verdict.due_us, verdict.count, bool(verdict.notable)
