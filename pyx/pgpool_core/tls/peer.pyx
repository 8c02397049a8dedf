"""How a certificate is read; see peer.pxd."""

from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memcpy, strlen

from pgpool_core.tls.openssl cimport *
from pgpool_core.wire.span cimport Span


cdef size_t binding_of(X509 *certificate, uint8_t *out) noexcept nogil:
    """The certificate's hash, by the hash of its signature; MD5 and SHA-1 give way to SHA-256."""
    cdef int digest = NID_undef, key, bits
    cdef unsigned int flags, length = 0
    cdef const EVP_MD *kind
    if X509_get_signature_info(certificate, &digest, &key, &bits, &flags) != 1 and digest == NID_undef:
        ERR_clear_error()
        return 0
    if digest == NID_undef:                       # Ed25519 and the like hash inside
        return 0
    if digest == NID_md5 or digest == NID_sha1:
        digest = NID_sha256
    kind = EVP_get_digestbynid(digest)
    if kind == NULL or X509_digest(certificate, kind, out, &length) != 1:
        ERR_clear_error()
        return 0
    return length


cdef size_t put_name(const ASN1_STRING *name, uint8_t *out, size_t cap) noexcept nogil:
    """As UTF-8, with a zero behind it; a name with a zero inside is none. 0: it does not fit."""
    cdef unsigned char *text = NULL
    cdef int length = ASN1_STRING_to_UTF8(&text, name)
    cdef size_t n = <size_t>length if length > 0 else 0
    if n and memchr(text, 0, n) != NULL:
        n = 0
    if n + 1 > cap:
        OPENSSL_free(text)
        return 0
    if n:
        memcpy(out, text, n)
    OPENSSL_free(text)
    out[n] = 0
    return n + 1


cdef size_t peer_names(SSL *ssl, uint8_t *out, size_t cap) noexcept nogil:
    cdef X509 *certificate
    cdef X509_NAME *subject
    cdef GENERAL_NAMES *others
    cdef GENERAL_NAME *other
    cdef ASN1_STRING *text
    cdef size_t n = 0, more
    cdef int at, i, kind = 0
    if cap == 0 or SSL_get_verify_result(ssl) != X509_V_OK:
        return 0
    certificate = SSL_get1_peer_certificate(ssl)
    if certificate == NULL:
        return 0
    subject = X509_get_subject_name(certificate)
    at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    if at >= 0:
        n = put_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out, cap)
    if n == 0:
        out[0] = 0
        n = 1
    others = <GENERAL_NAMES *>X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
    if others != NULL:
        for i in range(sk_GENERAL_NAME_num(others)):
            other = sk_GENERAL_NAME_value(others, i)
            text = <ASN1_STRING *>GENERAL_NAME_get0_value(other, &kind)
            if kind != GEN_DNS and kind != GEN_EMAIL:
                continue
            more = put_name(text, out + n, cap - n)
            if more > 1:
                n += more
        GENERAL_NAMES_free(others)
    X509_free(certificate)
    ERR_clear_error()
    return n


cdef bint peer_is_named(SSL *ssl, Span name) noexcept nogil:
    cdef uint8_t[NAMES_MAX] names
    cdef size_t n = peer_names(ssl, names, NAMES_MAX), at = 0, length
    while at < n:
        length = strlen(<const char *>&names[at])
        if length and length == name.len and memcmp(&names[at], name.at, length) == 0:
            return True
        at += length + 1
    return False
