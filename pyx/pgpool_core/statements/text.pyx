"""Interned statement texts; see text.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from pgpool_core.statements.hash cimport hash_bytes, hash_id
from pgpool_core.statements.meaning cimport changes_free, changes_init, changes_touch, is_momentary
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load64, pgpool_load8, pgpool_next64, pgpool_store64, pgpool_store8
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock

cdef extern from "<unistd.h>" nogil:
    int getentropy(void *, size_t)

cdef enum:
    FIRST_BUCKETS = 16            # of each shard


cdef Texts *texts_new() noexcept nogil:
    """An empty table, owned by the caller; NULL when memory (or the kernel's random numbers) cannot be had."""
    cdef Texts *table = <Texts *>calloc(1, sizeof(Texts))
    cdef int i
    cdef bint ok
    if table == NULL:
        return NULL
    changes_init(&table.changes)
    ok = getentropy(&table.key, sizeof(table.key)) == 0
    for i in range(TEXT_SHARDS):
        pthread_mutex_init(&table.shards[i].lock, NULL)
        table.shards[i].n_buckets = FIRST_BUCKETS
        table.shards[i].buckets = <Statement **>calloc(FIRST_BUCKETS, sizeof(Statement *))
        ok = ok and table.shards[i].buckets != NULL
    if not ok:
        texts_free(table)
        return NULL
    return table


cdef void texts_free(Texts *table) noexcept nogil:
    """Free the table and every statement, counted or not."""
    cdef int i
    cdef uint32_t b
    cdef Statement *statement
    cdef Statement *next
    if table == NULL:
        return
    for i in range(TEXT_SHARDS):
        if table.shards[i].buckets != NULL:
            for b in range(table.shards[i].n_buckets):
                statement = table.shards[i].buckets[b]
                while statement != NULL:
                    next = statement.next
                    free(statement)
                    statement = next
        free(table.shards[i].buckets)
        pthread_mutex_destroy(&table.shards[i].lock)
    changes_free(&table.changes)
    free(table)


cdef inline TextShard *shard_of(Texts *table, uint64_t hash) noexcept nogil:
    return &table.shards[hash >> 60 & (TEXT_SHARDS - 1)]


cdef inline Statement **bucket_of(TextShard *shard, uint64_t hash) noexcept nogil:
    return &shard.buckets[hash & (shard.n_buckets - 1)]


cdef void grow(TextShard *shard) noexcept nogil:
    """Twice the buckets; without memory for them the chains get longer."""
    cdef Statement **bigger = <Statement **>calloc(<size_t>shard.n_buckets * 2, sizeof(Statement *))
    cdef Statement **at
    cdef Statement *statement
    cdef Statement *next
    cdef uint32_t b
    cdef uint32_t mask = shard.n_buckets * 2 - 1
    if bigger == NULL:
        return
    for b in range(shard.n_buckets):
        statement = shard.buckets[b]
        while statement != NULL:
            next = statement.next
            at = &bigger[statement.hash & mask]
            statement.next = at[0]
            at[0] = statement
            statement = next
    free(shard.buckets)
    shard.buckets = bigger
    shard.n_buckets *= 2


cdef Statement *text_intern(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt) noexcept nogil:
    """The statement with exactly these bytes and this salt, one holder more; NULL when memory is short.

    The caller has seen to it that `n` is no more than MAX_TEXT_LEN.
    """
    return text_arrives(table, data, n, salt, NOWHERE)


cdef Statement *text_alone(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt) noexcept nogil:
    """One that nobody else has, nor will."""
    return text_arrives(table, data, n, salt | ALONE | OWN, NOWHERE)


cdef Statement *text_meant(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt) noexcept nogil:
    """What a Parse of these bytes means now: text_intern where others have meant the same, and else another one."""
    cdef Statement *found = text_intern(table, data, n, salt)
    cdef bint momentary
    if found == NULL or (text_lasts(table, found) and not found.momentary):
        return found
    momentary = found.momentary
    text_unref(table, found)                      # which may be the end of it
    return text_alone(table, data, n, salt) if momentary else text_intern(table, data, n, salt)


cdef inline bint is_it(Statement *statement, uint64_t hash, const uint8_t *data, uint32_t n, uint64_t salt, uint64_t id) noexcept nogil:
    return statement.hash == hash and statement.len == n and pgpool_load64(&statement.salt) == salt \
        and (not salt & ALONE or statement.id == id) and memcmp(statement.data, data, n) == 0


cdef Statement *text_arrives(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt, uint64_t id) noexcept nogil:
    """The same; one that is not there yet gets `id`, which is nobody else's, or (NOWHERE) the next one.

    There may be any number of those that are alone, all of one text: each has a bucket of its own.
    """
    cdef uint64_t hash = hash_bytes(&table.key, data, n) ^ (salt & ~(ALONE | OWN)) * <uint64_t>0x9E3779B97F4A7C15
    cdef TextShard *shard
    cdef Statement *statement
    cdef Statement **at
    if salt & ALONE:
        id = id if id != NOWHERE else pgpool_next64(&table.last_id)
        hash ^= hash_id(id)
    shard = shard_of(table, hash)
    pthread_mutex_lock(&shard.lock)
    statement = bucket_of(shard, hash)[0]
    while statement != NULL and not is_it(statement, hash, data, n, salt, id):
        statement = statement.next
    if statement == NULL:
        statement = <Statement *>malloc(sizeof(Statement) + n)
        if statement != NULL:
            statement.id = id if id != NOWHERE else pgpool_next64(&table.last_id)
            statement.hash = hash
            statement.epoch = EPOCH_NEVER + 1
            statement.refs = 0
            statement.salt = salt
            statement.seen = pgpool_load64(&table.changes.last)
            statement.flags = 0
            statement.hidden = 0
            statement.momentary = not salt & ALONE and is_momentary(data, n)
            statement.sent = 0
            statement.len = n
            memcpy(statement.data, data, n)
            if shard.count >= shard.n_buckets:
                grow(shard)
            at = bucket_of(shard, hash)
            statement.next = at[0]
            at[0] = statement
            shard.count += 1
    if statement != NULL:
        pgpool_add32(&statement.refs, 1)
    pthread_mutex_unlock(&shard.lock)
    return statement


cdef bint text_lasts(Texts *table, Statement *statement) noexcept nogil:
    """Whether nothing has changed of what `statement` is about; where something may have, it is alone from now on."""
    cdef uint64_t last = pgpool_load64(&table.changes.last)
    cdef uint64_t seen = pgpool_load64(&statement.seen)
    cdef uint64_t salt = pgpool_load64(&statement.salt)
    if salt & ALONE:
        return False
    if seen == last:
        return True
    if changes_touch(&table.changes, seen, last, statement.data, statement.len):
        pgpool_store64(&statement.salt, salt | ALONE)
        return False
    pgpool_store64(&statement.seen, last)
    return True


cdef void text_refused(Texts *table, Statement *statement) noexcept nogil:
    """PostgreSQL does not take a value for what it has made of a parameter: that may have been long ago.

    Most such values are wrong for everybody, so it is done for the first refusal, the second, the fourth and so on.
    """
    cdef uint8_t *count = &table.refused[statement.hash & (REFUSALS - 1)]
    cdef uint8_t n = pgpool_load8(count) + 1
    if n:
        pgpool_store8(count, n)
    if n & (n - 1) == 0 and n:
        pgpool_store64(&statement.salt, pgpool_load64(&statement.salt) | ALONE)


cdef Statement *text_ref(Statement *statement) noexcept nogil:
    """One more holder of `statement` (which may be NULL); the caller's own hold keeps it alive meanwhile."""
    if statement != NULL:
        pgpool_add32(&statement.refs, 1)
    return statement


cdef void text_unref(Texts *table, Statement *statement) noexcept nogil:
    """One holder less; the last one frees it."""
    cdef TextShard *shard
    cdef Statement **at
    if statement == NULL:
        return
    shard = shard_of(table, statement.hash)
    pthread_mutex_lock(&shard.lock)
    if pgpool_add32(&statement.refs, -1) == 0:
        at = bucket_of(shard, statement.hash)
        while at[0] != statement:
            at = &at[0].next
        at[0] = statement.next
        shard.count -= 1
        free(statement)
    pthread_mutex_unlock(&shard.lock)


cdef void text_outdate(Statement *statement) noexcept nogil:
    """Whoever has prepared it has to prepare it anew."""
    pgpool_next64(&statement.epoch)
