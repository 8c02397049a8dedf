"""What a connection begins with; see first_packet.pxd.

Source: PostgreSQL docs, "Message Flow", Start-up, "SSL Session Encryption", "Canceling Requests in Progress"; the texts that tools grep for
are PgBouncer's.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from pgpool_core.auth.cancel_key cimport CANCEL_KEY_LEN, CANCEL_OURS, CANCEL_PEER, CancelWho, cancel_key_read
from pgpool_core.auth.startup cimport (
    REPLICATION_BAD, REPLICATION_NONE, STARTUP_BAD_LAYOUT, STARTUP_BAD_LENGTH, STARTUP_BAD_PROTOCOL, STARTUP_CANCEL,
    STARTUP_DATABASE_TOO_LONG, STARTUP_DIRECT_TLS, STARTUP_GSS, STARTUP_NEED_MORE, STARTUP_NO_USER, STARTUP_OK, STARTUP_OLD_PROTOCOL,
    STARTUP_SSL, STARTUP_USER_TOO_LONG, Startup, build_negotiate, startup_parse, startup_replication,
)
from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_free, buf_steal, buf_take
from pgpool_core.engine.caller cimport caller_says
from pgpool_core.engine.client_end cimport client_fatal, client_refuse, with_name
from pgpool_core.engine.conn cimport conn_again, conn_doom, conn_send, conn_write, plane_post, worker_wake
from pgpool_core.engine.mailbox cimport MAIL_FIND_CANCEL, MAIL_PEER_CANCEL, Mail, mailbox_post
from pgpool_core.engine.question cimport route
from pgpool_core.engine.records cimport *
from pgpool_core.engine.secure cimport secure_accept
from pgpool_core.engine.slots cimport handle_of
from pgpool_core.engine.turns cimport turn_take
from pgpool_core.engine.waiter cimport cancel_elsewhere
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load8
from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.span cimport same, text_span


cdef enum:
    CANCEL_CODE = 80877102        # CancelRequest; it is never answered, not even a malformed one


cdef bint first_packet(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """Use one startup packet or request out of `input`; False when it is not whole or the login is over."""
    cdef Startup s
    cdef int r = startup_parse(buf_bytes(&l.input), l.input.len, &s)
    if r == STARTUP_NEED_MORE:
        return False
    if r == STARTUP_SSL or r == STARTUP_GSS:
        encryption(w, c, l, &s, r)
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
        startup_error(w, c, l, r)
        return False
    return encrypted_enough(w, c, l) and begin(w, c, l, &s)


cdef void encryption(Worker *w, ClientConn *c, LoginRecord *l, const Startup *s, int r) noexcept nogil:
    """SSLRequest, GSSENCRequest: one byte answers it. Nothing may have come behind it, which somebody on the way could have put there."""
    if l.input.len > s.packet_len or c.conn.early.len:
        if r == STARTUP_SSL:
            client_fatal(w, c, "08P01", "received unencrypted data after SSL request")
        else:
            client_fatal(w, c, "08P01", "received unencrypted data after GSSAPI encryption request")
        return
    if l.ssl_asked >= 2 or c.conn.tls != NULL:
        client_fatal(w, c, "08P01", "too many encryption requests")
        return
    l.ssl_asked += 1
    buf_free(&l.input)
    if r == STARTUP_SSL and secure_accept(w, c):
        conn_write(w, &c.conn, <const uint8_t *>"S", 1)
    else:
        conn_send(w, &c.conn, <const uint8_t *>"N", 1)


cdef bint begin(Worker *w, ClientConn *c, LoginRecord *l, Startup *s) noexcept nogil:
    """Begin the login that the startup packet at the front of `input` asks for."""
    cdef size_t n
    cdef int r
    if l.input.len == s.packet_len:
        l.startup = buf_steal(&l.input)           # what `s` borrows stays where it is
    else:
        if not buf_add(&l.startup, buf_bytes(&l.input), s.packet_len):
            conn_doom(w, &c.conn, "out of memory")
            return False
        buf_take(&l.input, s.packet_len)
        startup_parse(buf_bytes(&l.startup), l.startup.len, s)
    l.packet = s[0]
    if s.minor or s.protocol_options:
        n = build_negotiate(buf_bytes(&l.startup), s, w.scratch, SCRATCH_SIZE)
        if n == 0:
            client_fatal(w, c, "08P01", "too many protocol options")
            return False
        conn_send(w, &c.conn, w.scratch, n)
    r = startup_replication(s)
    if r == REPLICATION_BAD:
        with_name(w, c, "22023", "invalid value for parameter \"replication\": \"", s.replication, "\"")
        return False
    c.replication = <uint8_t>r
    if not caller_says(c, s.user, s.database):
        conn_doom(w, &c.conn, "out of memory")
        return False
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


cdef void unknown_protocol(Worker *w, ClientConn *c, const uint8_t *packet) noexcept nogil:
    """What PostgreSQL says of a version that it does not know; `packet` has the two words of its head."""
    cdef char[100] text
    cdef uint32_t code = load_be32(packet + 4)
    snprintf(text, sizeof(text), "unsupported frontend protocol %u.%u: server supports 3.0 to 3.0", code >> 16, code & 0xFFFF)
    client_refuse(w, c, "0A000", text, "unsupported frontend protocol")


cdef void startup_error(Worker *w, ClientConn *c, LoginRecord *l, int status) noexcept nogil:
    """A first packet that cannot be obeyed."""
    if status == STARTUP_BAD_PROTOCOL:
        unknown_protocol(w, c, buf_bytes(&l.input))
    elif status == STARTUP_OLD_PROTOCOL:
        client_fatal(w, c, "0A000", "old V2 protocol not supported")
    elif status == STARTUP_DIRECT_TLS:
        client_fatal(w, c, "0A000", "TLS is not switched on (client_tls_sslmode)")
    elif status == STARTUP_NO_USER:
        client_fatal(w, c, "28000", "no username supplied")
    elif status == STARTUP_USER_TOO_LONG:
        client_fatal(w, c, "28000", "username too long")
    elif status == STARTUP_DATABASE_TOO_LONG:
        client_fatal(w, c, "3D000", "database name too long")
    elif status == STARTUP_BAD_LAYOUT:
        client_fatal(w, c, "08P01", "invalid startup packet layout: expected terminator as last byte")
    else:
        client_fatal(w, c, "08P01", "bad packet header: invalid length of startup packet")


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


cdef void direct_tls(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    """What has come was TLS already, without an SSLRequest: have it received again, as that."""
    l.direct_tls = 1
    if not buf_add(&l.input, buf_bytes(&c.conn.early), c.conn.early.len):
        conn_doom(w, &c.conn, "out of memory")
        return
    buf_free(&c.conn.early)
    c.conn.early = buf_steal(&l.input)
    conn_again(w, &c.conn)


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
