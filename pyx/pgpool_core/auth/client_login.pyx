"""How a client's login goes on from message to message.

Source: PostgreSQL docs, "Message Flow", Start-up; "SASL Authentication"; "Message Formats", Authentication*.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset

from pgpool_core.auth.credentials cimport (
    CRED_ASKS_KEY, CRED_MD5, CRED_PLAIN, CRED_SCRAM, CREDENTIALS_OK, Credential, Credentials, credential_wipe, credentials_mock,
    password_mac,
)
from pgpool_core.auth.chance cimport chance_take
from pgpool_core.auth.crypto cimport CRYPTO_memcmp, OPENSSL_cleanse
from pgpool_core.auth.digest cimport DIGEST_OK, SHA256_LEN, hmac_sha256, pbkdf2_sha256, sha256
from pgpool_core.auth.md5 cimport MD5_ANSWER_LEN, MD5_SALT_LEN, md5_answer, md5_secret
from pgpool_core.auth.scram cimport (
    MAX_SASL_LEN, SCRAM_FAILED, SCRAM_MALFORMED, SCRAM_OK, SERVER_FINAL_LEN, scram_client_final, scram_client_first,
    scram_free, scram_server_first, scram_server_first_len,
)
from pgpool_core.auth.startup cimport MAX_USER_LEN
from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.codes cimport BE_AUTHENTICATION
from pgpool_core.wire.span cimport Span


cdef enum:
    STEP_NONE = 0                 # before login_begin asked for anything, and after the end
    STEP_PLAIN = 1                # a PasswordMessage is to come
    STEP_MD5 = 2
    STEP_SASL_INITIAL = 3         # SASLInitialResponse
    STEP_SASL_FIRST = 4           # SASLResponse with client-first-message, from a client that held it back
    STEP_SASL_FINAL = 5           # SASLResponse with client-final-message

    HEAD_LEN = 9                  # 'R', Int32 length, Int32 code
    CODE_CLEARTEXT = 3
    CODE_MD5 = 5
    CODE_SASL = 10
    CODE_SASL_CONTINUE = 11
    CODE_SASL_FINAL = 12
    MECHANISM_LEN = 14            # with its NUL
    PLUS_LEN = 19                 # the same
    NO_RESPONSE = 0xFFFFFFFF      # the length word -1
    MOST_ROUNDS = 10000           # of PBKDF2 in a worker, all of whose clients wait for it: 3 ms


cdef const uint8_t *MECHANISMS = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0"    # what we offer; C's own NUL is the end


cdef int login_begin(ClientLogin *l, uint8_t auth_type, Credentials *table, const Credential *cred, bint known_user, Span user,
                     Span binding, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Begin one login and write the request that it needs.

    LOGIN_OK: nothing is asked (any, peer; trust and cert of a known user, whose certificate the caller looks at). LOGIN_MORE: send `out`. Below 0: the end.
    """
    out_len[0] = 0
    memset(l, 0, sizeof(ClientLogin))
    l.method = auth_type
    if auth_type == AUTH_ANY or auth_type == AUTH_PEER:
        return LOGIN_OK
    if auth_type == AUTH_TRUST or auth_type == AUTH_CERT:
        return LOGIN_OK if known_user else LOGIN_BAD_PASSWORD
    if (auth_type > AUTH_SCRAM and auth_type != AUTH_LDAP) or user.len > MAX_USER_LEN:
        return LOGIN_INTERNAL
    l.secret = True
    if user.len > 0:
        memcpy(l.user, user.at, user.len)
    l.user_len = <uint8_t>user.len
    l.doomed = not known_user
    if 0 < binding.len <= sizeof(l.scram.binding):
        memcpy(l.scram.binding, binding.at, binding.len)
        l.scram.binding_len = <uint8_t>binding.len
    if cred is not NULL:
        l.credential = cred[0]
    elif imitate(l, table, user) != LOGIN_OK:
        return LOGIN_INTERNAL
    if auth_type == AUTH_MD5 and (l.credential.kinds & (CRED_MD5 | CRED_SCRAM)) == CRED_SCRAM:
        l.method = AUTH_SCRAM
    if l.method == AUTH_SCRAM:
        if not l.credential.kinds & CRED_SCRAM and imitate(l, table, user) != LOGIN_OK:
            return LOGIN_INTERNAL
        if l.scram.binding_len:
            return ask(l, STEP_SASL_INITIAL, CODE_SASL, MECHANISMS, PLUS_LEN + MECHANISM_LEN + 1, out, cap, out_len)
        return ask(l, STEP_SASL_INITIAL, CODE_SASL, MECHANISMS + PLUS_LEN, MECHANISM_LEN + 1, out, cap, out_len)
    if l.method == AUTH_PLAIN or l.method == AUTH_LDAP:
        return ask(l, STEP_PLAIN, CODE_CLEARTEXT, NULL, 0, out, cap, out_len)
    if not l.credential.kinds & CRED_MD5:
        l.doomed = True                       # md5_hex is not a secret then: never check against it
    if not chance_take(l.md5_salt, MD5_SALT_LEN):
        return finish(l, LOGIN_INTERNAL)
    return ask(l, STEP_MD5, CODE_MD5, l.md5_salt, MD5_SALT_LEN, out, cap, out_len)


cdef int login_password(ClientLogin *l, const uint8_t *body, uint32_t body_len,
                        uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Take the body of one PasswordMessage, SASLInitialResponse or SASLResponse and write what answers it."""
    cdef Span message
    out_len[0] = 0
    message.at, message.len = body, body_len
    if l.step == STEP_PLAIN or l.step == STEP_MD5:
        return finish(l, take_password(l, message))
    if l.step == STEP_NONE:
        return LOGIN_INTERNAL
    if body_len > MAX_SASL_LEN:
        return finish(l, LOGIN_PROTOCOL)
    if l.step == STEP_SASL_INITIAL:
        return take_sasl_initial(l, message, out, cap, out_len)
    if l.step == STEP_SASL_FIRST:
        return take_client_first(l, message, out, cap, out_len)
    return take_client_final(l, message, out, cap, out_len)


cdef int login_recheck(ClientLogin *l, const Credential *cred, const uint8_t *body, uint32_t body_len) noexcept nogil:
    """LOGIN_OK, LOGIN_BAD_PASSWORD or LOGIN_ELSEWHERE; the method and the salt stay those that the client has answered."""
    cdef Span message
    if l.method != AUTH_PLAIN and l.method != AUTH_MD5:
        return LOGIN_BAD_PASSWORD
    message.at, message.len = body, body_len
    l.credential = cred[0]
    l.doomed = l.method == AUTH_MD5 and not cred.kinds & CRED_MD5
    l.step = STEP_PLAIN if l.method == AUTH_PLAIN else STEP_MD5
    return finish(l, take_password(l, message))


cdef void login_wipe(ClientLogin *l) noexcept nogil:
    if l.secret:
        scram_free(&l.scram)
        OPENSSL_cleanse(l, sizeof(ClientLogin))


cdef int imitate(ClientLogin *l, Credentials *table, Span user) noexcept nogil:
    """Go on with made-up secrets, to fail at the end."""
    l.doomed = True
    if credentials_mock(table, user, &l.credential) != CREDENTIALS_OK:
        return LOGIN_INTERNAL
    return LOGIN_OK


cdef int finish(ClientLogin *l, int status) noexcept nogil:
    """End the login with `status`, the secrets go first."""
    credential_wipe(&l.credential)
    scram_free(&l.scram)
    l.step = STEP_NONE
    return status


cdef int ask(ClientLogin *l, uint8_t step, uint32_t code, const uint8_t *data, uint32_t data_len,
             uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Write one request and wait for its answer in `step`."""
    if put_head(code, data_len, out, cap) == 0:
        return LOGIN_NO_SPACE
    if data_len > 0:
        memcpy(out + HEAD_LEN, data, data_len)
    out_len[0] = HEAD_LEN + data_len
    l.step = step
    return LOGIN_MORE


cdef bint put_head(uint32_t code, uint32_t data_len, uint8_t *out, size_t cap) noexcept nogil:
    """Write the first HEAD_LEN bytes of an Authentication message if all of it fits."""
    if cap < HEAD_LEN or cap - HEAD_LEN < data_len:
        return False
    out[0] = BE_AUTHENTICATION
    store_be32(out + 1, HEAD_LEN - 1 + data_len)
    store_be32(out + 5, code)
    return True


cdef int take_password(ClientLogin *l, Span message) noexcept nogil:
    """Check a PasswordMessage: text, one NUL at its end."""
    cdef Span password = message
    if message.len == 0 or message.len - 1 > MAX_PASSWORD_LEN:
        return LOGIN_PROTOCOL
    if memchr(message.at, 0, message.len) != <const void *>(message.at + message.len - 1):
        return LOGIN_PROTOCOL
    password.len -= 1
    if password.len == 0:
        return LOGIN_EMPTY_PASSWORD               # to LDAP it would be an anonymous bind, which succeeds
    if l.method == AUTH_LDAP:
        return LOGIN_ELSEWHERE
    return check_plain(l, password) if l.step == STEP_PLAIN else check_md5(l, password)


cdef int check_md5(ClientLogin *l, Span answer) noexcept nogil:
    cdef uint8_t right[MD5_ANSWER_LEN]
    cdef int status = LOGIN_BAD_PASSWORD
    if md5_answer(l.credential.md5_hex, l.md5_salt, right) != DIGEST_OK:
        return LOGIN_INTERNAL
    if answer.len == MD5_ANSWER_LEN and CRYPTO_memcmp(answer.at, right, MD5_ANSWER_LEN) == 0 and not l.doomed:
        status = LOGIN_OK
    OPENSSL_cleanse(right, MD5_ANSWER_LEN)
    return status


cdef int check_plain(ClientLogin *l, Span password) noexcept nogil:
    """Check the password itself against the cheapest secret that is stored; what takes long, or SASLprep, is done elsewhere."""
    cdef uint8_t computed[SHA256_LEN]          # MD5_HEX_LEN is the same number
    cdef const uint8_t *stored
    cdef Span user
    cdef int digest_status, status
    if l.credential.kinds & CRED_PLAIN:
        stored = l.credential.plain_mac
        digest_status = password_mac(password, computed)
    elif l.credential.kinds & CRED_MD5:
        user.at, user.len = l.user, l.user_len
        stored = l.credential.md5_hex
        digest_status = md5_secret(password, user, computed)
    elif l.credential.kinds & CRED_SCRAM and (l.credential.iterations > MOST_ROUNDS or not is_ascii(password)):
        return LOGIN_ELSEWHERE
    elif l.credential.kinds & CRED_SCRAM:
        stored = l.credential.stored_key
        digest_status = stored_key_of(password, &l.credential, computed, l.client_key)
    else:
        return LOGIN_BAD_PASSWORD
    if digest_status != DIGEST_OK:
        return LOGIN_INTERNAL
    status = LOGIN_OK if CRYPTO_memcmp(computed, stored, SHA256_LEN) == 0 and not l.doomed else LOGIN_BAD_PASSWORD
    OPENSSL_cleanse(computed, SHA256_LEN)
    l.has_key = status == LOGIN_OK and l.credential.kinds & CRED_ASKS_KEY and stored == l.credential.stored_key
    return status


cdef bint is_ascii(Span text) noexcept nogil:
    cdef uint32_t i
    for i in range(text.len):
        if text.at[i] & 0x80:
            return False
    return True


cdef int stored_key_of(Span password, Credential *c, uint8_t *out, uint8_t *client_key) noexcept nogil:
    """StoredKey := H(ClientKey), ClientKey := HMAC(Hi(password, salt, i), "Client Key"), RFC 5802 section 3. DIGEST_OK or DIGEST_FAILED."""
    cdef uint8_t salted[SHA256_LEN]
    cdef Span salt, label
    cdef int status
    salt.at, salt.len = c.salt, c.salt_len
    label.at, label.len = <const uint8_t *>b"Client Key", 10
    status = pbkdf2_sha256(password, salt, c.iterations, salted)
    if status == DIGEST_OK:
        status = hmac_sha256(salted, &label, 1, client_key)
    if status == DIGEST_OK:
        status = sha256(client_key, SHA256_LEN, out)
    OPENSSL_cleanse(salted, SHA256_LEN)
    return status


cdef int take_sasl_initial(ClientLogin *l, Span message, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Take the mechanism that the client chose, and client-first-message if it comes along.

    A client may hold it back (length -1): an empty challenge asks for it, once.
    """
    cdef uint32_t length, name_len = MECHANISM_LEN
    cdef const uint8_t *name = MECHANISMS + PLUS_LEN
    if l.scram.binding_len and message.len > PLUS_LEN and memcmp(message.at, MECHANISMS, PLUS_LEN) == 0:
        name, name_len = MECHANISMS, PLUS_LEN
        l.scram.plus = 1
    if message.len < name_len + 4 or memcmp(message.at, name, name_len) != 0:
        return finish(l, LOGIN_PROTOCOL)
    length = load_be32(message.at + name_len)
    message.at, message.len = message.at + name_len + 4, message.len - name_len - 4
    if length == NO_RESPONSE and message.len == 0:
        return ask(l, STEP_SASL_FIRST, CODE_SASL_CONTINUE, NULL, 0, out, cap, out_len)
    if length != message.len:
        return finish(l, LOGIN_PROTOCOL)
    return take_client_first(l, message, out, cap, out_len)


cdef int take_client_first(ClientLogin *l, Span message, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Answer client-first-message with the challenge: nonce, salt and iteration count."""
    cdef Span salt
    cdef uint32_t length
    cdef int status = scram_client_first(&l.scram, message)
    if status != SCRAM_OK:
        return finish(l, LOGIN_PROTOCOL if status == SCRAM_MALFORMED else LOGIN_INTERNAL)
    salt.at, salt.len = l.credential.salt, l.credential.salt_len
    length = scram_server_first_len(&l.scram, l.credential.iterations, salt)
    if not put_head(CODE_SASL_CONTINUE, length, out, cap):
        return LOGIN_NO_SPACE
    scram_server_first(&l.scram, l.credential.iterations, salt, out + HEAD_LEN)
    out_len[0] = HEAD_LEN + length
    l.step = STEP_SASL_FINAL
    return LOGIN_MORE


cdef int take_client_final(ClientLogin *l, Span message, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Check the proof; on LOGIN_OK `out` holds our own, AuthenticationSASLFinal."""
    cdef uint8_t server_final[SERVER_FINAL_LEN]
    cdef Span salt
    cdef int status
    if cap < HEAD_LEN + SERVER_FINAL_LEN:
        return LOGIN_NO_SPACE
    salt.at, salt.len = l.credential.salt, l.credential.salt_len
    status = scram_client_final(&l.scram, message, l.credential.iterations, salt, l.credential.stored_key,
                                l.credential.server_key, server_final)
    if status == SCRAM_MALFORMED:
        return finish(l, LOGIN_PROTOCOL)
    if status == SCRAM_FAILED:
        return finish(l, LOGIN_INTERNAL)
    if status != SCRAM_OK or l.doomed:
        return finish(l, LOGIN_BAD_PASSWORD)
    if l.credential.kinds & CRED_ASKS_KEY:
        memcpy(l.client_key, l.scram.client_key, SHA256_LEN)
        l.has_key = 1
    put_head(CODE_SASL_FINAL, SERVER_FINAL_LEN, out, cap)
    memcpy(out + HEAD_LEN, server_final, SERVER_FINAL_LEN)
    out_len[0] = HEAD_LEN + SERVER_FINAL_LEN
    return finish(l, LOGIN_OK)
