"""Named prepared statements; see named.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from pgpool_core.engine.buf cimport buf_free
from pgpool_core.engine.conn cimport conn_mix
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.databases cimport databases_text
from pgpool_core.engine.functions cimport functions_statement
from pgpool_core.engine.ledger cimport ledger_bind, ledger_follows
from pgpool_core.engine.meanings cimport meanings_salt, meanings_span
from pgpool_core.engine.notifier cimport notifier_may, notifier_text
from pgpool_core.engine.pins cimport pins_add
from pgpool_core.engine.records cimport *
from pgpool_core.engine.redo cimport REDO_NOT
from pgpool_core.engine.setting_names cimport WENT_BACK_WHOLLY
from pgpool_core.session.sqltoken cimport name_fold
from pgpool_core.statements.failure cimport FAILURE_OUTDATED, FAILURE_RENAMED, failure_read
from pgpool_core.statements.names cimport Name, name_plan, name_settle, name_stands, names_clear, names_find
from pgpool_core.statements.outgoing cimport *
from pgpool_core.statements.owed cimport (OWED_DROP, OWED_OK, owed_free, owed_orphan, owed_push, owed_reserve,
                                          owed_unsure)
from pgpool_core.statements.prepared cimport prepared_clear, prepared_free
from pgpool_core.statements.rewrite cimport USED_NEED_MORE, USED_ONCE, put_close, used_once
from pgpool_core.statements.text cimport NOWHERE
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_store32
from pgpool_core.wire.codes cimport FE_BIND, FE_DESCRIBE, FE_PARSE, TX_FAILED
from pgpool_core.wire.scan cimport HEADER_LEN, Frame
from pgpool_core.wire.span cimport Span

cdef const char *DEALLOCATES = "UNLISTEN pgpool_no_channel"


cdef inline void look_at(Ends *ends, ClientConn *c, ServerConn *s) noexcept nogil:
    ends.salt = meanings_salt(c)
    ends.span = meanings_span(c, s)
    ends.looked = 1


cdef int named_message(Worker *w, ClientConn *c, ServerConn *s, Counters *k, const Frame *f, const uint8_t *data, size_t n,
                       size_t pos, size_t *sent) noexcept nogil:
    """A Parse, Bind, Describe or Close at `data + pos`: send what the server needs in its place.

    `*sent` is how much of `data` has been sent: on a renamed message everything in front of it and its own head.
    """
    cdef Ends ends
    cdef Outgoing *out = &w.outgoing
    cdef uint32_t i, flags
    cdef int verdict
    ends.texts = w.plane.texts
    ends.names = &c.names
    ends.prepared = &s.prepared
    ends.owed = &s.owed
    ends.limit = c.pool.max_prepared
    ends.looked = 0
    if f.type == FE_PARSE and n - pos > HEADER_LEN and data[pos + HEADER_LEN]:
        look_at(&ends, c, s)
    ends.no_unnamed = not c.unnamed_here
    ends.failed = s.tx_status == TX_FAILED
    ends.pending = unanswered(s)
    verdict = outgoing_plan(&ends, f, data + pos, n - pos, out)
    if verdict == OUT_LOOK:
        look_at(&ends, c, s)
        verdict = outgoing_plan(&ends, f, data + pos, n - pos, out)
    if verdict == OUT_TOO_LONG:
        pins_add(w, c, PIN_STATEMENT)
        if c.state != CL_ACTIVE:
            return NAMED_GO_ON                    # too many are pinned: it has been sent away
        verdict = outgoing_pass(&ends, f)
    if verdict == OUT_NEED_MORE:
        return NAMED_HOLD
    if verdict == OUT_WAIT:
        c.awaiting = 1
        return NAMED_HOLD
    if verdict == OUT_FULL:
        return NAMED_FULL
    if f.type == FE_PARSE:
        count_add(&k.client_parses, 1)
        count_add(&k.server_parses, out.parses if verdict == OUT_SEND else 1)
    elif f.type == FE_BIND:
        count_add(&k.binds, 1)
        count_add(&k.server_parses, out.parses if verdict == OUT_SEND else 0)
    if out.unnamed:
        if f.type == FE_PARSE:
            c.unnamed_here = 1
            c.unnamed_flags = c.parse_flags | c.parse_hidden
        elif f.type == FE_BIND and c.unnamed_flags:
            ledger_bind(c, s, c.unnamed_flags, NULL, data + pos + HEADER_LEN, f.body_len, n - pos - HEADER_LEN)
        if f.type == FE_PARSE:
            c.unnamed_fresh = unnamed_parsed(s)
        elif f.type != FE_DESCRIBE:
            c.unnamed_fresh = 0
    elif out.statement != NULL:
        if f.type == FE_PARSE:
            count_add(&k.named_parses, 1)
            # Who is only warned knows less of the text than others of the database may have found.
            if c.parse_flags and (ledger_follows(c) or pgpool_load32(&out.statement.flags) == 0):
                pgpool_store32(&out.statement.flags, c.parse_flags)
        elif f.type == FE_BIND:
            databases_text(w, s, out.statement.data, out.statement.len)
            flags = pgpool_load32(&out.statement.flags) | functions_statement(w, c, s, out.statement)
            if flags:
                if notifier_may(flags, 0, True):
                    notifier_text(w, c, s, flags, NULL)
                ledger_bind(c, s, flags, out.statement, data + pos + HEADER_LEN, f.body_len, n - pos - HEADER_LEN)
    if verdict == OUT_SEND:
        conn_mix(w, &s.conn, data + sent[0], pos - sent[0])
        for i in range(out.n_pieces):
            conn_mix(w, &s.conn, out.pieces[i].at, out.pieces[i].len)
        sent[0] = pos + out.skip
    return NAMED_GO_ON


cdef size_t named_error(Worker *w, ServerConn *s, ClientConn *c, const uint8_t *body, uint32_t n, bint *outdated) noexcept nogil:
    """Look at an ErrorResponse; nonzero: the client is to get so many bytes of the worker's scratch in its place."""
    cdef size_t length = 0
    cdef int verdict = failure_read(&s.owed, &s.prepared, c.names, body, n, w.scratch, SCRATCH_SIZE, &length)
    outdated[0] = verdict == FAILURE_OUTDATED
    return length if verdict == FAILURE_RENAMED else 0


cdef void named_tag(ServerConn *s, ClientConn *c, const uint8_t *tag, uint32_t n) noexcept nogil:
    """CommandComplete that begins with D: DEALLOCATE ALL and DISCARD ALL end every prepared statement."""
    if (n == 15 and memcmp(tag, b"DEALLOCATE ALL", 15) == 0) or (n == 12 and memcmp(tag, b"DISCARD ALL", 12) == 0):
        prepared_clear(&s.prepared)
        if c != NULL and c.names != NULL:
            names_clear(c.names)
        if c != NULL and s.suspect and n == 12:
            s.suspect |= WENT_BACK_WHOLLY


cdef Name *named_in_text(Worker *w, ClientConn *c) noexcept nogil:
    """The name in the DEALLOCATE that was looked at last, if the client has it."""
    cdef uint8_t[63] folded
    cdef int n = name_fold(w.scan.name, folded)
    cdef Span span
    cdef Name *name
    if n <= 0:
        return NULL
    span.at = folded
    span.len = <uint32_t>n
    name = names_find(c.names, span)
    return name if name != NULL and name.planned != NULL else NULL


cdef inline bint unanswered(const ServerConn *s) noexcept nogil:
    """Requests of the client's are: whether its transaction has failed in them, nobody knows yet."""
    return s.expect.owed > (s.chore != CHORE_NONE)


cdef int named_deallocates(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """The text looked at last, a Query, is DEALLOCATE of a statement that the client has prepared by messages.

    DROP_IS: the client has it no more, and the answer to this Query is to say DEALLOCATE.
    """
    cdef Name *name = named_in_text(w, c)
    if name == NULL or s.open_group:              # in a group that may have failed: SQL's own, then
        return DROP_NOT
    if s.retag or name.flights or unanswered(s):
        return DROP_WAIT
    if s.tx_status == TX_FAILED:
        return DROP_NOT
    name_plan(name, NULL, s.owed.sent)
    name.flights -= 1
    name_stands(name, NULL)
    name_settle(name)
    s.retag = s.owed.sent + 1
    return DROP_IS


cdef int named_drops(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *group, size_t n, Name **name) noexcept nogil:
    """The text looked at last, an unnamed Parse at `group`, is DEALLOCATE of such a statement, and used once up to Sync.

    DROP_IS: the group is whole. What is to be sent is DEALLOCATES in the place of the text, and named_dropped before Sync.
    """
    cdef int r
    name[0] = named_in_text(w, c)
    if name[0] == NULL or s.open_group:
        return DROP_NOT
    r = used_once(group, n)
    if r != USED_ONCE:
        return DROP_NEED_MORE if r == USED_NEED_MORE else DROP_NOT
    if s.retag or owed_unsure(&s.owed, name[0].flights, name[0].group):
        return DROP_WAIT
    s.retag = s.owed.sent + 1
    return DROP_IS


cdef int named_dropped(Worker *w, ServerConn *s, Name *name) noexcept nogil:
    """Behind the Execute of a DEALLOCATE: a message whose answer takes `name` away, which comes if that has succeeded."""
    if owed_reserve(&s.owed, 1) != OWED_OK:
        return NAMED_FULL
    name_plan(name, NULL, s.owed.sent)
    owed_push(&s.owed, OWED_DROP, NOWHERE, NULL, 0, name)
    conn_mix(w, &s.conn, w.scratch, put_close(w.scratch, NOWHERE))
    return NAMED_GO_ON


cdef size_t named_retag(Worker *w, ServerConn *s) noexcept nogil:
    """CommandComplete: nonzero, the client is to get so many bytes of the worker's scratch in its place."""
    if s.retag == 0 or s.owed.answered + 1 != s.retag:
        return 0
    s.retag = 0
    memcpy(w.scratch, b"C\0\0\0\x0fDEALLOCATE\0", 16)
    return 16


cdef void named_part(ServerConn *s) noexcept nogil:
    """The client leaves, `s` goes on answering."""
    s.retag = 0
    s.redo = REDO_NOT
    owed_orphan(&s.owed)


cdef void named_free(ServerConn *s) noexcept nogil:
    """The end of `s`."""
    owed_free(&s.owed, &s.prepared)
    prepared_free(&s.prepared)
    buf_free(&s.group)
