"""Messages that the pooler itself says, written into a caller's buffer.

Every function returns the number of bytes written, or 0 when `cap` is too small: nothing is written in part.
Source: PostgreSQL docs, "Message Formats", "Error and Notice Message Fields".
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.wire.span cimport Span


cdef size_t build_error(uint8_t *out, size_t cap, const char *severity, const char *sqlstate, const char *message,
                        const Span *detail) noexcept nogil
cdef size_t build_notice(uint8_t *out, size_t cap, const char *severity, const char *sqlstate, const char *message,
                         const char *hint) noexcept nogil
cdef size_t build_ready(uint8_t *out, size_t cap, uint8_t status) noexcept nogil
cdef size_t build_query(uint8_t *out, size_t cap, const uint8_t *text, size_t text_len) noexcept nogil
cdef size_t build_parameter(uint8_t *out, size_t cap, Span name, Span value) noexcept nogil
cdef size_t build_key(uint8_t *out, size_t cap, uint32_t pid, uint32_t secret) noexcept nogil
cdef size_t build_auth_ok(uint8_t *out, size_t cap) noexcept nogil
cdef size_t build_empty(uint8_t *out, size_t cap, uint8_t kind) noexcept nogil
cdef size_t build_copy_fail(uint8_t *out, size_t cap, const char *reason) noexcept nogil
