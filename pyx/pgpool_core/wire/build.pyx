"""Building whole messages; see build.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, strlen

from pgpool_core.wire.be cimport store_be32
from pgpool_core.wire.codes cimport *
from pgpool_core.wire.span cimport Span


cdef inline uint8_t *field(uint8_t *at, uint8_t code, const char *text) noexcept nogil:
    cdef size_t n = strlen(text) + 1
    at[0] = code
    memcpy(at + 1, text, n)
    return at + 1 + n


cdef size_t build_error(uint8_t *out, size_t cap, const char *severity, const char *sqlstate, const char *message,
                        const Span *detail) noexcept nogil:
    """ErrorResponse; `severity` ERROR or FATAL, `detail` may be NULL and must hold no zero byte."""
    cdef size_t need = 5 + 2 * (strlen(severity) + 2) + strlen(sqlstate) + 2 + strlen(message) + 2 + 1
    cdef uint8_t *at = out + 5
    if detail != NULL:
        need += detail.len + 2
    if need > cap:
        return 0
    at = field(at, 0x53, severity)      # 'S'
    at = field(at, 0x56, severity)      # 'V': never translated
    at = field(at, 0x43, sqlstate)      # 'C'
    at = field(at, 0x4D, message)       # 'M'
    if detail != NULL:
        at[0] = 0x44                    # 'D'
        memcpy(at + 1, detail.at, detail.len)
        at[1 + detail.len] = 0
        at += detail.len + 2
    at[0] = 0
    out[0] = BE_ERROR
    store_be32(out + 1, <uint32_t>(need - 1))
    return need


cdef size_t build_notice(uint8_t *out, size_t cap, const char *severity, const char *sqlstate, const char *message,
                         const char *hint) noexcept nogil:
    """NoticeResponse; `severity` WARNING or NOTICE, `hint` may be NULL."""
    cdef size_t have
    cdef size_t n = build_error(out, cap, severity, sqlstate, message, NULL)
    if n == 0:
        return 0
    if hint != NULL:
        have = strlen(hint) + 2
        if have > cap - n:
            return 0
        field(out + n - 1, 0x48, hint)  # 'H', where the list of fields ended
        n += have
        out[n - 1] = 0
    out[0] = BE_NOTICE
    store_be32(out + 1, <uint32_t>(n - 1))
    return n


cdef size_t build_ready(uint8_t *out, size_t cap, uint8_t status) noexcept nogil:
    """ReadyForQuery with the transaction status `status` (TX_*)."""
    if cap < 6:
        return 0
    out[0] = BE_READY
    store_be32(out + 1, 5)
    out[5] = status
    return 6


cdef size_t build_query(uint8_t *out, size_t cap, const uint8_t *text, size_t text_len) noexcept nogil:
    """Query with `text_len` bytes of SQL, no zero byte among them."""
    if cap < 6 or text_len > cap - 6:
        return 0
    out[0] = FE_QUERY
    store_be32(out + 1, <uint32_t>(text_len + 5))
    memcpy(out + 5, text, text_len)
    out[5 + text_len] = 0
    return text_len + 6


cdef size_t build_parameter(uint8_t *out, size_t cap, Span name, Span value) noexcept nogil:
    """ParameterStatus."""
    cdef size_t need = 5 + <size_t>name.len + 1 + value.len + 1
    if need > cap:
        return 0
    out[0] = BE_PARAMETER_STATUS
    store_be32(out + 1, <uint32_t>(need - 1))
    memcpy(out + 5, name.at, name.len)
    out[5 + name.len] = 0
    memcpy(out + 6 + name.len, value.at, value.len)
    out[need - 1] = 0
    return need


cdef size_t build_key(uint8_t *out, size_t cap, uint32_t pid, uint32_t secret) noexcept nogil:
    """BackendKeyData with an 8-byte key, as protocol 3.0 has it."""
    if cap < 13:
        return 0
    out[0] = BE_BACKEND_KEY_DATA
    store_be32(out + 1, 12)
    store_be32(out + 5, pid)
    store_be32(out + 9, secret)
    return 13


cdef size_t build_auth_ok(uint8_t *out, size_t cap) noexcept nogil:
    """AuthenticationOk."""
    if cap < 9:
        return 0
    out[0] = BE_AUTHENTICATION
    store_be32(out + 1, 8)
    store_be32(out + 5, 0)
    return 9


cdef size_t build_empty(uint8_t *out, size_t cap, uint8_t kind) noexcept nogil:
    """A message of type `kind` without a body: Sync, Terminate, Flush."""
    if cap < 5:
        return 0
    out[0] = kind
    store_be32(out + 1, 4)
    return 5


cdef size_t build_copy_fail(uint8_t *out, size_t cap, const char *reason) noexcept nogil:
    """CopyFail; PostgreSQL repeats `reason` in its error message."""
    cdef size_t n = strlen(reason) + 1
    if cap < 5 + n:
        return 0
    out[0] = FE_COPY_FAIL
    store_be32(out + 1, <uint32_t>(4 + n))
    memcpy(out + 5, reason, n)
    return 5 + n
