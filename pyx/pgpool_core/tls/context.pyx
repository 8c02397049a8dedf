"""How a context is made; see context.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcat, strcpy, strlen

from pgpool_core.sync.atomic cimport pgpool_add32
from pgpool_core.tls.openssl cimport *
from pgpool_core.tls.peer cimport binding_of
from pgpool_core.wire.span cimport Span

cdef const unsigned char *ALPN = b"\x0apostgresql"
cdef const char *NO_ELLIPTIC = ":!kECDHE"
cdef const char *DEFAULT_NO_ELLIPTIC = "DEFAULT:!kECDHE"
cdef const char *EMPTY = "no certificate in it"
cdef const char *NO_MEMORY = "out of memory"

cdef enum:
    ALPN_LEN = 11
    MAX_CIPHERS = 2000            # characters
    CIPHERS_ROOM = 2020
    MAX_PEM = 1 << 24


cdef const char *last_reason(const char *otherwise) noexcept nogil:
    """Why OpenSSL has refused something, in its words, and its list of errors emptied."""
    cdef unsigned long code = ERR_peek_error()
    cdef const char *text = ERR_reason_error_string(code) if code else NULL
    ERR_clear_error()
    return text if text != NULL else otherwise


cdef int no_password(char *out, int cap, int writing, void *arg) noexcept nogil:
    """An encrypted key is refused; without this OpenSSL would ask at the terminal."""
    return -1


cdef int let_any(int verified, X509_STORE_CTX *chain) noexcept nogil:
    """PEER_ASKED: go on; the result is kept, and looked at where the certificate is to prove something."""
    return 1


cdef int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *offered,
                         unsigned int offered_len, void *arg) noexcept nogil:
    """ALPN: ours, or no connection. Source: PostgreSQL docs, "SSL Session Encryption"."""
    if SSL_select_next_proto(<unsigned char **>out, out_len, ALPN, ALPN_LEN, offered, offered_len) == OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_OK
    return SSL_TLSEXT_ERR_ALERT_FATAL


cdef bint at_end() noexcept nogil:
    """The last read found no more PEM blocks, rather than a broken one."""
    cdef unsigned long code = ERR_peek_last_error()
    cdef bint ended = ERR_GET_REASON(code) == PEM_R_NO_START_LINE
    if ended:
        ERR_clear_error()
    return ended


cdef X509 *next_certificate(BIO *bio, const char **wrong) noexcept nogil:
    """The caller's; NULL when there is no more, with `wrong` said where what comes is none."""
    cdef X509 *one = PEM_read_bio_X509(bio, NULL, no_password, NULL)
    if one == NULL and not at_end():
        wrong[0] = last_reason("not a certificate")
    return one


cdef BIO *text_of(Span pem) noexcept nogil:
    return BIO_new_mem_buf(pem.at, <int>pem.len) if 0 < pem.len < MAX_PEM else NULL


cdef const char *use_certificate(TlsContext *c, Span pem) noexcept nogil:
    """The certificate and those behind it; NULL, or what is wrong."""
    cdef BIO *bio = text_of(pem)
    cdef X509 *one
    cdef const char *wrong = NULL
    if bio == NULL:
        return EMPTY
    one = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL)
    if one == NULL:
        wrong = EMPTY if at_end() else last_reason("not a certificate")
    elif SSL_CTX_use_certificate(c.ctx, one) != 1:
        wrong = last_reason("not usable")
    else:
        c.binding_len = <uint8_t>binding_of(one, c.binding)
    X509_free(one)
    while wrong == NULL:
        one = next_certificate(bio, &wrong)
        if one == NULL:
            break
        if SSL_CTX_add0_chain_cert(c.ctx, one) != 1:
            X509_free(one)
            wrong = last_reason("not usable")
    BIO_free(bio)
    return wrong


cdef const char *use_key(TlsContext *c, Span pem, uint8_t *part) noexcept nogil:
    cdef BIO *bio = text_of(pem)
    cdef EVP_PKEY *key
    cdef const char *wrong = NULL
    if bio == NULL:
        return "no private key in it"
    key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)
    if key == NULL:
        if ERR_GET_REASON(ERR_peek_error()) == PEM_R_BAD_PASSWORD_READ or ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_BAD_PASSWORD_READ:
            ERR_clear_error()
            wrong = "it is encrypted, and nobody is there to be asked for the password"
        else:
            ERR_clear_error()
            wrong = "no private key in it"
    elif SSL_CTX_use_PrivateKey(c.ctx, key) != 1 or SSL_CTX_check_private_key(c.ctx) != 1:
        ERR_clear_error()
        part[0] = PART_PAIR
        wrong = "it is not the key of the certificate"
    EVP_PKEY_free(key)
    BIO_free(bio)
    return wrong


cdef const char *trust(TlsContext *c, Span pem) noexcept nogil:
    """Certificates of authorities; as a server we name them to clients, so that they know which of theirs to show."""
    cdef BIO *bio = text_of(pem)
    cdef X509 *one
    cdef const char *wrong = NULL
    cdef int n = 0
    if bio == NULL:
        return EMPTY
    while wrong == NULL:
        one = next_certificate(bio, &wrong)
        if one == NULL:
            break
        n += 1
        if X509_STORE_add_cert(SSL_CTX_get_cert_store(c.ctx), one) != 1 or (
                c.role == TLS_SERVER and SSL_CTX_add_client_CA(c.ctx, one) != 1):
            wrong = last_reason("not usable")
        X509_free(one)
    BIO_free(bio)
    return EMPTY if wrong == NULL and n == 0 else wrong


cdef const char *revoke(TlsContext *c, Span pem) noexcept nogil:
    """Lists of certificates that count no more; with one, every authority in a chain needs its list."""
    cdef BIO *bio = text_of(pem)
    cdef X509_STORE *store = SSL_CTX_get_cert_store(c.ctx)
    cdef X509_CRL *one
    cdef const char *wrong = NULL
    cdef int n = 0
    while bio != NULL and wrong == NULL:
        one = PEM_read_bio_X509_CRL(bio, NULL, no_password, NULL)
        if one == NULL:
            if not at_end():
                wrong = last_reason("not a revocation list")
            break
        n += 1
        if X509_STORE_add_crl(store, one) != 1:
            wrong = last_reason("not usable")
        X509_CRL_free(one)
    BIO_free(bio)
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL)
    if wrong == NULL and n == 0:
        wrong = "no revocation list in it"
    return wrong


cdef const char *use_protocols(TlsContext *c, uint8_t protocols) noexcept nogil:
    cdef int[4] versions
    cdef int i, low = -1, high = -1
    cdef uint64_t holes = 0
    versions[0], versions[1], versions[2], versions[3] = TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION
    for i in range(4):
        if protocols >> i & 1:
            low = i if low < 0 else low
            high = i
    if low < 0:
        return "none is left"
    if not protocols & TLS_1_1:
        holes |= SSL_OP_NO_TLSv1_1
    if not protocols & TLS_1_2:
        holes |= SSL_OP_NO_TLSv1_2
    if SSL_CTX_set_min_proto_version(c.ctx, versions[low]) != 1 or SSL_CTX_set_max_proto_version(c.ctx, versions[high]) != 1:
        return last_reason("not in this OpenSSL")
    SSL_CTX_set_options(c.ctx, holes)
    return NULL


cdef const char *use_ciphers(TlsContext *c, const TlsTerms *terms) noexcept nogil:
    cdef char[CIPHERS_ROOM] text
    cdef const char *wanted = terms.ciphers
    if terms.no_ecdhe:
        if wanted == NULL:
            wanted = DEFAULT_NO_ELLIPTIC
        else:
            if strlen(wanted) > MAX_CIPHERS:
                return "too long"
            strcpy(text, wanted)
            strcat(text, NO_ELLIPTIC)
            wanted = text
    if wanted != NULL and SSL_CTX_set_cipher_list(c.ctx, wanted) != 1:
        return last_reason("no such cipher")
    return NULL


cdef const char *settle(TlsContext *c, const TlsTerms *terms, uint8_t *part) noexcept nogil:
    """Everything that may be wrong; NULL, or what is, and of which part."""
    cdef const char *wrong
    part[0] = PART_PROTOCOLS
    wrong = use_protocols(c, terms.protocols)
    if wrong != NULL:
        return wrong
    part[0] = PART_CIPHERS
    wrong = use_ciphers(c, terms)
    if wrong != NULL:
        return wrong
    part[0] = PART_SUITES
    if terms.suites != NULL and SSL_CTX_set_ciphersuites(c.ctx, terms.suites) != 1:
        return last_reason("no such cipher suite")
    part[0] = PART_GROUPS
    if terms.groups != NULL and SSL_CTX_set1_groups_list(c.ctx, terms.groups) != 1:
        return last_reason("no such curve")
    part[0] = PART_CERTIFICATE
    if terms.certificate.len:
        wrong = use_certificate(c, terms.certificate)
        if wrong != NULL:
            return wrong
        part[0] = PART_KEY
        wrong = use_key(c, terms.key, part)
        if wrong != NULL:
            return wrong
    elif terms.role == TLS_SERVER:
        return EMPTY
    part[0] = PART_CA
    if terms.system_ca and SSL_CTX_set_default_verify_paths(c.ctx) != 1:
        return last_reason("the system's cannot be read")
    if terms.ca.len:
        wrong = trust(c, terms.ca)
        if wrong != NULL:
            return wrong
    elif terms.peer != PEER_IGNORED and not terms.system_ca:
        return EMPTY
    part[0] = PART_CRL
    return revoke(c, terms.crl) if terms.crl.len else NULL


cdef TlsContext *context_new(const TlsTerms *terms, uint8_t *part, const char **why) noexcept nogil:
    cdef TlsContext *c = <TlsContext *>calloc(1, sizeof(TlsContext))
    part[0] = PART_MEMORY
    why[0] = NO_MEMORY
    if c == NULL:
        return NULL
    ERR_clear_error()
    c.refs = 1
    c.role = terms.role
    c.peer = terms.peer
    c.ctx = SSL_CTX_new(TLS_server_method() if terms.role == TLS_SERVER else TLS_client_method())
    if c.ctx == NULL:
        context_unref(c)
        return NULL
    SSL_CTX_set_options(c.ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION)
    SSL_CTX_set_mode(c.ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY)
    SSL_CTX_set_session_cache_mode(c.ctx, SSL_SESS_CACHE_OFF)     # tickets carry it all
    why[0] = settle(c, terms, part)
    if why[0] != NULL:
        context_unref(c)
        return NULL
    part[0] = PART_NONE
    if terms.role == TLS_SERVER:
        SSL_CTX_set_options(c.ctx, SSL_OP_CIPHER_SERVER_PREFERENCE)
        SSL_CTX_set_dh_auto(c.ctx, terms.dh)
        SSL_CTX_set_num_tickets(c.ctx, 1)
        SSL_CTX_set_session_id_context(c.ctx, ALPN, ALPN_LEN)
        SSL_CTX_set_alpn_select_cb(c.ctx, choose_protocol, NULL)
        if terms.peer == PEER_ASKED:
            SSL_CTX_set_verify(c.ctx, SSL_VERIFY_PEER, let_any)
        elif terms.peer == PEER_REQUIRED:
            SSL_CTX_set_verify(c.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL)
    else:
        SSL_CTX_set_alpn_protos(c.ctx, ALPN, ALPN_LEN)
        SSL_CTX_set_verify(c.ctx, SSL_VERIFY_PEER if terms.peer != PEER_IGNORED else SSL_VERIFY_NONE, NULL)
    return c


cdef TlsContext *context_ref(TlsContext *c) noexcept nogil:
    if c != NULL:
        pgpool_add32(&c.refs, 1)
    return c


cdef void context_unref(TlsContext *c) noexcept nogil:
    if c == NULL or pgpool_add32(&c.refs, -1):
        return
    SSL_CTX_free(c.ctx)
    free(c)
