"""How the first packet of a connection is read.

Source: PostgreSQL docs, "Message Formats", StartupMessage, SSLRequest, GSSENCRequest, CancelRequest,
NegotiateProtocolVersion.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.codes cimport BE_NEGOTIATE
from pgpool_core.wire.span cimport Span

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)


cdef enum:
    HEAD_LEN = 8                  # Int32 length, counting itself, and Int32 code
    CANCEL_HEAD_LEN = 12          # and Int32 process id
    CODE_CANCEL = 80877102        # 1234 in the high half, 5678 in the low one
    CODE_SSL = 80877103
    CODE_GSS = 80877104
    TLS_HANDSHAKE = 0x16          # first byte of a TLS record with a ClientHello
    NEGOTIATED = 0x00030000       # 3.0: PostgreSQL sends, and libpq compares, both halves of the version


cdef int startup_parse(const uint8_t *buf, size_t avail, Startup *out) noexcept nogil:
    """Read the first packet at `buf`, of which `avail` bytes are there.

    Every answer but STARTUP_NEED_MORE is final: more bytes do not change it. A packet that can only be refused is
    refused by its head, before its body has to be waited for.
    """
    cdef uint32_t length, code
    if avail < 1:
        return STARTUP_NEED_MORE
    if buf[0] == TLS_HANDSHAKE:
        return STARTUP_DIRECT_TLS
    if avail < 4:
        return STARTUP_NEED_MORE
    length = load_be32(buf)
    if length < HEAD_LEN or length > MAX_STARTUP_LEN:
        return STARTUP_BAD_LENGTH
    if avail < HEAD_LEN:
        return STARTUP_NEED_MORE
    code = load_be32(buf + 4)
    memset(out, 0, sizeof(Startup))
    out.packet_len = length
    out.major, out.minor = <uint16_t>(code >> 16), <uint16_t>(code & 0xFFFF)
    if code == CODE_SSL or code == CODE_GSS:
        if length != HEAD_LEN:
            return STARTUP_BAD_LENGTH
        return STARTUP_SSL if code == CODE_SSL else STARTUP_GSS
    if code == CODE_CANCEL:
        return parse_cancel(buf, avail, out)
    if out.major == 1 or out.major == 2:
        return STARTUP_OLD_PROTOCOL
    if out.major != 3:
        return STARTUP_BAD_PROTOCOL
    if avail < length:
        return STARTUP_NEED_MORE
    return parse_params(buf, out)


cdef int parse_cancel(const uint8_t *buf, size_t avail, Startup *out) noexcept nogil:
    if out.packet_len <= CANCEL_HEAD_LEN or out.packet_len > CANCEL_HEAD_LEN + MAX_CANCEL_KEY_LEN:
        return STARTUP_BAD_LENGTH
    if avail < out.packet_len:
        return STARTUP_NEED_MORE
    out.cancel_pid = load_be32(buf + HEAD_LEN)
    out.cancel_key.at, out.cancel_key.len = buf + CANCEL_HEAD_LEN, out.packet_len - CANCEL_HEAD_LEN
    return STARTUP_CANCEL


cdef int parse_params(const uint8_t *buf, Startup *out) noexcept nogil:
    """Read the names and values of a whole StartupMessage of protocol 3.

    Each is ended by a NUL; one more NUL, the last byte of the packet, ends the list.
    """
    cdef uint32_t at = HEAD_LEN
    cdef Span name, value
    out.first_param = HEAD_LEN
    while next_param(buf, out.packet_len, &at, &name, &value) == 1:
        if is_named(name, "user"):
            out.user = value
        elif is_named(name, "database"):
            out.database = value
        elif is_named(name, "replication"):
            out.replication = value
        elif is_named(name, "options"):
            out.options = value
        elif is_named(name, "application_name"):
            out.application_name = value
        elif is_protocol_option(name):
            out.protocol_options += 1
    if at + 1 != out.packet_len or buf[at] != 0:
        return STARTUP_BAD_LAYOUT
    if out.user.len == 0:
        return STARTUP_NO_USER
    if out.database.len == 0:
        out.database = out.user
    if out.user.len > MAX_USER_LEN:
        return STARTUP_USER_TOO_LONG
    if out.database.len > MAX_DATABASE_LEN:
        return STARTUP_DATABASE_TOO_LONG
    return STARTUP_OK


cdef int next_param(const uint8_t *buf, uint32_t packet_len, uint32_t *at, Span *name, Span *value) noexcept nogil:
    """Read one name and its value at `*at` and step over them; 0 at the end of the list and where it is broken."""
    cdef uint32_t after = at[0]
    if after >= packet_len or buf[after] == 0:
        return 0
    if take_text(buf, packet_len, &after, name) == 0 or take_text(buf, packet_len, &after, value) == 0:
        return 0
    at[0] = after
    return 1


cdef int take_text(const uint8_t *buf, uint32_t packet_len, uint32_t *at, Span *out) noexcept nogil:
    """Read bytes up to a NUL inside the packet and step over it; 0 where there is none."""
    cdef const uint8_t *end
    if at[0] >= packet_len:
        return 0
    end = <const uint8_t *>memchr(buf + at[0], 0, packet_len - at[0])
    if end is NULL:
        return 0
    out.at, out.len = buf + at[0], <uint32_t>(end - (buf + at[0]))
    at[0] += out.len + 1
    return 1


cdef bint begins(const char *word, Span text, uint32_t least) noexcept nogil:
    """`text` is `word` or the beginning of it, at least `least` letters, in any case."""
    return least <= text.len <= strlen(word) and strncasecmp(word, <const char *>text.at, text.len) == 0


cdef int startup_replication(const Startup *s) noexcept nogil:
    """Read `replication` as PostgreSQL does: "database", or a boolean, which may be shortened.

    Source: PostgreSQL docs, "Streaming Replication Protocol" and "Setting Parameters" (boolean).
    """
    cdef Span text = s.replication
    if text.at == NULL or begins("false", text, 1) or begins("no", text, 1) or begins("off", text, 2) \
            or begins("0", text, 1):
        return REPLICATION_NONE
    if is_named(text, "database"):
        return REPLICATION_LOGICAL
    if begins("true", text, 1) or begins("yes", text, 1) or begins("on", text, 2) or begins("1", text, 1):
        return REPLICATION_PHYSICAL
    return REPLICATION_BAD


cdef bint is_named(Span name, const char *word) noexcept nogil:
    return name.len == strlen(word) and memcmp(name.at, word, name.len) == 0


cdef bint is_protocol_option(Span name) noexcept nogil:
    return name.len >= 5 and memcmp(name.at, b"_pq_.", 5) == 0


cdef int startup_next_param(const uint8_t *buf, const Startup *s, uint32_t *at, Span *name, Span *value) noexcept nogil:
    """Give the parameter at `*at` and step over it; 1 = one more, 0 = no more."""
    if at[0] < s.first_param:
        at[0] = s.first_param
    return next_param(buf, s.packet_len, at, name, value)


cdef size_t build_negotiate(const uint8_t *buf, const Startup *s, uint8_t *out, size_t cap) noexcept nogil:
    """Write NegotiateProtocolVersion; 0 when `cap` is too small, and then nothing is written.

    libpq from 19 on asks for 3.9999 and an option nobody knows to see whether servers do this, and gives up where one
    does not, or where one sends it twice.
    """
    cdef size_t length = 13       # 'v', Int32 length, Int32 version, Int32 count
    cdef uint32_t at = s.first_param
    cdef Span name, value
    while startup_next_param(buf, s, &at, &name, &value) == 1:
        if is_protocol_option(name):
            length += name.len + 1
    if length > cap:
        return 0
    out[0] = BE_NEGOTIATE
    store_be32(out + 1, <uint32_t>(length - 1))
    store_be32(out + 5, NEGOTIATED)
    store_be32(out + 9, s.protocol_options)
    out += 13
    at = s.first_param
    while startup_next_param(buf, s, &at, &name, &value) == 1:
        if is_protocol_option(name):
            memcpy(out, name.at, name.len + 1)       # with its NUL
            out += name.len + 1
    return length
