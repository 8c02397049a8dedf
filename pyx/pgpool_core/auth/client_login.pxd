"""One client proving who it is: what we send, what we make of its answers. Bytes in, bytes out.

login_begin writes the first request or says that none is needed; login_password takes the body of each 'p' message.
AuthenticationOk and every ErrorResponse are the caller's. A user who does not exist, or whose stored secret does not
fit the method, goes through the same messages as anybody else and fails at the end.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.auth.credentials cimport Credential, Credentials
from pgpool_core.auth.scram cimport ScramServer
from pgpool_core.wire.span cimport Span


cdef enum:
    AUTH_ANY = 0                  # whatever the name
    AUTH_TRUST = 1
    AUTH_PLAIN = 2                # any stored secret can check it; with nothing but SCRAM keys that costs a PBKDF2, of many rounds elsewhere
    AUTH_MD5 = 3                  # becomes SCRAM for a user who has SCRAM keys and no md5 secret
    AUTH_SCRAM = 4
    AUTH_HBA = 5                  # control says which of the others, for each login
    AUTH_CERT = 6                 # the client's certificate
    AUTH_LDAP = 7                 # the password itself, which another checks
    AUTH_PEER = 8                 # the socket has proved it

    LOGIN_OK = 0                  # send AuthenticationOk, after what stands in `out`
    LOGIN_MORE = 1                # send what stands in `out`, wait for a 'p' message
    LOGIN_ELSEWHERE = 2           # AUTH_LDAP, sometimes AUTH_PLAIN: the message holds a password that the caller has to have checked
    LOGIN_BAD_PASSWORD = -1       # also: no such user, nothing stored that could match
    LOGIN_PROTOCOL = -2           # the client broke the protocol
    LOGIN_EMPTY_PASSWORD = -3
    LOGIN_NO_SPACE = -4           # nothing changed: call again with the same body and MAX_LOGIN_REPLY bytes
    LOGIN_INTERNAL = -5           # ours: libcrypto failed, or a call that this header does not allow

    MAX_LOGIN_REPLY = 1161        # no reply is longer: the header and MAX_SERVER_FIRST_LEN
    MAX_PASSWORD_LEN = 65535      # bytes, PostgreSQL's bound


cdef struct ClientLogin:          # owns what `scram` owns; secret until login_wipe, which also frees
    uint8_t step
    uint8_t method                # AUTH_*: what is asked of the client, also after the end
    uint8_t doomed                # fails at the end, whatever comes
    uint8_t secret                # something stands below that has to be wiped
    uint8_t user_len
    uint8_t user[127]
    uint8_t md5_salt[4]
    Credential credential
    uint8_t client_key[32]        # of the password that was right, where the credential asked for it
    uint8_t has_key
    ScramServer scram


# `table` is what users are imitated by; `credential` is copied, NULL is fine for an unknown user; `binding` is tls-server-end-point of the connection, empty without TLS.
# Of `cap` bytes at `out` the first out_len[0] are to be sent.
cdef int login_begin(ClientLogin *l, uint8_t auth_type, Credentials *table, const Credential *cred, bint known_user, Span user,
                     Span binding, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil

# The body may hold the password itself: the caller wipes it. After a final status the secrets in `l` are gone.
cdef int login_password(ClientLogin *l, const uint8_t *body, uint32_t body_len,
                        uint8_t *out, size_t cap, size_t *out_len) noexcept nogil

# After LOGIN_BAD_PASSWORD: check the same PasswordMessage against what is stored by now; LOGIN_ELSEWHERE as above. A SCRAM exchange cannot
# be repeated.
cdef int login_recheck(ClientLogin *l, const Credential *cred, const uint8_t *body, uint32_t body_len) noexcept nogil

cdef void login_wipe(ClientLogin *l) noexcept nogil
