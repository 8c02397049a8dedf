"""Session state of clients; see ledger.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, strlen

from pgpool_core.engine.advice cimport advise_left, advise_pinned
from pgpool_core.engine.align cimport server_stands, settings_align, settings_tell
from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.buf cimport buf_bytes, buf_free
from pgpool_core.engine.channels cimport channel_leave
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport conn_send, counters_of
from pgpool_core.engine.counters cimport PIN_KINDS, count_add
from pgpool_core.engine.functions cimport SQL_HIDDEN, functions_of, functions_text
from pgpool_core.engine.leak cimport leak_free, leak_text
from pgpool_core.engine.listen cimport listen_text
from pgpool_core.engine.notifier cimport notifier_may, notifier_text
from pgpool_core.engine.records cimport *
from pgpool_core.session.effects cimport Effects, effects_settings
from pgpool_core.session.outcome cimport outcome_find, outcome_learn, outcome_sure
from pgpool_core.session.probe cimport *
from pgpool_core.session.settings cimport (MAX_NAME_LEN, SETTINGS_OK, Block, block_entry, block_get, block_ref,
                                           block_unref, put_setting, setting_name, setting_tracked)
from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport (READ_STANDARD, READ_TRAILING, READ_UNKNOWN, TOKEN_DOLLAR, TOKEN_END,
                                           TOKEN_STRING, Lexer, Token, token_next)
from pgpool_core.statements.owed cimport owed_barrier
from pgpool_core.statements.prepared cimport prepared_clear
from pgpool_core.statements.text cimport Statement
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_store8
from pgpool_core.wire.bind cimport bind_next
from pgpool_core.wire.be cimport load_be16, load_be32, store_be32
from pgpool_core.wire.build cimport build_query
from pgpool_core.wire.codes cimport FE_PARSE, TX_IDLE
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK
from pgpool_core.wire.span cimport Span, same, text_span

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    # What may leave something behind, what may take it away again, and what is refused by session_state = refuse.
    LEAVES = (SQL_SETS | SQL_LISTENS | SQL_PREPARES | SQL_EXECUTES | SQL_TEMPS | SQL_HOLDS | SQL_ADVISORY | SQL_LOADS
              | SQL_DISCARDS | SQL_OPAQUE)
    TAKES = SQL_UNLISTENS | SQL_CLOSES | SQL_UNLOCKS | SQL_DEALLOCATES | SQL_DISCARDS
    LASTING = ~PIN_UNNAMED        # pins that count against max_pinned_connections
    NAMING = SQL_SETS | SQL_OPAQUE | SQL_EXECUTES      # a setting's name may be in the text
    WENT_BACK = 1 << 31           # beside SQL_*: the text has a word that gives a setting up
    REFUSED = SQL_SETS | SQL_LISTENS | SQL_PREPARES | SQL_TEMPS | SQL_HOLDS | SQL_ADVISORY | SQL_LOADS


cdef uint64_t fingerprint(const uint8_t *text, size_t n) noexcept nogil:
    """A number for the shape of a text: constants left out, so that it shows no data. FNV-1a."""
    cdef uint64_t h = <uint64_t>14695981039346656037
    cdef size_t i = 0
    cdef uint8_t b
    while i < n:
        b = text[i]
        i += 1
        if b == 0x27:                             # the inside of '...'
            while i < n and text[i] != 0x27:
                i += 1
            i += 1
        elif 0x30 <= b <= 0x39:
            b = 0x30
            while i < n and 0x30 <= text[i] <= 0x39:
                i += 1
        elif 0x41 <= b <= 0x5A:
            b |= 0x20
        h = (h ^ b) * <uint64_t>1099511628211
    return h


cdef bint only_reported(const SqlScan *scan) noexcept nogil:
    """One SET of a setting whose changes PostgreSQL reports: the report says all, rollback included."""
    cdef Span canonical
    if scan.flags & (LEAVES | TAKES) != SQL_SETS:
        return False
    if scan.proved == PROVED_SET:
        return scan.value_kind != VALUE_DEFAULT and not scan.name_quoted and setting_tracked(scan.name, &canonical)
    return scan.proved == PROVED_SET_NAMES and scan.value_kind != VALUE_DEFAULT \
        or scan.proved == PROVED_SET_TIME_ZONE and scan.value_kind == VALUE_STRING


cdef inline bint follows(const ClientConn *c) noexcept nogil:
    """Something is done about session state."""
    return c.pool.session_state != SESSION_OFF and c.pool.session_state != SESSION_WARN


cdef bint ledger_text(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *text, size_t n, bint is_parse) noexcept nogil:
    """Look at a text on its way to `s`; False when it is to be refused."""
    cdef const SqlScan *scan = &w.scan
    cdef uint32_t flags, said, hidden
    c.parse_flags = c.parse_hidden = 0
    scan_sql(text, n, READ_UNKNOWN | READ_TRAILING, functions_of(w, c.pool), &w.scan)
    flags = scan.flags
    if c.listens != NULL:
        listen_text(c, flags, text, n)
    if notifier_may(flags, scan.verb):
        notifier_text(w, c, s, flags)
    if flags & SQL_LOCAL_SET:
        flags &= ~<uint32_t>(SQL_SETS | SQL_LOCAL_SET)
    if (c.pins & PIN_TEMPORARY or s.probing) and scan.verb != VERB_SELECT and scan.verb != VERB_INSERT \
            and scan.verb != VERB_UPDATE and scan.verb != VERB_DELETE and scan.verb != VERB_BEGIN and scan.verb != VERB_COMMIT:
        flags |= SQL_TEMPS                        # DROP TABLE looks the same for every table
    said = flags
    hidden = functions_text(w, c, s, scan, text, n)
    flags |= hidden
    if is_parse:
        c.parse_flags = flags & SQL_FUNCTION_DDL
        c.parse_hidden = hidden
    if s.leak != NULL and flags & LEAVES:
        leak_text(s, c, fingerprint(text, n), text, n)
    if c.pool.session_state == SESSION_WARN and flags & LEAVES and (hidden or not only_reported(scan)):
        advise_left(w, c, flags)
    if not follows(c):                            # looked at for warnings and leak_check only
        if is_parse and said & LEAVES:
            c.parse_flags = said
        return True
    if flags & (SQL_DEALLOCATES | SQL_DISCARDS | SQL_OPAQUE):
        owed_barrier(&s.owed)
    if flags & SQL_SEQUENCES and c.pool.session_state == SESSION_AUTO \
            and (hidden & SQL_SEQUENCES or reads_sequence(text, n)):
        sequence_read(w, c, s)
    if not flags & LEAVES and not (flags & TAKES and (c.pins or s.probing)):
        return True
    if c.pool.session_state == SESSION_REFUSE and said & REFUSED and not said & (SQL_FUNCTION_DDL | SQL_OPAQUE):
        count_add(&counters_of(w, c.pool).state_refusals, 1)
        return False
    if not hidden and only_reported(scan) and c.pool.session_state != SESSION_PIN:
        return True
    if flags & (SQL_SETS | SQL_DISCARDS | SQL_OPAQUE) and goes_back(text, n):
        flags |= WENT_BACK
    if is_parse:
        c.parse_flags = flags & ~(hidden & ~said)
    say(s, c, flags | (SQL_CALLS if hidden else 0), text, n, is_parse)
    suspect(s, flags, text, n)
    if said & NAMING:
        names_in(s, text, n)
    elif hidden & NAMING:
        names_quoted(s, text, n)
    if c.pool.session_state == SESSION_PIN:
        pin(w, c, c.pins | PIN_SAID | (PIN_LOAD if flags & SQL_LOADS else 0))
    return True


cdef bint reads_sequence(const uint8_t *text, size_t n) noexcept nogil:
    """`currval` or `lastval`, in any case."""
    cdef size_t i
    for i in range(n - 6 if n > 6 else 0):
        if strncasecmp(<const char *>text + i, "currval", 7) == 0 or strncasecmp(<const char *>text + i, "lastval", 7) == 0:
            return True
    return False


cdef bint goes_back(const uint8_t *text, size_t n) noexcept nogil:
    """`reset`, `default` or `discard`, in any case and anywhere."""
    cdef size_t i
    for i in range(n - 4 if n > 4 else 0):
        if text[i] | 0x20 == 0x72 and strncasecmp(<const char *>text + i, "reset", 5) == 0:
            return True
        if text[i] | 0x20 == 0x64 and n - i >= 7 and (strncasecmp(<const char *>text + i, "default", 7) == 0
                                                     or strncasecmp(<const char *>text + i, "discard", 7) == 0):
            return True
    return False


cdef void sequence_read(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """From now on no client of the pool finds what another has left for currval and lastval.

    Nor does this one, where its transaction has not begun yet.
    """
    pgpool_store8(&c.pool.reads_sequences, 1)
    if s.foreign and s.tx_status == TX_IDLE and s.expect.owed == 0 and not s.open_group:
        s.sequences_due = 1
        settings_align(w, c, s)
    s.foreign = 0


cdef void say(ServerConn *s, ClientConn *c, uint32_t flags, const uint8_t *text, size_t n, bint is_parse) noexcept nogil:
    """Remember a suspicious text that is alone in its transaction and whose outcome is sure, if it succeeds."""
    if s.suspect or s.sayings or is_parse or s.tx_status != TX_IDLE \
            or s.expect.owed > (s.chore == CHORE_PROBE or s.chore == CHORE_SETTINGS) or s.open_group or c.pins \
            or flags & LEAVES != SQL_SETS or flags & SQL_CALLS or not outcome_sure(text, n):
        s.sayings = 2
        return
    s.sayings = 1
    s.erred = 0
    s.said_len = <uint8_t>n
    memcpy(s.said, text, n)


cdef bint remembered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """Nobody needs to be asked: the same text has been seen to work on the same settings."""
    cdef Block *after
    if s.sayings != 1 or s.erred or c.pins or c.settings != s.settings:
        return False
    after = outcome_find(w.outcomes, c.pool, s.settings, c.start, s.said, s.said_len)
    if after == NULL:
        return False
    server_stands(w, s, block_ref(w.plane.settings, after))
    block_unref(w.plane.settings, c.settings)
    c.settings = block_ref(w.plane.settings, after)
    s.suspect = s.sayings = 0
    s.cause = 0
    names_done(s)
    return True


cdef void suspect(ServerConn *s, uint32_t flags, const uint8_t *text, size_t n) noexcept nogil:
    """Remember that something may be left on `s`."""
    s.suspect |= flags
    if s.cause == 0 and text != NULL:
        s.cause = fingerprint(text, n)


cdef bint named(ServerConn *s) noexcept nogil:
    """There is room for names in `s`."""
    if s.named == NULL:
        s.named = <SettingNames *>calloc(1, sizeof(SettingNames))
    return s.named != NULL


cdef void names_in(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    if named(s):
        names_find(s.named, text, n)


cdef void names_quoted(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """The same for the strings of a text: it has no other way to name a setting to a function."""
    cdef Lexer lexer
    cdef Token token
    lexer.at = text
    lexer.end = text + n
    lexer.reading = READ_STANDARD
    while True:
        token_next(&lexer, &token)
        if token.kind == TOKEN_END:
            return
        if TOKEN_STRING <= token.kind <= TOKEN_DOLLAR:
            names_in(s, token.raw.at, token.raw.len)


cdef void names_hidden(Worker *w, ServerConn *s) noexcept nogil:
    """What a function has done was suspected: any setting may be meant that a function names."""
    cdef const Effects *known = functions_of(w, s.pool)
    cdef const uint8_t *at
    cdef const uint8_t *end
    cdef Span name
    if known == NULL or not named(s):
        return
    at = effects_settings(known)
    end = at + known.settings_len
    while at < end:
        name.at = at
        name.len = <uint32_t>strlen(<const char *>at)
        names_add(s.named, name)
        at += name.len + 1


cdef void names_lost(ServerConn *s) noexcept nogil:
    if named(s):
        s.named.overflow = 1


cdef void names_done(ServerConn *s) noexcept nogil:
    """All has been asked about."""
    if s.named != NULL:
        s.named.len = s.named.count = s.named.overflow = 0


cdef bint reuses_texts(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """Whether texts that name settings may be run again without being sent again, and without being kept by us."""
    return c.pins & PIN_PREPARED or s.suspect & SQL_PREPARES or (c.unnamed_here and c.unnamed_flags & NAMING)


cdef void ledger_unseen(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *begins, size_t have) noexcept nogil:
    """A text goes to `s` that is too long to be looked at, but for what of it has come: settings may be named there.

    As many of them are asked for as there is room for: most such texts are data.
    """
    cdef bint overflow
    if not follows(c):
        return
    c.parse_flags = SQL_OPAQUE
    c.parse_hidden = 0
    s.function_ddl = 1
    if c.pool.session_state == SESSION_PIN:
        pin(w, c, c.pins | PIN_SAID)
    suspect(s, SQL_OPAQUE, NULL, 0)
    scan_sql(begins, have, READ_UNKNOWN, NULL, &w.scan)
    if w.scan.flags & NAMING and named(s):
        overflow = s.named.overflow
        names_find(s.named, begins, have)
        s.named.overflow = overflow


cdef bint is_large_object(uint32_t oid) noexcept nogil:
    """PostgreSQL's functions for large objects, which is what FunctionCall is used for. They leave nothing in a session."""
    return oid == 715 or oid == 764 or oid == 765 or oid == 767 or 952 <= oid <= 958 or oid == 964 or oid == 1004 \
        or 3170 <= oid <= 3172


cdef void ledger_call(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *body, size_t n, size_t have) noexcept nogil:
    """A FunctionCall goes to `s`, with `have` of the `n` bytes of its body: a function by its oid, and what it is given."""
    cdef Span value
    cdef uint32_t at
    if not follows(c) or (have >= 4 and is_large_object(load_be32(body))):
        return
    if c.pool.session_state == SESSION_PIN:
        pin(w, c, c.pins | PIN_SAID)
    owed_barrier(&s.owed)
    suspect(s, SQL_OPAQUE | SQL_HIDDEN, NULL, 0)
    s.sayings = 2
    if n > have:
        names_lost(s)                             # there may be one in what has not come yet
        return
    at = 8 + 2 * <uint32_t>load_be16(body + 4) if n >= 8 else <uint32_t>n      # oid, format codes, number of values
    while at < n and bind_next(body, <uint32_t>n, &at, &value):
        names_in(s, value.at, value.len)


cdef void ledger_bind(ClientConn *c, ServerConn *s, uint32_t flags, const Statement *statement, const uint8_t *body, size_t n,
                      size_t have) noexcept nogil:
    """Values for a text that may leave something: `set_config($1, $2, false)` has the name of the setting here.

    Args:
        statement: the text, which may have been parsed in an earlier transaction; NULL for an unnamed statement.
    """
    cdef Span value
    cdef uint32_t at = 0
    cdef bint followed = follows(c)
    if flags & SQL_FUNCTION_DDL:
        s.function_ddl = 1
    if followed:
        suspect(s, flags, NULL, 0)
    if not flags & NAMING:
        return
    if statement != NULL:
        if followed:
            if flags & SQL_HIDDEN:
                names_quoted(s, statement.data, statement.len)
            else:
                names_in(s, statement.data, statement.len)
        leak_text(s, c, 0, statement.data, statement.len)
    if n > have:
        if followed:
            names_lost(s)                         # there may be one in what has not come yet
        return
    while bind_next(body, <uint32_t>n, &at, &value):
        if followed:
            names_in(s, value.at, value.len)
        leak_text(s, c, 0, value.at, value.len)


cdef void ledger_pin(Worker *w, ClientConn *c, uint32_t reason) noexcept nogil:
    """`c` keeps its server from now on."""
    pin(w, c, c.pins | reason)


cdef uint8_t parts_of(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """Which questions the suspicions ask for; 0 when they turn out to be none."""
    cdef uint32_t f = s.suspect
    cdef uint8_t parts = 0
    if f & (SQL_OPAQUE | SQL_EXECUTES | SQL_DISCARDS):
        return PROBE_ALL
    if f & SQL_SETS:
        parts |= PROBE_SETTINGS
    if f & (SQL_PREPARES | SQL_DEALLOCATES):
        parts |= PROBE_PREPARED
    if f & (SQL_HOLDS | SQL_CLOSES):
        parts |= PROBE_CURSORS
    if f & (SQL_LISTENS | SQL_UNLISTENS):
        parts |= PROBE_LISTENS
    if f & SQL_TEMPS:
        parts |= PROBE_TEMPORARY
    if f & (SQL_ADVISORY | SQL_UNLOCKS):
        parts |= PROBE_LOCKS
    return parts


cdef void pin(Worker *w, ClientConn *c, uint32_t pins) noexcept nogil:
    """`c` keeps its server for these reasons; none lets it go."""
    cdef PoolRecord *pool = c.pool
    cdef uint32_t before = c.pins
    cdef uint32_t others, bit
    cdef uint32_t fresh = pins & ~before
    c.pins = pins
    for bit in range(PIN_KINDS):
        if fresh >> bit & 1:
            count_add(&counters_of(w, pool).pinned_for[bit], 1)
    if pins and not before:
        c.pinned_us = w.now_us
    if pins & LASTING and not before & LASTING:
        count_add(&counters_of(w, pool).pins, 1)
        advise_pinned(c, pins & LASTING)
        others = pgpool_add32(&pool.pinned, 1)
        if pool.max_pinned and others > pool.max_pinned:
            client_fatal(w, c, "53400", "too many clients keep a server for their session state (max_pinned_connections)")
    elif before & LASTING and not pins & LASTING:
        pgpool_add32(&pool.pinned, -1)


cdef bint ledger_keeps(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """A transaction has ended and something may be left: True while `c` keeps `s`."""
    cdef uint8_t parts
    if c.unnamed_fresh:
        pin(w, c, c.pins | PIN_UNNAMED)           # and nothing is asked: a query of ours would end the statement
        return True
    if c.pins & PIN_UNNAMED:
        pin(w, c, c.pins & ~<uint32_t>PIN_UNNAMED)
    if s.suspect and not remembered(w, s, c):
        if c.pool.session_state == SESSION_PIN:
            s.suspect = s.sayings = 0
            return True
        parts = parts_of(s, c)
        if s.suspect & SQL_LOADS:
            pin(w, c, c.pins | PIN_LOAD)
            if c.state != CL_ACTIVE:
                return True                       # it has been sent away
        if parts:
            probe(w, s, c, parts)
            return True
        s.suspect = s.sayings = 0
    if c.pins and c.settings != s.settings:
        settings_align(w, c, s)
        conn_send(w, &s.conn, w.scratch, 0)
    return c.pins != 0


cdef void probe(Worker *w, ServerConn *s, ClientConn *c, uint8_t parts) noexcept nogil:
    """Send the probe; its answer is kept in `s.answer` and read in ledger_answered."""
    cdef SettingNames none
    cdef size_t n
    none.len = none.count = none.overflow = 0
    buf_free(&s.answer)                           # of a probe whose client has left before it was answered
    if s.suspect & SQL_HIDDEN and parts & PROBE_SETTINGS:
        names_hidden(w, s)
    n = probe_write(parts, s.settings, s.named if s.named != NULL else &none, w.scratch + SCRATCH_SIZE // 2,
                    SCRATCH_SIZE // 2)
    if not reuses_texts(s, c):
        names_done(s)
    s.learns = s.sayings == 1 and not s.erred and c.settings == s.settings
    s.sayings = s.erred = 0
    if s.learns:
        s.base = block_ref(w.plane.settings, s.settings)
        s.learnt_len = s.said_len                 # while it is under way another text may be said
        memcpy(s.learnt, s.said, s.said_len)
    s.probing = s.suspect
    s.probed_parts = parts
    s.suspect = 0
    s.chore_failed = 0
    if n:
        n = build_query(w.scratch, SCRATCH_SIZE // 2, w.scratch + SCRATCH_SIZE // 2, n)
    if n == 0 or ask(s, EXPECT_CHORE) != EXPECT_OK:
        unknown(w, s, c)
        return
    count_add(&counters_of(w, c.pool).probes, 1)
    s.chore = CHORE_PROBE
    if c.start != c.pool.defaults:
        c.holding = 1                             # what it has reset goes back to its own start before it goes on
    conn_send(w, &s.conn, w.scratch, n)


cdef void unknown(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """What is left cannot be found out: `c` keeps `s` for good."""
    forget_saying(w, s)
    s.probing = 0
    pin(w, c, c.pins | PIN_UNKNOWN)


cdef void ledger_answered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """The probe has been answered: bring the client's block and its pins in line with what PostgreSQL said."""
    cdef Found found
    cdef Block *now = NULL
    cdef size_t at = 0
    cdef uint32_t pins = 0
    cdef int r
    cdef bint fine = not s.chore_failed and s.answer.len <= MAX_ANSWER
    if s.probed_parts & PROBE_SETTINGS:
        now = tracked_part(w, s.settings)
        fine = fine and now != NULL
    while fine:
        r = probe_next(buf_bytes(&s.answer), s.answer.len, &at, &found)
        if r != PROBE_ROW:
            fine = r == PROBE_END
            break
        if found.kind == FOUND_SETTING or found.kind == FOUND_NAMED:
            fine = note_setting(w, c, found, &now)
        else:
            pins |= pin_of(found.kind)
            if found.kind == FOUND_LISTEN and c.listens != NULL:
                channel_leave(w, c, found.name)   # it hears of it from its server now
    if fine and now != NULL:
        fine = stands(w, s, c, now)
    block_unref(w.plane.settings, now)
    if s.learns and fine and c.settings == s.settings:
        outcome_learn(w.outcomes, w.plane.settings, c.pool, s.base, c.start, s.learnt, s.learnt_len, s.settings)
    forget_saying(w, s)
    buf_free(&s.answer)
    if not fine:
        unknown(w, s, c)
        return
    if pins & ~c.pins:
        c.pin_cause = s.cause
    s.cause = 0
    s.probing = 0
    pin(w, c, pins | (c.pins & ~asked_pins(s.probed_parts)))
    if c.pins == 0 and s.suspect == 0:
        names_done(s)


cdef void forget_saying(Worker *w, ServerConn *s) noexcept nogil:
    if s.learns:
        block_unref(w.plane.settings, s.base)
        s.base = NULL
        s.learns = 0


cdef uint32_t pin_of(uint8_t kind) noexcept nogil:
    if kind == FOUND_PREPARED:
        return PIN_PREPARED
    if kind == FOUND_CURSOR:
        return PIN_CURSOR
    if kind == FOUND_LISTEN:
        return PIN_LISTEN
    if kind == FOUND_TEMPORARY:
        return PIN_TEMPORARY
    if kind == FOUND_LOCK:
        return PIN_LOCK
    return PIN_UNKNOWN


cdef uint32_t asked_pins(uint8_t parts) noexcept nogil:
    """The pins about which a probe with these parts has the last word."""
    cdef uint32_t pins = 0
    if parts & PROBE_PREPARED:
        pins |= PIN_PREPARED
    if parts & PROBE_CURSORS:
        pins |= PIN_CURSOR
    if parts & PROBE_LISTENS:
        pins |= PIN_LISTEN
    if parts & PROBE_TEMPORARY:
        pins |= PIN_TEMPORARY
    if parts & PROBE_LOCKS:
        pins |= PIN_LOCK
    return pins


cdef bint note_setting(Worker *w, ClientConn *c, Found found, Block **now) noexcept nogil:
    """One row about a setting: put it into `*now` where it is something of this session's."""
    cdef uint8_t *owned
    cdef bint fine = found_unescape(&found, &owned) and note_value(w, c, &found, now)
    free(owned)
    return fine


cdef bint note_value(Worker *w, ClientConn *c, const Found *found, Block **now) noexcept nogil:
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span name, user
    if found.value.at == NULL or now[0] == NULL or setting_name(found.name, room, &name) != SETTINGS_OK:
        return True                               # no such setting
    if same(name, text_span("transaction_isolation")) or same(name, text_span("transaction_read_only")) \
            or same(name, text_span("transaction_deferrable")):
        return True                               # of one transaction, whatever pg_settings calls its source
    if found.kind == FOUND_NAMED:
        user.at = buf_bytes(&c.pool.user)
        user.len = c.pool.user.len
        if same(name, text_span("role")) and same(found.value, text_span("none")):
            return True
        if same(name, text_span("session_authorization")) and same(found.value, user):
            return True
    return put_setting(w.plane.settings, now, name, found.value)


cdef Block *tracked_part(Worker *w, Block *block) noexcept nogil:
    """`block` without anything that is not tracked; held for the caller. NULL when memory is short."""
    cdef Block *part = block_ref(w.plane.settings, block)
    cdef Span name, value, canonical, nothing
    cdef uint32_t at = 0
    nothing.at = NULL
    nothing.len = 0
    while at < block.len:
        at = block_entry(block, at, &name, &value)
        if not setting_tracked(name, &canonical) and not put_setting(w.plane.settings, &part, name, nothing):
            block_unref(w.plane.settings, part)
            return NULL
    return part


cdef bint is_set(ServerConn *s, Span name) noexcept nogil:
    """Whether the answer says that the session has set `name`."""
    cdef Found found
    cdef size_t at = 0
    while probe_next(buf_bytes(&s.answer), s.answer.len, &at, &found) == PROBE_ROW:
        if found.kind == FOUND_SETTING and same(found.name, name):
            return True
    return False


cdef bint stands(Worker *w, ServerConn *s, ClientConn *c, Block *now) noexcept nogil:
    """`s` stands at `now`. So does `c`, but what it has reset goes back to what it began with."""
    cdef Block *own = block_ref(w.plane.settings, now)
    cdef bint went_back = s.probing & WENT_BACK != 0
    cdef Span name, value, other
    cdef uint32_t at = 0
    cdef bint said
    while c.start != NULL and at < c.start.len:
        at = block_entry(c.start, at, &name, &value)
        if setting_tracked(name, &other):
            said = is_set(s, name)
        else:
            said = block_get(now, name, &other)
            if said and other.len == 0 and value.len and went_back and memchr(name.at, 0x2E, name.len) != NULL:
                said = False                      # a custom setting: reset it is '' and no longer listed
        if not said and not put_setting(w.plane.settings, &own, name, value):
            block_unref(w.plane.settings, own)
            return False
    pgpool_store8(&now.verified, 1)
    pgpool_store8(&own.verified, 1)
    settings_tell(w, c, own)
    server_stands(w, s, block_ref(w.plane.settings, now))
    if own != c.settings:
        count_add(&counters_of(w, c.pool).settings_kept, 1)
    block_unref(w.plane.settings, c.settings)
    c.settings = own
    return True


cdef void ledger_part(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """`c` leaves `s`: what it may have left there has to be cleaned away before anybody else comes."""
    if s.suspect or s.probing or c.pins & ~<uint32_t>PIN_UNNAMED:
        s.dirty = 1
    if c.pins & (PIN_LOAD | PIN_UNKNOWN) or s.suspect & SQL_LOADS:
        pgpool_store8(&s.seat.close_needed, 1)                   # nothing unloads a library
    s.suspect = s.probing = 0
    s.sayings = s.erred = 0
    s.cause = 0
    forget_saying(w, s)
    ledger_unpin(w, c)


cdef void ledger_unpin(Worker *w, ClientConn *c) noexcept nogil:
    """`c` has no server to keep any more."""
    if c.pins:
        pin(w, c, 0)


cdef void ledger_cleaned(Worker *w, ServerConn *s) noexcept nogil:
    """DISCARD ALL has run: no setting of a client's is left, but those that PostgreSQL has reported."""
    cdef Block *part = tracked_part(w, s.settings)
    prepared_clear(&s.prepared)
    s.dirty = 0
    if part == NULL:
        pgpool_store8(&s.seat.close_needed, 1)
        return
    server_stands(w, s, part)


cdef void ledger_free(ServerConn *s) noexcept nogil:
    """The end of `s`."""
    free(s.named)
    s.named = NULL
    buf_free(&s.answer)
    leak_free(s)


cdef size_t ledger_refusal(uint8_t *out, size_t cap, const uint8_t *name, size_t name_len, bint is_parse) noexcept nogil:
    """A Query or Parse in whose place PostgreSQL itself raises the error, so that its transaction fails as it should."""
    cdef const char *text = ("DO $$BEGIN RAISE EXCEPTION 'this statement would leave state in the session"
                             " (session_state = refuse)' USING ERRCODE = '0A000';END$$")
    cdef size_t n = strlen(text)
    if not is_parse:
        return build_query(out, cap, <const uint8_t *>text, n)
    if 1 + 4 + name_len + 1 + n + 1 + 2 > cap:
        return 0
    out[0] = FE_PARSE
    store_be32(out + 1, <uint32_t>(4 + name_len + 1 + n + 1 + 2))
    memcpy(out + 5, name, name_len)
    out[5 + name_len] = 0
    memcpy(out + 6 + name_len, text, n)
    out[6 + name_len + n] = out[7 + name_len + n] = out[8 + name_len + n] = 0
    return 9 + name_len + n
