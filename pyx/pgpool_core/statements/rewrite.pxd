"""Names inside messages: found in what the client sends, written anew for the server, put back in what it answers.

Source: PostgreSQL docs, "Message Formats": Parse, Bind, Describe, Close; "Error and Notice Message Fields".
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.statements.text cimport SERVER_NAME_LEN
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span


cdef enum:
    NAME_FOUND = 0
    NAME_NEED_MORE = 1            # call again when more of the body has come
    NAME_NONE = 2                 # no named statement: the unnamed one, or a portal
    NAME_TOO_LONG = 3             # beyond MAX_NAME_LEN
    NAME_BROKEN = 4               # PostgreSQL will refuse the message

    USED_NOT = 0
    USED_ONCE = 1
    USED_NEED_MORE = 2

    SHORT_LEN = HEADER_LEN + 1 + SERVER_NAME_LEN + 1       # Close of a statement
    PARSE_HEAD_LEN = HEADER_LEN + SERVER_NAME_LEN + 1      # Parse up to its query
    RENAMED_MAX = HEADER_LEN + 4096 + 1 + SERVER_NAME_LEN + 1


cdef struct NamePlace:            # borrows from the body
    Span name                     # without its zero
    uint32_t at                   # offset in the body of the name
    uint32_t end                  # of what is behind its zero


cdef struct ErrorFields:          # borrows from the body; what is missing is empty
    Span sqlstate
    Span message
    Span routine


cdef int name_place(uint8_t fe_type, const uint8_t *body, uint32_t have, uint32_t body_len,
                    NamePlace *out) noexcept nogil
cdef bint parse_text_ok(const uint8_t *text, uint32_t n) noexcept nogil
cdef int used_once(const uint8_t *group, size_t n) noexcept nogil
cdef bint name_like_ours(Span name) noexcept nogil
cdef uint32_t put_close(uint8_t *out, uint64_t id) noexcept nogil
cdef uint32_t put_parse_head(uint8_t *out, uint64_t id, uint32_t text_len) noexcept nogil
cdef uint32_t put_renamed(uint8_t *out, uint8_t fe_type, const uint8_t *body, uint32_t body_len,
                          const NamePlace *place, uint64_t id) noexcept nogil
cdef bint error_fields(const uint8_t *body, uint32_t n, ErrorFields *out) noexcept nogil
cdef bint find_server_name(Span text, uint64_t *id) noexcept nogil
cdef size_t put_unnamed(uint8_t *out, size_t cap, const uint8_t *body, uint32_t n) noexcept nogil
cdef size_t put_error(uint8_t *out, size_t cap, const uint8_t *body, uint32_t n, uint64_t id, Span name) noexcept nogil
