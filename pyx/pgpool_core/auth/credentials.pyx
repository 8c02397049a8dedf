"""How credentials are made, stored and imitated."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from pgpool_core.auth.crypto cimport OPENSSL_cleanse, RAND_bytes
from pgpool_core.auth.digest cimport DIGEST_OK, SHA256_LEN, hmac_sha256
from pgpool_core.auth.md5 cimport MD5_HEX_LEN, md5_secret
from pgpool_core.sync.atomic cimport pgpool_load32
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.span cimport Span


cdef enum:
    FIRST_BUCKETS = 64            # a power of two, as every later size
    FNV_OFFSET = 0x811C9DC5
    FNV_PRIME = 0x01000193
    MAX_ITERATIONS = 0x7FFFFFFF   # libcrypto counts them in int


cdef uint8_t PLAIN_KEY[SHA256_LEN]
cdef uint32_t HASH_SEED
if RAND_bytes(PLAIN_KEY, SHA256_LEN) != 1 or RAND_bytes(<unsigned char *>&HASH_SEED, sizeof(HASH_SEED)) != 1:
    raise ImportError("libcrypto has no random numbers")


# One credential.

cdef int credential_plain(Credential *c, Span user, Span password) noexcept nogil:
    """Fill in what a plain password serves: plain_mac and md5_hex.

    Without MD5 in libcrypto (FIPS) md5_hex is left out. An empty password never matches: nothing is filled in.
    """
    if password.len == 0:
        return CREDENTIALS_BAD_SECRET
    if password_mac(password, c.plain_mac) != DIGEST_OK:
        return CREDENTIALS_FAILED
    c.kinds |= CRED_PLAIN
    if md5_secret(password, user, c.md5_hex) == DIGEST_OK:
        c.kinds |= CRED_MD5
    return CREDENTIALS_OK


cdef int credential_md5(Credential *c, Span hex_digits) noexcept nogil:
    """Fill in a stored md5 secret: 32 hex digits, no "md5" before them."""
    cdef int i
    cdef uint8_t digit
    if hex_digits.len != MD5_HEX_LEN:
        return CREDENTIALS_BAD_SECRET
    for i in range(MD5_HEX_LEN):
        digit = hex_digits.at[i]
        if c'A' <= digit <= c'F':
            digit += c'a' - c'A'
        if not (c'0' <= digit <= c'9' or c'a' <= digit <= c'f'):
            return CREDENTIALS_BAD_SECRET
        c.md5_hex[i] = digit
    c.kinds |= CRED_MD5
    return CREDENTIALS_OK


cdef int credential_scram(Credential *c, uint32_t iterations, Span salt, Span stored_key,
                          Span server_key) noexcept nogil:
    """Fill in a stored SCRAM-SHA-256 secret: raw salt and keys, any iteration count from 1."""
    if iterations < 1 or iterations > MAX_ITERATIONS or salt.len < 1 or salt.len > MAX_SALT_LEN:
        return CREDENTIALS_BAD_SECRET
    if stored_key.len != SHA256_LEN or server_key.len != SHA256_LEN:
        return CREDENTIALS_BAD_SECRET
    c.iterations, c.salt_len = iterations, <uint8_t>salt.len
    memcpy(c.salt, salt.at, salt.len)
    memcpy(c.stored_key, stored_key.at, SHA256_LEN)
    memcpy(c.server_key, server_key.at, SHA256_LEN)
    c.kinds |= CRED_SCRAM
    return CREDENTIALS_OK


cdef int password_mac(Span password, uint8_t *out) noexcept nogil:
    """The fingerprint of a plain password: of no use outside this process."""
    return hmac_sha256(PLAIN_KEY, &password, 1, out)


cdef void credential_wipe(Credential *c) noexcept nogil:
    OPENSSL_cleanse(c, sizeof(Credential))


# The table.

cdef Credentials *credentials_new() noexcept nogil:
    cdef Credentials *table = <Credentials *>calloc(1, sizeof(Credentials))
    if table is NULL:
        return NULL
    table.buckets = <Entry **>calloc(FIRST_BUCKETS, sizeof(Entry *))
    if table.buckets is NULL or RAND_bytes(table.mock_key, SHA256_LEN) != 1 or pthread_mutex_init(&table.lock, NULL) != 0:
        free(table.buckets)
        free(table)
        return NULL
    table.bucket_count = FIRST_BUCKETS
    return table


cdef void credentials_free(Credentials *table) noexcept nogil:
    if table is NULL:
        return
    credentials_clear(table)
    pthread_mutex_destroy(&table.lock)
    free(table.buckets)
    OPENSSL_cleanse(table, sizeof(Credentials))
    free(table)


cdef void credentials_clear(Credentials *table) noexcept nogil:
    """Forget every user and wipe every secret."""
    cdef uint32_t i
    cdef Entry *entry
    cdef Entry *after
    pthread_mutex_lock(&table.lock)
    for i in range(table.bucket_count):
        entry = table.buckets[i]
        table.buckets[i] = NULL
        while entry is not NULL:
            after = entry.next
            credential_wipe(&entry.credential)
            free(entry)
            entry = after
    table.count = table.md5_able = table.scram_only = 0
    pthread_mutex_unlock(&table.lock)


cdef int credentials_put(Credentials *table, Span user, const Credential *credential) noexcept nogil:
    """Store a copy for `user`, in place of what stood there before."""
    cdef uint32_t user_hash = hash_of(user)
    cdef Entry *entry
    pthread_mutex_lock(&table.lock)
    entry = find(table, user, user_hash)
    if entry is NULL:
        entry = <Entry *>malloc(sizeof(Entry) + user.len)
        if entry is NULL:
            pthread_mutex_unlock(&table.lock)
            return CREDENTIALS_FAILED
        if table.count >= table.bucket_count:
            grow(table)
        entry.hash, entry.user_len = user_hash, user.len
        memcpy(name_of(entry), user.at, user.len)
        entry.next = table.buckets[user_hash & (table.bucket_count - 1)]
        table.buckets[user_hash & (table.bucket_count - 1)] = entry
        table.count += 1
    else:
        tally(table, entry.credential.kinds, -1)
    entry.credential = credential[0]
    tally(table, credential.kinds, 1)
    pthread_mutex_unlock(&table.lock)
    return CREDENTIALS_OK


cdef int credentials_get(Credentials *table, Span user, Credential *copy) noexcept nogil:
    """Copy out what is stored for `user`: 1, or 0 and `copy` untouched. The caller wipes the copy."""
    cdef uint32_t user_hash = hash_of(user)
    cdef Entry *entry
    pthread_mutex_lock(&table.lock)
    entry = find(table, user, user_hash)
    if entry is not NULL:
        copy[0] = entry.credential
    pthread_mutex_unlock(&table.lock)
    return entry is not NULL


cdef void credentials_forget(Credentials *table, Span user) noexcept nogil:
    """Forget one user and wipe the secret."""
    cdef uint32_t user_hash = hash_of(user)
    cdef Entry **at
    cdef Entry *entry
    pthread_mutex_lock(&table.lock)
    entry = find(table, user, user_hash)
    if entry is not NULL:
        at = &table.buckets[user_hash & (table.bucket_count - 1)]
        while at[0] is not entry:
            at = &at[0].next
        at[0] = entry.next
        table.count -= 1
        tally(table, entry.credential.kinds, -1)
        credential_wipe(&entry.credential)
        free(entry)
    pthread_mutex_unlock(&table.lock)


cdef void credentials_settle(Credentials *table, Span user) noexcept nogil:
    cdef Entry *entry
    pthread_mutex_lock(&table.lock)
    entry = find(table, user, hash_of(user))
    if entry is not NULL:
        entry.credential.kinds &= ~<uint8_t>CRED_ASKS_KEY
    pthread_mutex_unlock(&table.lock)


cdef Entry *find(Credentials *table, Span user, uint32_t user_hash) noexcept nogil:
    cdef Entry *entry = table.buckets[user_hash & (table.bucket_count - 1)]
    while entry is not NULL:
        if entry.hash == user_hash and entry.user_len == user.len and memcmp(name_of(entry), user.at, user.len) == 0:
            return entry
        entry = entry.next
    return NULL


cdef void grow(Credentials *table) noexcept nogil:
    """Twice the buckets; without memory for them the chains get longer, and nothing is lost."""
    cdef uint32_t bucket_count = table.bucket_count * 2
    cdef uint32_t i
    cdef Entry *entry
    cdef Entry *after
    cdef Entry **buckets = <Entry **>calloc(bucket_count, sizeof(Entry *))
    if buckets is NULL:
        return
    for i in range(table.bucket_count):
        entry = table.buckets[i]
        while entry is not NULL:
            after = entry.next
            entry.next = buckets[entry.hash & (bucket_count - 1)]
            buckets[entry.hash & (bucket_count - 1)] = entry
            entry = after
    free(table.buckets)
    table.buckets, table.bucket_count = buckets, bucket_count


cdef void tally(Credentials *table, uint8_t kinds, int change) noexcept nogil:
    if kinds & CRED_MD5:
        table.md5_able += change
    elif kinds & CRED_SCRAM:
        table.scram_only += change


cdef uint8_t *name_of(Entry *entry) noexcept nogil:
    return <uint8_t *>(entry + 1)


cdef uint32_t hash_of(Span user) noexcept nogil:
    """FNV-1a from a seed of this process. Names come from configuration and PostgreSQL's roles, not from clients."""
    cdef uint32_t value = FNV_OFFSET ^ HASH_SEED
    cdef uint32_t i
    for i in range(user.len):
        value = (value ^ user.at[i]) * FNV_PRIME
    return value


# Users who do not exist.

cdef void credentials_mock_by(Credentials *table, const uint8_t *key) noexcept nogil:
    pthread_mutex_lock(&table.lock)
    memcpy(table.mock_key, key, SHA256_LEN)
    pthread_mutex_unlock(&table.lock)


cdef int credentials_mock(Credentials *table, Span user, Credential *out) noexcept nogil:
    """Make up a credential for `user` that no password matches; all zero when libcrypto fails.

    Salt and secrets come from the name and the table's key, so asking twice tells nothing. Where md5 logins may
    be answered by SCRAM, the mock follows what most of the table's users have. A user whose keys were made with another
    iteration count than `mock_iterations` can be told from a mock, as with PostgreSQL itself.
    """
    cdef uint8_t label
    cdef uint8_t *targets[5]
    cdef uint8_t salt[SHA256_LEN]
    cdef uint8_t key[SHA256_LEN]
    cdef Span parts[2]
    cdef bint made = True
    memset(out, 0, sizeof(Credential))
    targets[0], targets[1], targets[2], targets[3], targets[4] = (
        salt, out.md5_hex, out.plain_mac, out.stored_key, out.server_key)
    parts[0].at, parts[0].len = &label, 1
    parts[1] = user
    pthread_mutex_lock(&table.lock)
    memcpy(key, table.mock_key, SHA256_LEN)
    pthread_mutex_unlock(&table.lock)
    for label in range(5):
        made = hmac_sha256(key, parts, 2, targets[label]) == DIGEST_OK and made
    OPENSSL_cleanse(key, SHA256_LEN)
    if not made:
        memset(out, 0, sizeof(Credential))
        return CREDENTIALS_FAILED
    memcpy(out.salt, salt, MOCK_SALT_LEN)
    out.salt_len, out.iterations = MOCK_SALT_LEN, pgpool_load32(&table.mock_iterations)
    if out.iterations == 0:
        out.iterations = MOCK_ITERATIONS
    out.kinds = credentials_mock_kinds(table)
    return CREDENTIALS_OK


cdef uint8_t credentials_mock_kinds(Credentials *table) noexcept nogil:
    cdef uint8_t kinds = CRED_SCRAM
    pthread_mutex_lock(&table.lock)
    if table.md5_able >= table.scram_only:
        kinds |= CRED_MD5
    pthread_mutex_unlock(&table.lock)
    return kinds
