"""What one simple statement does; see sqlproof.pxd.

A statement is proved only where each of its tokens is as the grammar has it. Where a word may be a keyword or a name,
the token behind it decides, as in PostgreSQL: `SET LOCAL x = 1` is local, `SET local.x = 1` is not.

Source: PostgreSQL, src/backend/parser/gram.y.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport *
from pgpool_core.wire.span cimport Span

cdef enum:
    MAX_ARGUMENT_TOKENS = 64      # how far the end of one call of set_config() is sought


cdef struct Reader:               # borrows the text; `now` is the token that is looked at
    Lexer lexer
    Token now


cdef void start(Reader *r, const uint8_t *at, const uint8_t *end, int reading) noexcept nogil:
    r.lexer.at, r.lexer.end, r.lexer.reading = at, end, <uint8_t>reading
    token_next(&r.lexer, &r.now)


cdef void step(Reader *r) noexcept nogil:
    token_next(&r.lexer, &r.now)


cdef inline bint is_symbol(const Token *token, uint8_t byte) noexcept nogil:
    return token.kind == TOKEN_SYMBOL and token.raw.at[0] == byte


cdef bint take_word(Reader *r, const char *word) noexcept nogil:
    """Step over the word if it is there."""
    if not token_is(&r.now, word):
        return False
    step(r)
    return True


cdef bint set_is_local(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil:
    """Whether the SET in front of `behind` ends with the transaction: LOCAL, TRANSACTION, CONSTRAINTS."""
    cdef Reader r
    start(&r, behind, end, reading)
    if not (take_word(&r, b"local") or take_word(&r, b"transaction") or take_word(&r, b"constraints")):
        return False
    return r.now.kind == TOKEN_NAME or (r.now.kind == TOKEN_WORD and not token_is(&r.now, b"to"))


cdef bint is_prepare_transaction(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil:
    cdef Reader r
    start(&r, behind, end, reading)
    return take_word(&r, b"transaction") and TOKEN_STRING <= r.now.kind <= TOKEN_DOLLAR


cdef bint is_insert_target(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil:
    """Whether the word between INSERT INTO and `behind` is a table, as in `INSERT INTO temp VALUES (1)`.

    In `SELECT 1 AS insert INTO TEMP t` it is not: a name follows, or TABLE.
    """
    cdef Reader r
    start(&r, behind, end, reading)
    if take_word(&r, b"values"):
        return is_symbol(&r.now, 0x28)
    if take_word(&r, b"overriding"):
        return token_is(&r.now, b"user") or token_is(&r.now, b"system")
    return r.now.kind == TOKEN_SYMBOL or token_is(&r.now, b"as") or token_is(&r.now, b"select") \
        or token_is(&r.now, b"default") or token_is(&r.now, b"with")


cdef bint call_is_local(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil:
    """Whether the arguments of set_config() at `behind` are three, and the last is the word TRUE."""
    cdef Reader r
    cdef uint32_t depth = 0
    cdef uint32_t commas = 0
    cdef uint32_t i
    start(&r, behind, end, reading)
    if not is_symbol(&r.now, 0x28):
        return False
    for i in range(MAX_ARGUMENT_TOKENS):
        step(&r)
        if r.now.kind == TOKEN_END or not r.now.closed:
            return False
        if r.now.kind != TOKEN_SYMBOL:
            continue
        if r.now.raw.at[0] == 0x28:
            depth += 1
        elif r.now.raw.at[0] == 0x29:
            if depth == 0:
                return False
            depth -= 1
        elif r.now.raw.at[0] == 0x2C and depth == 0:
            commas += 1
            if commas == 2:
                step(&r)
                return take_word(&r, b"true") and is_symbol(&r.now, 0x29)
    return False


cdef bint take_name(Reader *r, SqlScan *out) noexcept nogil:
    """A name without dots."""
    if (r.now.kind != TOKEN_WORD and r.now.kind != TOKEN_NAME) or not r.now.closed:
        return False
    out.name = r.now.raw
    out.name_quoted = r.now.kind == TOKEN_NAME
    step(r)
    return True


cdef bint take_setting(Reader *r, SqlScan *out) noexcept nogil:
    """The name of a setting: words with dots and nothing between them, or one name in quotes."""
    if not take_name(r, out):
        return False
    while is_symbol(&r.now, 0x2E):
        if out.name_quoted or r.now.raw.at != out.name.at + out.name.len:
            return False
        step(r)
        if r.now.kind != TOKEN_WORD or r.now.raw.at != out.name.at + out.name.len + 1:
            return False
        out.name.len += 1 + r.now.raw.len
        step(r)
    return True


cdef uint8_t take_one(Reader *r, Span *span) noexcept nogil:
    """One value: its VALUE_* kind, or VALUE_NONE."""
    cdef uint8_t kind = VALUE_NONE
    span[0] = r.now.raw
    if not r.now.closed:
        return VALUE_NONE
    if is_symbol(&r.now, 0x2B) or is_symbol(&r.now, 0x2D):
        step(r)
        if r.now.kind != TOKEN_NUMBER:
            return VALUE_NONE
        span.len = <uint32_t>(r.now.raw.at + r.now.raw.len - span.at)
    if r.now.kind == TOKEN_WORD:
        kind = VALUE_WORD
    elif r.now.kind == TOKEN_NUMBER:
        kind = VALUE_NUMBER
    elif r.now.kind == TOKEN_NAME:
        kind = VALUE_NAME
    elif r.now.kind == TOKEN_STRING:
        kind = VALUE_STRING
    elif r.now.kind == TOKEN_ESCAPED:
        kind = VALUE_ESCAPED
    if kind != VALUE_NONE:
        step(r)
    return kind


cdef bint take_value(Reader *r, SqlScan *out) noexcept nogil:
    """One value: a word, a number, a string or a quoted name."""
    out.value_kind = take_one(r, &out.value)
    if out.value_kind == VALUE_WORD and is_default(&out.value):
        out.value_kind = VALUE_DEFAULT
    return out.value_kind != VALUE_NONE


cdef bint is_default(const Span *span) noexcept nogil:
    cdef Token token
    token.raw = span[0]
    token.kind = TOKEN_WORD
    return token_is(&token, b"default")


cdef bint take_values(Reader *r, SqlScan *out) noexcept nogil:
    """Values with commas between them, or DEFAULT."""
    cdef Span span
    if not take_value(r, out):
        return False
    while is_symbol(&r.now, 0x2C):
        if out.value_kind == VALUE_DEFAULT:
            return False
        step(r)
        if take_one(r, &span) == VALUE_NONE or is_default(&span):
            return False
        out.value_kind = VALUE_LIST
        out.value.len = <uint32_t>(span.at + span.len - out.value.at)
    return True


cdef bint take_zone(Reader *r, SqlScan *out) noexcept nogil:
    """What follows SET TIME ZONE."""
    cdef bint interval = token_is(&r.now, b"interval")
    if token_is(&r.now, b"local"):
        out.value, out.value_kind = r.now.raw, VALUE_DEFAULT
        step(r)
        return True
    if not take_value(r, out):
        return False
    if not interval:
        return True
    while r.now.kind != TOKEN_END and not is_symbol(&r.now, 0x3B):
        if not r.now.closed:
            return False
        out.value_kind = VALUE_OTHER
        out.value.len = <uint32_t>(r.now.raw.at + r.now.raw.len - out.value.at)
        step(r)
    return out.value_kind == VALUE_OTHER


cdef uint8_t prove_set(Reader *r, SqlScan *out) noexcept nogil:
    """SET; a word that is followed by = or TO is the name of a setting, whatever it means elsewhere."""
    cdef Reader ahead = r[0]
    if token_is(&r.now, b"local") or token_is(&r.now, b"session"):
        step(&ahead)
        if ahead.now.kind == TOKEN_NAME or (ahead.now.kind == TOKEN_WORD and not token_is(&ahead.now, b"to")
                                            and not token_is(&ahead.now, b"authorization")):
            out.local = token_is(&r.now, b"local")
            r[0] = ahead
    ahead = r[0]
    if not take_setting(r, out):
        return PROVED_NONE
    if is_symbol(&r.now, 0x3D) or token_is(&r.now, b"to"):
        step(r)
        return PROVED_SET if take_values(r, out) else PROVED_NONE
    r[0] = ahead
    memset(&out.name, 0, sizeof(Span))
    out.name_quoted = False
    if take_word(r, b"time"):
        return PROVED_SET_TIME_ZONE if take_word(r, b"zone") and take_zone(r, out) else PROVED_NONE
    if take_word(r, b"role"):
        return PROVED_SET_ROLE if take_role(r, out) else PROVED_NONE
    if take_word(r, b"session"):
        return PROVED_SET_AUTHORIZATION if take_word(r, b"authorization") and take_value(r, out) else PROVED_NONE
    if take_word(r, b"schema"):
        return PROVED_SET_SCHEMA if take_value(r, out) and out.value_kind >= VALUE_STRING else PROVED_NONE
    if take_word(r, b"names"):
        if r.now.kind == TOKEN_END or is_symbol(&r.now, 0x3B):
            out.value_kind = VALUE_DEFAULT
            return PROVED_SET_NAMES
        return PROVED_SET_NAMES if take_value(r, out) else PROVED_NONE
    return PROVED_NONE


cdef bint take_role(Reader *r, SqlScan *out) noexcept nogil:
    """What follows SET ROLE: a name, a string or NONE."""
    return take_value(r, out) and out.value_kind != VALUE_NUMBER and out.value_kind != VALUE_DEFAULT


cdef uint8_t prove_reset(Reader *r, SqlScan *out) noexcept nogil:
    cdef Reader ahead = r[0]
    if take_word(r, b"all"):
        return PROVED_RESET_ALL
    if take_word(&ahead, b"time") and take_word(&ahead, b"zone"):
        r[0] = ahead
        return PROVED_RESET_TIME_ZONE
    ahead = r[0]
    if take_word(&ahead, b"session") and take_word(&ahead, b"authorization"):
        r[0] = ahead
        return PROVED_RESET_AUTHORIZATION
    return PROVED_RESET if take_setting(r, out) else PROVED_NONE


cdef uint8_t prove_discard(Reader *r) noexcept nogil:
    if take_word(r, b"all"):
        return PROVED_DISCARD_ALL
    if take_word(r, b"plans"):
        return PROVED_DISCARD_PLANS
    if take_word(r, b"temp") or take_word(r, b"temporary"):
        return PROVED_DISCARD_TEMP
    if take_word(r, b"sequences"):
        return PROVED_DISCARD_SEQUENCES
    return PROVED_NONE


cdef uint8_t prove_deallocate(Reader *r, SqlScan *out) noexcept nogil:
    """DEALLOCATE [PREPARE] name or ALL; a statement may be called prepare."""
    cdef Reader ahead = r[0]
    if take_word(&ahead, b"prepare") and ahead.now.kind != TOKEN_END and not is_symbol(&ahead.now, 0x3B):
        r[0] = ahead
    if take_word(r, b"all"):
        return PROVED_DEALLOCATE_ALL
    return PROVED_DEALLOCATE if take_name(r, out) else PROVED_NONE


cdef uint8_t prove_notify(Reader *r, SqlScan *out) noexcept nogil:
    if not take_name(r, out):
        return PROVED_NONE
    if is_symbol(&r.now, 0x2C):
        step(r)
        if not take_value(r, out) or (out.value_kind != VALUE_STRING and out.value_kind != VALUE_ESCAPED):
            return PROVED_NONE
    return PROVED_NOTIFY


cdef bint take_rest(Reader *r, SqlScan *out) noexcept nogil:
    """A name and whatever follows it: the rest of PREPARE and EXECUTE is not read here."""
    if not take_name(r, out):
        return False
    out.value.at = r.now.raw.at
    out.value.len = <uint32_t>(r.lexer.end - r.now.raw.at)
    if out.value.len:
        out.value_kind = VALUE_OTHER
    r.now.kind = TOKEN_END
    r.lexer.at = r.lexer.end
    return True


cdef uint8_t prove_end(Reader *r, uint8_t proved) noexcept nogil:
    """COMMIT, ROLLBACK: with [WORK | TRANSACTION] and AND NO CHAIN at most."""
    if not take_word(r, b"work"):
        take_word(r, b"transaction")
    if take_word(r, b"and") and not (take_word(r, b"no") and take_word(r, b"chain")):
        return PROVED_NONE
    return proved


cdef uint8_t prove_begin(Reader *r) noexcept nogil:
    """BEGIN and START TRANSACTION, whose modes are words and commas."""
    while r.now.kind == TOKEN_WORD or is_symbol(&r.now, 0x2C):
        step(r)
    return PROVED_BEGIN


cdef uint8_t prove_verb(Reader *r, SqlScan *out) noexcept nogil:
    """What the statement does whose verb has been stepped over."""
    if out.verb == VERB_SET:
        return prove_set(r, out)
    if out.verb == VERB_RESET:
        return prove_reset(r, out)
    if out.verb == VERB_DISCARD:
        return prove_discard(r)
    if out.verb == VERB_DEALLOCATE:
        return prove_deallocate(r, out)
    if out.verb == VERB_LISTEN:
        return PROVED_LISTEN if take_name(r, out) else PROVED_NONE
    if out.verb == VERB_UNLISTEN:
        if is_symbol(&r.now, 0x2A):
            step(r)
            return PROVED_UNLISTEN_ALL
        return PROVED_UNLISTEN if take_name(r, out) else PROVED_NONE
    if out.verb == VERB_NOTIFY:
        return prove_notify(r, out)
    if out.verb == VERB_PREPARE:
        return PROVED_PREPARE if out.flags & SQL_PREPARES and take_rest(r, out) else PROVED_NONE
    if out.verb == VERB_EXECUTE:
        return PROVED_EXECUTE if take_rest(r, out) else PROVED_NONE
    if out.verb == VERB_CLOSE:
        if take_word(r, b"all"):
            return PROVED_CLOSE_ALL
        return PROVED_CLOSE if take_name(r, out) else PROVED_NONE
    if out.verb == VERB_BEGIN:
        return prove_begin(r)
    if out.verb == VERB_COMMIT:
        return prove_end(r, PROVED_COMMIT)
    if out.verb == VERB_ROLLBACK:
        return prove_end(r, PROVED_ROLLBACK)
    return PROVED_NONE


cdef void prove(const uint8_t *text, const uint8_t *end, int reading, SqlScan *out) noexcept nogil:
    """Fill in `proved` and its spans where the one statement of the text is wholly understood."""
    cdef Reader r
    cdef uint8_t proved
    if out.verb <= VERB_WITH or out.verb == VERB_SHOW:
        return
    start(&r, text, end, reading)
    while is_symbol(&r.now, 0x3B):
        step(&r)
    if r.now.kind != TOKEN_WORD:
        return
    step(&r)
    proved = prove_verb(&r, out)
    while proved and is_symbol(&r.now, 0x3B):
        step(&r)
    if proved and r.now.kind == TOKEN_END:
        out.proved = proved
        return
    out.local = out.name_quoted = out.value_kind = 0
    memset(&out.name, 0, sizeof(Span))
    memset(&out.value, 0, sizeof(Span))
