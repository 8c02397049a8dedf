"""One TLS connection without its socket: ciphertext in, plaintext out, and the other way round. Any thread, one at a time; no GIL.

Whoever has the socket gives what has come to `tls_receive` and sends what `tls_send` writes. Handshake, alerts and the like come
about on the way: what they want to say is left in `left`, to be sent before anything else.
Failures stick: the session is of no more use, its last alert is in `left`.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.tls.context cimport TlsContext
from pgpool_core.tls.openssl cimport SSL


cdef enum:
    TLS_OK = 0
    TLS_CLOSED = 1                # the other side has said that nothing more will come
    TLS_FAILED = -1               # `why` says it
    TLS_NOT_YET = -2              # nothing can be sent: the handshake is not over

    TLS_SLACK = 17408             # room that `tls_receive` needs beyond as many bytes as it is given: the rest of a record that came before
    TLS_RECORD = 16384            # plaintext of one record, at most
    TLS_OVERHEAD = 128            # more bytes than a record adds to it
    TLS_INFO_MAX = 128


cdef struct TlsSession:
    SSL *ssl                      # owned
    TlsContext *context           # held
    const uint8_t *from_at        # ciphertext to be read; borrowed during a call
    size_t from_len
    uint8_t *to_at                # where ciphertext goes; borrowed during a call
    size_t to_len
    size_t to_cap
    uint8_t *left                 # owned: ciphertext that nobody has taken yet; `tls_taken` when it has been sent
    uint32_t left_len
    uint32_t left_cap
    uint32_t untaken              # for the owner of the socket: bytes of `left` that the other side has not taken, one after the other
    uint8_t established           # the handshake is over
    uint8_t closed                # TLS_CLOSED has been found
    uint8_t failed                # TLS_FAILED has
    uint8_t refused               # and that was the other side, which does not take our certificate
    uint8_t alpn                  # the two have agreed on "postgresql"
    uint8_t more                  # for the owner of the socket: receive again, whether or not the kernel says so
    const char *why               # static


# Moves to the caller. `host`: whose certificate it has to be (TLS_CLIENT, and a context that looks at it), a name or an address; NULL: any
# that verifies. `name`: the name to ask for (SNI); NULL: none. NULL: no memory, or a name that is none.
cdef TlsSession *tls_new(TlsContext *context, const char *host, const char *name) noexcept nogil

# The client's first words; TLS_OK or TLS_FAILED. A server waits for them.
cdef int tls_begin(TlsSession *t) noexcept nogil

# Take all `n` bytes of ciphertext; write the plaintext that they bring, `got` bytes: `cap` is at least n + TLS_SLACK. What came before an
# end or a failure is given with it.
cdef int tls_receive(TlsSession *t, const uint8_t *cipher, size_t n, uint8_t *into, size_t cap, size_t *got) noexcept nogil

# Encrypt `n` bytes to `out`, of `cap` bytes; what does not fit there is in `left`, and comes behind.
# tls_room(n) is enough where nothing was left before.
cdef int tls_send(TlsSession *t, const uint8_t *data, size_t n, uint8_t *out, size_t cap, size_t *length) noexcept nogil
cdef void tls_taken(TlsSession *t) noexcept nogil
cdef void tls_close(TlsSession *t) noexcept nogil                       # say that nothing more will come (close_notify): in `left`
cdef void tls_free(TlsSession *t) noexcept nogil                        # NULL is fine

# Version/cipher/key exchange as PgBouncer writes them, TLS_INFO_MAX bytes with a zero.
cdef void tls_info(TlsSession *t, char *out) noexcept nogil


cdef inline size_t tls_room(size_t n) noexcept nogil:
    return n + (n // TLS_RECORD + 1) * TLS_OVERHEAD
