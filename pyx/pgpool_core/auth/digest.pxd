"""Hashes of pieces of memory, without the GIL and without a fetch per call.

Each function answers DIGEST_OK, or DIGEST_FAILED when libcrypto has no memory or does not offer the algorithm (MD5 in
FIPS mode); `out` is then all zero and must not be used.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.wire.span cimport Span


cdef enum:
    DIGEST_OK = 0
    DIGEST_FAILED = -1

    SHA256_LEN = 32
    MD5_LEN = 16


cdef int sha256(const uint8_t *data, size_t data_len, uint8_t *out) noexcept nogil
# `key` has SHA256_LEN bytes
cdef int hmac_sha256(const uint8_t *key, const Span *parts, int count, uint8_t *out) noexcept nogil
cdef int pbkdf2_sha256(Span password, Span salt, uint32_t iterations, uint8_t *out) noexcept nogil
cdef int md5(const Span *parts, int count, uint8_t *out) noexcept nogil
