"""LISTEN and UNLISTEN without a server; see listen.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from pgpool_core.engine.buf cimport buf_add
from pgpool_core.engine.channels cimport JOIN_LIVE, JOIN_MANY, channel_join, channel_leave, channels_leave
from pgpool_core.engine.conn cimport conn_doom, conn_send, counters_of
from pgpool_core.engine.counters cimport count_add
from pgpool_core.engine.patience cimport patience_us
from pgpool_core.engine.records cimport *
from pgpool_core.engine.terms cimport PATIENCE_QUERY_WAIT
from pgpool_core.engine.timers cimport TIMER_QUERY_WAIT, timer_set
from pgpool_core.session.settings cimport block_get
from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport *
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.be cimport load_be16, load_be32, store_be32
from pgpool_core.wire.build cimport build_empty, build_error, build_ready
from pgpool_core.wire.codes cimport *
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span, same, text_span

cdef enum:
    MAX_TEXT = 1024               # bytes of a text that is looked at; a longer one is no LISTEN


cdef struct Asked:                # what a client has sent, and how it is answered
    uint8_t proved                # PROVED_LISTEN, PROVED_UNLISTEN, PROVED_UNLISTEN_ALL
    uint8_t len
    uint8_t[NAME_LEN] name        # as PostgreSQL knows it
    uint8_t answer_len
    uint8_t[48] answer            # what stands in front of CommandComplete


cdef bint proves(const uint8_t *text, size_t n, Asked *out) noexcept nogil:
    """Whether the text is one LISTEN or UNLISTEN, and of what."""
    cdef SqlScan scan
    cdef Lexer lexer
    cdef Token token
    cdef int length
    if n > MAX_TEXT:
        return False
    lexer.at = text
    lexer.end = text + n
    lexer.reading = READ_STANDARD
    token_next(&lexer, &token)
    if not token_is(&token, b"listen") and not token_is(&token, b"unlisten"):
        return False
    scan_sql(text, n, READ_UNKNOWN | READ_TRAILING, NULL, &scan)
    out.proved = scan.proved
    out.len = 0
    if scan.proved == PROVED_UNLISTEN_ALL:
        return True
    if scan.proved != PROVED_LISTEN and scan.proved != PROVED_UNLISTEN:
        return False
    length = name_fold(scan.name, out.name)
    if length == NAME_UNPROVEN or scan.name.len > NAME_LEN:      # a longer one is cut, with a notice
        return False
    while length > 0 and out.name[length - 1] < 0x80:
        length -= 1
    if length:                                    # PostgreSQL may find that it is no text at all
        return False
    length = name_fold(scan.name, out.name)
    out.len = <uint8_t>length
    return True


cdef const uint8_t *message(const uint8_t *data, size_t n, size_t *at, uint8_t kind, uint32_t *body_len) noexcept nogil:
    """The body of the whole message at `*at` if it is of this kind; `*at` moves behind it."""
    cdef const uint8_t *body = data + at[0] + HEADER_LEN
    if n - at[0] < HEADER_LEN or data[at[0]] != kind:
        return NULL
    body_len[0] = load_be32(data + at[0] + 1) - 4
    if body_len[0] > n - at[0] - HEADER_LEN:
        return NULL
    at[0] += HEADER_LEN + <size_t>body_len[0]
    return body


cdef inline void says(Asked *out, uint8_t kind) noexcept nogil:
    out.answer_len += <uint8_t>build_empty(out.answer + out.answer_len, sizeof(out.answer) - out.answer_len, kind)


cdef bint describes(const uint8_t *data, size_t n, size_t *at, uint8_t what, Asked *out) noexcept nogil:
    """Step over a Describe of the unnamed statement ('S') or portal ('P'), if one is there."""
    cdef uint32_t length
    cdef size_t before = at[0]
    cdef const uint8_t *body = message(data, n, at, FE_DESCRIBE, &length)
    if body == NULL or length != 2 or body[0] != what or body[1] != 0:
        at[0] = before
        return False
    if what == 0x53:                              # 'S': ParameterDescription of no parameters
        memcpy(out.answer + out.answer_len, <const char *>b"t\0\0\0\6\0\0", 7)
        out.answer_len += 7
    says(out, BE_NO_DATA)
    return True


cdef bint group(const uint8_t *data, size_t n, size_t *used, Asked *out) noexcept nogil:
    """Parse, Bind, Execute and Sync of one unnamed statement without parameters."""
    cdef uint32_t length
    cdef size_t at = 0
    cdef const uint8_t *end
    cdef const uint8_t *body = message(data, n, &at, FE_PARSE, &length)
    if body == NULL or length < 4 or body[0] != 0:
        return False
    end = <const uint8_t *>memchr(body + 1, 0, length - 1)
    if end == NULL or end + 3 != body + length or load_be16(end + 1) != 0 or not proves(body + 1, end - body - 1, out):
        return False
    says(out, BE_PARSE_COMPLETE)
    describes(data, n, &at, 0x53, out)
    body = message(data, n, &at, FE_BIND, &length)
    if body == NULL or length < 8 or body[0] != 0 or body[1] != 0 or load_be16(body + 2) != 0 \
            or load_be16(body + 4) != 0 or length != 8 + 2 * <uint32_t>load_be16(body + 6):
        return False
    says(out, BE_BIND_COMPLETE)
    describes(data, n, &at, 0x50, out)
    body = message(data, n, &at, FE_EXECUTE, &length)
    if body == NULL or length != 5 or body[0] != 0:
        return False
    body = message(data, n, &at, FE_SYNC, &length)
    used[0] = at
    return body != NULL and length == 0


cdef bint understands(ClientConn *c) noexcept nogil:
    """Whether `c` speaks in the encoding of the listening connection, which is that of the pool's servers at login."""
    cdef Span name = text_span("client_encoding")
    cdef Span own, theirs
    cdef bint agrees
    pthread_mutex_lock(&c.pool.lock)
    agrees = c.pool.defaults != NULL and c.settings != NULL and block_get(c.pool.defaults, name, &theirs) \
        and block_get(c.settings, name, &own) and same(own, theirs)
    pthread_mutex_unlock(&c.pool.lock)
    return agrees


cdef size_t finish(Asked *asked, uint8_t *out) noexcept nogil:
    """The whole answer: at most 48 + 14 + 6 bytes."""
    cdef const char *tag = "LISTEN"
    cdef size_t n = asked.answer_len
    cdef size_t length = 7
    if asked.proved != PROVED_LISTEN:
        tag = "UNLISTEN"
        length = 9
    memcpy(out, asked.answer, n)
    out[n] = BE_COMMAND_COMPLETE
    store_be32(out + n + 1, <uint32_t>(4 + length))
    memcpy(out + n + HEADER_LEN, tag, length)
    n += HEADER_LEN + length
    return n + build_ready(out + n, 6, TX_IDLE)


cdef void say(Worker *w, ClientConn *c, const uint8_t *answer, size_t n) noexcept nogil:
    """What a server would have said counts as sent."""
    count_add(&counters_of(w, c.pool).sent, n)
    conn_send(w, &c.conn, answer, n)


cdef int listen_take(Worker *w, ClientConn *c, const uint8_t *data, size_t n, size_t *used) noexcept nogil:
    """Do what an idle client asks if it is LISTEN or UNLISTEN and nothing else: TAKE_*. `used` of its bytes are done with."""
    cdef Asked asked
    cdef Span name
    cdef uint32_t length
    cdef uint8_t[128] whole
    cdef const uint8_t *body
    cdef int joined = JOIN_LIVE
    cdef size_t at = 0
    cdef uint64_t wait_us
    asked.answer_len = 0
    used[0] = 0
    if data[0] == FE_QUERY:
        body = message(data, n, &at, FE_QUERY, &length)
        if body == NULL or length == 0 or memchr(body, 0, length) != body + length - 1 \
                or not proves(body, length - 1, &asked):
            return TAKE_NOT
    elif not group(data, n, &at, &asked):
        return TAKE_NOT
    name.at = asked.name
    name.len = asked.len
    if asked.proved == PROVED_LISTEN:
        if c.pool.session_state != SESSION_AUTO or not understands(c):
            return TAKE_NOT
        joined = channel_join(w, c, name)
    elif asked.proved == PROVED_UNLISTEN:
        channel_leave(w, c, name)
    else:
        channels_leave(w, c)
    used[0] = at
    count_add(&counters_of(w, c.pool).received, at)
    if joined < 0:
        if joined == JOIN_MANY:
            n = build_error(w.scratch, SCRATCH_SIZE, "ERROR", "54000", "too many channels for one client", NULL)
        else:
            n = build_error(w.scratch, SCRATCH_SIZE, "ERROR", "53000", "the pooler is too busy to listen", NULL)
        n += build_ready(w.scratch + n, SCRATCH_SIZE - n, TX_IDLE)
        say(w, c, w.scratch, n)
        return TAKE_DONE
    n = finish(&asked, whole)
    if joined == JOIN_LIVE:
        if asked.proved == PROVED_LISTEN:
            count_add(&counters_of(w, c.pool).listens, 1)
        say(w, c, whole, n)
        return TAKE_DONE
    if not buf_add(&c.listens.answer, whole, n):
        conn_doom(w, &c.conn, "out of memory")
    c.holding = 1
    wait_us = patience_us(c, PATIENCE_QUERY_WAIT)
    if wait_us:
        timer_set(&w.timers, &c.conn.timer, TIMER_QUERY_WAIT, w.now_us + wait_us)
    return TAKE_WAITS


cdef void note(Listens *l, const Token *token) noexcept nogil:
    """UNLISTEN of what `token` says."""
    cdef uint8_t[1 + NAME_LEN] entry
    cdef int length
    if token.kind == TOKEN_SYMBOL and token.raw.at[0] == 0x2A:
        l.ending_all = 1
        return
    length = name_fold(token.raw, entry + 1) if token.kind == TOKEN_WORD or token.kind == TOKEN_NAME else NAME_UNPROVEN
    if length != NAME_UNPROVEN:
        entry[0] = <uint8_t>length
        buf_add(&l.ending, entry, 1 + <size_t>length)


cdef void listen_text(ClientConn *c, uint32_t flags, const uint8_t *text, size_t n) noexcept nogil:
    """A text of a client with channels goes to a server: find each UNLISTEN, DISCARD ALL and ROLLBACK in it.

    A savepoint that is rolled back counts as a rollback of the whole: who hears too much is better off than who misses
    something.
    """
    cdef Lexer lexer
    cdef Token token
    cdef Listens *l = c.listens
    cdef bint begins = True
    cdef bint pending = l.ending_all or l.ending.len
    if not (flags & (SQL_UNLISTENS | SQL_DISCARDS)) and not pending:
        return
    lexer.at = text
    lexer.end = text + n
    lexer.reading = READ_STANDARD
    token_next(&lexer, &token)
    while token.kind != TOKEN_END:
        if begins and token_is(&token, b"unlisten"):
            token_next(&lexer, &token)
            note(l, &token)
        elif begins and token_is(&token, b"discard"):
            token_next(&lexer, &token)
            if token_is(&token, b"all"):
                l.ending_all = 1
        elif begins and (token_is(&token, b"rollback") or token_is(&token, b"abort")):
            l.undone = l.ending_all or l.ending.len
        begins = token.kind == TOKEN_SYMBOL and token.raw.at[0] == 0x3B
        token_next(&lexer, &token)
