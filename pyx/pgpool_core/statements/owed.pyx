"""The queue of answers to Parse and Close; see owed.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from pgpool_core.statements.names cimport Name, name_rests, name_settle, name_stands
from pgpool_core.statements.prepared cimport Planted, Prepared, prepared_find, prepared_is, prepared_settle
from pgpool_core.statements.text cimport EPOCH_NEVER, Statement, text_ref, text_unref
from pgpool_core.wire.codes cimport BE_CLOSE_COMPLETE, BE_PARSE_COMPLETE, FE_PARSE

cdef enum:
    FIRST_CAP = 16
    KEEP_CAP = 256                # a longer ring is given back when it is empty
    PASS_MAX = 1 << 30            # messages of one entry


cdef OwedEntry *owed_at(Owed *q, uint32_t i) noexcept nogil:
    """The entry `i` places behind the head; borrowed until the next push or answer."""
    return &q.ring[(q.head + i) & (q.cap - 1)]


cdef int owed_grow(Owed *q, uint32_t n) noexcept nogil:
    """owed_reserve, where there is no room yet."""
    cdef uint32_t cap = q.cap if q.cap else FIRST_CAP
    cdef uint32_t i
    cdef OwedEntry *bigger
    while q.len + n > cap:
        cap *= 2
    if cap > OWED_MAX:
        return OWED_FULL
    bigger = <OwedEntry *>malloc(cap * sizeof(OwedEntry))
    if bigger == NULL:
        return OWED_FULL
    for i in range(q.len):
        bigger[i] = owed_at(q, i)[0]
    free(q.ring)
    q.ring = bigger
    q.cap = cap
    q.head = 0
    return OWED_OK


cdef void owed_push(Owed *q, uint8_t kind, uint64_t id, Statement *statement, uint64_t epoch, Name *name) noexcept nogil:
    """Write down a message that has been sent; there is room (`owed_reserve`). Takes a hold on `statement` of its own."""
    cdef OwedEntry *at = owed_at(q, q.len)
    at.statement = text_ref(statement)
    at.name = name
    at.id = id
    at.epoch = epoch
    at.group = q.sent
    at.count = 1
    at.kind = kind
    if name != NULL:
        name.holds += 1
    if kind != OWED_USE:
        q.last_answered = q.pushed
    q.pushed += 1
    q.len += 1


cdef int owed_pass(Owed *q, uint8_t fe_type) noexcept nogil:
    """A Parse or Close goes to the server as the client wrote it."""
    cdef uint8_t kind = OWED_PASS_PARSE if fe_type == FE_PARSE else OWED_PASS_CLOSE
    cdef OwedEntry *last
    if q.len:
        last = owed_at(q, q.len - 1)
        if last.kind == kind and last.group == q.sent and last.count < PASS_MAX:
            last.count += 1
            return OWED_OK
    if owed_reserve(q, 1) != OWED_OK:
        return OWED_FULL
    owed_push(q, kind, 0, NULL, 0, NULL)
    return OWED_OK


cdef void owed_use(Owed *q, uint64_t id, Name *name) noexcept nogil:
    """Bind or Describe has used `name`; one mark is enough between two answers. Without room for it, none is made."""
    if name.used_on == q and name.used_at > q.last_answered and name.used_in == q.sent and name.used_id == id:
        return
    if owed_reserve(q, 1) != OWED_OK:
        return
    name.used_on = q
    name.used_at = q.pushed
    name.used_in = q.sent
    name.used_id = id
    owed_push(q, OWED_USE, id, NULL, 0, name)


cdef void pop(Owed *q, Prepared *set) noexcept nogil:
    """Take the head off; what it had in flight is settled."""
    cdef OwedEntry e = owed_at(q, 0)[0]
    cdef Planted *planted
    q.head = (q.head + 1) & (q.cap - 1)
    q.len -= 1
    if OWED_PARSE <= e.kind <= OWED_AGAIN or e.kind == OWED_CLOSE_OURS:
        planted = prepared_find(set, e.id)
        planted.flights -= 1
        prepared_settle(set, planted)
    if e.name != NULL:
        e.name.holds -= 1
        if e.kind != OWED_USE:
            e.name.flights -= 1
        name_settle(e.name)
    text_unref(set.texts, e.statement)


cdef int owed_answer(Owed *q, Prepared *set, uint8_t be_type) noexcept nogil:
    """ParseComplete or CloseComplete has come: take off the message that it answers, and tell what to do with it."""
    cdef OwedEntry *e
    cdef uint8_t kind
    cdef bint parsed
    while q.len and owed_at(q, 0).kind == OWED_USE:
        pop(q, set)
    if q.len == 0:
        return ANSWER_FORWARD                     # sent before anybody wrote such things down
    e = owed_at(q, 0)
    parsed = e.kind == OWED_PASS_PARSE or OWED_PARSE <= e.kind <= OWED_AGAIN or e.kind == OWED_JUDGED
    if be_type != (BE_PARSE_COMPLETE if parsed else BE_CLOSE_COMPLETE):
        return ANSWER_BROKEN
    if e.kind <= OWED_PASS_CLOSE:
        e.count -= 1
        if e.count == 0:
            pop(q, set)
        return ANSWER_FORWARD
    if e.kind == OWED_PARSE or e.kind == OWED_PARSE_OURS:
        prepared_is(set, prepared_find(set, e.id), True, e.epoch)
    elif e.kind == OWED_AGAIN:
        # The name was free after all, by a DEALLOCATE that nobody saw. What the client means has the name of another
        # statement, which therefore is closed before this server uses it again.
        prepared_is(set, prepared_find(set, e.id), True, EPOCH_NEVER)
    elif e.kind == OWED_CLOSE_OURS:
        prepared_is(set, prepared_find(set, e.id), False, EPOCH_NEVER)
    if e.name != NULL:
        name_stands(e.name, e.statement)
    kind = e.kind
    pop(q, set)
    if kind == OWED_PARSE_OURS or kind == OWED_CLOSE_OURS or kind == OWED_ASIDE \
            or kind == OWED_DROP:
        return ANSWER_SWALLOW
    return ANSWER_AS_PARSE if kind == OWED_KNOWN else ANSWER_FORWARD


cdef void owed_end_group(Owed *q, Prepared *set) noexcept nogil:
    """Forget what was not answered in the groups that have ended: the server has skipped it."""
    cdef OwedEntry *e
    while q.len and q.ring[q.head].group < q.answered:
        e = &q.ring[q.head]
        if e.kind == OWED_USE and (e.name == NULL or name_rests(e.name)):
            if e.name != NULL:
                e.name.holds -= 1
            q.head = (q.head + 1) & (q.cap - 1)   # it has no statement, and nothing was in flight
            q.len -= 1
        else:
            pop(q, set)
    if q.len == 0 and q.cap > KEEP_CAP:
        free(q.ring)
        q.ring = NULL
        q.cap = 0


cdef void owed_orphan(Owed *q) noexcept nogil:
    """The client leaves, and its names with it; the server goes on answering."""
    cdef uint32_t i
    for i in range(q.len):
        owed_at(q, i).name = NULL


cdef void owed_free(Owed *q, Prepared *set) noexcept nogil:
    """The server goes: nothing will be answered. Its client's names, if there still is a client, are as they were."""
    while q.len:
        pop(q, set)
    free(q.ring)
    memset(q, 0, sizeof(Owed))
