"""What `auth` takes from libcrypto: OpenSSL 3.0 or newer.

Fetched digests are kept for the life of the process: an implicit fetch at each login would take libcrypto's own lock,
and several workers would queue on it.
Source: OpenSSL manual pages EVP_DigestInit(3), RAND_bytes(3), CRYPTO_memcmp(3), PKCS5_PBKDF2_HMAC(3).
"""

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass

    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *ctx)            # wipes the state that it frees
    int EVP_DigestInit_ex(EVP_MD_CTX *ctx, const EVP_MD *kind, void *engine)          # these return 1 on success
    int EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *data, size_t data_len)
    int EVP_DigestFinal_ex(EVP_MD_CTX *ctx, unsigned char *out, unsigned int *out_len)
    int PKCS5_PBKDF2_HMAC(const char *password, int password_len, const unsigned char *salt, int salt_len,
                          int iterations, const EVP_MD *kind, int out_len, unsigned char *out)
    int EVP_EncodeBlock(unsigned char *out, const unsigned char *data, int data_len)  # writes a NUL too, not counted

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_cleanse(void *at, size_t length)
    int CRYPTO_memcmp(const void *a, const void *b, size_t length)

cdef extern from "openssl/rand.h" nogil:
    int RAND_bytes(unsigned char *out, int length)   # 1 on success; safe from any thread
