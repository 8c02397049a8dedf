"""Session state of clients; see ledger.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from pgpool_core.engine.advice cimport advise_left
from pgpool_core.engine.align cimport settings_align
from pgpool_core.engine.back cimport back_flags
from pgpool_core.engine.conn cimport counters_of
from pgpool_core.engine.counters cimport count_add
from pgpool_core.engine.functions cimport SQL_HIDDEN, SQL_STALE, functions_of, functions_text, functions_value, mentions, misreads
from pgpool_core.engine.leak cimport leak_text
from pgpool_core.engine.listen cimport listen_text
from pgpool_core.engine.meanings cimport (DDL_FUNCTIONS, MAY_UNSETTLE, SQL_CHANGES, SQL_UNSETTLES, meanings_lost, meanings_text,
                                           meanings_used)
from pgpool_core.engine.notifier cimport notifier_may, notifier_text
from pgpool_core.engine.pins cimport pins_set
from pgpool_core.engine.records cimport *
from pgpool_core.engine.setting_names cimport NAMING, SQL_UNSEEN, WENT_BACK_ONE, names_in, names_in_part, names_lost, names_quoted
from pgpool_core.session.effects cimport Effects
from pgpool_core.session.known cimport known_scan
from pgpool_core.session.outcome cimport outcome_sure
from pgpool_core.session.settings cimport Block, block_get, setting_tracked
from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN
from pgpool_core.statements.owed cimport owed_barrier
from pgpool_core.statements.text cimport Statement
from pgpool_core.sync.atomic cimport pgpool_store8
from pgpool_core.wire.be cimport load_be16, load_be32, store_be32
from pgpool_core.wire.bind cimport bind_next
from pgpool_core.wire.build cimport build_query
from pgpool_core.wire.codes cimport FE_PARSE, TX_IDLE
from pgpool_core.wire.span cimport Span, text_span

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    # What may leave something behind, what may take it away again, and what is refused by session_state = refuse.
    LEAVES = (SQL_SETS | SQL_LISTENS | SQL_PREPARES | SQL_EXECUTES | SQL_TEMPS | SQL_HOLDS | SQL_ADVISORY | SQL_LOADS
              | SQL_DISCARDS | SQL_OPAQUE)
    TAKES = SQL_UNLISTENS | SQL_CLOSES | SQL_UNLOCKS | SQL_DEALLOCATES | SQL_DISCARDS
    OID_CURRVAL = 1575
    OID_LASTVAL = 2559
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


cdef bint ledger_text(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *text, size_t n, bint is_parse) noexcept nogil:
    """Look at a text on its way to `s`; False when it is to be refused."""
    cdef const SqlScan *scan = &w.scan
    cdef const Effects *effects = functions_of(w, c.pool)
    cdef uint32_t flags, said, hidden, meaning
    c.parse_flags = c.parse_hidden = 0
    known_scan(w.known, text, n, effects, &w.scan)
    flags = scan.flags
    if c.listens != NULL:
        listen_text(c, flags, text, n)
    if flags & SQL_LOCAL_SET:
        flags &= ~<uint32_t>(SQL_SETS | SQL_LOCAL_SET)
    said = flags
    if said & SQL_TEMPS and scan.flags & SQL_LOCAL_SET and not words_in(text, text + n) & SQL_TEMPS:
        said &= ~<uint32_t>SQL_TEMPS              # a search_path could have it by an escape: `set local app.x = 'a\\b'`
    if (c.pins & PIN_TEMPORARY or s.probing) and scan.verb != VERB_SELECT and scan.verb != VERB_INSERT \
            and scan.verb != VERB_UPDATE and scan.verb != VERB_DELETE and scan.verb != VERB_BEGIN and scan.verb != VERB_COMMIT:
        flags |= SQL_TEMPS                        # DROP TABLE looks the same for every table
    elif scan.flags & SQL_DDL and (s.probing & SQL_TEMPS or path_has_temp(c.settings)):
        flags |= SQL_TEMPS                        # so does CREATE TABLE, where no schema is in front of pg_temp
    hidden = functions_text(w, c, s, scan, text, n)
    flags |= hidden
    if hidden & SQL_SETS and mentions(text, n, b"pg_temp"):
        flags |= SQL_TEMPS
    meaning = meanings_text(s, scan, hidden, text, n, is_parse)
    if notifier_may(flags, scan.verb, effects != NULL):
        notifier_text(w, c, s, flags, scan)
    if is_parse:
        c.parse_flags = flags & SQL_FUNCTION_DDL | said & (SQL_NOTIFIES | TAKES) | meaning
        c.parse_hidden = hidden
    if s.leak != NULL and flags & LEAVES:
        leak_text(s, c, fingerprint(text, n), text, n)
    if c.pool.session_state == SESSION_WARN and (said | hidden) & LEAVES and (hidden or not only_reported(scan)):
        advise_left(w, c, said | hidden)
    if not ledger_follows(c):                     # looked at for warnings and leak_check only
        if is_parse and said & LEAVES:
            c.parse_flags = said | meaning
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
    if flags & (SQL_SETS | SQL_DISCARDS | SQL_OPAQUE):
        flags |= back_flags(s, scan, text, n)
    if flags & NAMING and sets_unseen(text, n):
        flags |= SQL_UNSEEN
    if is_parse:
        c.parse_flags = flags & ~(hidden & ~said) | flags & SQL_FUNCTION_DDL | meaning
    say(s, c, flags | (SQL_CALLS if hidden else 0), text, n, is_parse)
    suspect(s, flags, text, n)
    if said & NAMING or misreads(c):
        names_in(s, text, n)
    elif hidden & NAMING:
        names_quoted(s, text, n)
    if c.pool.session_state == SESSION_PIN:
        pins_set(w, c, c.pins | PIN_SAID | (PIN_LOAD if flags & SQL_LOADS else 0))
    return True


cdef bint sets_unseen(const uint8_t *text, size_t n) noexcept nogil:
    """The name of a setting that pg_settings hides from roles that are no superusers, and that a session may set.

    These are `dynamic_library_path`, `session_preload_libraries`, of PostgreSQL 18 `extension_control_path` and `output_plugin_libraries`.
    """
    cdef size_t i
    for i in range(n - 11 if n > 11 else 0):
        if text[i] | 0x20 == 0x6C and (strncasecmp(<const char *>text + i, "library_path", 12) == 0
                                       or n - i >= 14 and strncasecmp(<const char *>text + i, "load_libraries", 14) == 0):
            return True
        if text[i] | 0x20 == 0x63 and strncasecmp(<const char *>text + i, "control_path", 12) == 0:
            return True
        if text[i] | 0x20 == 0x70 and n - i >= 16 and strncasecmp(<const char *>text + i, "plugin_libraries", 16) == 0:
            return True
    return False


cdef bint path_has_temp(const Block *block) noexcept nogil:
    """Whether search_path has pg_temp in any place. What it begins with may be no schema, or one that this role may not use."""
    cdef Span value
    return block_get(block, text_span("search_path"), &value) and mentions(value.at, value.len, b"pg_temp")


cdef bint values_name_temp(const uint8_t *body, size_t n, size_t have) noexcept nogil:
    """The same of the values of a Bind, which may become a search_path; of one that has not come yet nobody knows."""
    cdef Span value
    cdef uint32_t at = 0
    if n > have:
        return True
    while bind_next(body, <uint32_t>n, &at, &value):
        if mentions(value.at, value.len, b"pg_temp"):
            return True
    return False


cdef bint reads_sequence(const uint8_t *text, size_t n) noexcept nogil:
    """`currval` or `lastval`, in any case, or `U&"`: whatever that stands for."""
    cdef size_t i
    for i in range(n - 6 if n > 6 else 0):
        if strncasecmp(<const char *>text + i, "currval", 7) == 0 or strncasecmp(<const char *>text + i, "lastval", 7) == 0 \
                or (text[i + 1] == 0x26 and text[i + 2] == 0x22):
            return True
    return False


cdef void sequence_read(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """From now on no client of the pool finds what another has left for currval and lastval, nor does this one."""
    pgpool_store8(&c.pool.reads_sequences, 1)
    sequences_forget(w, c, s)


cdef void sequences_forget(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """What goes to `s` next does not find it, where its transaction has not begun yet."""
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


cdef void suspect(ServerConn *s, uint32_t flags, const uint8_t *text, size_t n) noexcept nogil:
    """Remember that something may be left on `s`: by `text`, which say() has seen, or by what has none, NULL."""
    s.suspect |= flags
    if text == NULL:
        s.sayings = 2
    elif s.cause == 0:
        s.cause = fingerprint(text, n)


cdef void ledger_unseen(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *begins, size_t have) noexcept nogil:
    """A text goes to `s` that is too long to be looked at, but for what of it has come: settings may be named there.

    As many of them are asked for as there is room for: most such texts are data.
    """
    if not ledger_follows(c):
        return
    c.parse_flags = SQL_OPAQUE | SQL_UNSETTLES | SQL_CHANGES
    c.parse_hidden = 0
    s.function_ddl |= DDL_FUNCTIONS
    meanings_lost(s)
    if c.pool.session_state == SESSION_AUTO:
        sequences_forget(w, c, s)
    if c.pool.session_state == SESSION_PIN:
        pins_set(w, c, c.pins | PIN_SAID)
    suspect(s, SQL_OPAQUE, NULL, 0)
    scan_sql(begins, have, READ_UNKNOWN, NULL, &w.scan)
    if w.scan.flags & NAMING:
        names_in_part(s, begins, have)


cdef bint is_large_object(uint32_t oid) noexcept nogil:
    """PostgreSQL's functions for large objects, which is what FunctionCall is used for. They leave nothing in a session."""
    return oid == 715 or oid == 764 or oid == 765 or oid == 767 or 952 <= oid <= 958 or oid == 964 or oid == 1004 \
        or 3170 <= oid <= 3172


cdef void ledger_call(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *body, size_t n, size_t have) noexcept nogil:
    """A FunctionCall goes to `s`, with `have` of the `n` bytes of its body: a function by its oid, and what it is given."""
    cdef Span value
    cdef uint32_t at
    if not ledger_follows(c) or (have >= 4 and is_large_object(load_be32(body))):
        return
    if c.pool.session_state == SESSION_PIN:
        pins_set(w, c, c.pins | PIN_SAID)
    owed_barrier(&s.owed)
    meanings_lost(s)
    if c.pool.session_state == SESSION_AUTO:
        if have >= 4 and (load_be32(body) == OID_LASTVAL or load_be32(body) == OID_CURRVAL):
            sequence_read(w, c, s)
        else:
            sequences_forget(w, c, s)
    suspect(s, SQL_OPAQUE | SQL_HIDDEN, NULL, 0)
    if n > have:
        names_lost(s)                             # there may be one in what has not come yet
        s.function_ddl |= DDL_FUNCTIONS
        return
    at = 8 + 2 * <uint32_t>load_be16(body + 4) if n >= 8 else <uint32_t>n      # oid, format codes, number of values
    while at < n and bind_next(body, <uint32_t>n, &at, &value):
        names_in(s, value.at, value.len)
        functions_value(s, value.at, value.len)


cdef void ledger_bind(ClientConn *c, ServerConn *s, uint32_t flags, const Statement *statement, const uint8_t *body, size_t n,
                      size_t have) noexcept nogil:
    """Values for a text that may leave something: `set_config($1, $2, false)` has the name of the setting here.

    Args:
        statement: the text, which may have been parsed in an earlier transaction; NULL for an unnamed statement.
    """
    cdef Span value
    cdef SqlScan scan
    cdef size_t length
    cdef uint32_t at = 0
    cdef bint followed = ledger_follows(c)
    cdef bint runs_values = flags & (SQL_OPAQUE | SQL_STALE) == SQL_OPAQUE
    if flags & (SQL_UNSETTLES | SQL_CHANGES) or flags & SQL_HIDDEN and flags & MAY_UNSETTLE:
        meanings_used(s, flags | SQL_UNSETTLES, statement)
    if followed and (flags & (SQL_SETS | SQL_UNSETTLES) and values_name_temp(body, n, have)
                     or flags & SQL_CHANGES and (c.pins & PIN_TEMPORARY or s.probing & SQL_TEMPS or path_has_temp(c.settings))):
        suspect(s, SQL_TEMPS, NULL, 0)
    flags &= ~<uint32_t>(SQL_NOTIFIES | SQL_UNSETTLES | SQL_CHANGES)
    if flags & ~<uint32_t>SQL_HIDDEN == 0:
        return
    if flags & SQL_FUNCTION_DDL:
        s.function_ddl |= DDL_FUNCTIONS
    if followed and flags & (SQL_DEALLOCATES | SQL_DISCARDS):
        owed_barrier(&s.owed)
    if followed and not flags & LEAVES and not (flags & TAKES and (c.pins or s.probing)):
        return
    if followed and flags & WENT_BACK_ONE and statement != NULL:     # it may have been parsed long ago: which one?
        length = strnlen(<const char *>statement.data, statement.len)
        scan_sql(statement.data, length, READ_UNKNOWN | READ_TRAILING, NULL, &scan)
        flags = flags & ~<uint32_t>WENT_BACK_ONE | back_flags(s, &scan, statement.data, length)
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
        if runs_values:
            s.function_ddl |= DDL_FUNCTIONS
        return
    while bind_next(body, <uint32_t>n, &at, &value):
        if followed:
            names_in(s, value.at, value.len)
            if sets_unseen(value.at, value.len):
                suspect(s, SQL_UNSEEN, NULL, 0)
        if runs_values:
            functions_value(s, value.at, value.len)
        leak_text(s, c, 0, value.at, value.len)


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
