"""A client's names for its statements; see names.pxd."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from pgpool_core.statements.hash cimport hash_bytes
from pgpool_core.statements.text cimport Statement, Texts, text_ref, text_unref
from pgpool_core.wire.span cimport Span

cdef enum:
    FIRST_BUCKETS = 8


cdef inline uint32_t key_len(uint32_t n) noexcept nogil:
    return n if n < KEY_LEN else KEY_LEN


cdef Name *names_find(Names *map, Span name) noexcept nogil:
    """The client's `name`, or NULL; it may stand for nothing yet, or for nothing any more."""
    cdef uint32_t n = key_len(name.len)
    cdef uint64_t hash
    cdef Name *at
    if map == NULL:
        return NULL
    at = map.recent
    if at != NULL and at.len == name.len and memcmp(at.text, name.at, name.len) == 0:
        return at
    hash = hash_bytes(&map.texts.key, name.at, n)
    at = map.buckets[hash & (map.n_buckets - 1)]
    while at != NULL and not (at.hash == hash and key_len(at.len) == n and memcmp(at.text, name.at, n) == 0):
        at = at.next
    if at != NULL:
        map.recent = at
    return at


cdef void grow(Names *map) noexcept nogil:
    """Twice the buckets; without memory for them the chains get longer."""
    cdef Name **bigger = <Name **>calloc(<size_t>map.n_buckets * 2, sizeof(Name *))
    cdef Name *name
    cdef Name *next
    cdef uint32_t b
    cdef uint32_t mask = map.n_buckets * 2 - 1
    if bigger == NULL:
        return
    for b in range(map.n_buckets):
        name = map.buckets[b]
        while name != NULL:
            next = name.next
            name.next = bigger[name.hash & mask]
            bigger[name.hash & mask] = name
            name = next
    free(map.buckets)
    map.buckets = bigger
    map.n_buckets *= 2


cdef Name *names_meaning(Names *map, uint64_t id) noexcept nogil:
    """Some name that stands, or will stand, for the statement `id`; NULL when there is none. Looks at all of them."""
    cdef uint32_t b
    cdef Name *name
    if map == NULL:
        return NULL
    for b in range(map.n_buckets):
        name = map.buckets[b]
        while name != NULL:
            if (name.stands != NULL and name.stands.id == id) or (name.planned != NULL and name.planned.id == id):
                return name
            name = name.next
    return NULL


cdef Name *names_add(Names **map, Texts *texts, Span name) noexcept nogil:
    """A name that is not there yet and stands for nothing, in a map made if need be; NULL when memory is short.

    `name_settle` takes it away again unless something is planned for it.
    """
    cdef Names *m = map[0]
    cdef Name *fresh
    if m == NULL:
        m = <Names *>calloc(1, sizeof(Names))
        if m == NULL:
            return NULL
        m.buckets = <Name **>calloc(FIRST_BUCKETS, sizeof(Name *))
        if m.buckets == NULL:
            free(m)
            return NULL
        m.n_buckets = FIRST_BUCKETS
        m.texts = texts
        map[0] = m
    fresh = <Name *>calloc(1, sizeof(Name) + name.len)
    if fresh == NULL:
        return NULL
    if m.count >= m.n_buckets:
        grow(m)
    fresh.map = m
    fresh.hash = hash_bytes(&texts.key, name.at, key_len(name.len))
    fresh.len = <uint16_t>name.len
    memcpy(fresh.text, name.at, name.len)
    fresh.next = m.buckets[fresh.hash & (m.n_buckets - 1)]
    m.buckets[fresh.hash & (m.n_buckets - 1)] = fresh
    m.count += 1
    return fresh


cdef void name_plan(Name *name, Statement *statement, uint64_t group) noexcept nogil:
    """A message of `group` has been sent that makes `name` stand for `statement` (NULL = nothing)."""
    cdef Statement *before = name.planned
    name.planned = text_ref(statement)
    text_unref(name.map.texts, before)
    name.group = group
    name.flights += 1


cdef void name_stands(Name *name, Statement *statement) noexcept nogil:
    """The server has said so."""
    cdef Statement *before = name.stands
    name.stands = text_ref(statement)
    text_unref(name.map.texts, before)


cdef void name_settle(Name *name) noexcept nogil:
    """Nothing in flight any more: what is planned is what stands. A name for nothing goes, once no queue points to it."""
    cdef Name **at
    cdef Statement *before
    if name.flights == 0 and name.planned != name.stands:
        before = name.planned
        name.planned = text_ref(name.stands)
        text_unref(name.map.texts, before)
    if name.holds or name.flights or name.planned != NULL or name.stands != NULL:
        return
    at = &name.map.buckets[name.hash & (name.map.n_buckets - 1)]
    while at[0] != name:
        at = &at[0].next
    at[0] = name.next
    if name.map.recent == name:
        name.map.recent = NULL
    name.map.count -= 1
    free(name)


cdef void names_clear(Names *map) noexcept nogil:
    """DEALLOCATE ALL or DISCARD ALL has been done: no name stands for anything, but for those in flight behind it."""
    cdef uint32_t b
    cdef Name *name
    cdef Name *next
    if map == NULL:
        return
    for b in range(map.n_buckets):
        name = map.buckets[b]
        while name != NULL:
            next = name.next
            name_stands(name, NULL)
            name_settle(name)
            name = next


cdef void names_free(Names *map) noexcept nogil:
    """The client goes; its server's queue has been told already (`owed_orphan`)."""
    cdef uint32_t b
    cdef Name *name
    cdef Name *next
    if map == NULL:
        return
    for b in range(map.n_buckets):
        name = map.buckets[b]
        while name != NULL:
            next = name.next
            text_unref(map.texts, name.stands)
            text_unref(map.texts, name.planned)
            free(name)
            name = next
    free(map.buckets)
    free(map)
