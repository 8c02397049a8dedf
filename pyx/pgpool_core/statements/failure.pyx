"""Reading errors about prepared statements; see failure.pxd.

PostgreSQL is told by its SQLSTATE, the routine that raised the error, and our own names, never by a translated text.
Source: PostgreSQL's src/backend/commands/prepare.c and src/backend/utils/cache/plancache.c.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from pgpool_core.statements.names cimport Name, Names, names_meaning
from pgpool_core.statements.owed cimport (OWED_PARSE, OWED_PARSE_OURS, OWED_USE, OwedEntry, owed_at)
from pgpool_core.statements.prepared cimport Planted, prepared_find, prepared_is, prepared_settle
from pgpool_core.statements.rewrite cimport ErrorFields, error_fields, find_server_name, put_error, put_unnamed
from pgpool_core.statements.text cimport EPOCH_NEVER, FOREIGN, NOWHERE, STALE, text_outdate, text_refused
from pgpool_core.sync.atomic cimport pgpool_load64
from pgpool_core.wire.be cimport store_be32
from pgpool_core.wire.build cimport build_error
from pgpool_core.wire.span cimport Span

cdef const char *ROUTINE = "RevalidateCachedQuery"


cdef inline bint says(Span span, const char *text, uint32_t n) noexcept nogil:
    return span.len == n and memcmp(span.at, text, n) == 0


cdef inline uint32_t marks_at_head(Owed *q) noexcept nogil:
    """How many Binds and Describes may have been answered, or be failing, before the next answer to a Parse or Close."""
    cdef uint32_t n = 0
    while n < q.len and owed_at(q, n).kind == OWED_USE:
        n += 1
    return n


cdef void blame_used(Owed *q, Prepared *set, bint of_values) noexcept nogil:
    """The failing message is one of the marks at the head.

    All their plans are made anew; or (`of_values`) whoever prepares one of these texts anew finds out what its parameters are by now.
    """
    cdef uint32_t i
    cdef Planted *planted
    for i in range(marks_at_head(q)):
        planted = prepared_find(set, owed_at(q, i).id)
        if planted == NULL:
            continue
        if of_values:
            text_refused(set.texts, planted.statement)
        else:
            text_outdate(planted.statement)


cdef bint is_of_values(Span sqlstate) noexcept nogil:
    """undefined_function, datatype_mismatch, and three that say that a value is none of its type."""
    return says(sqlstate, "42883", 5) or says(sqlstate, "42804", 5) or says(sqlstate, "22P02", 5) or says(sqlstate, "22003", 5) \
        or says(sqlstate, "22P03", 5)


cdef void failure_told(Owed *q, Prepared *set) noexcept nogil:
    """The client gets to read FAILURE_OUTDATED: it knows that there may be other rows."""
    cdef uint32_t i
    cdef OwedEntry *e
    cdef Planted *planted
    for i in range(marks_at_head(q)):
        e = owed_at(q, i)
        planted = prepared_find(set, e.id)
        if planted != NULL and e.name != NULL:
            e.name.told = pgpool_load64(&planted.statement.epoch)


cdef Name *name_missed(Owed *q, uint64_t id) noexcept nogil:
    """What the client calls the statement that a Bind or Describe has not found."""
    cdef uint32_t i
    for i in range(marks_at_head(q)):
        if owed_at(q, i).id == id:
            return owed_at(q, i).name
    return NULL


cdef Name *name_taken(Owed *q, uint64_t id) noexcept nogil:
    """What the client calls the statement that a Parse has found there: its own Parse, or ours for what is behind it."""
    cdef uint32_t i, first = marks_at_head(q)     # a mark may be of a group before, which a COPY has made one with this
    cdef OwedEntry *e
    for i in range(first, q.len):
        e = owed_at(q, i)
        if e.group != owed_at(q, first).group:
            break
        if e.id == id and e.name != NULL:
            return e.name
    return NULL


cdef void correct(Owed *q, Prepared *set, uint64_t id, bint exists) noexcept nogil:
    """The server has, or has not, what we thought that it has not, or has; believed only where a message of ours asked."""
    cdef Planted *planted = prepared_find(set, id)
    cdef uint32_t marks = marks_at_head(q)
    cdef uint32_t i
    cdef bint asked = False
    if planted == NULL:
        return
    if exists:                                    # and the error was not the one that OWED_AGAIN is there for
        asked = marks < q.len and owed_at(q, marks).id == id \
            and OWED_PARSE <= owed_at(q, marks).kind <= OWED_PARSE_OURS
    else:
        for i in range(marks):
            asked = asked or owed_at(q, i).id == id
    if asked:
        prepared_is(set, planted, exists, EPOCH_NEVER)
        prepared_settle(set, planted)


cdef size_t put_outdated(uint8_t *out, size_t cap) noexcept nogil:
    """PostgreSQL's own refusal, in the words and with the routine by which drivers know it; 0 when `cap` is too small."""
    cdef size_t n = build_error(out, cap, "ERROR", "0A000", "cached plan must not change result type", NULL)
    cdef size_t more = strlen(ROUTINE) + 2
    if n == 0 or more > cap - n:
        return 0
    out[n - 1] = 0x52                             # 'R', where the list of fields ended
    memcpy(out + n, ROUTINE, more - 1)
    out[n + more - 1] = 0
    store_be32(out + 1, <uint32_t>(n + more - 1))
    return n + more


cdef int failure_read(Owed *q, Prepared *set, Names *names, const uint8_t *body, uint32_t n, uint8_t *out, size_t cap,
                      size_t *out_len) noexcept nogil:
    """Judge an ErrorResponse in an answer to extended messages; on FAILURE_RENAMED `out` has the whole message.

    `names`: of the client that gets to read it; NULL: none.

    A server that has lost our statements behind our back (DEALLOCATE ALL inside a function) is known to have lost them
    after this.
    """
    cdef ErrorFields fields
    cdef uint64_t id = 0
    cdef Name *name
    cdef Span called
    cdef bint exists, misfits
    if not error_fields(body, n, &fields):
        return FAILURE_OTHER
    if says(fields.sqlstate, "0A000", 5) and says(fields.routine, ROUTINE, 21):
        blame_used(q, set, False)
        return FAILURE_OUTDATED
    if is_of_values(fields.sqlstate):
        blame_used(q, set, True)
        return FAILURE_OTHER
    exists = says(fields.sqlstate, "42P05", 5)
    misfits = says(fields.sqlstate, "08P01", 5)   # a Bind with another number of parameters
    if not exists and not misfits and not says(fields.sqlstate, "26000", 5) or not find_server_name(fields.message, &id):
        return FAILURE_OTHER
    if id == STALE:
        out_len[0] = put_outdated(out, cap)
        return FAILURE_RENAMED if out_len[0] else FAILURE_OTHER
    if id == FOREIGN:
        out_len[0] = build_error(out, cap, "ERROR", "26000", "client_encoding is not what it was when this prepared statement was made",
                                 NULL)
        return FAILURE_RENAMED if out_len[0] else FAILURE_OTHER
    name = name_taken(q, id) if exists else name_missed(q, id)
    if not misfits:
        correct(q, set, id, exists)
    if name == NULL:                              # where nobody knows which group it is of
        name = names_meaning(names, id)
    if name == NULL and id == NOWHERE and not exists:
        out_len[0] = put_unnamed(out, cap, body, n)
        return FAILURE_RENAMED if out_len[0] else FAILURE_OTHER
    if name == NULL:
        return FAILURE_OTHER
    called.at = name.text
    called.len = name.len
    out_len[0] = put_error(out, cap, body, n, id, called)
    return FAILURE_RENAMED if out_len[0] else FAILURE_OTHER
