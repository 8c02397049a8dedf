"""Both versions of the PROXY header; see header.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset

from pgpool_core.wire.be cimport load_be16

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int, const char *, void *)
    int AF_INET, AF_INET6

cdef enum:
    LINE_MAX = 107                # bytes of version 1, with its line end
    WORD_MAX = 45                 # of an address in it
    FIXED_LEN = 16                # of version 2, ahead of the addresses
    SIGNATURE_LEN = 12
    LOCAL = 0x20                  # version 2, commands
    PROXIED = 0x21
    UNSPECIFIED = 0x00            # families
    TCP4 = 0x11
    TCP6 = 0x21
    UNIX = 0x31
    TCP4_LEN = 12                 # bytes of their addresses and ports
    TCP6_LEN = 36
    UNIX_LEN = 216

cdef const uint8_t *SIGNATURE = <const uint8_t *>b"\r\n\r\n\0\r\nQUIT\n"


cdef int forwarded_parse(const uint8_t *buf, size_t avail, Forwarded *out) noexcept nogil:
    cdef size_t n = avail if avail < SIGNATURE_LEN else SIGNATURE_LEN
    cdef size_t line = avail if avail < 6 else 6
    if avail == 0:
        return FORWARDED_NEED_MORE
    if memcmp(buf, SIGNATURE, n) == 0:
        return binary(buf, avail, out)
    if memcmp(buf, b"PROXY ", line) == 0:
        return text(buf, avail, out)
    return FORWARDED_BAD


cdef int binary(const uint8_t *buf, size_t avail, Forwarded *out) noexcept nogil:
    """Version 2; what follows the addresses (TLVs) is passed over."""
    cdef uint8_t family
    cdef uint32_t length, needed
    if avail > 12 and buf[12] != LOCAL and buf[12] != PROXIED:
        return FORWARDED_BAD
    if avail < FIXED_LEN:
        return FORWARDED_NEED_MORE
    family = buf[13]
    length = load_be16(buf + 14)
    needed = TCP4_LEN if family == TCP4 else TCP6_LEN if family == TCP6 else UNIX_LEN if family == UNIX else 0
    if buf[12] == PROXIED and (length < needed or (needed == 0 and family != UNSPECIFIED)):
        return FORWARDED_BAD
    if avail < FIXED_LEN + length:
        return FORWARDED_NEED_MORE
    memset(out, 0, sizeof(Forwarded))
    out.len = FIXED_LEN + length
    if buf[12] == LOCAL:
        out.is_local = 1
        return FORWARDED_OK
    if family == TCP4:
        out.family = 4
        memcpy(out.addr, buf + 16, 4)
        out.port = load_be16(buf + 24)
    elif family == TCP6:
        out.family = 6
        memcpy(out.addr, buf + 16, 16)
        out.port = load_be16(buf + 48)
    return FORWARDED_OK


cdef int text(const uint8_t *buf, size_t avail, Forwarded *out) noexcept nogil:
    """Version 1: `PROXY TCP4 FROM TO PORT PORT`, or `PROXY UNKNOWN` with anything behind it."""
    cdef size_t n = avail if avail < LINE_MAX else LINE_MAX
    cdef const uint8_t *end = <const uint8_t *>memchr(buf, 0x0A, n)
    cdef const uint8_t *at = buf + 6
    cdef uint8_t[16] to
    cdef uint16_t port
    cdef uint8_t family
    if end == NULL:
        return FORWARDED_BAD if avail >= LINE_MAX else FORWARDED_NEED_MORE
    if end < buf + 7 or end[-1] != 0x0D:
        return FORWARDED_BAD
    memset(out, 0, sizeof(Forwarded))
    out.len = <uint32_t>(end - buf + 1)
    end -= 1
    if end - at >= 7 and memcmp(at, b"UNKNOWN", 7) == 0 and (end - at == 7 or at[7] == 0x20):
        return FORWARDED_OK
    if end - at < 5 or memcmp(at, b"TCP", 3) != 0 or (at[3] != 0x34 and at[3] != 0x36) or at[4] != 0x20:
        return FORWARDED_BAD
    family = 4 if at[3] == 0x34 else 6
    at = address(at + 5, end, family, out.addr)
    at = address(at, end, family, to)
    at = number(at, end, 0x20, &out.port)
    at = number(at, end, 0x0D, &port)
    if at == NULL or at != end + 1:
        return FORWARDED_BAD
    out.family = family
    return FORWARDED_OK


cdef const uint8_t *address(const uint8_t *at, const uint8_t *end, uint8_t family, uint8_t *out) noexcept nogil:
    """Read an address and the blank behind it; where the next word begins, NULL where this is none."""
    cdef char[WORD_MAX + 1] word
    cdef size_t n = 0
    if at == NULL:
        return NULL
    while at + n < end and at[n] != 0x20:
        if n == WORD_MAX or at[n] == 0:
            return NULL
        word[n] = <char>at[n]
        n += 1
    word[n] = 0
    if at + n == end or inet_pton(AF_INET if family == 4 else AF_INET6, word, out) != 1:
        return NULL
    return at + n + 1


cdef const uint8_t *number(const uint8_t *at, const uint8_t *end, uint8_t last, uint16_t *out) noexcept nogil:
    """Read a port and the byte `last` behind it; where the next word begins, NULL where this is none. `end[0]` may be read."""
    cdef uint32_t value = 0
    cdef size_t n = 0
    if at == NULL:
        return NULL
    while at + n < end and 0x30 <= at[n] <= 0x39 and n < 5:
        value = value * 10 + at[n] - 0x30
        n += 1
    if n == 0 or value > 65535 or (n > 1 and at[0] == 0x30) or at + n > end or at[n] != last:
        return NULL
    out[0] = <uint16_t>value
    return at + n + 1
