"""Making Python objects of what the workers send; see letters.pxd. The tuples are described in control/mailroom.py."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

from pgpool_core.auth.crypto cimport OPENSSL_cleanse
from pgpool_core.auth.startup cimport (REPLICATION_LOGICAL, REPLICATION_NONE, REPLICATION_PHYSICAL, STARTUP_OK, Startup,
                                       startup_next_param, startup_parse)
from pgpool_core.engine.buf cimport Buf, buf_bytes
from pgpool_core.engine.channels cimport ChannelRow
from pgpool_core.engine.counters cimport HIST_BUCKETS, PIN_KINDS, Counters, Histogram, counters_copy
from pgpool_core.engine.mailbox cimport (MAIL_CANCEL, MAIL_CANCEL_ELSEWHERE, MAIL_CHANNELS, MAIL_CLIENT_KEY, MAIL_CONSOLE, MAIL_CONSOLE_CANCEL, MAIL_CONSOLE_GONE,
                                         MAIL_DATABASE, MAIL_LEAK, MAIL_LISTEN, MAIL_LOG, MAIL_MOVED_GONE, MAIL_PARCEL, MAIL_PEER_CANCEL, MAIL_POLICY, MAIL_POLICY_GONE, MAIL_SERVER_CLOSED,
                                         MAIL_SOCKETS, MAIL_SUSPENDED, Mail, mailbox_take)
from pgpool_core.engine.parameters cimport ignored
from pgpool_core.engine.records cimport *
from pgpool_core.engine.rows cimport CancelTarget, ClientRow, SocketRow, fill_cancel_target
from pgpool_core.engine.slots cimport handle_of, slot_at, slot_live, slots_room
from pgpool_core.engine.sys cimport pgpool_peer, pgpool_print_peer, read
from pgpool_core.session.probe cimport (FOUND_CURSOR, FOUND_LISTEN, FOUND_LOCK, FOUND_NAMED, FOUND_PREPARED, FOUND_PROTOCOL,
                                        FOUND_SETTING, FOUND_TEMPORARY)
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_swap32
from pgpool_core.wire.span cimport Span

CLIENT_STATES = {CL_LOGIN: "login", CL_IDLE: "idle", CL_WAITING: "waiting", CL_ACTIVE: "active",
                 CL_CONSOLE: "active", CL_LINGER: "login", CL_GONE: "login"}
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
METHODS = ("any", "trust", "plain", "md5", "scram-sha-256", "hba", "cert", "ldap", "peer")


cdef bytes bytes_of(Buf *b):
    return buf_bytes(b)[:b.len] if b.len else b""


cdef str address(const pgpool_peer *peer):
    cdef char[64] text
    pgpool_print_peer(peer, text, sizeof(text))
    return text.decode()


cdef str replication_word(uint8_t kind):
    if kind == REPLICATION_NONE:
        return "none"
    return "logical" if kind == REPLICATION_LOGICAL else "physical"


cdef list histogram(Histogram *h):
    cdef uint32_t i
    return [h.count[i] for i in range(HIST_BUCKETS)]


cdef dict count(Counters *counted):
    cdef Counters seen
    cdef Counters *k = &seen
    counters_copy(counted, k)
    return {
        "server_assignments": k.server_assignments, "xacts": k.xacts, "queries": k.queries, "received": k.received,
        "sent": k.sent, "xact_us": k.xact_us, "query_us": k.query_us, "wait_us": k.wait_us,
        "client_parses": k.client_parses, "server_parses": k.server_parses, "binds": k.binds,
        "client_logins": k.client_logins, "login_us": k.login_us, "steals": k.steals, "handoffs": k.handoffs,
        "wakeups": k.wakeups,
        "probes": k.probes, "pins": k.pins, "state_refusals": k.state_refusals,
        "leak_checks": k.leak_checks, "leaks": k.leaks, "settings_kept": k.settings_kept,
        "named_parses": k.named_parses, "pinned_for": [k.pinned_for[i] for i in range(PIN_KINDS)],
        "warned_of": [k.warned_of[i] for i in range(PIN_KINDS)],
        "listens": k.listens, "notifications": k.notifications,
        "wait": histogram(&k.wait), "query": histogram(&k.query), "xact": histogram(&k.xact),
        "login": histogram(&k.login),
    }


cdef tuple policy_letter(Mail *mail):
    cdef pgpool_peer *peer = <pgpool_peer *>mail.data
    cdef const uint8_t *packet = <const uint8_t *>mail.data + sizeof(pgpool_peer)
    cdef Startup s
    cdef Span name, value
    cdef uint32_t at
    cdef dict startup = {}
    cdef uint8_t *password = <uint8_t *>packet + mail.len + (mail.a - 1 if mail.a else 0)
    proof = (<char *>password)[:mail.server] if mail.server else None
    OPENSSL_cleanse(password, mail.server)
    if startup_parse(packet, mail.len, &s) != STARTUP_OK:
        return None
    at = s.first_param
    while startup_next_param(packet, &s, &at, &name, &value):
        startup[name.at[:name.len]] = value.at[:value.len]
    return ("policy", mail.client, s.database.at[:s.database.len], s.user.at[:s.user.len], peer.family == 1,
            peer.uid if peer.uid >= 0 else None, address(peer), peer.port, startup, mail.b == 1,
            tuple((<const char *>packet + mail.len)[:mail.a - 1].split(b"\0")[:-1]) if mail.a else None,
            proof, mail.b == 2)


cdef list server_parameters(Plane *plane, Buf *startup):
    cdef Startup s
    cdef Span name, value
    cdef uint32_t at
    cdef list found = []
    if startup_parse(buf_bytes(startup), startup.len, &s) != STARTUP_OK:
        return found
    at = s.first_param
    while startup_next_param(buf_bytes(startup), &s, &at, &name, &value):
        key = name.at[:name.len]
        if key == b"user" or key == b"database" or key.startswith(b"_pq_."):
            continue
        if key == b"replication" or key == b"options" or not ignored(plane, name):
            found.append((key, value.at[:value.len]))
    return found


cdef tuple cancel_letter(Plane *plane, uint64_t server, uint64_t canceller):
    """None when the server has gone."""
    cdef CancelTarget target
    if not fill_cancel_target(plane, server, &target):
        return None
    return ("cancel", server, target.pool, target.backend_pid, target.backend_key[:target.key_len], <bytes>target.host,
            target.port, canceller, bool(target.tls))


cdef list missed_cancels(Plane *plane):
    """Letters for the cancel requests that found the ring full."""
    cdef uint32_t slot
    cdef ServerConn *s
    cdef list letters = []
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and pgpool_swap32(&s.cancel_missed, 0):
            letter = cancel_letter(plane, handle_of(&s.conn.head, KIND_SERVER), 0)
            if letter is not None:
                letters.append(letter)
    return letters


REPLICATION_WORDS = {REPLICATION_NONE: "no", REPLICATION_LOGICAL: "database", REPLICATION_PHYSICAL: "yes"}


cdef tuple log_letter(LogRecord *line):
    cdef str database, where
    cdef str user = line.user.decode("utf-8", "replace") or "(nouser)"
    if line.database[0]:
        database = line.database.decode("utf-8", "replace")
    elif line.pool != NULL:
        database = bytes_of(&line.pool.database).decode("utf-8", "replace")
    else:
        database = "(nodb)"
    where = f"unix({line.peer.pid})" if line.peer.family == 1 else address(&line.peer)
    if line.peer.family == 6:
        where = f"[{where}]"
    text = line.text.decode("utf-8", "replace")
    fields = {}
    if line.took_us:                              # of a login
        text += f"db={database} user={user} tls={line.tls.decode() or 'no'} replication={REPLICATION_WORDS[line.replication]}"
        fields["took_ms"] = line.took_us // 1000
    if line.method:
        fields["method"] = METHODS[line.method - 1]
    if line.age_us:                               # of an end
        text += f" (age={line.age_us // 1000000}s)"
    return ("log", LEVELS[line.level], f"C-0x{line.id:x}: {database}/{user}@{where}:{line.peer.port}", text, fields)


PINS = (
    (PIN_SAID, "session_state = pin"), (PIN_PREPARED, "prepared statement"), (PIN_CURSOR, "cursor with hold"),
    (PIN_LISTEN, "listen"), (PIN_TEMPORARY, "temporary object"), (PIN_LOCK, "advisory lock"), (PIN_LOAD, "load"),
    (PIN_UNKNOWN, "state not known"), (PIN_UNNAMED, "unnamed statement"), (PIN_STATEMENT, "very long named statement"),
)


LEAKS = {
    FOUND_SETTING: "setting", FOUND_NAMED: "setting", FOUND_PREPARED: "prepared statement", FOUND_CURSOR: "cursor with hold",
    FOUND_LISTEN: "listen", FOUND_TEMPORARY: "temporary object", FOUND_LOCK: "advisory lock",
    FOUND_PROTOCOL: "named statement",
}


cdef tuple leak_letter(LeakRecord *leak):
    return ("leak", leak.pool.pool.id, LEAKS.get(leak.kind, "unknown"), leak.name.decode("utf-8", "replace"),
            leak.application_name.decode("utf-8", "replace"), leak.cause, leak.client, leak.server, leak.backend_pid)


cdef list client_rows(ClientRow *rows, uint32_t n):
    cdef uint32_t i
    cdef ClientRow *r
    cdef list found = []
    for i in range(n):
        r = &rows[i]
        state = CLIENT_STATES[r.state]
        if r.state == CL_LOGIN and not r.in_login:
            state = "waiting"
        if r.pool != NULL:
            database = bytes_of(&r.pool.database).decode("utf-8", "surrogateescape")
        else:
            database = "pgbouncer" if r.state == CL_CONSOLE else ""
        found.append({
            "id": r.id, "pool": r.pool.pool.id if r.pool != NULL else (-2 if r.state == CL_CONSOLE else -1),
            "user": r.user.decode("utf-8", "surrogateescape"), "database": database, "state": state,
            "addr": address(&r.peer), "port": r.peer.port, "local_addr": address(&r.local), "local_port": r.local.port,
            "connect_us": r.connect_us, "request_us": r.request_us, "wait_us": r.wait_us, "link": r.link,
            "application_name": r.application_name.decode("utf-8", "replace"), "close_needed": False,
            "worker": r.worker, "remote_pid": r.peer.pid, "replication": replication_word(r.replication),
            "pins": [name for bit, name in PINS if r.pins & bit],
            "pinned_us": r.pinned_us, "pin_cause": r.pin_cause, "prepared": r.prepared, "fd": r.fd,
            "held": r.held, "remain": r.remain, "unsent": r.unsent, "tls": r.tls.decode(),
        })
    return found


cdef list socket_rows(SocketRow *rows, uint32_t n):
    cdef uint32_t i
    return [(rows[i].id, {"prepared": rows[i].prepared, "held": rows[i].held, "remain": rows[i].remain,
                          "unsent": rows[i].unsent}) for i in range(n)]


cdef list channel_rows(ChannelRow *rows, uint32_t n):
    cdef uint32_t i
    return [(rows[i].pool, (<char *>rows[i].name)[:rows[i].len], rows[i].clients) for i in range(n)]


cdef object letter_of(Plane *plane, Mail *mail):
    if mail.kind == MAIL_POLICY:
        return policy_letter(mail)
    if mail.kind == MAIL_POLICY_GONE:
        return ("policy_gone", mail.client)
    if mail.kind == MAIL_CLIENT_KEY:
        key = (<char *>mail.data)[:mail.len]
        OPENSSL_cleanse(mail.data, mail.len)
        return ("client_key", key)
    if mail.kind == MAIL_CONSOLE:
        return ("console", mail.client, mail.server, bytes([<uint8_t>mail.b]), (<char *>mail.data)[:mail.len], bool(mail.a))
    if mail.kind == MAIL_PARCEL:
        return ("parcel", mail.a, <int>mail.client - 1, <int>mail.server - 1, (<char *>mail.data)[:mail.len])
    if mail.kind == MAIL_MOVED_GONE:
        return ("moved_gone", mail.a)
    if mail.kind == MAIL_CONSOLE_GONE:
        return ("console_gone", mail.a)
    if mail.kind == MAIL_CONSOLE_CANCEL:
        return ("console_cancel", mail.a)
    if mail.kind == MAIL_SUSPENDED:
        return ("suspended", mail.a, mail.worker, mail.b)
    if mail.kind == MAIL_CANCEL:
        return cancel_letter(plane, mail.server, mail.canceller) or ("cancel_over", mail.canceller)
    if mail.kind == MAIL_SERVER_CLOSED:
        return ("server_closed", mail.server, mail.a, (<bytes>(<const char *>mail.client)).decode(), mail.b,
                (<char *>mail.data)[:mail.len], mail.canceller)
    if mail.kind == MAIL_LOG:
        return log_letter(<LogRecord *>mail.data)
    if mail.kind == MAIL_DATABASE:
        return ("database", (<char *>mail.data)[:mail.len])
    if mail.kind == MAIL_LEAK:
        return leak_letter(<LeakRecord *>mail.data)
    if mail.kind == MAIL_LISTEN:
        return ("listen", mail.a, mail.worker, mail.b, (<char *>mail.data)[:mail.len])
    if mail.kind == MAIL_PEER_CANCEL:
        return ("peer_cancel", mail.client, mail.a.to_bytes(4, "big") + mail.b.to_bytes(4, "big"), mail.canceller)
    if mail.kind == MAIL_CANCEL_ELSEWHERE:
        return ("cancel_elsewhere", mail.a.to_bytes(8, "big"), mail.canceller)
    if mail.kind == MAIL_SOCKETS:
        return ("sockets", mail.a, socket_rows(<SocketRow *>mail.data, <uint32_t>mail.b))
    if mail.kind == MAIL_CHANNELS:
        return ("channels", mail.a, mail.worker, channel_rows(<ChannelRow *>mail.data, <uint32_t>mail.b))
    return ("clients", mail.a, mail.worker, client_rows(<ClientRow *>mail.data, <uint32_t>mail.b))


cdef list take_letters(Plane *plane):
    cdef Mail mail
    cdef uint64_t count
    cdef list letters = []
    if plane.control_fd >= 0:
        read(plane.control_fd, &count, 8)
    pgpool_swap32(&plane.signalled, 0)            # see up_woken
    if pgpool_swap32(&plane.want, 0):
        letters.append(("want",))
    if pgpool_swap32(&plane.functions_news, 0):
        letters.append(("functions",))
    while mailbox_take(&plane.outbox, &mail):
        letter = letter_of(plane, &mail)
        free(mail.data)
        if letter is not None:
            letters.append(letter)
    if pgpool_swap32(&plane.databases_news, 0) and pgpool_load32(&plane.databases_open) == 0:
        letters.append(("database_done",))        # behind the letters that it is about
    if pgpool_swap32(&plane.cancels_missed, 0):
        letters += missed_cancels(plane)
    if pgpool_swap32(&plane.consoles_missed, 0):
        letters.append(("consoles_missed",))
    return letters
