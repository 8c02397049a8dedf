"""Names of settings; see setting_names.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc
from libc.string cimport strlen

from pgpool_core.engine.functions cimport functions_of
from pgpool_core.engine.records cimport *
from pgpool_core.session.effects cimport Effects, effects_settings
from pgpool_core.session.probe cimport *
from pgpool_core.session.sqltoken cimport READ_STANDARD, TOKEN_DOLLAR, TOKEN_END, TOKEN_STRING, Lexer, Token, token_next
from pgpool_core.wire.span cimport Span


cdef bint named(ServerConn *s) noexcept nogil:
    """There is room for names in `s`."""
    if s.named == NULL:
        s.named = <SettingNames *>calloc(1, sizeof(SettingNames))
    return s.named != NULL


cdef void names_in(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    if named(s):
        names_find(s.named, text, n)


cdef void names_in_part(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """The same for the beginning of a text of which no more is known: names that find no room are no more of a loss."""
    cdef bint overflow
    if named(s):
        overflow = s.named.overflow
        names_find(s.named, text, n)
        s.named.overflow = overflow


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
