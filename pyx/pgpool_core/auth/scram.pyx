"""How a SCRAM-SHA-256 exchange is read and checked.

Client:  n,,n=,r=CLIENTNONCE                          libpq leaves the name empty: the one of the startup packet counts
Server:  r=CLIENTNONCESERVERNONCE,s=SALT,i=ITERATIONS
Client:  c=biws,r=CLIENTNONCESERVERNONCE,p=PROOF
Server:  v=SIGNATURE

With channel binding the client begins with "p=tls-server-end-point,," instead of "n,,", and `c` holds that and the hash of our certificate.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

from pgpool_core.auth.chance cimport chance_take
from pgpool_core.auth.crypto cimport CRYPTO_memcmp, EVP_EncodeBlock, OPENSSL_cleanse
from pgpool_core.auth.digest cimport DIGEST_OK, SHA256_LEN, hmac_sha256, sha256
from pgpool_core.wire.span cimport Span


cdef enum:
    RAW_NONCE_LEN = 18
    PROOF_DIGITS = 44             # base64 of SHA256_LEN bytes: 43 digits and one '='
    PLUS_HEADER_LEN = 24
    MAX_BOUND_LEN = 88            # PLUS_HEADER and a binding
    BOUND_DIGITS = 124            # of base64, and a NUL


cdef const uint8_t *PLUS_HEADER = b"p=tls-server-end-point,,"


cdef int scram_client_first(ScramServer *s, Span message) noexcept nogil:
    """Read client-first-message and draw our nonce: SCRAM_OK, SCRAM_MALFORMED or SCRAM_FAILED.

    The flag is 'p' where PLUS was chosen, and only there. 'y' (the client could bind, and saw that we do not offer it) is a lie
    that somebody in between has told where we do. Optional extensions are stepped over, a mandatory one ('m=') ends the exchange.
    """
    cdef uint8_t raw[RAW_NONCE_LEN]
    cdef uint8_t text[SERVER_NONCE_LEN + 1]
    cdef uint8_t name
    cdef uint32_t header_len = 3
    cdef Span rest, value
    if message.len < 3 or message.len > MAX_SASL_LEN or memchr(message.at, 0, message.len) is not NULL:
        return SCRAM_MALFORMED
    s.gs2_flag = message.at[0]
    if s.plus:
        if message.len < PLUS_HEADER_LEN or memcmp(message.at, PLUS_HEADER, PLUS_HEADER_LEN) != 0:
            return SCRAM_MALFORMED
        header_len = PLUS_HEADER_LEN
    elif s.gs2_flag != c'n' and (s.gs2_flag != c'y' or s.binding_len):
        return SCRAM_MALFORMED
    elif message.at[1] != c',' or message.at[2] != c',':     # an authorization identity would stand between them
        return SCRAM_MALFORMED
    rest.at, rest.len = message.at + header_len, message.len - header_len
    scram_free(s)
    s.bare = <uint8_t *>malloc(rest.len + 1)                 # it may be empty, and malloc(0) NULL
    if s.bare is NULL:
        return SCRAM_FAILED
    memcpy(s.bare, rest.at, rest.len)
    s.bare_len = <uint16_t>rest.len
    if take_attribute(&rest, &name, &value) == 0 or name != c'n':
        return SCRAM_MALFORMED
    if take_attribute(&rest, &name, &value) == 0 or name != c'r' or not is_printable(value):
        return SCRAM_MALFORMED
    s.nonce_at, s.nonce_len = <uint16_t>(value.at - message.at - header_len), <uint16_t>value.len
    while rest.len > 0:
        if take_attribute(&rest, &name, &value) == 0 or name == c'm':
            return SCRAM_MALFORMED
    if not chance_take(raw, RAW_NONCE_LEN):
        return SCRAM_FAILED
    EVP_EncodeBlock(text, raw, RAW_NONCE_LEN)
    memcpy(s.server_nonce, text, SERVER_NONCE_LEN)
    return SCRAM_OK


cdef uint32_t scram_server_first_len(const ScramServer *s, uint32_t iterations, Span salt) noexcept nogil:
    """How many bytes scram_server_first will write."""
    cdef uint32_t digits = 1
    while iterations >= 10:
        iterations //= 10
        digits += 1
    return 2 + s.nonce_len + SERVER_NONCE_LEN + 3 + (salt.len + 2) // 3 * 4 + 3 + digits


cdef uint32_t scram_server_first(const ScramServer *s, uint32_t iterations, Span salt, uint8_t *out) noexcept nogil:
    """Write server-first-message, scram_server_first_len bytes, and return that number."""
    cdef uint32_t length = scram_server_first_len(s, iterations, salt)
    cdef uint8_t *last = out + length - 1
    cdef uint8_t *at = out
    memcpy(at, b"r=", 2)
    memcpy(at + 2, s.bare + s.nonce_at, s.nonce_len)
    at += 2 + s.nonce_len
    memcpy(at, s.server_nonce, SERVER_NONCE_LEN)
    at += SERVER_NONCE_LEN
    memcpy(at, b",s=", 3)
    at += 3
    at += EVP_EncodeBlock(at, salt.at, <int>salt.len)        # its NUL is overwritten by the next line
    memcpy(at, b",i=", 3)
    while last >= at + 3:                                    # the digits, from the last one
        last[0] = <uint8_t>(c'0' + iterations % 10)
        iterations //= 10
        last -= 1
    return length


cdef int scram_client_final(ScramServer *s, Span message, uint32_t iterations, Span salt,
                            const uint8_t *stored_key, const uint8_t *server_key, uint8_t *final_out) noexcept nogil:
    """Check client-final-message; on SCRAM_OK write server-final-message, SERVER_FINAL_LEN bytes, to `final_out`.

    The server's signature is computed whether the proof is right or not, so that both take as long.
    """
    cdef uint8_t proof[SHA256_LEN]
    cdef uint8_t signature[SHA256_LEN]
    cdef uint8_t client_key[SHA256_LEN]
    cdef uint8_t server_signature[SHA256_LEN]
    cdef uint8_t server_first[MAX_SERVER_FIRST_LEN]
    cdef uint8_t text[PROOF_DIGITS + 1]
    cdef Span parts[5]           # AuthMessage: client-first-bare "," server-first "," client-final-without-proof
    cdef int i, status
    status = read_client_final(s, message, proof, &parts[4])
    if status != SCRAM_OK:
        return status
    parts[0].at, parts[0].len = s.bare, s.bare_len
    parts[1].at, parts[1].len = <const uint8_t *>b",", 1
    parts[2].at, parts[2].len = server_first, scram_server_first(s, iterations, salt, server_first)
    parts[3] = parts[1]
    if (hmac_sha256(stored_key, parts, 5, signature) != DIGEST_OK
            or hmac_sha256(server_key, parts, 5, server_signature) != DIGEST_OK):
        return SCRAM_FAILED
    for i in range(SHA256_LEN):
        client_key[i] = proof[i] ^ signature[i]
    status = SCRAM_FAILED
    if sha256(client_key, SHA256_LEN, signature) == DIGEST_OK:
        status = SCRAM_OK if CRYPTO_memcmp(signature, stored_key, SHA256_LEN) == 0 else SCRAM_WRONG_PROOF
    if status == SCRAM_OK:
        memcpy(s.client_key, client_key, SHA256_LEN)
        EVP_EncodeBlock(text, server_signature, SHA256_LEN)
        memcpy(final_out, b"v=", 2)
        memcpy(final_out + 2, text, PROOF_DIGITS)
    OPENSSL_cleanse(client_key, SHA256_LEN)                  # enough to log in with, as the password is
    OPENSSL_cleanse(server_signature, SHA256_LEN)
    return status


cdef void scram_free(ScramServer *s) noexcept nogil:
    free(s.bare)
    s.bare, s.bare_len = NULL, 0
    OPENSSL_cleanse(s.client_key, SHA256_LEN)


cdef int read_client_final(const ScramServer *s, Span message, uint8_t *proof, Span *without_proof) noexcept nogil:
    """Take client-final-message apart: the proof's bytes, and the part of the text that it signs."""
    cdef Span rest = message
    cdef Span value
    cdef uint8_t name
    if message.len > MAX_SASL_LEN or memchr(message.at, 0, message.len) is not NULL:
        return SCRAM_MALFORMED
    if take_attribute(&rest, &name, &value) == 0 or name != c'c' or not is_binding(s, value):
        return SCRAM_MALFORMED
    if take_attribute(&rest, &name, &value) == 0 or name != c'r' or not is_our_nonce(s, value):
        return SCRAM_MALFORMED
    while True:
        without_proof.at = message.at
        without_proof.len = <uint32_t>(rest.at - message.at) - 1            # without the comma before this attribute
        if take_attribute(&rest, &name, &value) == 0 or name == c'm':
            return SCRAM_MALFORMED
        if name == c'p':
            break
    if value.at + value.len != message.at + message.len or value.len != PROOF_DIGITS:
        return SCRAM_MALFORMED
    return decode_proof(value.at, proof)


cdef bint is_binding(const ScramServer *s, Span digits) noexcept nogil:
    """Base64 of the header that the client began with, "n,," or "y,,"; with PLUS, of that and the hash of our certificate."""
    cdef uint8_t[MAX_BOUND_LEN] bound
    cdef uint8_t[BOUND_DIGITS] text
    cdef int n
    if not s.plus and s.gs2_flag == c'n':
        return digits.len == 4 and memcmp(digits.at, b"biws", 4) == 0
    if not s.plus:
        return digits.len == 4 and memcmp(digits.at, b"eSws", 4) == 0
    memcpy(bound, PLUS_HEADER, PLUS_HEADER_LEN)
    memcpy(&bound[PLUS_HEADER_LEN], s.binding, s.binding_len)
    n = EVP_EncodeBlock(text, bound, PLUS_HEADER_LEN + s.binding_len)
    return digits.len == <uint32_t>n and CRYPTO_memcmp(digits.at, text, <size_t>n) == 0


cdef bint is_our_nonce(const ScramServer *s, Span value) noexcept nogil:
    return (value.len == <uint32_t>(s.nonce_len + SERVER_NONCE_LEN)
            and memcmp(value.at, s.bare + s.nonce_at, s.nonce_len) == 0
            and memcmp(value.at + s.nonce_len, s.server_nonce, SERVER_NONCE_LEN) == 0)


cdef int take_attribute(Span *rest, uint8_t *name, Span *value) noexcept nogil:
    """Read `letter=value` and the comma after it, if any; 0 where no attribute stands."""
    cdef const uint8_t *end
    cdef uint8_t letter
    if rest.len < 2 or rest.at[1] != c'=':
        return 0
    letter = rest.at[0]
    if not (c'a' <= letter <= c'z' or c'A' <= letter <= c'Z'):
        return 0
    name[0] = letter
    value.at, value.len = rest.at + 2, rest.len - 2
    end = <const uint8_t *>memchr(value.at, c',', value.len) if value.len > 0 else NULL
    if end is NULL:
        rest.at, rest.len = rest.at + rest.len, 0
        return 1
    value.len = <uint32_t>(end - value.at)
    rest.at, rest.len = end + 1, rest.len - value.len - 3
    return 1


cdef bint is_printable(Span nonce) noexcept nogil:
    """A nonce is one or more printable ASCII characters; the comma has ended it already."""
    cdef uint32_t i
    for i in range(nonce.len):
        if not 0x21 <= nonce.at[i] <= 0x7E:
            return False
    return nonce.len > 0


cdef int decode_proof(const uint8_t *digits, uint8_t *out) noexcept nogil:
    """Read PROOF_DIGITS base64 digits into SHA256_LEN bytes.

    libcrypto's own decoder takes white space and stray bits; here every text but the one an encoder makes is refused.
    """
    cdef uint32_t bits = 0
    cdef int i, value
    cdef int filled = 0
    for i in range(PROOF_DIGITS - 1):
        value = digit_value(digits[i])
        if value < 0:
            return SCRAM_MALFORMED
        bits = bits << 6 | <uint32_t>value
        if i % 4 == 3:
            out[filled], out[filled + 1], out[filled + 2] = (
                <uint8_t>(bits >> 16), <uint8_t>(bits >> 8), <uint8_t>bits)
            filled += 3
            bits = 0
    if digits[PROOF_DIGITS - 1] != c'=' or bits & 3:
        return SCRAM_MALFORMED
    out[filled], out[filled + 1] = <uint8_t>(bits >> 10), <uint8_t>(bits >> 2)
    return SCRAM_OK


cdef int digit_value(uint8_t digit) noexcept nogil:
    if c'A' <= digit <= c'Z':
        return digit - c'A'
    if c'a' <= digit <= c'z':
        return digit - c'a' + 26
    if c'0' <= digit <= c'9':
        return digit - c'0' + 52
    return 62 if digit == c'+' else 63 if digit == c'/' else -1
