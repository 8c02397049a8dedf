"""What is stored about a user's password, and the table that all workers look it up in.

A `Credential` holds what a login is checked against, never the password: a plain one leaves only its HMAC under a key
that the process drew at start. It is secret all the same; who copies it wipes the copy.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.wire.span cimport Span


cdef enum:
    CRED_PLAIN = 1                # plain_mac is set
    CRED_MD5 = 2                  # md5_hex is set
    CRED_SCRAM = 4                # iterations, salt, stored_key and server_key are set
    CRED_ASKS_KEY = 8             # control wants the ClientKey of a login that succeeds, to log in to servers with it

    CRED_NOBODY = 16              # made up: there is no such user. Which of the others hold, credentials_mock_kinds knows

    MAX_SALT_LEN = 64             # bytes; PostgreSQL makes salts of 16
    MOCK_ITERATIONS = 4096        # PostgreSQL's default
    MOCK_SALT_LEN = 16

    CREDENTIALS_OK = 0
    CREDENTIALS_BAD_SECRET = -1   # not what that kind of secret looks like
    CREDENTIALS_FAILED = -2       # no memory, or libcrypto failed


cdef struct Credential:           # owns nothing. No bit of `kinds`: nothing matches
    uint8_t kinds
    uint8_t md5_hex[32]           # lower case, without "md5"
    uint8_t plain_mac[32]         # HMAC-SHA-256 of the password
    uint32_t iterations
    uint8_t salt_len
    uint8_t salt[64]
    uint8_t stored_key[32]
    uint8_t server_key[32]


cdef struct Entry:                # one block of memory: the struct, then the name
    Entry *next
    uint32_t hash
    uint32_t user_len
    Credential credential


cdef struct Credentials:          # the table: any thread may call any of the functions below, none touches the fields
    pthread_mutex_t lock          # around every look and change, never around hashing
    Entry **buckets               # owns the chains
    uint32_t bucket_count         # a power of two
    uint32_t count
    uint32_t md5_able             # entries that md5 logins can be checked against
    uint32_t mock_iterations      # scram_iterations, for mocks; 0 = PostgreSQL's default. Atomic
    uint32_t scram_only           # entries with SCRAM keys and no md5 secret
    uint8_t mock_key[32]          # what users who do not exist are made of; secret. Random, until credentials_mock_by


# The ways to fill a Credential that began as all zero; several may be called on one. A plain password serves
# CRED_PLAIN and CRED_MD5; its SCRAM keys come from control, because SASLprep needs Unicode's tables.
cdef int credential_plain(Credential *c, Span user, Span password) noexcept nogil
cdef int credential_md5(Credential *c, Span hex_digits) noexcept nogil
cdef int credential_scram(Credential *c, uint32_t iterations, Span salt, Span stored_key,
                          Span server_key) noexcept nogil
cdef int password_mac(Span password, uint8_t *out) noexcept nogil      # 32 bytes; DIGEST_OK or DIGEST_FAILED
cdef void credential_wipe(Credential *c) noexcept nogil

cdef Credentials *credentials_new() noexcept nogil                     # moves to the caller; NULL: no memory
cdef void credentials_free(Credentials *table) noexcept nogil          # wipes every secret; NULL is fine
cdef int credentials_put(Credentials *table, Span user, const Credential *credential) noexcept nogil
cdef int credentials_get(Credentials *table, Span user, Credential *copy) noexcept nogil     # 1 found, 0 not
cdef void credentials_clear(Credentials *table) noexcept nogil
cdef void credentials_forget(Credentials *table, Span user) noexcept nogil
cdef void credentials_settle(Credentials *table, Span user) noexcept nogil  # no CRED_ASKS_KEY any more

# A credential for a user who does not exist: nothing matches it, and it looks the same at each login of that name, in all tables with the
# same key, which has 32 bytes.
cdef void credentials_mock_by(Credentials *table, const uint8_t *key) noexcept nogil
cdef int credentials_mock(Credentials *table, Span user, Credential *out) noexcept nogil
cdef uint8_t credentials_mock_kinds(Credentials *table) noexcept nogil     # what it would be asked for now
