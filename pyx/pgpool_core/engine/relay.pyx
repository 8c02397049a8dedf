"""A linked client's messages on their way; see relay.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, strlen

from pgpool_core.engine.align cimport settings_end
from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.back cimport back_may, back_send, back_take
from pgpool_core.engine.client_end cimport client_fatal, client_parts, protocol_error
from pgpool_core.engine.conn cimport conn_hold, conn_mix, conn_mixed, conn_send, counters_of
from pgpool_core.engine.copies cimport COPY_ASKED, RUN_FLUSH, copies_ask, copies_flush, copies_waits
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.databases cimport databases_text
from pgpool_core.engine.groups cimport EYES_TRACK, EYES_WATCH, describes_portal, groups_past, query_begins, uses_name
from pgpool_core.engine.ledger cimport ledger_call, ledger_refusal, ledger_text, ledger_unseen, ledger_watches
from pgpool_core.engine.named cimport (DEALLOCATES, DROP_IS, DROP_NEED_MORE, DROP_NOT, DROP_WAIT, NAMED_FULL,
                                       NAMED_GO_ON, named_deallocates, named_dropped, named_drops, named_message,
                                       named_tracked, named_unnamed)
from pgpool_core.engine.patience cimport patience_stalls
from pgpool_core.engine.records cimport *
from pgpool_core.engine.redo cimport REDO_KEPT, REDO_NOT, REDO_OPEN, REDO_WHOLE, redo_begins, redo_keep, redo_text
from pgpool_core.engine.server cimport server_idles
from pgpool_core.engine.timers cimport TIMER_STALL, timer_clear
from pgpool_core.pool.server cimport Server
from pgpool_core.session.sqlscan cimport PROVED_BEGIN, PROVED_DEALLOCATE, PROVED_NONE, PROVED_RESET_ALL, PROVED_SET
from pgpool_core.statements.names cimport Name
from pgpool_core.statements.rewrite cimport USED_NEED_MORE, USED_NOT, USED_ONCE, used_once
from pgpool_core.statements.text cimport MAX_TEXT_LEN
from pgpool_core.sync.atomic cimport pgpool_load32
from pgpool_core.wire.be cimport store_be32
from pgpool_core.wire.build cimport build_query
from pgpool_core.wire.codes cimport *
from pgpool_core.wire.expect cimport (EXPECT_BIND, EXPECT_DESCRIBE, EXPECT_EXECUTE, EXPECT_NAMED, EXPECT_OK,
                                      EXPECT_QUERY, EXPECT_SYNC, expect_copy_ends)
from pgpool_core.wire.scan cimport CLIENT_MARKS, HEADER_LEN, SCAN_BAD_LENGTH, SCAN_FOUND, Frame, scan_past, scan_to, scan_whole

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)


cdef bint look(Worker *w, ClientConn *c, ServerConn *s, const Frame *f, const uint8_t *body, size_t have) noexcept nogil:
    """Have the text of a Query or Parse looked at; False when it must not reach the server."""
    cdef const uint8_t *text = body
    w.scan.proved = PROVED_NONE
    if f.body_len > have:
        ledger_unseen(w, c, s, body, have)        # longer than what is kept to be looked at
        return True
    if f.type == FE_PARSE:
        text = body
        if f.body_len == 0 or body[0]:            # it has a name, as few have
            text = <const uint8_t *>memchr(body, 0, f.body_len)
        if text == NULL:
            return True                           # PostgreSQL has its own words for that
        text += 1
    have = f.body_len - <size_t>(text - body)
    return ledger_text(w, c, s, text, strnlen(<const char *>text, have), f.type == FE_PARSE)


cdef int refuse(Worker *w, ClientConn *c, ServerConn *s, Counters *k, const Frame *f, const uint8_t *body) noexcept nogil:
    """Send what raises an error in the place of a refused message, which is whole."""
    cdef size_t length, sent = 0
    cdef Frame other
    cdef int status = NAMED_GO_ON
    if f.type == FE_QUERY:
        length = ledger_refusal(w.scratch, SCRATCH_SIZE, NULL, 0, False)
    else:
        length = ledger_refusal(w.scratch, SCRATCH_SIZE, body, strnlen(<const char *>body, f.body_len), True)
        if length and named_tracked(c):
            other.type = FE_PARSE
            other.body_len = <uint32_t>(length - HEADER_LEN)
            status = named_message(w, c, s, k, &other, w.scratch, length, 0, &sent)
            if status == NAMED_GO_ON:
                status = expect_named(s, w.outgoing.ours)
    conn_mix(w, &s.conn, w.scratch + sent, length - sent)
    return status


cdef int expect_named(ServerConn *s, uint32_t n) noexcept nogil:
    """So many Parses and Closes of ours go in front of the client's message."""
    cdef uint32_t i
    for i in range(n):
        if ask(s, EXPECT_NAMED) != EXPECT_OK:
            return NAMED_FULL
    return EXPECT_OK


cdef size_t put_deallocates(Worker *w, uint8_t kind) noexcept nogil:
    """Into the scratch: a Query or unnamed Parse of DEALLOCATES."""
    cdef size_t n
    if kind == FE_QUERY:
        return build_query(w.scratch, SCRATCH_SIZE, <const uint8_t *>DEALLOCATES, strlen(DEALLOCATES))
    n = build_query(w.scratch + 1, SCRATCH_SIZE - 1, <const uint8_t *>DEALLOCATES, strlen(DEALLOCATES)) + 1
    w.scratch[0] = FE_PARSE
    w.scratch[HEADER_LEN] = 0                     # the name; the length is behind it: written anew
    w.scratch[n] = w.scratch[n + 1] = 0           # no types
    store_be32(w.scratch + 1, <uint32_t>(n + 1))
    return n + 2


cdef inline size_t plain_past(Worker *w, ClientConn *c, ServerConn *s, Counters *k, uint8_t eyes, const uint8_t *data, size_t n,
                              size_t at, size_t kept) noexcept nogil:
    """groups_past; where a group that is kept ends there, it is kept from `kept` on."""
    cdef bint keeps = s.redo == REDO_KEPT
    at = groups_past(w, c, s, k, eyes, data, n, at)
    if keeps and s.redo == REDO_WHOLE:
        redo_keep(s, data + kept, at - kept)
    return at


cdef int relay(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """Pass a linked client's bytes on, noting which of them the server will answer."""
    cdef ServerConn *s = <ServerConn *>(<Server *>c.seat.server).owner
    cdef Counters *k = counters_of(w, c.pool)
    cdef uint8_t eyes = (EYES_TRACK if named_tracked(c) else 0) | (EYES_WATCH if ledger_watches(c) else 0)
    cdef size_t pos = 0 if eyes & EYES_TRACK and uses_name(data, n) else plain_past(w, c, s, k, eyes, data, n, 0, 0)
    if pos < n or n == 0:
        return relay_rest(w, c, s, k, eyes, data, n, pos)
    if s.redo == REDO_KEPT:
        redo_keep(s, data, n)
    count_add(&k.received, n)
    conn_send(w, &s.conn, data, n)
    if s.conn.writing or c.awaiting:
        c.conn.paused = 1
    if c.conn.timer.kind == TIMER_STALL:
        timer_clear(&w.timers, &c.conn.timer)
    if s.expect.owed == 0:
        server_idles(w, s, c)
    return c.conn.paused


cdef int relay_rest(Worker *w, ClientConn *c, ServerConn *s, Counters *k, uint8_t eyes, uint8_t *data, size_t n,
                    size_t pos) noexcept nogil:
    """The same for what is not plain: from `pos` on nothing has been written down, and nothing has been sent."""
    cdef size_t sent = 0
    cdef Frame f, other
    cdef Name *drops = NULL       # taken away by the DEALLOCATE of the group at hand
    cdef int verdict
    cdef size_t length, none = 0
    cdef size_t kept = 0          # of `data`, what is in front of it is not to be kept for another try
    cdef int r, pushed = EXPECT_OK
    cdef uint32_t before
    cdef bint allowed, banned = False
    cdef int once                 # whether the group at hand does nothing but run its text
    cdef bint watched = eyes & EYES_WATCH
    cdef bint tracked = eyes & EYES_TRACK
    cdef bint crowded = c.pins & ~PIN_UNNAMED == 0 and c.pool.max_pinned and pgpool_load32(&c.pool.pinned) >= c.pool.max_pinned
    w.mixed = 0
    if c.dropping:
        sent = c.cur.remain if c.cur.remain < n else n
        c.dropping = c.cur.remain > n
    while True:
        r = scan_to(&c.cur, CLIENT_MARKS, w.plane.max_packet_size, data, n, &pos, &f)
        if r != SCAN_FOUND:
            break
        if copies_waits(c, s, f.type):
            c.awaiting = 1
            break
        if c.skip_to_sync and f.type != FE_TERMINATE:
            c.skip_to_sync = f.type != FE_SYNC
            if c.skip_to_sync:
                if pos > sent:
                    conn_mix(w, &s.conn, data + sent, pos - sent)
                scan_past(&c.cur, &f, n, &pos)
                c.dropping = c.cur.remain != 0
                sent = pos
                continue
        if s.chore == CHORE_SETTINGS and settings_end(c, &f, data + pos + HEADER_LEN, n - pos - HEADER_LEN):
            c.awaiting = 1
            break
        if crowded and (pos > sent or w.mixed):   # it may be sent away over this message: what was to be answered has to have gone
            if pos > sent:
                conn_mix(w, &s.conn, data + sent, pos - sent)
                sent = pos
            conn_mixed(w, &s.conn)
        if watched and (f.type == FE_QUERY or f.type == FE_PARSE):
            if not scan_whole(&f, n, pos) and f.body_len <= MAX_TEXT_LEN:
                break                             # held back until its text is whole
            before = s.suspect
            allowed = look(w, c, s, &f, data + pos + HEADER_LEN, n - pos - HEADER_LEN)
            if c.state != CL_ACTIVE:
                return 1
            if not allowed:
                conn_mix(w, &s.conn, data + sent, pos - sent)
                pushed = refuse(w, c, s, k, &f, data + pos + HEADER_LEN)
                sent = pos + HEADER_LEN + f.body_len
            elif PROVED_SET <= w.scan.proved <= PROVED_RESET_ALL and back_may(c, s) and scan_whole(&f, n, pos):
                once = USED_ONCE if f.type == FE_QUERY else used_once(data + pos, n - pos) if data[pos + HEADER_LEN] == 0 else USED_NOT
                if once == USED_NEED_MORE:
                    break
                if once == USED_ONCE:
                    back_take(w, c, s, before)
            elif tracked and w.scan.proved == PROVED_DEALLOCATE and scan_whole(&f, n, pos):
                if f.type == FE_QUERY:
                    verdict = named_deallocates(w, c, s)
                elif data[pos + HEADER_LEN] == 0:
                    verdict = named_drops(w, c, s, data + pos, n - pos, &drops)
                else:
                    verdict = DROP_NOT            # a named one may be executed any time
                if verdict == DROP_WAIT:
                    c.awaiting = 1
                if verdict == DROP_WAIT or verdict == DROP_NEED_MORE:
                    break
                if verdict == DROP_IS:
                    conn_mix(w, &s.conn, data + sent, pos - sent)
                    length = put_deallocates(w, f.type)
                    if f.type == FE_PARSE:
                        other.type = FE_PARSE
                        other.body_len = <uint32_t>(length - HEADER_LEN)
                        pushed = named_message(w, c, s, k, &other, w.scratch, length, 0, &none)
                        if pushed != EXPECT_OK:
                            break
                    conn_mix(w, &s.conn, w.scratch, length)
                    sent = pos + HEADER_LEN + f.body_len
                else:
                    drops = NULL
        if f.type == FE_PARSE and scan_whole(&f, n, pos) and f.body_len and (not tracked or data[pos + HEADER_LEN] == 0):
            length = 1
            if data[pos + HEADER_LEN]:
                length += strnlen(<const char *>data + pos + HEADER_LEN, f.body_len)
            if length < f.body_len:
                databases_text(w, s, data + pos + HEADER_LEN + length, f.body_len - length)
        if tracked and f.type == FE_DESCRIBE and f.body_len and describes_portal(data + pos + HEADER_LEN, n - pos - HEADER_LEN):
            w.outgoing.statement = NULL           # it uses none, so there is nothing to rename
        elif tracked and f.type == FE_PARSE and sent <= pos and scan_whole(&f, n, pos) and f.body_len \
                and data[pos + HEADER_LEN] == 0:
            w.outgoing.statement = NULL
            pushed = named_unnamed(c, s, k)
        elif tracked and sent <= pos and (f.type == FE_PARSE or f.type == FE_BIND or f.type == FE_DESCRIBE
                                          or f.type == FE_CLOSE):
            pushed = named_message(w, c, s, k, &f, data, n, pos, &sent)
            if c.state != CL_ACTIVE:
                return 1
            if pushed != EXPECT_OK:
                break
            pushed = expect_named(s, w.outgoing.ours)
        if f.type == FE_QUERY and w.plane.disable_pqexec:
            banned = True
            break
        if f.type == FE_QUERY or f.type == FE_FUNCTION_CALL:
            if watched and f.type == FE_FUNCTION_CALL:
                ledger_call(w, c, s, data + pos + HEADER_LEN, f.body_len, n - pos - HEADER_LEN)
                if c.state != CL_ACTIVE:
                    return 1
            if f.type == FE_QUERY and scan_whole(&f, n, pos) and f.body_len:
                databases_text(w, s, data + pos + HEADER_LEN, f.body_len - 1)
            if tracked:
                redo_text(s, data + pos + HEADER_LEN, f.body_len - 1, watched and f.type == FE_QUERY and f.body_len != 0
                          and w.scan.proved == PROVED_BEGIN and scan_whole(&f, n, pos))
            query_begins(w, s, k)
            c.unnamed_fresh = 0                   # a simple Query ends the unnamed statement
            s.query_in_group |= s.open_group
            pushed = ask(s, EXPECT_QUERY)
            if s.back != NULL and pushed == EXPECT_OK:
                conn_mix(w, &s.conn, data + sent, pos + HEADER_LEN + f.body_len - sent)
                sent = pos + HEADER_LEN + f.body_len
                pushed = back_send(w, s)
        elif f.type == FE_SYNC:
            if drops != NULL:
                conn_mix(w, &s.conn, data + sent, pos - sent)
                sent = pos
                pushed = named_dropped(w, s, drops)
                if pushed != EXPECT_OK or ask(s, EXPECT_NAMED) != EXPECT_OK:
                    pushed = NAMED_FULL
                    break
                drops = NULL
            query_begins(w, s, k)
            pushed = ask(s, EXPECT_SYNC)
            s.open_group = 0
            if s.back != NULL and pushed == EXPECT_OK:
                conn_mix(w, &s.conn, data + sent, pos + HEADER_LEN - sent)
                sent = pos + HEADER_LEN
                pushed = back_send(w, s)
            if s.redo == REDO_KEPT:
                s.redo = REDO_WHOLE
                redo_keep(s, data + kept, pos + HEADER_LEN - kept)
        elif f.type == FE_COPY_DONE or f.type == FE_COPY_FAIL:
            pushed = expect_copy_ends(&s.expect)
        elif f.type == FE_TERMINATE:
            c.leaving = 1
            break
        elif f.type == FE_FLUSH:
            if f.body_len:
                r = SCAN_BAD_LENGTH               # PostgreSQL would answer it with an error, and skip what comes
                break
        else:
            if not s.open_group:
                s.open_group = 1
                s.group_us = w.now_us
                s.redo = redo_begins(s) if tracked else REDO_NOT
            if s.redo == REDO_OPEN and f.type != FE_PARSE and f.type != FE_CLOSE:
                if f.type != FE_EXECUTE and w.outgoing.statement != NULL and w.outgoing.parses == 0:
                    s.redo = REDO_KEPT
                    s.group.len = s.group.off = 0
                    kept = pos
                else:
                    s.redo = REDO_NOT
            if f.type == FE_BIND:
                pushed = ask(s, EXPECT_BIND)
            elif f.type == FE_EXECUTE:
                pushed = ask(s, EXPECT_EXECUTE)
            elif f.type == FE_DESCRIBE:
                pushed = ask(s, EXPECT_DESCRIBE)
            elif pushed == EXPECT_OK:             # a refused one may have to wait
                pushed = ask(s, EXPECT_NAMED)
            if tracked:
                pass                              # counted where it was renamed
            elif f.type == FE_PARSE:
                count_add(&k.client_parses, 1)
                count_add(&k.server_parses, 1)
            elif f.type == FE_BIND:
                count_add(&k.binds, 1)
        if pushed != EXPECT_OK:
            break
        scan_past(&c.cur, &f, n, &pos)
        if sent <= pos < n and drops == NULL:
            pos = plain_past(w, c, s, k, eyes, data, n, pos, kept)
    if s.redo == REDO_KEPT:
        redo_keep(s, data + kept, pos - kept)
    count_add(&k.received, pos)
    if w.mixed:
        if pos > sent:
            conn_mix(w, &s.conn, data + sent, pos - sent)
        conn_mixed(w, &s.conn)
    elif pos > sent:
        conn_send(w, &s.conn, data + sent, pos - sent)
    elif c.awaiting and s.conn.out.len and not s.conn.writing:
        conn_send(w, &s.conn, data, 0)            # the replay, which the first message waits for
    if s.copy_doubt and not s.copy_doubt & COPY_ASKED and c.cur.remain == 0:
        copies_ask(w, s)
    elif s.run & RUN_FLUSH:
        copies_flush(w, s)
    if s.conn.writing or c.awaiting:
        c.conn.paused = 1
    if r < 0:
        protocol_error(w, c, data + pos)
        return 1
    if c.awaiting and s.expect.copying and not s.copy_doubt:      # for the end of a COPY, which nobody but the client can bring
        client_fatal(w, c, "08P01", "unexpected message type during COPY from stdin")
        return 1
    if banned:
        client_fatal(w, c, "0A000", "PQexec disallowed")
        return 1
    if pushed < 0:
        client_fatal(w, c, "54000", "too many unanswered requests")
        return 1
    if c.leaving:
        c.conn.paused = 1
        if s.expect.owed == 0 or s.expect.copying:     # what it streams to the server ends with it
            client_parts(w, c)
        return 1
    if not conn_hold(w, &c.conn, data + pos, n - pos):
        return 1
    if not patience_stalls(w, c, s) and c.conn.timer.kind == TIMER_STALL:
        timer_clear(&w.timers, &c.conn.timer)
    if n == pos and n != 0 and s.expect.owed == 0:
        server_idles(w, s, c)
    return c.conn.paused
