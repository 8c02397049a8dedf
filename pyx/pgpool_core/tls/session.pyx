"""How a session works: OpenSSL over a BIO that reads from and writes to the caller's memory; see session.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, strcpy, strlen

from pgpool_core.tls.context cimport TLS_SERVER, context_ref, context_unref
from pgpool_core.tls.openssl cimport *

cdef const char *OUT_OF_MEMORY = "out of memory"

cdef enum:
    LEFT_FIRST = 4096             # a server's first flight, mostly
    LEFT_MAX = 1 << 26
    ALERT = 1000                  # SSL_AD_REASON_OFFSET: what the other side has said


cdef int bio_write(BIO *bio, const char *data, int n) noexcept nogil:
    """To where the caller wants it; what does not fit, or comes when nobody has said where, is kept."""
    cdef TlsSession *t = <TlsSession *>BIO_get_data(bio)
    cdef size_t length = <size_t>n
    cdef size_t cap
    cdef uint8_t *fresh
    BIO_clear_retry_flags(bio)
    if t.left_len == 0 and t.to_cap - t.to_len >= length:
        memcpy(t.to_at + t.to_len, data, length)
        t.to_len += length
        return n
    if t.left_len + length > t.left_cap:
        cap = t.left_len + length
        cap = cap + cap // 2 if cap > LEFT_FIRST else LEFT_FIRST
        if cap > LEFT_MAX:
            return -1
        fresh = <uint8_t *>realloc(t.left, cap)
        if fresh == NULL:
            return -1
        t.left = fresh
        t.left_cap = <uint32_t>cap
    memcpy(t.left + t.left_len, data, length)
    t.left_len += <uint32_t>length
    return n


cdef int bio_read(BIO *bio, char *out, int n) noexcept nogil:
    cdef TlsSession *t = <TlsSession *>BIO_get_data(bio)
    cdef size_t length = <size_t>n if <size_t>n < t.from_len else t.from_len
    BIO_clear_retry_flags(bio)
    if length == 0:
        BIO_set_retry_read(bio)
        return -1
    memcpy(out, t.from_at, length)
    t.from_at += length
    t.from_len -= length
    return <int>length


cdef long bio_ctrl(BIO *bio, int command, long number, void *at) noexcept nogil:
    return command == BIO_CTRL_FLUSH


cdef BIO_METHOD *METHOD = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pgpool_core")     # never freed
if METHOD is NULL:
    raise MemoryError
BIO_meth_set_write(METHOD, bio_write)
BIO_meth_set_read(METHOD, bio_read)
BIO_meth_set_ctrl(METHOD, bio_ctrl)


cdef bint expects(TlsSession *t, const char *host) noexcept nogil:
    """Whose certificate it has to be: an address, else a name."""
    if X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t.ssl), host) == 1:
        return True
    ERR_clear_error()
    SSL_set_hostflags(t.ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
    return SSL_set1_host(t.ssl, host) == 1


cdef TlsSession *tls_new(TlsContext *context, const char *host, const char *name) noexcept nogil:
    cdef TlsSession *t = <TlsSession *>calloc(1, sizeof(TlsSession))
    cdef BIO *bio
    if t == NULL:
        return NULL
    ERR_clear_error()
    t.context = context_ref(context)
    t.ssl = SSL_new(context.ctx)
    bio = BIO_new(METHOD)
    if t.ssl == NULL or bio == NULL:
        BIO_free(bio)
        tls_free(t)
        ERR_clear_error()
        return NULL
    BIO_set_data(bio, t)
    BIO_set_init(bio, 1)
    SSL_set_bio(t.ssl, bio, bio)
    if context.role == TLS_SERVER:
        SSL_set_accept_state(t.ssl)
        return t
    SSL_set_connect_state(t.ssl)
    if (host != NULL and not expects(t, host)) or (name != NULL and SSL_set_tlsext_host_name(t.ssl, name) != 1):
        ERR_clear_error()
        tls_free(t)
        return NULL
    return t


cdef const char *refusal(int reason) noexcept nogil:
    """What an alert about our certificate means, which OpenSSL words as if it were about the other side's; NULL: it is another one.

    Source: RFC 8446, section 6.2; openssl/sslerr.h has the numbers.
    """
    if reason == ALERT + 42:
        return "the other side does not take our certificate: bad certificate"
    if reason == ALERT + 43:
        return "the other side does not take our certificate: unsupported certificate"
    if reason == ALERT + 44:
        return "the other side does not take our certificate: certificate revoked"
    if reason == ALERT + 45:
        return "the other side does not take our certificate: certificate expired"
    if reason == ALERT + 46:
        return "the other side does not take our certificate: certificate unknown"
    if reason == ALERT + 48:
        return "the other side does not take our certificate: unknown ca"
    if reason == ALERT + 116:
        return "the other side needs a certificate of ours"
    return NULL


cdef int broken(TlsSession *t, int r) noexcept nogil:
    """What a call that brought nothing means: TLS_OK where more bytes are needed."""
    cdef int error = SSL_get_error(t.ssl, r)
    cdef unsigned long code
    if error == SSL_ERROR_WANT_READ:
        return TLS_OK
    if error == SSL_ERROR_ZERO_RETURN:
        t.closed = 1
        return TLS_CLOSED
    t.failed = 1
    t.why = NULL
    if error == SSL_ERROR_SSL:
        code = ERR_peek_error()
        if ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED and SSL_get_verify_result(t.ssl) != X509_V_OK:
            t.why = X509_verify_cert_error_string(SSL_get_verify_result(t.ssl))
        else:
            t.why = refusal(ERR_GET_REASON(code))
            t.refused = t.why != NULL
            if t.why == NULL:
                t.why = ERR_reason_error_string(code)
    if t.why == NULL:
        t.why = OUT_OF_MEMORY
    ERR_clear_error()
    return TLS_FAILED


cdef void settled(TlsSession *t) noexcept nogil:
    """The handshake is over."""
    cdef const unsigned char *name = NULL
    cdef unsigned int n = 0
    t.established = 1
    SSL_get0_alpn_selected(t.ssl, &name, &n)
    t.alpn = n != 0


cdef int tls_begin(TlsSession *t) noexcept nogil:
    cdef int r
    ERR_clear_error()
    r = SSL_do_handshake(t.ssl)
    return TLS_OK if r == 1 else broken(t, r)


cdef int tls_receive(TlsSession *t, const uint8_t *cipher, size_t n, uint8_t *into, size_t cap, size_t *got) noexcept nogil:
    cdef size_t length = 0
    cdef int r, status = TLS_OK
    got[0] = 0
    if t.failed or t.closed:
        return TLS_FAILED if t.failed else TLS_CLOSED
    ERR_clear_error()
    t.from_at = cipher
    t.from_len = n
    while got[0] < cap:
        r = SSL_read_ex(t.ssl, into + got[0], cap - got[0], &length)
        if not t.established and SSL_is_init_finished(t.ssl):
            settled(t)
        if r != 1:
            status = broken(t, r)
            break
        got[0] += length
        if t.from_len == 0 and SSL_pending(t.ssl) == 0:
            break
    t.from_at = NULL
    t.from_len = 0
    return status


cdef int tls_send(TlsSession *t, const uint8_t *data, size_t n, uint8_t *out, size_t cap, size_t *length) noexcept nogil:
    cdef size_t written = 0
    cdef int r = 1
    length[0] = 0
    if t.failed:
        return TLS_FAILED
    if not t.established:
        return TLS_NOT_YET
    ERR_clear_error()
    t.to_at = out
    t.to_len = 0
    t.to_cap = cap
    if n:
        r = SSL_write_ex(t.ssl, data, n, &written)
    length[0] = t.to_len
    t.to_at = NULL
    t.to_len = t.to_cap = 0
    if r != 1 or written != n:
        broken(t, r)
        t.failed = 1
        return TLS_FAILED
    return TLS_OK


cdef void tls_taken(TlsSession *t) noexcept nogil:
    free(t.left)
    t.left = NULL
    t.left_len = t.left_cap = 0


cdef void tls_close(TlsSession *t) noexcept nogil:
    if t.established and not t.failed:
        ERR_clear_error()
        SSL_shutdown(t.ssl)
        ERR_clear_error()


cdef void tls_free(TlsSession *t) noexcept nogil:
    if t == NULL:
        return
    SSL_free(t.ssl)                               # and the BIO
    context_unref(t.context)
    free(t.left)
    free(t)


cdef void tls_info(TlsSession *t, char *out) noexcept nogil:
    cdef long group
    cdef const char *name
    out[0] = 0
    if not t.established:                         # OpenSSL has no session to ask yet
        return
    group = SSL_get_negotiated_group(t.ssl)
    name = OBJ_nid2sn(<int>group) if group > 0 else NULL
    put(out, SSL_get_version(t.ssl))
    put(out, "/")
    put(out, SSL_get_cipher_name(t.ssl))
    if name != NULL:
        put(out, "/ECDH=")
        put(out, name)


cdef void put(char *out, const char *text) noexcept nogil:
    cdef size_t n = strlen(out)
    if n + strlen(text) < TLS_INFO_MAX:
        strcpy(out + n, text)
