"""What a certificate says: whose it is, and its fingerprint for channel binding."""

from libc.stdint cimport uint8_t

from pgpool_core.tls.openssl cimport SSL, X509
from pgpool_core.wire.span cimport Span


cdef enum:
    NAMES_MAX = 2048              # bytes of the names that are looked at


# tls-server-end-point, at most BINDING_MAX bytes; 0 where the kind of signature defines none. Source: RFC 5929, section 4.1.
cdef size_t binding_of(X509 *certificate, uint8_t *out) noexcept nogil

# The names of the other side's certificate, which has been verified: the common name (empty where it has none), then the mail and
# host names among the alternative ones, each with a zero behind it. Bytes written; 0: it has shown none that verifies.
cdef size_t peer_names(SSL *ssl, uint8_t *out, size_t cap) noexcept nogil

# Whether `name` is one of those.
cdef bint peer_is_named(SSL *ssl, Span name) noexcept nogil
