"""What texts mean; see meanings.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from pgpool_core.engine.buf cimport buf_bytes
from pgpool_core.engine.functions cimport mentions
from pgpool_core.engine.records cimport *
from pgpool_core.session.settings cimport block_entry
from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport (NAME_LEN, READ_TRAILING, READ_UNKNOWN, TOKEN_END, TOKEN_NAME, TOKEN_SYMBOL, TOKEN_WORD, Lexer, Token,
                                           name_fold, token_is, token_next)
from pgpool_core.statements.meaning cimport CHANGE_LEN, changes_add
from pgpool_core.statements.outgoing cimport SPAN
from pgpool_core.statements.text cimport ENCODING_AT, ENCODING_OTHER, Statement
from pgpool_core.wire.codes cimport TX_IDLE
from pgpool_core.wire.span cimport Span

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    MATTERING = 14                # settings that PostgreSQL looks at when it reads a text and its literals
    ENCODINGS = 42
    OBJECTS = 16
    GROUP_BITS = 20
    GROUPS = 1 << GROUP_BITS

    # While a client has one of these, its block does not tell how its server stands.
    UNSETTLED_PINS = PIN_SAID | PIN_TEMPORARY | PIN_UNKNOWN

cdef const char *SETTINGS[MATTERING]
SETTINGS[:] = [b"search_path", b"role", b"session_authorization", b"client_encoding", b"TimeZone", b"DateStyle", b"IntervalStyle",
               b"standard_conforming_strings", b"timezone_abbreviations", b"transform_null_equals", b"array_nulls",
               b"backslash_quote", b"xmloption", b"lc_monetary"]

# PostgreSQL's encodings, without what is no letter and no digit. The place of one, + 1, is its number.
cdef const char *ENCODING_NAMES[ENCODINGS]
ENCODING_NAMES[:] = [b"utf8", b"sqlascii", b"latin1", b"latin2", b"latin3", b"latin4", b"latin5", b"latin6", b"latin7", b"latin8", b"latin9",
                     b"latin10", b"win1250", b"win1251", b"win1252", b"win1253", b"win1254", b"win1255", b"win1256", b"win1257", b"win1258",
                     b"win866", b"win874", b"koi8r", b"koi8u", b"iso88595", b"iso88596", b"iso88597", b"iso88598", b"eucjp", b"euccn", b"euckr",
                     b"euctw", b"eucjis2004", b"muleinternal", b"sjis", b"big5", b"gbk", b"uhc", b"gb18030", b"johab", b"shiftjis2004"]

# What CREATE, ALTER and DROP may be about without a text of the protocol being about it.
cdef const char *OTHER_OBJECTS[OBJECTS]
OTHER_OBJECTS[:] = [b"index", b"unique", b"sequence", b"role", b"user", b"group", b"policy", b"publication", b"subscription", b"statistics",
                    b"database", b"tablespace", b"server", b"event", b"trigger", b"default"]


cdef uint32_t[MATTERING] LENGTHS
for place in range(MATTERING):
    LENGTHS[<int>place] = <uint32_t>strlen(SETTINGS[<int>place])


cdef bint setting_matters(Span name) noexcept nogil:
    cdef int i
    for i in range(MATTERING):
        if LENGTHS[i] == name.len and strncasecmp(SETTINGS[i], <const char *>name.at, name.len) == 0:
            return True
    return False


cdef uint64_t encoding_number(Span name) noexcept nogil:
    """Of a client_encoding, however it is spelled; ENCODING_OTHER for an unusual name."""
    cdef char[16] bare
    cdef uint32_t i, n = 0
    cdef uint8_t byte
    for i in range(name.len):
        byte = name.at[i]
        if 0x30 <= byte <= 0x39 or 0x61 <= byte | 0x20 <= 0x7A:
            if n == sizeof(bare):
                return ENCODING_OTHER
            bare[n] = byte | 0x20
            n += 1
    for i in range(ENCODINGS):
        if strlen(ENCODING_NAMES[i]) == n and strncasecmp(ENCODING_NAMES[i], bare, n) == 0:
            return i + 1
    return ENCODING_OTHER


cdef inline uint64_t mixed(uint64_t h, Span s) noexcept nogil:
    """FNV-1a, and a zero behind it."""
    cdef uint32_t i
    for i in range(s.len):
        h = (h ^ s.at[i]) * <uint64_t>1099511628211
    return h * <uint64_t>1099511628211


cdef inline bint may_matter(Span name) noexcept nogil:
    """A glance that passes over most of what does not; application_name is in every block."""
    return name.len != 16 and not (name.len > 4 and name.at[3] == 0x2E)


cdef uint64_t meanings_salt(const ClientConn *c) noexcept nogil:
    """The database of `c` and the settings on which the meaning of a text depends, as a number: client_encoding, and a hash of the others."""
    cdef Span name, value
    cdef uint32_t at = 0
    cdef uint64_t h
    cdef uint64_t encoding = ENCODING_OTHER
    value.at = buf_bytes(&c.pool.database)
    value.len = c.pool.database.len
    h = mixed(<uint64_t>14695981039346656037, value)
    while c.settings != NULL and at < c.settings.len:
        at = block_entry(c.settings, at, &name, &value)
        if not may_matter(name) or not setting_matters(name):
            continue
        if name.len == 15 and name.at[0] == 0x63:         # client_encoding
            encoding = encoding_number(value)
            if encoding != ENCODING_OTHER:
                continue
        h = mixed(mixed(h, name), value)
    return (h ^ h >> 32) & ((<uint64_t>1 << ENCODING_AT) - 1) | encoding << ENCODING_AT


cdef inline void unsettle(ServerConn *s) noexcept nogil:
    """Write down which group does it, as far as there is room, behind the time at which the client got `s`."""
    s.unsettled = s.request_us << GROUP_BITS | (s.owed.sent + 1 & GROUPS - 1)


cdef inline bint is_settled(const ServerConn *s) noexcept nogil:
    """The client has got `s` since, or that group is answered, the transaction over, and known what it has left."""
    return (s.unsettled ^ s.request_us << GROUP_BITS) >> GROUP_BITS != 0 \
        or ((s.owed.answered - s.unsettled & GROUPS - 1) < GROUPS // 2 and s.tx_status == TX_IDLE and not (s.suspect | s.probing))


cdef uint64_t meanings_span(const ClientConn *c, ServerConn *s) noexcept nogil:
    """Not 0: what a text means now may be nobody else's business; the number changes when that may be something else again."""
    if s.unsettled and is_settled(s):
        s.unsettled = 0
    return SPAN | s.unsettled & SPAN - 1 if s.unsettled or c.pins & UNSETTLED_PINS else 0


cdef bint names_setting_late(const uint8_t *text, size_t n) noexcept nogil:
    """set_config() of a setting whose name is no literal here."""
    cdef size_t i
    cdef size_t at
    for i in range(n - 10 if n > 10 else 0):
        if text[i] | 0x20 != 0x73 or strncasecmp(<const char *>text + i, "set_config", 10) != 0:
            continue
        at = i + 10
        while at < n and (text[at] <= 0x20 or text[at] == 0x28):
            at += 1
        if at == n or text[at] != 0x27:
            return True
    return False


cdef bint sets_what_matters(const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil:
    """A text that sets something: whether that may be what PostgreSQL looks at when it reads another."""
    cdef int i
    cdef Span name = scan.name
    if scan.proved == PROVED_SET or scan.proved == PROVED_RESET:
        if scan.name_quoted and name.len > 2:
            name.at += 1
            name.len -= 2
        return setting_matters(name)
    if scan.proved != PROVED_NONE:
        return True
    for i in range(MATTERING):
        if mentions(text, n, SETTINGS[i]):
            return True
    return mentions(text, n, b"reset") or mentions(text, n, b"authorization") or mentions(text, n, b"schema") or mentions(text, n, b"names") \
        or mentions(text, n, b"zone") or mentions(text, n, b"pg_settings") or names_setting_late(text, n)


cdef bint add_name(ServerConn *s, const Token *token) noexcept nogil:
    """Into `changing`; False where there is no room, or PostgreSQL may read another name."""
    cdef uint8_t[NAME_LEN] folded
    cdef int n = name_fold(token.raw, folded)
    cdef uint32_t at = 0, length
    if n <= 0:
        return False
    while at < s.changing_len:
        length = <uint32_t>strlen(<const char *>s.changing + at)
        if length == <uint32_t>n and memcmp(s.changing + at, folded, n) == 0:
            return True
        at += length + 1
    if s.changing_len + n + 1 > CHANGE_LEN:
        return False
    memcpy(s.changing + s.changing_len, folded, n)
    s.changing[s.changing_len + n] = 0
    s.changing_len += <uint8_t>(n + 1)
    return True


cdef inline bint is_name(const Token *token) noexcept nogil:
    return token.kind == TOKEN_WORD or token.kind == TOKEN_NAME


cdef inline bint is_symbol(const Token *token, uint8_t byte) noexcept nogil:
    return token.kind == TOKEN_SYMBOL and token.raw.at[0] == byte


cdef bint add_names(ServerConn *s, Lexer *lexer) noexcept nogil:
    """What follows TABLE or VIEW: the names of those in a list, and what they are renamed to."""
    cdef Token token
    cdef bint expected = True
    token_next(lexer, &token)
    while token_is(&token, b"if") or token_is(&token, b"not") or token_is(&token, b"exists") or token_is(&token, b"only"):
        token_next(lexer, &token)
    while token.kind != TOKEN_END:
        if is_symbol(&token, 0x2C) or is_symbol(&token, 0x2E) or token_is(&token, b"to"):
            expected = True
        elif expected and is_name(&token):
            if not add_name(s, &token):
                return False
            expected = False
        elif is_symbol(&token, 0x28):
            return True                           # columns
        token_next(lexer, &token)
    return True


cdef uint8_t changed_by(ServerConn *s, const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil:
    """What a text with CREATE, ALTER or DROP changes: DDL_*."""
    cdef Lexer lexer
    cdef Token token
    cdef int i
    if scan.statements != 1 or scan.flags & SQL_FUNCTION_DDL:
        return DDL_ANY
    lexer.at = text
    lexer.end = text + n
    lexer.reading = READ_UNKNOWN
    token_next(&lexer, &token)                    # CREATE
    token_next(&lexer, &token)
    while token_is(&token, b"or") or token_is(&token, b"replace") or token_is(&token, b"unlogged") or token_is(&token, b"foreign") \
            or token_is(&token, b"materialized") or token_is(&token, b"global") or token_is(&token, b"local"):
        token_next(&lexer, &token)
    if token_is(&token, b"temp") or token_is(&token, b"temporary"):
        return 0                                  # nobody else's
    for i in range(OBJECTS):
        if token_is(&token, OTHER_OBJECTS[i]):
            return 0
    if not (token_is(&token, b"table") or token_is(&token, b"view")):
        return DDL_ANY
    return DDL_TABLES if add_names(s, &lexer) else DDL_ANY


cdef uint32_t meanings_look(ServerConn *s, const SqlScan *scan, uint32_t hidden, const uint8_t *text, size_t n,
                            bint is_parse) noexcept nogil:
    """meanings_text, where there may be something."""
    cdef uint32_t flags = 0
    cdef uint8_t changes = 0
    if scan.flags & (SQL_TEMPS | SQL_DISCARDS | SQL_OPAQUE | SQL_DDL | SQL_FUNCTION_DDL) or hidden & MAY_UNSETTLE \
            or scan.flags & SQL_SETS and sets_what_matters(scan, text, n):
        flags = SQL_UNSETTLES
        if not is_parse:
            unsettle(s)
    if (scan.flags | hidden) & (SQL_DDL | SQL_FUNCTION_DDL) or scan.flags & SQL_OPAQUE and (
            mentions(text, n, b"create") or mentions(text, n, b"alter") or mentions(text, n, b"drop")):
        changes = changed_by(s, scan, text, n) if scan.flags & SQL_DDL else DDL_ANY
    if changes:
        flags |= SQL_CHANGES
        s.function_ddl |= changes
    return flags


cdef void meanings_used(ServerConn *s, uint32_t flags, const Statement *statement) noexcept nogil:
    """A statement that was parsed before, perhaps long ago, runs on `s`; `flags` are those of its text. NULL: the unnamed one."""
    cdef SqlScan scan
    cdef size_t n
    if flags & (SQL_UNSETTLES | SQL_CHANGES):
        unsettle(s)
    if flags & SQL_CHANGES == 0:
        return
    if statement != NULL:
        n = strnlen(<const char *>statement.data, statement.len)
        scan_sql(statement.data, n, READ_UNKNOWN | READ_TRAILING, NULL, &scan)
        s.function_ddl |= changed_by(s, &scan, statement.data, n) if scan.flags & SQL_DDL else DDL_ANY
    elif not s.function_ddl & (DDL_TABLES | DDL_ANY):
        s.function_ddl |= DDL_ANY


cdef void meanings_lost(ServerConn *s) noexcept nogil:
    """Something goes to `s` that nobody has looked at."""
    unsettle(s)
    s.function_ddl |= DDL_ANY


cdef void meanings_changed(Plane *plane, ServerConn *s) noexcept nogil:
    """A transaction has ended on `s` in which something may have been changed."""
    if s.function_ddl & ~<uint32_t>DDL_TABLES:
        changes_add(&plane.texts.changes, s.changing, 0)
    elif s.changing_len:
        changes_add(&plane.texts.changes, s.changing, s.changing_len)
    if s.expect.owed == 0:
        s.changing_len = 0
