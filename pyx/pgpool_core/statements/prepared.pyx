"""The statements of one server; see prepared.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pgpool_core.statements.hash cimport hash_id
from pgpool_core.statements.text cimport EPOCH_NEVER, Statement, Texts, text_ref, text_unref

cdef enum:
    FIRST_BUCKETS = 16


cdef void prepared_init(Prepared *set, Texts *texts) noexcept nogil:
    """A server that has prepared nothing; `set` may hold anything before."""
    memset(set, 0, sizeof(Prepared))
    set.texts = texts


cdef inline Planted **bucket_of(Prepared *set, uint64_t id) noexcept nogil:
    return &set.buckets[hash_id(id) & (set.n_buckets - 1)]


cdef Planted *prepared_find(Prepared *set, uint64_t id) noexcept nogil:
    """The entry of the statement `id`, or NULL; it may be one that is only planned, or planned to go."""
    cdef Planted *at
    if set.buckets == NULL:
        return NULL
    at = bucket_of(set, id)[0]
    while at != NULL and at.statement.id != id:
        at = at.next
    return at


cdef bint grow(Prepared *set) noexcept nogil:
    cdef uint32_t n = set.n_buckets * 2 if set.n_buckets else FIRST_BUCKETS
    cdef Planted **bigger = <Planted **>calloc(n, sizeof(Planted *))
    cdef Planted *at = set.oldest
    cdef uint64_t b
    if bigger == NULL:
        return set.buckets != NULL            # longer chains, then
    while at != NULL:
        b = hash_id(at.statement.id) & (n - 1)
        at.next = bigger[b]
        bigger[b] = at
        at = at.newer
    free(set.buckets)
    set.buckets = bigger
    set.n_buckets = n
    return True


cdef inline void unlink_age(Prepared *set, Planted *at) noexcept nogil:
    if at.newer != NULL:
        at.newer.older = at.older
    else:
        set.newest = at.older
    if at.older != NULL:
        at.older.newer = at.newer
    else:
        set.oldest = at.newer


cdef inline void link_newest(Prepared *set, Planted *at) noexcept nogil:
    at.newer = NULL
    at.older = set.newest
    if set.newest != NULL:
        set.newest.newer = at
    else:
        set.oldest = at
    set.newest = at


cdef Planted *prepared_add(Prepared *set, Statement *statement) noexcept nogil:
    """An entry for a statement that has none, not planned yet; NULL when memory is short.

    `prepared_settle` takes it away again unless something is planned for it.
    """
    cdef Planted *fresh
    cdef Planted **bucket
    if set.entries >= set.n_buckets and not grow(set):
        return NULL
    fresh = <Planted *>calloc(1, sizeof(Planted))
    if fresh == NULL:
        return NULL
    fresh.statement = text_ref(statement)
    bucket = bucket_of(set, statement.id)
    fresh.next = bucket[0]
    bucket[0] = fresh
    link_newest(set, fresh)
    set.entries += 1
    return fresh


cdef void prepared_touch(Prepared *set, Planted *at) noexcept nogil:
    """It is being used: the last one to be evicted."""
    if set.newest != at:
        unlink_age(set, at)
        link_newest(set, at)


cdef inline void will_be(Prepared *set, Planted *at, bint there, uint64_t epoch) noexcept nogil:
    set.count = set.count - at.planned + there
    at.planned = there
    at.planned_epoch = epoch


cdef void prepared_plan(Prepared *set, Planted *at, bint there, uint64_t epoch, uint64_t group) noexcept nogil:
    """A message of `group` has been sent that prepares it at `epoch`, or closes it."""
    will_be(set, at, there, epoch)
    at.group = group
    at.flights += 1


cdef void prepared_is(Prepared *set, Planted *at, bint here, uint64_t epoch) noexcept nogil:
    """The server has said so; `prepared_settle` is to follow."""
    at.here = here
    at.epoch = epoch


cdef void prepared_settle(Prepared *set, Planted *at) noexcept nogil:
    """Nothing in flight any more: what is planned is what is there. What is neither there nor planned is forgotten."""
    cdef Planted **link
    if at.flights:
        return
    will_be(set, at, at.here, at.epoch)
    if at.here:
        return
    link = bucket_of(set, at.statement.id)
    while link[0] != at:
        link = &link[0].next
    link[0] = at.next
    unlink_age(set, at)
    set.entries -= 1
    text_unref(set.texts, at.statement)
    free(at)


cdef Planted *prepared_oldest(Prepared *set, const Planted *spare) noexcept nogil:
    """The one longest unused among those that the server will have, but for `spare`; NULL when there is none."""
    cdef Planted *at = set.oldest
    while at != NULL and (not at.planned or at == spare):
        at = at.newer
    return at


cdef void prepared_clear(Prepared *set) noexcept nogil:
    """The server has done DEALLOCATE ALL or DISCARD ALL: it has nothing, but for what is in flight behind that."""
    cdef Planted *at = set.oldest
    cdef Planted *newer
    set.clears += 1
    while at != NULL:
        newer = at.newer
        prepared_is(set, at, False, EPOCH_NEVER)
        prepared_settle(set, at)
        at = newer


cdef void prepared_free(Prepared *set) noexcept nogil:
    """The server goes; its queue has gone before (`owed_free`)."""
    cdef Planted *at = set.oldest
    cdef Planted *newer
    while at != NULL:
        newer = at.newer
        text_unref(set.texts, at.statement)
        free(at)
        at = newer
    free(set.buckets)
    prepared_init(set, set.texts)
