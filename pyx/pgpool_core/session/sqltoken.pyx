"""PostgreSQL's tokens; see sqltoken.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memset

from pgpool_core.wire.span cimport Span

cdef uint8_t byte_kinds[256]
cdef const uint8_t *BYTE_KINDS = byte_kinds


cdef void kind_of(bytes letters, uint8_t kind):
    for letter in letters:
        byte_kinds[<uint8_t>letter] = kind


memset(byte_kinds, BYTE_OTHER, sizeof(byte_kinds))
kind_of(bytes(range(128, 256)) + b"_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", BYTE_WORD)
kind_of(b"0123456789", BYTE_DIGIT)
kind_of(b"$", BYTE_DOLLAR)
kind_of(b" \t\n\r\f\v", BYTE_SPACE)
kind_of(b",", BYTE_COMMA)
kind_of(b".", BYTE_DOT)
kind_of(b"(", BYTE_OPEN)
kind_of(b")", BYTE_SHUT)
kind_of(b";", BYTE_SEMICOLON)
kind_of(b"'", BYTE_QUOTE)
kind_of(b'"', BYTE_NAME_QUOTE)
kind_of(b"-", BYTE_MINUS)
kind_of(b"/", BYTE_SLASH)


cdef const uint8_t *past_string(const uint8_t *at, const uint8_t *end, bint escapes, int *seen) noexcept nogil:
    """Where the string ends whose first quote is at `at`; what there was of SEEN_* is added to `*seen`."""
    cdef const uint8_t *begin
    at += 1
    if not escapes:
        begin = at
        while True:
            at = <const uint8_t *>memchr(at, 0x27, end - at)
            if at is NULL:
                at = end
                break
            if end - at > 1 and at[1] == 0x27:
                at += 2
                continue
            break
        if memchr(begin, 0x5C, at - begin) is not NULL:
            seen[0] |= SEEN_BACKSLASH
        if at < end:
            return at + 1
        seen[0] |= SEEN_NO_END
        return end
    while at < end:
        if at[0] == 0x5C:
            if (at - 1)[0] >= 0x80:
                seen[0] |= SEEN_TRAILING
            at += 2
        elif at[0] != 0x27:
            at += 1
        elif end - at > 1 and at[1] == 0x27:
            at += 2
        else:
            return at + 1
    seen[0] |= SEEN_NO_END
    return end


cdef const uint8_t *past_name(const uint8_t *at, const uint8_t *end, int *seen) noexcept nogil:
    """Where the quoted name ends whose first quote is at `at`."""
    at += 1
    while at < end:
        if at[0] != 0x22:
            at += 1
        elif end - at > 1 and at[1] == 0x22:
            at += 2
        else:
            return at + 1
    seen[0] |= SEEN_NO_END
    return end


cdef const uint8_t *past_line(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Where the comment of two dashes at `at` ends: at a line feed or a carriage return."""
    while at < end and at[0] != 0x0A and at[0] != 0x0D:
        at += 1
    return at


cdef const uint8_t *past_comment(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Where the comment at `at` ends, which may hold others."""
    cdef size_t depth = 1
    at += 2
    while end - at >= 2:
        if at[0] == 0x2A and at[1] == 0x2F:
            at += 2
            depth -= 1
            if depth == 0:
                return at
        elif at[0] == 0x2F and at[1] == 0x2A:
            at += 2
            depth += 1
        else:
            at += 1
    return end


cdef const uint8_t *past_dollars(const uint8_t *at, const uint8_t *end, Span *body) noexcept nogil:
    """Where the dollar-quoted string at `at` ends, and what is in it; NULL when this dollar quotes nothing."""
    cdef const uint8_t *tag = at
    cdef const uint8_t *begin
    cdef size_t tag_len
    at += 1
    if at < end and byte_kinds[at[0]] == BYTE_DIGIT:
        return NULL
    while at < end and byte_kinds[at[0]] <= BYTE_DIGIT:
        at += 1
    if at == end or at[0] != 0x24:
        return NULL
    at += 1
    tag_len = at - tag
    begin = at
    body.at = begin
    while True:
        at = <const uint8_t *>memchr(at, 0x24, end - at)
        if at is NULL or <size_t>(end - at) < tag_len:
            body.len = <uint32_t>(end - begin)
            return end
        if memcmp(at, tag, tag_len) == 0:
            body.len = <uint32_t>(at - begin)
            return at + tag_len
        at += 1


cdef const uint8_t *past_number(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Where the number at `at` ends. Before PostgreSQL 15 a word might follow at once, as in `SELECT 1e5INTO t`."""
    cdef const uint8_t *exponent
    while at < end and byte_kinds[at[0]] == BYTE_DIGIT:
        at += 1
    if at < end and at[0] == 0x2E:
        at += 1
        while at < end and byte_kinds[at[0]] == BYTE_DIGIT:
            at += 1
    if at < end and at[0] | 0x20 == 0x65:
        exponent = at + 1
        if exponent < end and (exponent[0] == 0x2B or exponent[0] == 0x2D):
            exponent += 1
        if exponent < end and byte_kinds[exponent[0]] == BYTE_DIGIT:
            at = exponent
            while at < end and byte_kinds[at[0]] == BYTE_DIGIT:
                at += 1
    return at


cdef inline void quoted_token(Lexer *lexer, const uint8_t *quote, bint escapes, Token *out) noexcept nogil:
    """The string whose first quote is at `quote`. It counts as open where its end may be elsewhere."""
    cdef int seen = 0
    lexer.at = past_string(quote, lexer.end, escapes, &seen)
    if lexer.reading & READ_TRAILING == 0:
        seen &= ~SEEN_TRAILING
    out.closed = seen & (SEEN_NO_END | SEEN_TRAILING) == 0
    out.kind = TOKEN_ESCAPED if escapes else TOKEN_STRING


cdef void token_next(Lexer *lexer, Token *out) noexcept nogil:
    """The next token behind white space and comments. A plain string is read with escapes unless READ_STANDARD."""
    cdef const uint8_t *at = lexer.at
    cdef const uint8_t *end = lexer.end
    cdef const uint8_t *past
    cdef uint8_t kind
    cdef int seen = 0
    cdef Span body
    while at < end:
        kind = byte_kinds[at[0]]
        if kind == BYTE_SPACE:
            at += 1
        elif kind == BYTE_MINUS and end - at > 1 and at[1] == 0x2D:
            at = past_line(at, end)
        elif kind == BYTE_SLASH and end - at > 1 and at[1] == 0x2A:
            at = past_comment(at, end)
        else:
            break
    out.raw.at = at
    out.raw.len = 0
    out.closed = True
    lexer.at = at
    if at == end:
        out.kind = TOKEN_END
        return
    lexer.at = at + 1
    out.kind = TOKEN_SYMBOL
    if kind == BYTE_WORD:
        past = at + 1
        while past < end and byte_kinds[past[0]] <= BYTE_DOLLAR:
            past += 1
        lexer.at = past
        out.kind = TOKEN_WORD
        if past - at == 1 and past < end:
            if past[0] == 0x27 and at[0] | 0x20 == 0x65:
                quoted_token(lexer, past, True, out)
            elif past[0] == 0x27 and (at[0] | 0x20 == 0x62 or at[0] | 0x20 == 0x78):
                quoted_token(lexer, past, False, out)
                out.kind = TOKEN_CODED
            elif past[0] == 0x26 and at[0] | 0x20 == 0x75 and end - past > 1:
                if past[1] == 0x27:
                    quoted_token(lexer, past + 1, False, out)
                    out.kind = TOKEN_CODED
                elif past[1] == 0x22:
                    lexer.at = past_name(past + 1, end, &seen)
                    out.closed = seen == 0
                    out.kind = TOKEN_CODED
    elif kind == BYTE_QUOTE:
        quoted_token(lexer, at, lexer.reading & (READ_BACKSLASHES | READ_UNKNOWN) != 0, out)
        if out.kind == TOKEN_ESCAPED and memchr(at, 0x5C, lexer.at - at) is NULL:
            out.kind = TOKEN_STRING
    elif kind == BYTE_NAME_QUOTE:
        lexer.at = past_name(at, end, &seen)
        out.closed = seen == 0
        out.kind = TOKEN_NAME
    elif kind == BYTE_DIGIT or (kind == BYTE_DOT and end - at > 1 and byte_kinds[at[1]] == BYTE_DIGIT):
        lexer.at = past_number(at, end)
        out.kind = TOKEN_NUMBER
    elif kind == BYTE_DOLLAR:
        past = past_dollars(at, end, &body)
        if past is not NULL:
            lexer.at = past
            out.closed = body.at + body.len < past
            out.kind = TOKEN_DOLLAR
        elif end - at > 1 and byte_kinds[at[1]] == BYTE_DIGIT:
            past = at + 1
            while past < end and byte_kinds[past[0]] == BYTE_DIGIT:
                past += 1
            lexer.at = past
            out.kind = TOKEN_PARAM
    out.raw.len = <uint32_t>(lexer.at - at)


cdef int name_fold(Span raw, uint8_t *out) noexcept nogil:
    """Write the name `raw` as PostgreSQL knows it into `out` (NAME_LEN bytes); its length, or NAME_UNPROVEN.

    `raw` is a word, or a name with its quotes. Not proven: names without quotes and with bytes above 127, which
    PostgreSQL folds in some encodings of the database and not in others; the place where such a name is cut.
    """
    cdef uint32_t at = 0
    cdef uint32_t stop = raw.len
    cdef uint32_t n = 0
    cdef bint quoted = raw.len > 0 and raw.at[0] == 0x22
    cdef bint wide = False
    cdef uint8_t byte
    if quoted:
        if raw.len < 3 or raw.at[raw.len - 1] != 0x22:
            return NAME_UNPROVEN
        at, stop = 1, raw.len - 1
    while at < stop:
        byte = raw.at[at]
        at += 1
        if byte >= 0x80:
            wide = True
            if not quoted:
                return NAME_UNPROVEN
        if quoted:
            if byte == 0x22:
                if at == stop or raw.at[at] != 0x22:
                    return NAME_UNPROVEN
                at += 1
        elif 0x41 <= byte <= 0x5A:
            byte |= 0x20
        if n < NAME_LEN:
            out[n] = byte
        n += 1
    if n == 0 or (wide and n > NAME_LEN):
        return NAME_UNPROVEN
    return n if n < NAME_LEN else NAME_LEN
