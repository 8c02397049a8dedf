"""How the hashes of digest.pxd are made: fetched digests, one context per call."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from pgpool_core.auth.crypto cimport (
    EVP_MD, EVP_MD_CTX, EVP_DigestFinal_ex, EVP_DigestInit_ex, EVP_DigestUpdate, EVP_MD_CTX_free, EVP_MD_CTX_new,
    EVP_MD_fetch, OPENSSL_cleanse, PKCS5_PBKDF2_HMAC,
)
from pgpool_core.wire.span cimport Span


cdef enum:
    BLOCK_LEN = 64                # of SHA-256
    INNER_PAD = 0x36
    OUTER_PAD = 0x5C
    INT_MAX = 0x7FFFFFFF          # libcrypto counts lengths and iterations in int


cdef EVP_MD *SHA256 = EVP_MD_fetch(NULL, "SHA256", NULL)    # owned by the process, never freed
cdef EVP_MD *MD5 = EVP_MD_fetch(NULL, "MD5", NULL)          # NULL in FIPS mode: md5 logins then fail, SCRAM ones work
if SHA256 is NULL:
    raise ImportError("libcrypto offers no SHA-256: OpenSSL 3.0 or newer with its default or FIPS provider is needed")


cdef int feed(EVP_MD_CTX *ctx, const EVP_MD *kind, const Span *parts, int count) noexcept nogil:
    """Begin a hash of `kind` and give it every piece; 1 on success, as libcrypto says it."""
    cdef int i
    if EVP_DigestInit_ex(ctx, kind, NULL) != 1:
        return 0
    for i in range(count):
        if EVP_DigestUpdate(ctx, parts[i].at, parts[i].len) != 1:
            return 0
    return 1


cdef int digest(const EVP_MD *kind, const Span *parts, int count, uint8_t *out, size_t out_len) noexcept nogil:
    cdef EVP_MD_CTX *ctx
    cdef int ok
    memset(out, 0, out_len)
    if kind is NULL:
        return DIGEST_FAILED
    ctx = EVP_MD_CTX_new()
    if ctx is NULL:
        return DIGEST_FAILED
    ok = feed(ctx, kind, parts, count) == 1 and EVP_DigestFinal_ex(ctx, out, NULL) == 1
    EVP_MD_CTX_free(ctx)
    return DIGEST_OK if ok else DIGEST_FAILED


cdef int sha256(const uint8_t *data, size_t data_len, uint8_t *out) noexcept nogil:
    """SHA-256 of one piece."""
    cdef Span part
    part.at, part.len = data, <uint32_t>data_len
    return digest(SHA256, &part, 1, out, SHA256_LEN)


cdef int md5(const Span *parts, int count, uint8_t *out) noexcept nogil:
    """MD5 of the pieces in their order."""
    return digest(MD5, parts, count, out, MD5_LEN)


cdef int hmac_sha256(const uint8_t *key, const Span *parts, int count, uint8_t *out) noexcept nogil:
    """HMAC-SHA-256 of the pieces under a key of SHA256_LEN bytes.

    Written out over two plain hashes because libcrypto's own HMAC fetches its implementation at every call: 1.05 us
    against 0.38 us for the 200 bytes of a SCRAM exchange, and a lock that all workers share.
    Source: RFC 2104.
    """
    cdef EVP_MD_CTX *ctx
    cdef Span pieces[2]
    cdef uint8_t pad[BLOCK_LEN]
    cdef uint8_t inner[SHA256_LEN]
    cdef int i, ok
    memset(out, 0, SHA256_LEN)
    ctx = EVP_MD_CTX_new()
    if ctx is NULL:
        return DIGEST_FAILED
    for i in range(BLOCK_LEN):
        pad[i] = (key[i] if i < SHA256_LEN else 0) ^ INNER_PAD
    pieces[0].at, pieces[0].len = pad, BLOCK_LEN
    pieces[1].at, pieces[1].len = inner, SHA256_LEN
    ok = feed(ctx, SHA256, pieces, 1)
    for i in range(count):
        ok &= EVP_DigestUpdate(ctx, parts[i].at, parts[i].len) == 1
    ok &= EVP_DigestFinal_ex(ctx, inner, NULL) == 1
    for i in range(BLOCK_LEN):
        pad[i] ^= INNER_PAD ^ OUTER_PAD
    ok &= feed(ctx, SHA256, pieces, 2) == 1 and EVP_DigestFinal_ex(ctx, out, NULL) == 1
    EVP_MD_CTX_free(ctx)
    OPENSSL_cleanse(pad, BLOCK_LEN)
    OPENSSL_cleanse(inner, SHA256_LEN)
    if not ok:
        memset(out, 0, SHA256_LEN)
        return DIGEST_FAILED
    return DIGEST_OK


cdef int pbkdf2_sha256(Span password, Span salt, uint32_t iterations, uint8_t *out) noexcept nogil:
    """SCRAM's SaltedPassword: about 0.25 us per iteration, so never on the way of a SCRAM login.

    Source: RFC 5802, section 2.2, Hi().
    """
    memset(out, 0, SHA256_LEN)
    if password.len > INT_MAX or iterations < 1 or iterations > INT_MAX:
        return DIGEST_FAILED
    if PKCS5_PBKDF2_HMAC(<const char *>password.at, <int>password.len, salt.at, <int>salt.len, <int>iterations, SHA256,
                         SHA256_LEN, out) != 1:
        return DIGEST_FAILED
    return DIGEST_OK
