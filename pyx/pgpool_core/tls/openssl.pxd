"""What `tls` takes from OpenSSL 3.0 or newer.

Source: OpenSSL manual pages ssl(7), SSL_CTX_new(3), SSL_read_ex(3), SSL_get_error(3), BIO_meth_new(3), X509_VERIFY_PARAM_set_flags(3).
"""

from libc.stdint cimport uint64_t

cdef extern from "openssl/ssl.h" nogil:
    ctypedef struct SSL_METHOD:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL:
        pass

    const SSL_METHOD *TLS_server_method()
    const SSL_METHOD *TLS_client_method()
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
    void SSL_CTX_free(SSL_CTX *ctx)
    uint64_t SSL_CTX_set_options(SSL_CTX *ctx, uint64_t options)
    long SSL_CTX_set_mode(SSL_CTX *ctx, long mode)
    int SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version)
    int SSL_CTX_set_max_proto_version(SSL_CTX *ctx, int version)
    int SSL_CTX_set_cipher_list(SSL_CTX *ctx, const char *text)
    int SSL_CTX_set_ciphersuites(SSL_CTX *ctx, const char *text)
    int SSL_CTX_set1_groups_list(SSL_CTX *ctx, const char *text)
    int SSL_CTX_set_dh_auto(SSL_CTX *ctx, int how)
    int SSL_CTX_use_certificate(SSL_CTX *ctx, X509 *certificate)
    int SSL_CTX_use_PrivateKey(SSL_CTX *ctx, EVP_PKEY *key)
    int SSL_CTX_check_private_key(const SSL_CTX *ctx)
    int SSL_CTX_add0_chain_cert(SSL_CTX *ctx, X509 *certificate)         # takes it over
    int SSL_CTX_add_client_CA(SSL_CTX *ctx, X509 *certificate)
    X509_STORE *SSL_CTX_get_cert_store(const SSL_CTX *ctx)
    int SSL_CTX_set_default_verify_paths(SSL_CTX *ctx)
    void SSL_CTX_set_verify(SSL_CTX *ctx, int mode, int (*check)(int, X509_STORE_CTX *) noexcept nogil)
    int SSL_CTX_set_session_id_context(SSL_CTX *ctx, const unsigned char *text, unsigned int length)
    long SSL_CTX_set_session_cache_mode(SSL_CTX *ctx, long mode)
    int SSL_CTX_set_num_tickets(SSL_CTX *ctx, size_t count)
    void SSL_CTX_set_alpn_select_cb(SSL_CTX *ctx, int (*choose)(SSL *, const unsigned char **, unsigned char *, const unsigned char *,
                                                                unsigned int, void *) noexcept nogil, void *arg)
    int SSL_CTX_set_alpn_protos(SSL_CTX *ctx, const unsigned char *protocols, unsigned int length)      # 0 on success
    int SSL_select_next_proto(unsigned char **out, unsigned char *out_len, const unsigned char *server, unsigned int server_len,
                              const unsigned char *client, unsigned int client_len)

    SSL *SSL_new(SSL_CTX *ctx)
    void SSL_free(SSL *ssl)
    void SSL_set_bio(SSL *ssl, BIO *read, BIO *write)                    # takes them over
    void SSL_set_accept_state(SSL *ssl)
    void SSL_set_connect_state(SSL *ssl)
    int SSL_do_handshake(SSL *ssl)
    int SSL_is_init_finished(const SSL *ssl)
    int SSL_read_ex(SSL *ssl, void *out, size_t cap, size_t *length)
    int SSL_write_ex(SSL *ssl, const void *data, size_t length, size_t *written)
    int SSL_pending(const SSL *ssl)
    int SSL_shutdown(SSL *ssl)
    int SSL_get_error(const SSL *ssl, int result)
    long SSL_get_verify_result(const SSL *ssl)
    int SSL_session_reused(const SSL *ssl)
    const char *SSL_get_version(const SSL *ssl)
    const char *SSL_get_cipher_name(const SSL *ssl)
    long SSL_get_negotiated_group(SSL *ssl)
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **at, unsigned int *length)
    X509 *SSL_get1_peer_certificate(const SSL *ssl)
    X509_VERIFY_PARAM *SSL_get0_param(SSL *ssl)
    int SSL_set1_host(SSL *ssl, const char *name)
    void SSL_set_hostflags(SSL *ssl, unsigned int flags)
    long SSL_set_tlsext_host_name(SSL *ssl, const char *name)

    int TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION
    uint64_t SSL_OP_NO_COMPRESSION, SSL_OP_NO_RENEGOTIATION, SSL_OP_CIPHER_SERVER_PREFERENCE
    uint64_t SSL_OP_NO_TLSv1_1, SSL_OP_NO_TLSv1_2
    long SSL_MODE_RELEASE_BUFFERS, SSL_MODE_AUTO_RETRY, SSL_SESS_CACHE_OFF
    int SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    int SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_ERROR_SSL
    int SSL_R_CERTIFICATE_VERIFY_FAILED
    int SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_ALERT_FATAL, OPENSSL_NPN_NEGOTIATED

cdef extern from "openssl/bio.h" nogil:
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass

    BIO_METHOD *BIO_meth_new(int kind, const char *name)
    int BIO_get_new_index()
    int BIO_meth_set_write(BIO_METHOD *method, int (*write)(BIO *, const char *, int) noexcept nogil)
    int BIO_meth_set_read(BIO_METHOD *method, int (*read)(BIO *, char *, int) noexcept nogil)
    int BIO_meth_set_ctrl(BIO_METHOD *method, long (*ctrl)(BIO *, int, long, void *) noexcept nogil)
    BIO *BIO_new(const BIO_METHOD *method)
    BIO *BIO_new_mem_buf(const void *at, int length)
    int BIO_free(BIO *bio)
    void BIO_set_data(BIO *bio, void *data)
    void *BIO_get_data(BIO *bio)
    void BIO_set_init(BIO *bio, int init)
    void BIO_set_retry_read(BIO *bio)
    void BIO_clear_retry_flags(BIO *bio)
    int BIO_TYPE_SOURCE_SINK, BIO_CTRL_FLUSH

cdef extern from "openssl/pem.h" nogil:
    X509 *PEM_read_bio_X509(BIO *bio, X509 **out, int (*password)(char *, int, int, void *) noexcept nogil, void *arg)
    X509 *PEM_read_bio_X509_AUX(BIO *bio, X509 **out, int (*password)(char *, int, int, void *) noexcept nogil, void *arg)
    X509_CRL *PEM_read_bio_X509_CRL(BIO *bio, X509_CRL **out, int (*password)(char *, int, int, void *) noexcept nogil, void *arg)
    EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **out, int (*password)(char *, int, int, void *) noexcept nogil, void *arg)
    int PEM_R_NO_START_LINE, PEM_R_BAD_PASSWORD_READ

cdef extern from "openssl/x509v3.h" nogil:
    ctypedef struct X509:
        pass
    ctypedef struct X509_CRL:
        pass
    ctypedef struct X509_NAME:
        pass
    ctypedef struct X509_NAME_ENTRY:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    ctypedef struct X509_VERIFY_PARAM:
        pass
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct ASN1_STRING:
        pass
    ctypedef struct GENERAL_NAMES:
        pass
    ctypedef struct GENERAL_NAME:
        pass

    void X509_free(X509 *certificate)
    void X509_CRL_free(X509_CRL *crl)
    void EVP_PKEY_free(EVP_PKEY *key)
    int X509_STORE_add_cert(X509_STORE *store, X509 *certificate)
    int X509_STORE_add_crl(X509_STORE *store, X509_CRL *crl)
    int X509_STORE_set_flags(X509_STORE *store, unsigned long flags)
    const char *X509_verify_cert_error_string(long code)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM *param, const char *address)
    int X509_get_signature_info(X509 *certificate, int *digest, int *key, int *bits, unsigned int *flags)
    int X509_digest(const X509 *certificate, const EVP_MD *kind, unsigned char *out, unsigned int *length)
    X509_NAME *X509_get_subject_name(const X509 *certificate)
    int X509_NAME_get_index_by_NID(const X509_NAME *name, int nid, int last)
    X509_NAME_ENTRY *X509_NAME_get_entry(const X509_NAME *name, int at)
    ASN1_STRING *X509_NAME_ENTRY_get_data(const X509_NAME_ENTRY *entry)
    int ASN1_STRING_to_UTF8(unsigned char **out, const ASN1_STRING *text)
    void *X509_get_ext_d2i(const X509 *certificate, int nid, int *critical, int *at)
    void GENERAL_NAMES_free(GENERAL_NAMES *names)
    int sk_GENERAL_NAME_num(const GENERAL_NAMES *names)
    GENERAL_NAME *sk_GENERAL_NAME_value(const GENERAL_NAMES *names, int at)
    void *GENERAL_NAME_get0_value(const GENERAL_NAME *name, int *kind)
    unsigned long X509_V_FLAG_CRL_CHECK, X509_V_FLAG_CRL_CHECK_ALL
    unsigned int X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
    int NID_commonName, NID_subject_alt_name, NID_md5, NID_sha1, NID_sha256, NID_undef, GEN_DNS, GEN_EMAIL
    long X509_V_OK

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_MD:
        pass
    const EVP_MD *EVP_get_digestbynid(int nid)
    const char *OBJ_nid2sn(int nid)

cdef extern from "openssl/err.h" nogil:
    void ERR_clear_error()
    unsigned long ERR_peek_error()
    unsigned long ERR_peek_last_error()
    const char *ERR_reason_error_string(unsigned long code)
    int ERR_GET_REASON(unsigned long code)

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_free(void *at)
    void OPENSSL_cleanse(void *at, size_t length)
