"""One look at a text of SQL; see sqlscan.pxd.

SET, LISTEN and their like have an effect only where they begin a statement, and there they are sought: everybody's
UPDATE has a SET. Functions have it anywhere, so their names are sought everywhere but in strings and comments.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memset

from pgpool_core.session.effects cimport EFFECT_NAME_LEN, Effect, Effects, effects_find, effects_may
from pgpool_core.session.sqlproof cimport call_is_local, is_insert_target, is_prepare_transaction, prove, set_is_local
from pgpool_core.session.sqltoken cimport *
from pgpool_core.session.sqlwords cimport *
from pgpool_core.wire.span cimport Span

cdef enum:
    LEAD_NOT = 0
    LEAD_STATEMENT = 1            # the next word begins a statement
    LEAD_INNER = 2                # the same inside brackets, or behind them

    # What a function may do whose name is not read.
    ANY_FUNCTION = SQL_SETS | SQL_NOTIFIES | SQL_ADVISORY | SQL_UNLOCKS | SQL_SEQUENCES | SQL_TEMPS | SQL_OPAQUE


cdef struct Pass:                 # one reading of a text
    SqlScan *out
    const uint8_t *end
    const Effects *effects        # NULL: nothing is known of functions
    uint32_t flags
    uint32_t hidden
    uint32_t hidden_written       # if the text changes rows too
    uint32_t depth                # of brackets
    int seen                      # SEEN_*
    int reading
    uint8_t lead
    uint8_t before                # WORD_* of the token before
    uint8_t before_dot            # WORD_* of the token before the dot that is `before`
    uint8_t ddl                   # this statement began with CREATE, ALTER or DROP
    uint8_t bodies                # strings of this statement may be SQL
    uint8_t session_set           # some SET is not local


cdef inline bint is_temp_name(const uint8_t *at, size_t len) noexcept nogil:
    """pg_temp, pg_temp_3."""
    return (len >= 7 and at[2] == 0x5F and at[0] | 0x20 == 0x70 and at[1] | 0x20 == 0x67 and at[3] | 0x20 == 0x74
            and at[4] | 0x20 == 0x65 and at[5] | 0x20 == 0x6D and at[6] | 0x20 == 0x70)


cdef void name_found(Pass *s, const uint8_t *at, size_t len) noexcept nogil:
    """A name of one byte or more stands at `at`, or a keyword that may be one."""
    cdef const Effect *effect
    if len > EFFECT_NAME_LEN:
        if s.effects.count:
            s.hidden |= SQL_OPAQUE
    elif effects_may(s.effects, at, len):
        effect = effects_find(s.effects, at, len)
        if effect is not NULL:
            s.hidden |= effect.flags
            s.hidden_written |= effect.written


cdef uint32_t words_in(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """What the words between `at` and `end` may do, wherever they stand: in strings and comments too."""
    cdef Pass s
    memset(&s, 0, sizeof(s))
    return body_flags(&s, at, end)


cdef uint32_t body_flags(Pass *s, const uint8_t *at, const uint8_t *end) noexcept nogil:
    cdef const uint8_t *begin
    cdef uint32_t flags = 0
    while at < end:
        if at[0] == 0x5C:
            at += 2
        elif BYTE_KINDS[at[0]] != BYTE_WORD:
            at += 1
        else:
            begin = at
            while at < end and BYTE_KINDS[at[0]] <= BYTE_DIGIT:
                at += 1
            flags |= word_find(WORDS, WORD_HEADS, begin, at - begin).body
            if s.effects is not NULL:
                name_found(s, begin, at - begin)
            if is_temp_name(begin, at - begin):
                flags |= SQL_TEMPS
    return flags


cdef void add_body(Pass *s, const uint8_t *at, const uint8_t *end) noexcept nogil:
    cdef uint32_t flags = body_flags(s, at, end)
    s.flags |= flags
    if flags & SQL_SETS:
        s.session_set = True


cdef void add_call(SqlScan *out, const uint8_t *name, size_t len) noexcept nogil:
    cdef uint32_t sum = call_hash(name, len)
    cdef uint32_t i
    for i in range(out.call_count):
        if out.calls[i] == sum:
            return
    if out.call_count == MAX_CALLS:
        out.calls_overflow = True
        return
    out.calls[out.call_count] = sum
    out.call_count += 1


cdef void lead_by(Pass *s, uint8_t verb) noexcept nogil:
    """A statement begins with a token that stands for `verb`."""
    if s.lead == LEAD_STATEMENT:
        s.out.statements += 1
    s.lead = LEAD_NOT
    if s.out.verb == VERB_NONE:
        s.out.verb = verb


cdef void lead_word(Pass *s, const Word *word, const uint8_t *behind) noexcept nogil:
    """A statement begins with `word`."""
    lead_by(s, word.verb)
    if word.id == WORD_CREATE:
        s.ddl = True
        s.flags |= SQL_DDL
    elif word.id == WORD_DO:
        s.bodies = s.out.bodies = True
    elif word.id == WORD_PREPARE:
        if is_prepare_transaction(behind, s.end, s.reading):
            return
    if word.lead & SQL_SETS:
        if word.id != WORD_SET or not set_is_local(behind, s.end, s.reading):
            s.session_set = True
    s.flags |= word.lead


cdef uint8_t function_word(Pass *s, const Word *word, const uint8_t *behind) noexcept nogil:
    """What stands at `word` is a name, perhaps that of a function with an effect: what `before` is from now on."""
    s.flags |= word.quoted
    if word.quoted & SQL_SETS and not s.session_set:
        if word.id != WORD_SET_CONFIG or (s.before == WORD_DOT and s.before_dot != WORD_CATALOG) \
                or not call_is_local(behind, s.end, s.reading):
            s.session_set = True
    if word.id == WORD_CATALOG or word.quoted:
        return word.id
    if s.before == WORD_DOT:
        if s.before_dot == WORD_TARGET:
            return WORD_TARGET
        if s.before_dot == WORD_CATALOG and word.id == WORD_QUIET:
            return WORD_QUIET
    return WORD_TARGET if s.before == WORD_INSERT_INTO else WORD_NAME


cdef uint8_t special_word(Pass *s, const Word *word, const uint8_t *behind) noexcept nogil:
    """The same for a word without quotes or dot that is in the table with more than WORD_QUIET."""
    cdef uint8_t id = word.id
    s.flags |= word.any
    if word.quoted:
        return function_word(s, word, behind)
    if id == WORD_INTO:
        if s.before == WORD_INSERT:
            return WORD_INSERT_INTO
        s.flags |= SQL_DDL                        # SELECT INTO
        if s.effects is not NULL:
            name_found(s, b"create", 6)           # for which event triggers take it
    elif id == WORD_TEMP:
        if s.before == WORD_CREATE or s.before == WORD_REPLACE or s.before == WORD_INTO \
                or (s.before == WORD_INSERT_INTO and not is_insert_target(behind, s.end, s.reading)):
            s.flags |= SQL_TEMPS
    elif id == WORD_HOLD:
        if s.before == WORD_WITH:
            s.flags |= SQL_HOLDS
    elif id == WORD_NOTIFY:
        if s.before == WORD_RULE_DO or s.before == WORD_DO or s.before == WORD_OPEN:
            s.flags |= SQL_NOTIFIES
    elif id == WORD_DATABASE:
        if s.before == WORD_CREATE:
            s.flags |= SQL_DATABASE_DDL
    elif id == WORD_FUNCTION and s.ddl:
        s.flags |= SQL_FUNCTION_DDL
        s.bodies = s.out.bodies = True
    return id


cdef const uint8_t *take_string(Pass *s, const uint8_t *quote, bint escapes, bint coded) noexcept nogil:
    """Go past the string whose first quote is at `quote`; NULL when nobody can say where it ends."""
    cdef int seen = 0
    cdef const uint8_t *at = past_string(quote, s.end, escapes, &seen)
    if seen & SEEN_BACKSLASH and not coded:
        s.seen |= SEEN_BACKSLASH
    if seen & SEEN_TRAILING and s.reading & READ_TRAILING:
        return NULL
    if s.bodies:
        add_body(s, quote + 1, at)
        if coded or (escapes and memchr(quote, 0x5C, at - quote) is not NULL):
            s.flags |= SQL_OPAQUE
    s.before = WORD_STRING
    return at


cdef void read_pass(Pass *s, const uint8_t *at) noexcept nogil:
    """Add to `s` what there is from `at` to its end."""
    cdef const uint8_t *end = s.end
    cdef const uint8_t *kinds = BYTE_KINDS
    cdef const Word *words = WORDS
    cdef const uint16_t *heads = WORD_HEADS
    cdef const uint8_t *name = at         # the name that is `before`
    cdef const uint8_t *quote
    cdef const Word *word
    cdef size_t name_len = 0
    cdef uint8_t kind
    cdef int seen = 0
    cdef bint escapes, coded
    cdef bint continued = False           # the string before was read with escapes
    cdef Span body
    while at < end:
        kind = kinds[at[0]]
        if kind == BYTE_SPACE:
            at += 1
            continue
        quote = NULL
        escapes = s.reading & READ_BACKSLASHES != 0
        coded = False
        if kind == BYTE_WORD:
            name = at
            at += 1
            while at < end and kinds[at[0]] <= BYTE_DOLLAR:
                at += 1
            name_len = at - name
            if name_len == 1 and end - at > 1:
                if at[0] == 0x27:
                    if name[0] | 0x20 == 0x65:
                        quote, escapes = at, True
                    elif name[0] | 0x20 == 0x62 or name[0] | 0x20 == 0x78:
                        quote, escapes, coded = at, False, True
                elif at[0] == 0x26 and name[0] | 0x20 == 0x75:
                    if at[1] == 0x27:
                        quote, escapes, coded = at + 1, False, True
                    elif at[1] == 0x22:
                        at = past_name(at + 1, end, &seen)
                        s.flags |= ANY_FUNCTION
                        s.session_set = True
                        s.out.calls_overflow = True
                        s.before = WORD_SYMBOL
                        if s.lead:
                            lead_by(s, VERB_OTHER)
                        continue
            if quote is NULL:
                word = word_find(words, heads, name, name_len)
                if s.effects is not NULL:
                    name_found(s, name, name_len)
                if s.lead:
                    lead_word(s, word, at)
                if word.len == 0 and is_temp_name(name, name_len):
                    s.flags |= SQL_TEMPS
                if s.before == WORD_DOT:
                    s.before = function_word(s, word, at)
                elif word.special:
                    s.before = special_word(s, word, at)
                elif s.before == WORD_INSERT_INTO:
                    s.before = WORD_TARGET
                else:
                    s.before = word.id
                continue
        elif kind == BYTE_OTHER or kind == BYTE_COMMA:
            at += 1
        elif kind == BYTE_DIGIT:
            at += 1
            while at < end and kinds[at[0]] == BYTE_DIGIT:
                at += 1
            if at < end and (at[0] == 0x2E or at[0] | 0x20 == 0x65):
                at = past_number(at, end)
        elif kind == BYTE_DOT:
            if s.before != WORD_DOT:
                s.before_dot = s.before
            s.before = WORD_DOT
            at += 1
            if s.lead:
                lead_by(s, VERB_OTHER)
            continue
        elif kind == BYTE_OPEN:
            if s.before == WORD_PLAIN or s.before == WORD_NAME:
                add_call(s.out, name, name_len)
            s.before = WORD_OPEN
            s.depth += 1
            at += 1
            if s.lead == LEAD_STATEMENT:
                s.out.statements += 1
                s.lead = LEAD_INNER
            continue
        elif kind == BYTE_SHUT:
            if s.depth:
                s.depth -= 1
            at += 1
        elif kind == BYTE_SEMICOLON:
            s.before = WORD_SYMBOL
            if s.depth:
                s.lead = LEAD_INNER
            else:
                if s.lead == LEAD_INNER and s.out.verb == VERB_NONE:
                    s.out.verb = VERB_OTHER
                s.lead = LEAD_STATEMENT
                s.ddl = s.bodies = False
            at += 1
            continue
        elif kind == BYTE_QUOTE:
            quote = at
            if s.before == WORD_STRING:
                escapes = continued
        elif kind == BYTE_NAME_QUOTE:
            name = at + 1
            seen = 0
            at = past_name(at, end, &seen)
            name_len = at - name - (seen & SEEN_NO_END == 0)
            word = words
            if name_len:
                word = word_find(words, heads, name, name_len)
                if is_temp_name(name, name_len):
                    s.flags |= SQL_TEMPS
                if s.effects is not NULL:
                    name_found(s, name, name_len)
            s.before = function_word(s, word, at)
            if s.lead:
                lead_by(s, VERB_OTHER)
            continue
        elif kind == BYTE_MINUS:
            if end - at > 1 and at[1] == 0x2D:
                at = past_line(at, end)
                continue
            at += 1
        elif kind == BYTE_SLASH:
            if end - at > 1 and at[1] == 0x2A:
                at = past_comment(at, end)
                continue
            at += 1
        else:
            quote = past_dollars(at, end, &body)
            if quote is not NULL:
                if s.bodies:
                    add_body(s, body.at, body.at + body.len)
                at = quote
                quote = NULL
            else:
                at += 1
                while at < end and kinds[at[0]] == BYTE_DIGIT:
                    at += 1
        if s.lead:
            lead_by(s, VERB_OTHER)
        if quote is NULL:
            s.before = WORD_SYMBOL
            continue
        continued = escapes
        at = take_string(s, quote, escapes, coded)
        if at is NULL:
            add_body(s, quote, end)
            s.out.statements += 2
            s.out.calls_overflow = True
            s.seen |= SEEN_TRAILING
            return


cdef int read_text(const uint8_t *text, size_t len, int reading, const Effects *effects, SqlScan *out) noexcept nogil:
    """Read the text in one way; SEEN_*."""
    cdef Pass s
    memset(&s, 0, sizeof(s))
    s.out = out
    s.end = text + len
    s.effects = effects
    s.reading = reading
    s.lead = LEAD_STATEMENT
    s.before = WORD_SYMBOL
    read_pass(&s, text)
    if out.statements and out.verb == VERB_NONE:
        out.verb = VERB_OTHER
    if s.flags & SEEN_SETTINGS:
        if s.flags & SEEN_UPDATE:
            s.flags |= SQL_SETS
            s.session_set = True
        if s.flags & SQL_DDL:
            s.flags |= SQL_FUNCTION_DDL           # a view of it: UPDATE of that is a SET too
    if s.flags & SQL_SETS and not s.session_set:
        s.flags |= SQL_LOCAL_SET
    out.flags = s.flags & SQL_ALL
    out.hidden = s.hidden
    if s.flags & (SEEN_WRITES | SQL_OPAQUE | SQL_DDL):
        out.hidden |= s.hidden_written
    return s.seen


cdef bint says_temp(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Whether a setting may make pg_temp the schema for new tables: the name is in the text, or could be by escapes."""
    if memchr(at, 0x5C, end - at) is not NULL:
        return True
    while end - at >= 7:
        if is_temp_name(at, end - at) or (at[0] == 0x26 and at[1] == 0x27):     # U&'...', perhaps with another sign for escapes
            return True
        at += 1
    return False


cdef void scan_sql(const uint8_t *text, size_t len, int reading, const Effects *effects, SqlScan *out) noexcept nogil:
    """What the text may do to its session. `reading` is one of READ_*, and READ_TRAILING; `effects` may be NULL."""
    cdef SqlScan other
    cdef uint32_t either
    cdef int seen
    memset(out, 0, sizeof(SqlScan))
    seen = read_text(text, len, reading & ~READ_UNKNOWN, effects, out)
    if reading & READ_UNKNOWN and seen & SEEN_BACKSLASH:
        memset(&other, 0, sizeof(SqlScan))
        seen |= read_text(text, len, READ_BACKSLASHES | (reading & READ_TRAILING), effects, &other) | SEEN_TRAILING
        either = out.flags | other.flags
        if out.flags & (SQL_SETS | SQL_LOCAL_SET) == SQL_SETS or other.flags & (SQL_SETS | SQL_LOCAL_SET) == SQL_SETS:
            either &= ~<uint32_t>SQL_LOCAL_SET
        out.flags = either
        out.hidden |= other.hidden
        if out.statements < other.statements:
            out.statements = other.statements
        out.calls_overflow |= other.calls_overflow
        out.bodies |= other.bodies
        if other.call_count:
            out.calls_overflow = True
    if out.flags & SQL_SETS and says_temp(text, text + len):
        out.flags |= SQL_TEMPS
    if out.call_count or out.calls_overflow:
        out.flags |= SQL_CALLS
    if out.statements == 1 and seen & SEEN_TRAILING == 0:
        prove(text, text + len, reading, out)
