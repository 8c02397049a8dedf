"""The server's half of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, from stored keys: no password, no PBKDF2.

One `ScramServer` sees one exchange: scram_client_first, scram_server_first, scram_client_final,
in this order, and scram_free at its end, wherever that is. Statuses tell a client that breaks the protocol from one that does not know the password.
Source: RFC 5802 and RFC 7677; where they leave room, PostgreSQL's server: the user name is ignored, an authorization
identity is refused, attributes come in their order.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from pgpool_core.wire.span cimport Span


cdef enum:
    SCRAM_OK = 0
    SCRAM_MALFORMED = -1          # the peer broke the protocol
    SCRAM_WRONG_PROOF = -2        # well-formed, and not made with the password
    SCRAM_FAILED = -3             # libcrypto failed, or no memory

    MAX_SASL_LEN = 1024           # bytes of one message of the client: PostgreSQL's bound
    SERVER_NONCE_LEN = 24         # base64 of 18 random bytes, as many as PostgreSQL takes
    MAX_SERVER_FIRST_LEN = 1152   # MAX_SASL_LEN, our nonce, 88 digits of salt, 10 of iterations, the names
    SERVER_FINAL_LEN = 46         # "v=" and base64 of 32 bytes


cdef struct ScramServer:          # owns `bare`; begins as all zero; secret once `client_key` is there
    uint8_t gs2_flag              # 'n', 'y' or 'p', to be seen again in the client's last message
    uint8_t plus                  # the client has chosen SCRAM-SHA-256-PLUS
    uint8_t binding_len           # of `binding`: tls-server-end-point of the connection; 0 = PLUS is not offered
    uint8_t binding[64]
    uint16_t bare_len
    uint16_t nonce_at             # the client's nonce inside `bare`
    uint16_t nonce_len
    uint8_t *bare                 # client-first-message-bare: some 40 bytes, though the protocol allows 1021
    uint8_t server_nonce[24]
    uint8_t client_key[32]        # what the right proof has revealed: as good as the password; gone with scram_free


cdef int scram_client_first(ScramServer *s, Span message) noexcept nogil
cdef uint32_t scram_server_first_len(const ScramServer *s, uint32_t iterations, Span salt) noexcept nogil
cdef uint32_t scram_server_first(const ScramServer *s, uint32_t iterations, Span salt, uint8_t *out) noexcept nogil
cdef int scram_client_final(ScramServer *s, Span message, uint32_t iterations, Span salt,
                            const uint8_t *stored_key, const uint8_t *server_key, uint8_t *final_out) noexcept nogil
cdef void scram_free(ScramServer *s) noexcept nogil                    # twice does no harm
