"""Interned statement texts; see text.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from pgpool_core.statements.hash cimport hash_bytes
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_next64
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


cdef Statement *text_intern(Texts *table, const uint8_t *data, uint32_t n, uint32_t salt) noexcept nogil:
    """The statement with exactly these bytes and this salt, one holder more; NULL when memory is short.

    The caller has seen to it that `n` is no more than MAX_TEXT_LEN.
    """
    return text_arrives(table, data, n, salt, NOWHERE)


cdef Statement *text_arrives(Texts *table, const uint8_t *data, uint32_t n, uint32_t salt, uint64_t id) noexcept nogil:
    """The same; one that is not there yet gets `id`, which is nobody else's, or (NOWHERE) the next one."""
    cdef uint64_t hash = hash_bytes(&table.key, data, n) ^ <uint64_t>salt * <uint64_t>0x9E3779B97F4A7C15
    cdef TextShard *shard = shard_of(table, hash)
    cdef Statement *statement
    cdef Statement **at
    pthread_mutex_lock(&shard.lock)
    statement = bucket_of(shard, hash)[0]
    while statement != NULL and not (statement.hash == hash and statement.len == n and statement.salt == salt
                                     and memcmp(statement.data, data, n) == 0):
        statement = statement.next
    if statement == NULL:
        statement = <Statement *>malloc(sizeof(Statement) + n)
        if statement != NULL:
            statement.id = id if id != NOWHERE else pgpool_next64(&table.last_id)
            statement.hash = hash
            statement.epoch = EPOCH_NEVER + 1
            statement.refs = 0
            statement.salt = salt
            statement.flags = 0
            statement.hidden = 0
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
