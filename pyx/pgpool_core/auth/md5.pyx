"""How md5 secrets and answers are computed.

Source: PostgreSQL docs, "Message Flow", Start-up, AuthenticationMD5Password:
concat('md5', md5(concat(md5(concat(password, username)), random-salt))).
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from pgpool_core.auth.crypto cimport OPENSSL_cleanse
from pgpool_core.auth.digest cimport MD5_LEN, md5
from pgpool_core.wire.span cimport Span


cdef const uint8_t *HEX_DIGITS = b"0123456789abcdef"


cdef int md5_hex(const Span *parts, uint8_t *out) noexcept nogil:
    """The hex digits of md5 over two pieces."""
    cdef uint8_t raw[MD5_LEN]
    cdef int i
    cdef int status = md5(parts, 2, raw)
    for i in range(MD5_LEN):
        out[2 * i] = HEX_DIGITS[raw[i] >> 4]
        out[2 * i + 1] = HEX_DIGITS[raw[i] & 15]
    OPENSSL_cleanse(raw, MD5_LEN)
    return status


cdef int md5_secret(Span password, Span user, uint8_t *hex_out) noexcept nogil:
    """Write the MD5_HEX_LEN digits that PostgreSQL would store for this password of this user."""
    cdef Span parts[2]
    parts[0], parts[1] = password, user
    return md5_hex(parts, hex_out)


cdef int md5_answer(const uint8_t *secret_hex, const uint8_t *salt, uint8_t *answer_out) noexcept nogil:
    """Write the MD5_ANSWER_LEN bytes that the right client sends back for `salt` (MD5_SALT_LEN bytes)."""
    cdef Span parts[2]
    parts[0].at, parts[0].len = secret_hex, MD5_HEX_LEN
    parts[1].at, parts[1].len = salt, MD5_SALT_LEN
    memcpy(answer_out, b"md5", 3)
    return md5_hex(parts, answer_out + 3)
