"""The table of login users' terms; see terms.pxd.

A record stays where it is while a client holds it or [users] names its user, so that a reload changes what holds for clients
that are here. Between terms_begin and terms_end the others keep what they had: nobody is ever without terms for a moment.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from pgpool_core.sync.atomic cimport pgpool_store64
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.span cimport HASH_BEGIN, Span, hash_on

cdef enum:
    BUCKETS = 1024


cdef TermsTable *terms_new() noexcept nogil:
    """An empty table, owned by the caller; NULL when memory is short."""
    cdef TermsTable *table = <TermsTable *>calloc(1, sizeof(TermsTable))
    if table == NULL:
        return NULL
    table.buckets = <Terms **>calloc(BUCKETS, sizeof(Terms *))
    if table.buckets == NULL:
        free(table)
        return NULL
    pthread_mutex_init(&table.lock, NULL)
    return table


cdef void terms_free(TermsTable *table) noexcept nogil:
    """Free the table and every record; no client holds one any more."""
    cdef uint32_t i
    cdef Terms *terms
    if table == NULL:
        return
    for i in range(BUCKETS):
        while table.buckets[i] != NULL:
            terms = table.buckets[i]
            table.buckets[i] = terms.next
            free(terms)
    pthread_mutex_destroy(&table.lock)
    free(table.buckets)
    free(table)


cdef void say_nothing(Terms *terms) noexcept nogil:
    cdef uint32_t i
    for i in range(PATIENCES):
        pgpool_store64(&terms.patience[i], <uint64_t>-1)
    terms.max_clients = AS_ALL
    terms.round = 0


cdef Terms *find(TermsTable *table, Span user) noexcept nogil:
    """The record of `user`, made where it is missing; NULL when memory is short. Under the lock."""
    cdef uint32_t b = hash_on(HASH_BEGIN, user) % BUCKETS
    cdef Terms *terms = table.buckets[b]
    while terms != NULL and not (terms.name_len == user.len and memcmp(terms.name, user.at, user.len) == 0):
        terms = terms.next
    if terms != NULL:
        return terms
    terms = <Terms *>calloc(1, sizeof(Terms) + user.len)
    if terms == NULL:
        return NULL
    terms.name_len = user.len
    memcpy(terms.name, user.at, user.len)
    say_nothing(terms)
    terms.next = table.buckets[b]
    table.buckets[b] = terms
    return terms


cdef void drop(TermsTable *table, Terms *terms) noexcept nogil:
    """Free a record that nobody needs. Under the lock."""
    cdef Span name
    cdef Terms **at
    name.at, name.len = <const uint8_t *>terms.name, terms.name_len
    at = &table.buckets[hash_on(HASH_BEGIN, name) % BUCKETS]
    while at[0] != terms:
        at = &at[0].next
    at[0] = terms.next
    free(terms)


cdef int terms_enter(TermsTable *table, Span user, Terms **out) noexcept nogil:
    """One more client of `user`, who holds `out` until terms_leave; nothing has changed where it is not TERMS_OK."""
    cdef Terms *terms
    cdef uint32_t limit
    cdef int status = TERMS_NO_MEMORY
    pthread_mutex_lock(&table.lock)
    terms = find(table, user)
    if terms != NULL:
        limit = table.max_clients if terms.max_clients == AS_ALL else terms.max_clients
        status = TERMS_FULL if limit and terms.clients >= limit else TERMS_OK
        if status == TERMS_OK:
            terms.clients += 1
            out[0] = terms
    pthread_mutex_unlock(&table.lock)
    return status


cdef int terms_stay(TermsTable *table, Span user, Terms **out) noexcept nogil:
    """The same for a client that another process has let in: it is counted, and never too many."""
    cdef Terms *terms
    pthread_mutex_lock(&table.lock)
    terms = find(table, user)
    if terms != NULL:
        terms.clients += 1
        out[0] = terms
    pthread_mutex_unlock(&table.lock)
    return TERMS_OK if terms != NULL else TERMS_NO_MEMORY


cdef void terms_leave(TermsTable *table, Terms *terms) noexcept nogil:
    """A client less; `terms` may be gone afterwards."""
    if terms == NULL:
        return
    pthread_mutex_lock(&table.lock)
    terms.clients -= 1
    if terms.clients == 0 and terms.round == 0:
        drop(table, terms)
    pthread_mutex_unlock(&table.lock)


cdef void terms_begin(TermsTable *table, uint32_t max_clients) noexcept nogil:
    """A new [users]: terms_set for each of its entries follows, then terms_end. `max_clients` holds for everybody else."""
    pthread_mutex_lock(&table.lock)
    table.max_clients = max_clients
    table.round += 1
    pthread_mutex_unlock(&table.lock)


cdef bint terms_set(TermsTable *table, Span user, uint32_t max_clients, const uint64_t *patience) noexcept nogil:
    """What an entry says; False when memory is short."""
    cdef Terms *terms
    cdef uint32_t i
    pthread_mutex_lock(&table.lock)
    terms = find(table, user)
    if terms != NULL:
        terms.max_clients = max_clients
        terms.round = table.round
        for i in range(PATIENCES):
            pgpool_store64(&terms.patience[i], patience[i])
    pthread_mutex_unlock(&table.lock)
    return terms != NULL


cdef void terms_end(TermsTable *table) noexcept nogil:
    """Entries that were there before and are not now say nothing any more."""
    cdef uint32_t i
    cdef Terms *terms
    cdef Terms *next
    pthread_mutex_lock(&table.lock)
    for i in range(BUCKETS):
        terms = table.buckets[i]
        while terms != NULL:
            next = terms.next
            if terms.round and terms.round != table.round:
                say_nothing(terms)
                if terms.clients == 0:
                    drop(table, terms)
            terms = next
    pthread_mutex_unlock(&table.lock)
