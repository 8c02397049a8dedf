"""PostgreSQL's md5 secret and the answer that proves its knowledge.

The secret is 32 lower-case hex digits of md5(password || user); "md5" stands before it in pg_authid and in auth_file,
not here. Who knows the secret can log in: it is as good as a password.
"""

from libc.stdint cimport uint8_t

from pgpool_core.wire.span cimport Span


cdef enum:
    MD5_HEX_LEN = 32
    MD5_SALT_LEN = 4
    MD5_ANSWER_LEN = 35           # "md5" and the digits


# DIGEST_OK or DIGEST_FAILED, see digest.pxd
cdef int md5_secret(Span password, Span user, uint8_t *hex_out) noexcept nogil
cdef int md5_answer(const uint8_t *secret_hex, const uint8_t *salt, uint8_t *answer_out) noexcept nogil
