"""Planning a client's message; see outgoing.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load64, pgpool_store32
from pgpool_core.statements.names cimport MAX_NAMES, Name, name_plan, name_settle, names_add, names_find
from pgpool_core.statements.owed cimport (OWED_AGAIN, OWED_ASIDE, OWED_CLOSE, OWED_CLOSE_OURS, OWED_DROP, OWED_JUDGED, OWED_KNOWN,
                                          OWED_OK, OWED_PARSE, OWED_PARSE_OURS, Owed, owed_pass, owed_push, owed_reserve, owed_unsure,
                                          owed_use)
from pgpool_core.statements.prepared cimport (Planted, Prepared, prepared_add, prepared_find, prepared_oldest,
                                              prepared_plan, prepared_settle, prepared_touch)
from pgpool_core.statements.rewrite cimport (NAME_BROKEN, NAME_FOUND, NAME_NEED_MORE, NAME_NONE, NamePlace,
                                             name_like_ours, name_place, parse_text_ok, put_close, put_parse_head,
                                             put_renamed)
from pgpool_core.statements.meaning cimport is_ascii
from pgpool_core.statements.text cimport (ALONE, ASIDE, ENCODING_AT, ENCODING_OTHER, EPOCH_NEVER, FOREIGN, MAX_TEXT_LEN, NOWHERE, OWN, STALE,
                                          Statement, encoding_in, text_alone, text_meant, text_unref)
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport FE_BIND, FE_CLOSE, FE_DESCRIBE, FE_PARSE
from pgpool_core.wire.scan cimport HEADER_LEN, Frame

cdef enum:
    PUSHES_MOST = EVICT_MOST + 4  # closes, ours, the client's, a mark
    LOOK_PAST_MOST = 65536        # body of a Bind that may have to wait for the message behind it
    OF_PORTAL = 0x50              # 'P' in Describe


cdef struct Planning:             # one message being planned
    const Ends *ends
    const Frame *frame
    const uint8_t *body
    uint32_t have                 # bytes of the body that are there
    size_t behind                 # bytes that have come behind the message
    NamePlace place
    Name *name                    # the client's; NULL when it has none of that name
    Outgoing *out
    uint32_t used                 # bytes of out.head
    uint32_t shown                # of these, the ones that are in a piece


cdef inline void show(Planning *p) noexcept nogil:
    """What has been written into the head becomes a piece."""
    cdef Outgoing *out = p.out
    if p.used > p.shown:
        out.pieces[out.n_pieces].at = out.head + p.shown
        out.pieces[out.n_pieces].len = p.used - p.shown
        out.n_pieces += 1
        p.shown = p.used


cdef inline void show_text(Planning *p, Statement *statement) noexcept nogil:
    show(p)
    p.out.pieces[p.out.n_pieces].at = statement.data
    p.out.pieces[p.out.n_pieces].len = statement.len
    p.out.n_pieces += 1


cdef inline void finish(Planning *p, size_t skip) noexcept nogil:
    show(p)
    p.out.skip = skip


cdef inline void close_ours(Planning *p, Planted *planted) noexcept nogil:
    cdef Owed *q = p.ends.owed
    p.used += put_close(p.out.head + p.used, planted.statement.id)
    p.out.ours += 1
    prepared_plan(p.ends.prepared, planted, False, 0, q.sent)
    owed_push(q, OWED_CLOSE_OURS, planted.statement.id, NULL, 0, NULL)


cdef void make_room(Planning *p, Planted *fresh) noexcept nogil:
    """Close what has been unused for longest until `fresh` fits in.

    A statement that unanswered messages still use may be among it: they stand in front of the Close.
    """
    cdef Prepared *set = p.ends.prepared
    cdef Planted *old
    cdef int i
    for i in range(EVICT_MOST):
        if set.count < p.ends.limit:
            return
        old = prepared_oldest(set, fresh)
        if old == NULL:
            return
        close_ours(p, old)


cdef inline uint64_t epoch_of(Statement *statement) noexcept nogil:
    return pgpool_load64(&statement.epoch)


cdef inline bint ready(Planted *planted) noexcept nogil:
    return planted.planned and planted.planned_epoch == epoch_of(planted.statement)


cdef uint64_t meant_by(const Ends *ends, const uint8_t *text, uint32_t n) noexcept nogil:
    """The salt of a text that is parsed now."""
    return ends.salt & ~(<uint64_t>63 << ENCODING_AT) if is_ascii(text, n) else ends.salt


cdef inline uint64_t salt_of(Statement *statement) noexcept nogil:
    return pgpool_load64(&statement.salt)


cdef uint64_t epoch_now(Planning *p, Statement *statement) noexcept nogil:
    """What a Parse of ours makes of `statement` now: its epoch, or what nobody takes for that.

    A statement that others share means to them what it meant under its own settings, whatever the client stands at by now.
    """
    cdef uint64_t salt = salt_of(statement)
    if salt & OWN:
        return epoch_of(statement)
    if p.ends.span:
        return p.ends.span
    return epoch_of(statement) if meant_by(p.ends, statement.data, statement.len) == salt & ~ALONE else EPOCH_NEVER


cdef void parse_as(Planning *p, Planted *planted, uint8_t kind, Name *name, uint64_t epoch) noexcept nogil:
    """Clear the way at the server for a Parse of `planted`, and write down that it comes."""
    cdef Owed *q = p.ends.owed
    cdef Statement *statement = planted.statement
    if planted.planned:
        close_ours(p, planted)
    else:
        make_room(p, planted)
    prepared_plan(p.ends.prepared, planted, True, epoch, q.sent)
    owed_push(q, kind, statement.id, statement if name != NULL else NULL, epoch, name)
    p.out.parses += 1


cdef void parse_ours(Planning *p, Planted *planted, Name *name, uint64_t epoch) noexcept nogil:
    """A Parse goes in front of the client's message; `name` (NULL: none) stands for the statement then."""
    parse_as(p, planted, OWED_PARSE_OURS, name, epoch)
    p.out.ours += 1
    p.used += put_parse_head(p.out.head + p.used, planted.statement.id, planted.statement.len)
    show_text(p, planted.statement)


cdef inline Planted *planted_for(Planning *p, Statement *statement) noexcept nogil:
    cdef Planted *planted = prepared_find(p.ends.prepared, statement.id)
    return planted if planted != NULL else prepared_add(p.ends.prepared, statement)


cdef inline bint behind_barrier(const Owed *q) noexcept nogil:
    """A DEALLOCATE or DISCARD stands in front in the same group: whether the server still has a statement is not known."""
    return q.barrier == q.sent + 1


cdef inline bint unsure(Planning *p, Planted *planted) noexcept nogil:
    return planted != NULL and owed_unsure(p.ends.owed, planted.flights, planted.group)


cdef inline void rename(Planning *p, uint64_t id) noexcept nogil:
    p.used += put_renamed(p.out.head + p.used, p.frame.type, p.body, p.frame.body_len, &p.place, id)
    finish(p, HEADER_LEN + <size_t>p.place.end)


cdef int described_next(Planning *p) noexcept nogil:
    """Whether the message behind a Bind describes its portal: OUT_PASS, OUT_SEND where not, OUT_NEED_MORE."""
    cdef const uint8_t *next = p.body + p.frame.body_len
    cdef uint32_t n = p.place.at                  # the portal's name with its zero
    if p.frame.body_len > LOOK_PAST_MOST:
        return OUT_SEND
    if p.behind == 0:
        return OUT_NEED_MORE
    if next[0] != FE_DESCRIBE:
        return OUT_SEND
    if p.behind >= HEADER_LEN and load_be32(next + 1) != 4 + 1 + n:
        return OUT_SEND
    if p.behind < HEADER_LEN + 1 + <size_t>n:
        return OUT_NEED_MORE
    return OUT_PASS if next[HEADER_LEN] == OF_PORTAL and memcmp(next + HEADER_LEN + 1, p.body, n) == 0 else OUT_SEND


cdef int plan_stale(Planning *p) noexcept nogil:
    """Bind of a statement whose rows have changed since the client heard of them, and it does not ask.

    Its own session would refuse that; so does this one, once.
    """
    owed_use(p.ends.owed, STALE, p.name)
    rename(p, STALE)
    return OUT_SEND


cdef int plan_foreign(Planning *p) noexcept nogil:
    """The bytes of the text mean something else in the client_encoding that the server stands at by now: it is not sent."""
    owed_use(p.ends.owed, FOREIGN, p.name)
    rename(p, FOREIGN)
    return OUT_SEND


cdef bint is_foreign(Planning *p, Statement *statement) noexcept nogil:
    cdef uint8_t then = encoding_in(salt_of(statement)), now = encoding_in(p.ends.salt)
    return then != 0 and then != now and then != ENCODING_OTHER and now != ENCODING_OTHER


cdef int plan_moved(Planning *p, Statement *statement) noexcept nogil:
    """Use of a statement that the server has not got, by a client whose settings are others now.

    The text would mean what it means under these; so the name moves to the statement that does.
    """
    cdef Owed *q = p.ends.owed
    cdef Statement *fresh = text_meant(p.ends.texts, statement.data, statement.len, meant_by(p.ends, statement.data, statement.len))
    cdef Planted *planted = planted_for(p, fresh) if fresh != NULL else NULL
    if planted == NULL or unsure(p, planted):
        text_unref(p.ends.texts, fresh)
        return OUT_FULL if planted == NULL else OUT_WAIT
    pgpool_store32(&fresh.flags, pgpool_load32(&fresh.flags) | pgpool_load32(&statement.flags))     # nobody may have parsed it yet
    name_plan(p.name, fresh, q.sent)
    text_unref(p.ends.texts, fresh)               # the name holds it
    p.name.told = epoch_of(fresh)
    prepared_touch(p.ends.prepared, planted)
    if ready(planted):
        p.used += put_close(p.out.head + p.used, NOWHERE)
        p.out.ours += 1
        owed_push(q, OWED_DROP, NOWHERE, fresh, 0, p.name)
    else:
        parse_ours(p, planted, p.name, epoch_of(fresh))
    rename(p, fresh.id)
    p.out.statement = fresh
    owed_use(q, fresh.id, p.name)
    return OUT_SEND


cdef int plan_parse_first(Planning *p, Planted *planted) noexcept nogil:
    """Put a Parse in front of the use of a statement that the server has not got: OUT_PASS, else that is the verdict."""
    cdef Statement *statement = planted.statement
    cdef uint64_t epoch
    cdef int moved = OUT_PASS
    if not p.ends.looked:
        moved = OUT_LOOK
    elif is_foreign(p, statement):
        moved = plan_foreign(p)
    else:
        epoch = epoch_now(p, statement)
        if epoch == EPOCH_NEVER:
            moved = plan_moved(p, statement)
        elif not planted.planned or planted.planned_epoch != epoch:
            parse_ours(p, planted, NULL, epoch)
            return OUT_PASS
    if not planted.planned:
        prepared_settle(p.ends.prepared, planted)
    return moved


cdef int plan_use(Planning *p, Statement *statement) noexcept nogil:
    """Bind or Describe of a statement that the client has."""
    cdef Planted *planted
    cdef int verdict
    cdef uint64_t epoch = epoch_of(statement)
    cdef int told
    if p.name.told != epoch and not p.ends.failed:
        told = described_next(p) if p.frame.type == FE_BIND else OUT_PASS
        if told == OUT_NEED_MORE:
            return told
        p.name.told = epoch
        if told != OUT_PASS:
            return plan_stale(p)
    planted = planted_for(p, statement)
    if planted == NULL:
        return OUT_FULL
    if unsure(p, planted):
        return OUT_WAIT
    prepared_touch(p.ends.prepared, planted)
    if not ready(planted):
        verdict = plan_parse_first(p, planted)
        if verdict != OUT_PASS:
            return verdict
    rename(p, statement.id)
    p.out.statement = statement
    owed_use(p.ends.owed, statement.id, p.name)
    return OUT_SEND


cdef int plan_again(Planning *p, Statement *fresh) noexcept nogil:
    """Parse of a name in use: PostgreSQL is to say so itself, after it has looked at the text.

    In a failed transaction it says something else, which a Parse of ours in front would only forestall: where one is
    needed, and nobody knows yet whether the transaction has failed, the message waits.
    """
    cdef Statement *taken = p.name.planned
    cdef Owed *q = p.ends.owed
    cdef Planted *planted = planted_for(p, taken)
    if planted == NULL:
        return OUT_FULL
    if unsure(p, planted) or (p.ends.pending and not ready(planted)):
        prepared_settle(p.ends.prepared, planted)
        return OUT_WAIT
    if not p.ends.failed and not ready(planted):
        parse_ours(p, planted, NULL, epoch_now(p, taken))
    prepared_touch(p.ends.prepared, planted)
    prepared_plan(p.ends.prepared, planted, planted.planned, planted.planned_epoch, q.sent)
    name_plan(p.name, taken, q.sent)
    owed_push(q, OWED_AGAIN, taken.id, fresh, 0, p.name)
    p.out.statement = fresh                       # the queue holds it
    p.out.parses += 1
    rename(p, taken.id)
    return OUT_SEND


cdef int plan_first(Planning *p, Statement *fresh) noexcept nogil:
    """Parse of a name that is free.

    Where the server has the text, a Close of nothing brings the answer; but a transaction that has failed, or may have,
    is PostgreSQL's to judge.
    """
    cdef Owed *q = p.ends.owed
    cdef Planted *planted = planted_for(p, fresh)
    cdef Name *name = p.name
    cdef bint there
    if planted == NULL:
        return OUT_FULL
    if unsure(p, planted):
        return OUT_WAIT
    if name == NULL:
        if p.ends.names[0] == NULL or p.ends.names[0].count < MAX_NAMES:
            name = names_add(p.ends.names, p.ends.texts, p.place.name)
        if name == NULL:
            prepared_settle(p.ends.prepared, planted)
            return OUT_FULL
    name_plan(name, fresh, q.sent)
    name.told = epoch_of(fresh)
    p.out.statement = fresh
    prepared_touch(p.ends.prepared, planted)
    there = ready(planted) and not behind_barrier(q)
    if there and (p.ends.failed or p.ends.pending):
        p.used += put_close(p.out.head + p.used, ASIDE)
        p.out.ours += 1
        owed_push(q, OWED_ASIDE, ASIDE, NULL, 0, NULL)
        owed_push(q, OWED_JUDGED, ASIDE, fresh, 0, name)
        p.out.parses += 1
        rename(p, ASIDE)
        return OUT_SEND
    if there:
        p.used += put_close(p.out.head + p.used, NOWHERE)
        owed_push(q, OWED_KNOWN, fresh.id, fresh, 0, name)
        finish(p, HEADER_LEN + <size_t>p.frame.body_len)
        return OUT_SEND
    parse_as(p, planted, OWED_PARSE, name, epoch_of(fresh))
    rename(p, fresh.id)
    return OUT_SEND


cdef int plan_parse(Planning *p) noexcept nogil:
    cdef const uint8_t *text = p.body + p.place.end
    cdef uint32_t n = p.frame.body_len - p.place.end
    cdef Statement *fresh
    cdef int verdict
    if n > MAX_TEXT_LEN:
        return OUT_TOO_LONG
    if p.have < p.frame.body_len:
        return OUT_NEED_MORE
    if not parse_text_ok(text, n):
        return outgoing_pass(p.ends, p.frame)
    if p.ends.span:
        fresh = text_alone(p.ends.texts, text, n, meant_by(p.ends, text, n))
    else:
        fresh = text_meant(p.ends.texts, text, n, meant_by(p.ends, text, n))
    if fresh == NULL:
        return OUT_FULL
    if p.name != NULL and p.name.planned != NULL:
        verdict = plan_again(p, fresh)
    else:
        verdict = plan_first(p, fresh)
    text_unref(p.ends.texts, fresh)
    return verdict


cdef int plan_close(Planning *p) noexcept nogil:
    """Close of a name that the client has; the server keeps the statement, for whoever comes next."""
    name_plan(p.name, NULL, p.ends.owed.sent)
    p.used += put_close(p.out.head + p.used, NOWHERE)
    owed_push(p.ends.owed, OWED_CLOSE, 0, NULL, 0, p.name)
    finish(p, HEADER_LEN + <size_t>p.frame.body_len)
    return OUT_SEND


cdef int plan_unknown(Planning *p) noexcept nogil:
    """A name that the client does not have: PostgreSQL answers, but never with another client's statement."""
    cdef Name *name = p.name
    if not name_like_ours(p.place.name):
        return outgoing_pass(p.ends, p.frame)
    if p.frame.type == FE_CLOSE:
        if owed_pass(p.ends.owed, FE_CLOSE) != OWED_OK:
            return OUT_FULL
    else:
        if name == NULL:
            name = names_add(p.ends.names, p.ends.texts, p.place.name)
            if name == NULL:
                return OUT_FULL
        owed_use(p.ends.owed, NOWHERE, name)
        name_settle(name)
    rename(p, NOWHERE)
    return OUT_SEND


cdef int outgoing_plan(const Ends *ends, const Frame *frame, const uint8_t *message, size_t have,
                       Outgoing *out) noexcept nogil:
    """What to send for `message`, a Parse, Bind, Describe or Close of which `have` bytes are there, header included."""
    cdef Planning p
    cdef Owed *q = ends.owed
    cdef int r
    p.ends = ends
    p.frame = frame
    p.body = message + HEADER_LEN
    p.have = frame.body_len if have - HEADER_LEN > frame.body_len else <uint32_t>(have - HEADER_LEN)
    p.behind = have - HEADER_LEN - p.have
    p.out = out
    p.used = p.shown = 0
    out.n_pieces = out.parses = out.ours = 0
    out.statement = NULL
    out.unnamed = 0
    r = name_place(frame.type, p.body, p.have, frame.body_len, &p.place)
    if r == NAME_NEED_MORE:
        return OUT_NEED_MORE
    if r == NAME_NONE and (frame.type == FE_PARSE or frame.type == FE_BIND
                           or (frame.type == FE_DESCRIBE and p.body[0] == 0x53)):
        out.unnamed = 1
        if ends.no_unnamed and frame.type != FE_PARSE:
            rename(&p, NOWHERE)                   # PostgreSQL says that there is none
            return OUT_SEND
    if r == NAME_NONE or r == NAME_BROKEN:
        return outgoing_pass(ends, frame)
    if r != NAME_FOUND:
        return OUT_TOO_LONG
    p.name = names_find(ends.names[0], p.place.name)
    if p.name != NULL and owed_unsure(q, p.name.flights, p.name.group):
        return OUT_WAIT
    if q.barrier and owed_unsure(q, 1, q.barrier - 1) and q.answered < q.barrier:
        return OUT_WAIT
    if owed_reserve(q, PUSHES_MOST) != OWED_OK:
        return OUT_FULL
    if frame.type == FE_PARSE:
        return plan_parse(&p)
    if p.name == NULL or p.name.planned == NULL:
        return plan_unknown(&p)
    if frame.type == FE_CLOSE:
        return plan_close(&p)
    return plan_use(&p, p.name.planned)


cdef int outgoing_pass(const Ends *ends, const Frame *frame) noexcept nogil:
    """Write down that the message goes to the server as it is: OUT_PASS, or OUT_FULL.

    For a client that is pinned to its server after OUT_TOO_LONG, whose names are names at the server from then on.
    """
    if frame.type == FE_PARSE or frame.type == FE_CLOSE:
        if owed_pass(ends.owed, frame.type) != OWED_OK:
            return OUT_FULL
    return OUT_PASS
