"""PostgreSQL's tokens: where strings, names, comments and numbers end in a text of SQL.

Everything works on a borrowed text between two pointers, never reads at `end` or behind it, and takes what is not
closed as reaching to `end`.

Source: PostgreSQL, src/backend/parser/scan.l.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.wire.span cimport Span


cdef enum:
    # How to read a text: one of the first three, perhaps with the fourth.
    READ_STANDARD = 0             # standard_conforming_strings is on
    READ_BACKSLASHES = 1          # it is off: a backslash in '...' takes away the meaning of the byte behind it
    READ_UNKNOWN = 2              # it may be either
    READ_TRAILING = 4             # client_encoding has characters that end in a backslash: SJIS, BIG5, GBK, GB18030, UHC, JOHAB

    # What a byte begins. Up to BYTE_DOLLAR: what a name may go on with.
    BYTE_WORD = 0
    BYTE_DIGIT = 1
    BYTE_DOLLAR = 2
    BYTE_SPACE = 3
    BYTE_OTHER = 4                # operators, brackets: a token of one byte as far as we care
    BYTE_COMMA = 5
    BYTE_DOT = 6
    BYTE_OPEN = 7
    BYTE_SHUT = 8
    BYTE_SEMICOLON = 9
    BYTE_QUOTE = 10
    BYTE_NAME_QUOTE = 11
    BYTE_MINUS = 12
    BYTE_SLASH = 13

    TOKEN_END = 0
    TOKEN_WORD = 1                # a keyword or a name without quotes
    TOKEN_NAME = 2                # "..."
    TOKEN_STRING = 3              # '...' without a backslash
    TOKEN_ESCAPED = 4             # '...' or E'...' that may hold escapes
    TOKEN_CODED = 5               # B'...', X'...', U&'...', U&"...": what it says is not read here
    TOKEN_DOLLAR = 6              # $tag$...$tag$
    TOKEN_NUMBER = 7              # without a sign
    TOKEN_PARAM = 8               # $1
    TOKEN_SYMBOL = 9              # one byte

    SEEN_BACKSLASH = 1            # in a string that was read without escapes
    SEEN_TRAILING = 2             # a backslash behind a byte above 127, which may be the second half of a character
    SEEN_NO_END = 4               # the text ended inside

    NAME_LEN = 63                 # bytes of a name that PostgreSQL keeps
    NAME_UNPROVEN = -1            # what PostgreSQL makes of this name depends on more than its text


cdef struct Token:                # borrows the text
    Span raw                      # with its quotes
    uint8_t kind
    uint8_t closed                # False: the text ended inside


cdef struct Lexer:                # borrows the text
    const uint8_t *at
    const uint8_t *end
    uint8_t reading


cdef const uint8_t *BYTE_KINDS    # 256


cdef inline bint token_is(const Token *token, const char *word) noexcept nogil:
    """Whether the token is this keyword, which is given in lower case."""
    cdef uint32_t i
    if token.kind != TOKEN_WORD:
        return False
    for i in range(token.raw.len):
        if token.raw.at[i] | 0x20 != <uint8_t>word[i]:   # a terminator never agrees
            return False
    return word[token.raw.len] == 0


cdef const uint8_t *past_string(const uint8_t *at, const uint8_t *end, bint escapes, int *seen) noexcept nogil
cdef const uint8_t *past_name(const uint8_t *at, const uint8_t *end, int *seen) noexcept nogil
cdef const uint8_t *past_line(const uint8_t *at, const uint8_t *end) noexcept nogil
cdef const uint8_t *past_comment(const uint8_t *at, const uint8_t *end) noexcept nogil
cdef const uint8_t *past_dollars(const uint8_t *at, const uint8_t *end, Span *body) noexcept nogil
cdef const uint8_t *past_number(const uint8_t *at, const uint8_t *end) noexcept nogil
cdef void token_next(Lexer *lexer, Token *out) noexcept nogil
cdef int name_fold(Span raw, uint8_t *out) noexcept nogil
