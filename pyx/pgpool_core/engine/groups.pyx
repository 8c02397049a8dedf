"""Plain messages of clients; see groups.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.copies cimport RUN_SYNC
from pgpool_core.engine.databases cimport databases_text
from pgpool_core.engine.functions cimport ends_prepared, functions_stale, misreads
from pgpool_core.engine.meanings cimport DDL_FUNCTIONS
from pgpool_core.engine.named cimport NAMED_GO_ON, named_unnamed
from pgpool_core.engine.notifier cimport notifier_may
from pgpool_core.engine.records cimport *
from pgpool_core.engine.redo cimport REDO_KEPT, REDO_NOT, REDO_OPEN, REDO_WHOLE, redo_begins
from pgpool_core.session.effects cimport Effects
from pgpool_core.session.known cimport known_found, known_like
from pgpool_core.session.sqlscan cimport PROVED_BEGIN, PROVED_DEALLOCATE, PROVED_SET, SqlScan, scan_does_nothing
from pgpool_core.statements.owed cimport owed_request
from pgpool_core.sync.atomic cimport pgpool_load32
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport FE_BIND, FE_COPY_DATA, FE_DESCRIBE, FE_EXECUTE, FE_PARSE, FE_QUERY, FE_SYNC
from pgpool_core.wire.expect cimport EXPECT_BIND, EXPECT_DESCRIBE, EXPECT_EXECUTE, EXPECT_NAMED, EXPECT_QUERY, EXPECT_SYNC
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.stretch cimport Stretch, stretch_put, stretch_room, stretch_wrote

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)


cdef inline bint is_plain(const ClientConn *c, const ServerConn *s) noexcept nogil:
    """Whether messages are under way, and nothing else: no COPY, no replay, nothing that is skipped, nothing of ours to go with them."""
    return c.cur.remain == 0 and c.cur.type != FE_COPY_DATA and s.chore != CHORE_SETTINGS and s.back == NULL \
        and not (s.run & ~<uint32_t>RUN_SYNC or s.copy_doubt | s.expect.silent | s.expect.copying | s.expect.skipping
                 | c.skip_to_sync | c.dropping)


cdef inline bint is_harmless(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """Whether a look at the text (`ledger_text`) would find nothing to do; then it counts as looked at."""
    cdef uint32_t number = pgpool_load32(&c.pool.functions)
    cdef const Effects *effects = w.effects[number - 1] if number else NULL
    cdef const SqlScan *scan
    if c.listens != NULL or c.pins & PIN_TEMPORARY or s.probing or s.function_ddl & DDL_FUNCTIONS or misreads(c) \
            or functions_stale(w, c.pool):
        return False
    scan = known_found(w.known, text, n, effects)
    if scan == NULL:
        scan = known_like(w.known, text, n, effects)
    if scan == NULL or not scan_does_nothing(scan) or notifier_may(scan.flags, scan.verb, effects != NULL) \
            or PROVED_SET <= scan.proved <= PROVED_DEALLOCATE or scan.proved == PROVED_BEGIN or ends_prepared(scan):
        return False
    c.parse_flags = c.parse_hidden = 0
    return True


cdef inline void group_begins(Worker *w, ServerConn *s, uint8_t eyes) noexcept nogil:
    if not s.open_group:
        s.open_group = 1
        s.group_us = w.now_us
        s.redo = redo_begins(s) if eyes & EYES_TRACK else REDO_NOT


cdef inline void put_request(ServerConn *s, Stretch *room, uint8_t kind) noexcept nogil:
    """`ask`, for what a ReadyForQuery answers."""
    stretch_put(room, kind)
    s.expect.owed += 1
    owed_request(&s.owed)


cdef bint parses(Worker *w, ClientConn *c, ServerConn *s, Counters *k, uint8_t eyes, const uint8_t *body, uint32_t n) noexcept nogil:
    """Write down a whole Parse, in `expect` apart; False: it is not plain."""
    if n < 2 or body[0] or (eyes & EYES_WATCH and not is_harmless(w, c, s, body + 1, strnlen(<const char *>body + 1, n - 1))):
        return False
    if not eyes & EYES_TRACK:
        count_add(&k.client_parses, 1)
        count_add(&k.server_parses, 1)
    elif named_unnamed(c, s, k) != NAMED_GO_ON:
        return False
    databases_text(w, s, body + 1, n - 1)
    group_begins(w, s, eyes)
    return True


cdef bint queries(Worker *w, ClientConn *c, ServerConn *s, Counters *k, uint8_t eyes, const uint8_t *body, uint32_t n) noexcept nogil:
    """The same for a whole Query."""
    if n == 0 or body[n - 1] or s.open_group or w.plane.disable_pqexec \
            or (eyes & EYES_WATCH and not is_harmless(w, c, s, body, n - 1)):
        return False
    databases_text(w, s, body, n - 1)
    if eyes & EYES_TRACK:
        s.begin_len = 0                           # no BEGIN
    query_begins(w, s, k)
    c.unnamed_fresh = 0                           # a simple Query ends the unnamed statement
    return True


cdef size_t groups_past(Worker *w, ClientConn *c, ServerConn *s, Counters *k, uint8_t eyes, const uint8_t *data, size_t n,
                        size_t at) noexcept nogil:
    """Behind the plain messages that begin at `at`, where a message begins. `eyes`: EYES_*.

    A group that is kept ends it, in REDO_WHOLE. Where there is no room to write a message down, `forward` comes to the same end.
    """
    cdef uint32_t most = w.plane.max_packet_size
    cdef Stretch room
    cdef const uint8_t *body
    cdef uint32_t length                          # of the body; of a broken message longer than anything that there is
    cdef uint8_t kind, last = 0
    if not is_plain(c, s):
        return at
    room = stretch_room(&s.expect)
    while n - at >= HEADER_LEN and room.n:
        kind = data[at]
        body = data + at + HEADER_LEN
        length = load_be32(data + at + 1) - 4
        if length > n - at - HEADER_LEN or length > most:
            break
        if kind == FE_BIND:
            if eyes & EYES_TRACK:
                if length < 2 or body[0] | body[1] or not c.unnamed_here or c.unnamed_flags:
                    break
                c.unnamed_fresh = 0
            group_begins(w, s, eyes)
            stretch_put(&room, EXPECT_BIND)
            count_add(&k.binds, 1)
        elif kind == FE_DESCRIBE:
            if eyes & EYES_TRACK and not describes_portal(body, length):
                break
            group_begins(w, s, eyes)
            stretch_put(&room, EXPECT_DESCRIBE)
        elif kind == FE_EXECUTE:
            group_begins(w, s, eyes)
            stretch_put(&room, EXPECT_EXECUTE)
        elif kind == FE_SYNC:
            query_begins(w, s, k)
            s.open_group = 0
            put_request(s, &room, EXPECT_SYNC)
            if s.redo == REDO_KEPT:
                s.redo = REDO_WHOLE
                n = at + HEADER_LEN + length      # what is behind it is not kept
        elif kind == FE_PARSE:
            if not parses(w, c, s, k, eyes, body, length):
                break
            stretch_put(&room, EXPECT_NAMED)
        elif kind == FE_QUERY:
            if not queries(w, c, s, k, eyes, body, length):
                break
            put_request(s, &room, EXPECT_QUERY)
        else:
            break
        if s.redo == REDO_OPEN and kind != FE_PARSE:
            s.redo = REDO_NOT                     # it uses nothing that can be outdated
        last = kind
        at += HEADER_LEN + <size_t>length
    if last:
        c.cur.type = last
        s.run = RUN_SYNC if last == FE_SYNC else 0
        stretch_wrote(&room, &s.expect)
    return at
