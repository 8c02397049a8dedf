"""Callers; see caller.pxd.

An idle client has none: its name is that of its terms, its database that of its pool. It is there from the startup packet to the
greeting, and again when the client ends.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from pgpool_core.engine.records cimport Caller, ClientConn
from pgpool_core.statements.rewrite cimport ErrorFields, error_fields
from pgpool_core.wire.codes cimport BE_ERROR
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span, text_span


cdef bint caller_says(ClientConn *c, Span user, Span database) noexcept nogil:
    """Write down both names, in one block with their record."""
    cdef Caller *caller = <Caller *>calloc(1, sizeof(Caller) + user.len + 1 + database.len + 1)
    cdef char *text
    if caller == NULL:
        return False
    text = <char *>(caller + 1)
    memcpy(text, user.at, user.len)
    caller.asked = text + user.len + 1
    memcpy(caller.asked, database.at, database.len)
    caller_free(c)
    c.caller = caller
    return True


cdef void caller_known(ClientConn *c) noexcept nogil:
    if c.pool != NULL and c.terms != NULL:
        caller_free(c)


cdef void caller_keep(ClientConn *c) noexcept nogil:
    cdef const char *user = client_user(c)
    if c.caller == NULL and user != NULL:
        caller_says(c, text_span(user), text_span(""))


cdef void caller_note(ClientConn *c, const uint8_t *message, size_t n) noexcept nogil:
    """Keep the text of an ErrorResponse for the log: the message alone, which has no SQL in it."""
    cdef ErrorFields fields
    if client_told(c) != NULL or n <= HEADER_LEN or message[0] != BE_ERROR \
            or not error_fields(message + HEADER_LEN, <uint32_t>(n - HEADER_LEN), &fields) or fields.message.len == 0:
        return
    caller_keep(c)
    if c.caller == NULL and not caller_says(c, text_span(""), text_span("")):       # it has not said yet who it is
        return
    c.caller.told = <char *>calloc(1, fields.message.len + 1)
    if c.caller.told != NULL:
        memcpy(c.caller.told, fields.message.at, fields.message.len)


cdef void caller_free(ClientConn *c) noexcept nogil:
    if c.caller != NULL:
        free(c.caller.told)
        free(c.caller)
        c.caller = NULL


cdef const char *client_user(const ClientConn *c) noexcept nogil:
    if c.caller != NULL:
        return named(<const char *>(c.caller + 1))
    return <const char *>c.terms.name if c.terms != NULL else NULL


cdef const char *client_asked(const ClientConn *c) noexcept nogil:
    return named(c.caller.asked) if c.caller != NULL else NULL


cdef const char *client_told(const ClientConn *c) noexcept nogil:
    return c.caller.told if c.caller != NULL else NULL


cdef inline const char *named(const char *text) noexcept nogil:
    return text if text[0] else NULL
