"""What all connections of one kind share: certificate and key, whom to trust, which protocols. Never changes once it is made.

A reload makes a new one; sessions keep the one that they began with. Tickets for resumption are sealed with keys of the
context, so whatever worker a client comes back to can open them, and a new context forgets them all.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.tls.openssl cimport SSL_CTX
from pgpool_core.wire.span cimport Span


cdef enum:
    TLS_SERVER = 1                # we are connected to: by clients of the pooler
    TLS_CLIENT = 2                # we connect: to servers

    PEER_IGNORED = 0              # its certificate is not asked for (as a server), or not looked at (as a client)
    PEER_ASKED = 1                # as a server: it may show one; one that does not verify counts as none
    PEER_REQUIRED = 2             # no connection without one that verifies

    TLS_1_0 = 1                   # protocols, as bits
    TLS_1_1 = 2
    TLS_1_2 = 4
    TLS_1_3 = 8

    DH_NONE = 0                   # finite-field Diffie-Hellman of TLS 1.2, as a server
    DH_AUTO = 1                   # as strong as the certificate's key
    DH_LEGACY = 2                 # 1024 bits

    PART_NONE = 0                 # what a context could not be made of
    PART_CERTIFICATE = 1
    PART_KEY = 2
    PART_CA = 3
    PART_CRL = 4
    PART_PROTOCOLS = 5
    PART_CIPHERS = 6
    PART_SUITES = 7
    PART_GROUPS = 8
    PART_MEMORY = 9
    PART_PAIR = 10                # the key is not that of the certificate

    BINDING_MAX = 64


cdef struct TlsTerms:             # what a context is made of; borrows everything
    uint8_t role                  # TLS_SERVER or TLS_CLIENT
    uint8_t peer                  # PEER_*
    uint8_t system_ca             # trust what the system trusts, besides `ca`
    uint8_t protocols             # TLS_1_*
    uint8_t dh                    # DH_*
    uint8_t no_ecdhe              # TLS 1.2 without elliptic curves
    Span certificate              # PEM: the certificate, then those that lead to a root; empty = none
    Span key                      # PEM, not encrypted
    Span ca                       # PEM, any number
    Span crl
    const char *ciphers           # of TLS 1.2 and below; NULL = as the library has them. So are the others
    const char *suites            # of TLS 1.3
    const char *groups


cdef struct TlsContext:
    SSL_CTX *ctx                  # owned
    uint32_t refs                 # atomic
    uint8_t role
    uint8_t peer
    uint8_t binding_len           # of `binding`; 0: the certificate's kind of signature defines none
    uint8_t binding[64]           # tls-server-end-point of our own certificate


# Moves to the caller, with one reference; NULL after writing what was wrong (PART_*) and why, in static text.
cdef TlsContext *context_new(const TlsTerms *terms, uint8_t *part, const char **why) noexcept nogil
cdef TlsContext *context_ref(TlsContext *c) noexcept nogil
cdef void context_unref(TlsContext *c) noexcept nogil                   # NULL is fine
