"""The way of a server's bytes to its client, and its way back to the pool; see server.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from pgpool_core.engine.advice cimport advise_tell
from pgpool_core.engine.answers cimport answers_past, is_bound, is_ours
from pgpool_core.engine.asked cimport answered, copy_begins, error_comes
from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_free, buf_steal
from pgpool_core.engine.align cimport rights_of, server_stands
from pgpool_core.engine.chore cimport chore_done, server_settle
from pgpool_core.engine.client cimport client_go_on, client_granted, client_released
from pgpool_core.engine.client_end cimport client_end, client_fatal, client_parts
from pgpool_core.engine.conn cimport (SEND_LATER, SENT, conn_hold, conn_not_again, conn_resume, conn_send,
                                      conn_settle, counters_of, worker_wake)
from pgpool_core.engine.copies cimport (COPY_ASKED, COPY_FAILED, COPY_SKIPS, copies_ask, copies_closed, copies_inside,
                                        copies_over, copies_ready)
from pgpool_core.engine.counters cimport Counters, count_add, hist_add, hist_bucket, hist_count
from pgpool_core.engine.databases cimport databases_done
from pgpool_core.engine.doubt cimport DOUBT_LASTS, doubt_ask, doubt_may_end
from pgpool_core.engine.functions cimport functions_changed
from pgpool_core.engine.leak cimport leak_released
from pgpool_core.engine.inquiry cimport MAX_ANSWER, inquiry_keeps, inquiry_last, inquiry_part
from pgpool_core.engine.pins cimport pins_add
from pgpool_core.engine.named cimport named_error, named_retag, named_tag, unnamed_mark
from pgpool_core.engine.notifier cimport notifier_own
from pgpool_core.engine.notify cimport notify_settle
from pgpool_core.engine.orphan cimport server_ends_copy, server_unsure
from pgpool_core.engine.parameters cimport followed
from pgpool_core.engine.patience cimport patience_stalls
from pgpool_core.engine.records cimport *
from pgpool_core.engine.redo cimport (REDO_FAILED, REDO_LASTS, REDO_NOT, REDO_SEES, REDO_SEES_NOTHING, redo_peek,
                                      redo_ready, redo_withholds)
from pgpool_core.engine.server_end cimport server_close, server_outdated, server_quit
from pgpool_core.engine.waiter cimport cancel_goes_on
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.pool cimport (MODE_SESSION, MODE_STATEMENT, POOL_CLOSE, POOL_GRANTED, pool_release,
                                    pool_take_idle, pool_unlink)
from pgpool_core.pool.server cimport SV_ACTIVE, SV_BEING_CANCELED, SV_CLOSING, SV_TESTED
from pgpool_core.session.settings cimport (MAX_BLOCK_LEN, MAX_NAME_LEN, SETTINGS_OK, SETTINGS_TOO_LONG, Block, block_unref,
                                           block_with)
from pgpool_core.statements.failure cimport failure_told
from pgpool_core.statements.owed cimport ANSWER_AS_PARSE, ANSWER_BROKEN, ANSWER_SWALLOW, owed_answer
from pgpool_core.sync.atomic cimport (pgpool_cas_ptr, pgpool_load32, pgpool_load8, pgpool_load_ptr, pgpool_store8,
                                      pgpool_store_ptr)
from pgpool_core.wire.build cimport build_error
from pgpool_core.wire.codes cimport *
from pgpool_core.wire.expect cimport (EXPECT_ASK, EXPECT_ASK_END, EXPECT_CHORE, EXPECT_NAMED, EXPECT_NONE, expect_answer,
                                      expect_head)
from pgpool_core.wire.scan cimport (EVERY_SERVER_MARKS, GROUP_MARKS, HEADER_LEN, SCAN_FOUND, SERVER_MARKS, Frame,
                                    scan_past, scan_to, scan_whole)
from pgpool_core.wire.span cimport Span

cdef enum:
    NOTE_MAX = HEADROOM - HEADER_LEN                       # longer than any NotificationResponse of PostgreSQL
    MAX_SERVER_BODY = 0x7FFFFFFB  # what an Int32 length can say; PostgreSQL stops at 1 GiB
    REPLAYED_AGAIN = 100          # times that a replay of settings may be cancelled: a server that goes on like this is broken


cdef int server_bytes(Worker *w, ServerConn *s, uint8_t *data, size_t n) noexcept nogil:
    """Take all `n` bytes; nonzero when nothing more is to be read from this server now. NULL: its `out` has been sent."""
    cdef ClientConn *c = client_of(s)
    cdef size_t pos = 0, start = 0
    cdef Frame f
    cdef int r
    cdef bint swallow
    cdef uint8_t kind
    cdef const uint8_t *marks
    cdef int verdict
    cdef size_t length
    cdef size_t hides = 0         # 1 + where a ParameterDescription begins that goes the way of the error behind it
    cdef bint outdated
    cdef Counters *k
    cdef uint64_t canceller
    if data == NULL:
        if c != NULL and c.conn.paused and not c.holding and not c.leaving:
            conn_resume(w, &c.conn)
        return 0
    if s.seat.state == SV_CLOSING:
        return 0
    if s.conn.held.len:
        return use_held(w, s, data, n)
    k = counters_of(w, s.pool)
    if s.cur.remain and s.swallowing:
        pos = start = s.cur.remain if s.cur.remain < n else n
        s.cur.remain -= <uint32_t>pos
        if is_question(s) and not keep(s, data, pos):
            server_quit(w, s, "out of memory")
            return 1
        if s.cur.remain:
            return 0
    while True:
        c = client_of(s)                          # may have left in the answer to a chore
        if c != NULL and s.cur.remain == 0:
            if s.redo & REDO_LASTS and is_bound(s, data + pos, n - pos):
                s.redo = REDO_NOT                 # it has not been refused
            if s.redo == REDO_NOT:
                pos = answers_past(s, data, n, pos)
        kind = expect_head(&s.expect)
        swallow = c == NULL or is_ours(kind)
        s.swallowing = swallow
        if swallow and pos > start:               # up to here it was the client's
            if c != NULL:
                forwarded(w, s, c, k, data + start, pos - start)
            start = pos
        marks = GROUP_MARKS if kind >= EXPECT_NAMED else SERVER_MARKS
        r = scan_to(&s.cur, EVERY_SERVER_MARKS if swallow or s.redo & REDO_LASTS else marks, MAX_SERVER_BODY, data, n, &pos, &f)
        if r != SCAN_FOUND:
            break
        if (f.type == BE_READY or f.body_len <= HOLD_MAX and (f.type == BE_COMMAND_COMPLETE or f.type == BE_ERROR) or (
                    f.type == BE_PARAMETER_STATUS and f.body_len <= MAX_BLOCK_LEN) or (
                    f.type == BE_NOTIFICATION and f.body_len < NOTE_MAX)) and not scan_whole(&f, n, pos):
            if f.type == BE_READY and f.body_len != 1:
                r = -1
            break                                 # held back until it is whole
        if f.type == BE_PARAMETER_DESCRIPTION and s.redo & REDO_LASTS and not swallow:
            verdict = redo_peek(data, n, pos + HEADER_LEN + f.body_len)
            if verdict == REDO_SEES_NOTHING and f.body_len <= HOLD_MAX:
                break
            if verdict == REDO_SEES:
                hides = pos + 1
            else:
                s.redo = REDO_NOT
        if f.type == BE_READY:
            if f.body_len != 1:
                r = -1
                break
            s.tx_status = data[pos + HEADER_LEN]
            if s.tx_status != TX_IDLE and s.tx_status != TX_BLOCK and s.tx_status != TX_FAILED:
                r = -1
                break
            if kind == EXPECT_ASK:
                copies_ready(w, s, c, k)
                scan_past(&s.cur, &f, n, &pos)
                start = pos
                continue
            if s.copy_doubt & COPY_FAILED and not s.copy_doubt & COPY_ASKED and kind == EXPECT_NONE:
                s.copy_doubt &= ~COPY_SKIPS       # the client's, so soon
                scan_past(&s.cur, &f, n, &pos)
                continue
            kind = answered(s)
            if kind == EXPECT_ASK_END:
                copies_over(s, c)
            if s.retag <= s.owed.answered:
                s.retag = 0                       # that group is over
            if kind == EXPECT_NONE and (c == NULL or not (s.seat.dedicated or s.in_doubt)):
                r = -1                            # nobody has asked for anything
                break
            if c != NULL and c.warnings_due | c.pin_due and not swallow:
                forwarded(w, s, c, k, data + start, pos - start)
                start = pos
                advise_tell(w, c)                 # in front of ReadyForQuery, so that drivers have it with the answer
            s.error_last = 0
            if s.query_in_group and s.tx_status != TX_IDLE:
                pgpool_store8(&s.seat.close_needed, 1)    # PostgreSQL 18: after the Sync, whatever comes next fails with XX000
            scan_past(&s.cur, &f, n, &pos)
            if kind == EXPECT_CHORE:
                start = pos
                if c == NULL and pos < n:         # it has more to say, and nobody has asked: its end, most likely
                    pgpool_store8(&s.seat.close_needed, 1)
                verdict = s.cancel_due
                canceller = s.canceller
                s.cancel_due = 0
                if chore_done(w, s) or (c != NULL and c.seat.server != &s.seat):
                    if verdict:
                        cancel_goes_on(w, NULL, canceller)
                    return 1                      # it has moved on: what follows, if anything, is looked at there
                if verdict and s.chore != CHORE_NONE and expect_head(&s.expect) == EXPECT_CHORE:
                    s.cancel_due = 1              # another one is in front
                elif verdict:
                    cancel_goes_on(w, s, canceller)
                continue
            if kind == EXPECT_ASK_END or c == NULL:
                start = pos
            if c == NULL:
                continue
            if s.redo == REDO_FAILED:
                start = pos
                redo_ready(w, s, c)
                if c.seat.server != &s.seat:
                    return 1
                continue
            s.redo = REDO_NOT
            if s.expect.owed == 0:
                s.ready_us = w.now_us
                s.asked_us = 0
            if s.tx_status == TX_IDLE:
                if s.function_ddl:
                    functions_changed(w.plane, s)
                if s.database_ddl and s.expect.owed == 0:
                    databases_done(w.plane, s)
                count_xact(s, k, w.now_us)
                if pos == n:
                    break
                continue
            if s.expect.owed == 0:
                count_query(s, k, w.now_us)
            if s.sayings == 1:
                s.sayings = 2                     # its text was not all of its transaction
            if c.pool.pool.settings.mode == MODE_STATEMENT and not s.seat.dedicated:
                length = pos - start
                length = length - (HEADER_LEN + 1) if length > HEADER_LEN + 1 else 0     # not its end: the error is the answer
                length -= begun_at_end(data + start, length)
                if length:
                    forwarded(w, s, c, k, data + start, length)
                client_fatal(w, c, "08P01", "transaction blocks not allowed in statement pooling mode")
                if s.seat.state == SV_CLOSING or s.conn.doomed:
                    return 1
                start = pos                       # what the client has asked besides is still answered, to nobody
            continue
        if f.type == BE_PARAMETER_STATUS:
            if scan_whole(&f, n, pos):
                verdict = server_parameter(w, s, c, data + pos + HEADER_LEN, f.body_len, swallow and s.chore != CHORE_BACK)
                if verdict != SETTINGS_OK:
                    if c != NULL and not swallow:
                        forwarded(w, s, c, k, data + start, pos - start)
                    server_quit(w, s, "settings are too long to be followed" if verdict == SETTINGS_TOO_LONG else "out of memory")
                    return 1
                if c != NULL and kind == EXPECT_CHORE and s.chore == CHORE_BACK:
                    forwarded(w, s, c, k, data + pos, HEADER_LEN + f.body_len)     # the client's own doing, in the end
            else:
                pgpool_store8(&s.seat.close_needed, 1)    # too long to be followed
        elif f.type == BE_ERROR:
            if c != NULL and s.copy_doubt & COPY_ASKED and not s.copy_doubt & COPY_FAILED and scan_whole(&f, n, pos):
                forwarded(w, s, c, k, data + start, pos - start)
                start = pos
                if copies_inside(w, c, data + pos + HEADER_LEN, f.body_len):
                    return 1
            if not error_comes(s) or s.seat.dedicated:
                pass
            elif s.in_doubt:
                s.in_doubt = DOUBT_LASTS
            else:
                s.copy_doubt |= COPY_FAILED
                if kind >= EXPECT_NAMED:
                    s.copy_doubt |= COPY_SKIPS
            length = 0
            if not swallow and (s.owed.len or kind >= EXPECT_NAMED) and scan_whole(&f, n, pos):
                length = named_error(w, s, c, data + pos + HEADER_LEN, f.body_len, &outdated)
                if outdated and redo_withholds(w, s, c):
                    forwarded(w, s, c, k, data + start, (hides - 1 if hides else pos) - start)
                    start = pos + HEADER_LEN + f.body_len
                    scan_past(&s.cur, &f, n, &pos)
                    continue
                if outdated:
                    failure_told(&s.owed, &s.prepared)
            hides = 0
            s.error_last = s.erred = 1
            if c != NULL:
                if c.unnamed_fresh == unnamed_mark(s.owed.answered):
                    c.unnamed_fresh = 0           # not parsed, or skipped
                if c.listens != NULL:
                    c.listens.undone = 1
            if length:                            # the client gets another text, with its own name in it
                forwarded(w, s, c, k, data + start, pos - start)
                forwarded(w, s, c, k, w.scratch, length)
                start = pos + HEADER_LEN + f.body_len
            if swallow:
                failed(w, s, c, data + pos + HEADER_LEN, f.body_len if scan_whole(&f, n, pos) else 0)
        elif swallow and c == NULL and s.expect.owed == 0 and f.type != BE_NOTICE and f.type != BE_NOTIFICATION:
            r = -1                                # a server that nobody has asked anything has nothing else to say
            break
        elif f.type == BE_CLOSE_COMPLETE and kind == EXPECT_ASK:
            if not copies_closed(s):
                r = -1
                break
        elif f.type == BE_PARSE_COMPLETE or f.type == BE_CLOSE_COMPLETE:
            verdict = owed_answer(&s.owed, &s.prepared, f.type) if f.body_len == 0 else ANSWER_BROKEN
            if verdict == ANSWER_BROKEN and not s.in_doubt:
                r = -1
                break
            expect_answer(&s.expect, f.type)
            if verdict == ANSWER_AS_PARSE:
                data[pos] = BE_PARSE_COMPLETE
            elif verdict == ANSWER_SWALLOW and not swallow:
                forwarded(w, s, c, k, data + start, pos - start)
                start = pos + HEADER_LEN
        elif f.type == BE_COMMAND_COMPLETE:
            expect_answer(&s.expect, f.type)
            length = named_retag(w, s) if s.retag and not swallow else 0
            if length:
                forwarded(w, s, c, k, data + start, pos - start)
                forwarded(w, s, c, k, w.scratch, length)
                start = pos + HEADER_LEN + f.body_len
            if 0 < f.body_len <= HOLD_MAX and data[pos + HEADER_LEN] == 0x44:    # 'D'
                named_tag(s, c, data + pos + HEADER_LEN, f.body_len)
        elif f.type == BE_NOTIFICATION and c != NULL:
            if f.body_len >= 4 and scan_whole(&f, n, pos):
                notifier_own(s, c, data + pos + HEADER_LEN)
            if swallow and scan_whole(&f, n, pos):    # between the answers of a chore, but meant for the client
                forwarded(w, s, c, k, data + pos, HEADER_LEN + f.body_len)
        elif f.type == BE_COPY_IN or f.type == BE_COPY_BOTH:
            copy_begins(s)
            if c == NULL:
                server_unsure(s)
            if c == NULL and s.expect.copying and not server_ends_copy(w, s):
                return 1
        elif kind >= EXPECT_NAMED:
            expect_answer(&s.expect, f.type)
            if f.type != BE_PARAMETER_DESCRIPTION and f.type != BE_NOTICE:
                s.redo = REDO_NOT
        scan_past(&s.cur, &f, n, &pos)
        if swallow:
            if is_question(s) and not keep(s, data + start, pos - start):
                server_quit(w, s, "out of memory")
                return 1
            start = pos
    if c != NULL and not swallow and pos > start:
        pass_on(w, s, c, k, data + start, pos - start)
    if r < 0:
        server_quit(w, s, "server broke the protocol")
        return 1
    if not conn_hold(w, &s.conn, data + pos, n - pos):
        return 1
    if s.in_doubt and c != NULL and not c.pins & PIN_UNKNOWN and c.pool.pool.settings.mode != MODE_SESSION:
        pins_add(w, c, PIN_UNKNOWN)             # may send it away
        c = client_of(s)
    if s.copy_doubt and not s.copy_doubt & COPY_ASKED and c != NULL and c.cur.remain == 0:
        copies_ask(w, s)
    if c == NULL:
        return s.seat.state == SV_BEING_CANCELED and server_settle(w, s)
    if c.awaiting:
        c.awaiting = 0
        client_go_on(w, c)
        if c.seat.server != &s.seat:
            return 1
    if s.in_doubt and doubt_may_end(s, c):
        doubt_ask(w, s, c)
        return s.conn.paused or s.conn.doomed
    if at_rest(s, c):
        if c.listens != NULL:
            notify_settle(w, c)
        if c.pool.pool.settings.mode == MODE_SESSION or s.seat.dedicated:
            if c.leaving:
                client_parts(w, c)
        else:
            if done(w, s, c):
                return 1
        if w.plane.server_fast_close and pgpool_load8(&s.seat.close_needed):
            server_outdated(w, s)
            return 1
    elif c.leaving and (s.expect.owed == 0 or s.expect.copying) and c.state == CL_ACTIVE:
        client_parts(w, c)
    elif c.cur.remain and c.state == CL_ACTIVE and c.seat.server == &s.seat:
        patience_stalls(w, c, s)
    return c.seat.server != &s.seat or s.conn.paused     # who has parted may have left it to another worker


cdef int use_held(Worker *w, ServerConn *s, const uint8_t *data, size_t n) noexcept nogil:
    """Use what is held, with these bytes behind it: there was no room for it in front of them (a ParameterStatus of more than 8 KiB)."""
    cdef Buf mine
    cdef int stop
    if not buf_add(&s.conn.held, data, n):
        server_quit(w, s, "out of memory")
        return 1
    mine = buf_steal(&s.conn.held)                # server_bytes may hold the rest again
    stop = server_bytes(w, s, buf_bytes(&mine), mine.len)
    buf_free(&mine)
    return stop


cdef inline size_t begun_at_end(const uint8_t *at, size_t n) noexcept nogil:
    """How many of the `n` bytes are the CommandComplete of BEGIN at their end: to libpq an error behind it would be a second answer."""
    if n >= 11 and memcmp(at + n - 11, b"C\x00\x00\x00\x0aBEGIN", 11) == 0:
        return 11
    if n >= 23 and memcmp(at + n - 23, b"C\x00\x00\x00\x16START TRANSACTION", 23) == 0:
        return 23
    return 0


cdef inline void count_query(ServerConn *s, Counters *k, uint64_t now_us) noexcept nogil:
    """Nothing is asked of `s` any more: how long its queries took."""
    if s.query_start_us:
        count_add(&k.query_us, now_us - s.query_start_us)
        hist_add(&k.query, now_us - s.query_start_us)
        s.query_start_us = 0


cdef inline void count_xact(ServerConn *s, Counters *k, uint64_t now_us) noexcept nogil:
    """A transaction is over, and how long it took; what is still asked belongs to the next one."""
    cdef bint nothing_asked = s.expect.owed == 0
    cdef uint64_t took_us
    cdef uint32_t bucket
    count_add(&k.xacts, 1)
    if s.xact_start_us:
        took_us = now_us - s.xact_start_us
        bucket = hist_bucket(took_us)
        count_add(&k.xact_us, took_us)
        hist_count(&k.xact, bucket)
        if nothing_asked and s.query_start_us == s.xact_start_us:     # it was one query
            count_add(&k.query_us, took_us)
            hist_count(&k.query, bucket)
            s.xact_start_us = s.query_start_us = 0
            return
    if nothing_asked:
        count_query(s, k, now_us)
    if s.xact_start_us:
        s.xact_start_us = s.query_start_us


cdef inline bint at_rest(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """Whether the transaction of `c` is over, and nothing more of it is on its way either way."""
    return (s.expect.owed | s.cur.remain | c.cur.remain | s.query_start_us) == 0 \
        and not (s.open_group | s.expect.copying | s.in_doubt | s.copy_doubt | c.holding) \
        and s.tx_status == TX_IDLE and c.seat.server == &s.seat and c.state == CL_ACTIVE


cdef inline bint is_question(const ServerConn *s) noexcept nogil:
    """Whether the answer that comes in is one to be read."""
    return s.chore == CHORE_PROBE or s.chore == CHORE_LEAK or s.chore == CHORE_DOUBT


cdef inline bint keep(ServerConn *s, const uint8_t *data, size_t n) noexcept nogil:
    """Keep a stretch of the answer to a probe; what is beyond MAX_ANSWER only counts as too much."""
    return s.answer.len > MAX_ANSWER or buf_add(&s.answer, data, n)


cdef inline void pass_on(Worker *w, ServerConn *s, ClientConn *c, Counters *k, const uint8_t *data, size_t n) noexcept nogil:
    """Send to the client; one that takes no more stops its server from being read."""
    count_add(&k.sent, n)
    if n and conn_send(w, &c.conn, data, n) == SEND_LATER:
        s.conn.paused = 1


cdef void forwarded(Worker *w, ServerConn *s, ClientConn *c, Counters *k, const uint8_t *data, size_t n) noexcept nogil:
    """The same; for what comes seldom."""
    pass_on(w, s, c, k, data, n)


cdef bint done(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """The transaction is over and nothing is owed: the client goes on without, the server goes back with this turn.

    False when the client keeps the server. Not at once: a send to the next server between the sends to clients would let the kernel switch tasks more often.
    """
    if s.suspect | c.pins | c.unnamed_fresh:
        if c.leaving:
            if inquiry_last(w, s, c):
                return False
            inquiry_part(w, s, c)
        elif inquiry_keeps(w, s, c):
            return False
    if leak_released(s, c) or pgpool_load32(&s.cancels) or s.pool.reset_always or s.dirty:
        pool_unlink(s.pool.pool, &s.seat, SV_BEING_CANCELED, w.now_us)
        client_released(w, c)
        server_settle(w, s)
        return True
    pgpool_store_ptr(<void *>&s.seat.client, NULL)              # the console may be looking
    c.seat.server = NULL
    s.conn.paused = 1
    s.freed_next = w.freed
    w.freed = s
    client_released(w, c)
    return True


cdef bint server_idles(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """`c` has sent what nothing answers, such as the rest of a COPY that has failed: it goes on without where nothing else is under way."""
    if not at_rest(s, c) or c.awaiting or c.leaving or s.lent or s.seat.dedicated or c.pool.pool.settings.mode == MODE_SESSION:
        return False
    if conn_settle(w, &s.conn) != SENT or s.conn.out.len or s.conn.writing or s.conn.doomed or s.conn.hup:
        return False
    if c.listens != NULL:
        notify_settle(w, c)
    return done(w, s, c)


cdef void servers_go_back(Worker *w) noexcept nogil:
    """Free the servers whose transactions have ended in this turn."""
    cdef ServerConn *s = w.freed
    cdef ServerConn *next
    w.freed = NULL
    while s != NULL:
        next = s.freed_next
        if s.seat.state == SV_ACTIVE:             # not lost meanwhile
            server_free(w, s)
        s = next


cdef int server_parameter(Worker *w, ServerConn *s, ClientConn *c, const uint8_t *body, uint32_t n,
                          bint swallow) noexcept nogil:
    """ParameterStatus: the server stands differently now, and so does the client whose doing it was.

    Behind our own replay the client is told what differs from what it was told before (settings_tell). Not SETTINGS_OK: nobody knows how the
    two stand.
    """
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span name, value, canonical
    cdef uint8_t rights
    cdef const uint8_t *end = <const uint8_t *>memchr(body, 0, n)
    cdef Block *fresh
    cdef int status
    if end == NULL or end + 1 >= body + n or body[n - 1] != 0:
        return SETTINGS_OK
    name.at = body
    name.len = <uint32_t>(end - body)
    value.at = end + 1
    value.len = n - name.len - 2
    if memchr(value.at, 0, value.len) != NULL:
        return SETTINGS_OK
    rights = rights_of(name, value)
    if rights != RIGHTS_UNKNOWN:
        s.rights = rights
        if c != NULL and not swallow:
            c.rights = s.rights
        return SETTINGS_OK
    if not followed(w.plane, s.pool, name, room, &canonical):
        return SETTINGS_OK
    status = block_with(w.plane.settings, s.settings, canonical, value, &fresh)
    if status != SETTINGS_OK:
        return status
    pgpool_store8(&fresh.verified, 1)
    server_stands(w, s, fresh)
    if c == NULL or swallow:
        return SETTINGS_OK
    status = block_with(w.plane.settings, c.settings, canonical, value, &fresh)
    if status != SETTINGS_OK:
        return status
    if pgpool_load8(&c.settings.verified):
        pgpool_store8(&fresh.verified, 1)
    block_unref(w.plane.settings, c.settings)
    c.settings = fresh
    return SETTINGS_OK


cdef void failed(Worker *w, ServerConn *s, ClientConn *c, const uint8_t *body, uint32_t n) noexcept nogil:
    """ErrorResponse in the answer to a chore of ours, or to nobody. `body` stands behind its header.

    57P..: the server ends for reasons of its own. That says nothing about the values, and the client hears of the end. So does any
    other error that ends a session, in the server's words: another pooler behind us has no server for it. 57014 is a timeout of the
    client before, or a cancel request that came late: the replay is sent again where nothing stands behind it.
    """
    cdef uint32_t at = 0
    cdef Span message
    cdef const uint8_t *end
    cdef size_t length
    cdef bint fatal = False
    s.chore_failed = 1
    if s.chore != CHORE_SETTINGS or c == NULL:
        return
    message.at = body
    message.len = 0
    while at < n and body[at] != 0:
        end = <const uint8_t *>memchr(body + at, 0, n - at)
        if end == NULL:
            break
        length = <size_t>(end - body) - at        # with its letter
        if body[at] == 0x43 and memcmp(body + at + 1, b"57P", 3) == 0:         # 'C'
            s.error_last = 0
            return
        if body[at] == 0x43 and length == 6 and memcmp(body + at + 1, b"57014", 5) == 0 and s.chore_alone \
                and s.chore_again < REPLAYED_AGAIN:
            s.error_last = 0
            s.chore_again += 1
            return
        if body[at] == 0x56:                      # 'V'
            fatal = length == 6 and (memcmp(body + at + 1, b"FATAL", 5) == 0 or memcmp(body + at + 1, b"PANIC", 5) == 0)
        if body[at] == 0x4D:                      # 'M'
            message.at = body + at + 1
            message.len = <uint32_t>(length - 1)
        at = <uint32_t>(end - body) + 1
    s.chore_again = 0
    if fatal:
        client_end(w, c, body - HEADER_LEN, HEADER_LEN + n, "server closed the connection")
        return
    if pgpool_load8(&c.settings.verified):        # its values are fine: it is what the server stands at that cannot be given up
        pgpool_store8(&s.seat.close_needed, 1)
    length = build_error(w.scratch, SCRATCH_SIZE, "FATAL", "22023", "invalid server parameter", &message)
    client_end(w, c, w.scratch, length, "invalid server parameter")


cdef bint push_grant(Worker *to, Client *seat) noexcept nogil:
    """Let another worker know that one of its waiters has a server, or never will. True: it had to be woken."""
    cdef void *head
    while True:
        head = pgpool_load_ptr(&to.granted)
        seat.granted_next = <Client *>head
        if pgpool_cas_ptr(<void **>&to.granted, head, seat):
            break
    return worker_wake(to)


cdef void server_free(Worker *w, ServerConn *s) noexcept nogil:
    """A clean server goes to the first waiter, wherever that lives, or waits itself."""
    cdef Client *seat = NULL
    cdef Counters *k
    cdef bint unread = s.conn.missed | s.conn.full_read | s.conn.again or s.conn.early.len
    cdef int verdict
    conn_settle(w, &s.conn)                       # another worker may have it before this turn ends
    s.conn.paused = 0
    s.canceling = 0
    conn_not_again(w, &s.conn)
    s.seat.mark = s.settings
    if unread:
        w.io.rearm(w, &s.conn)                    # afterwards it may be another worker's, in whose set it is reported anyway
    verdict = pool_release(s.pool.pool, &s.seat, w.index, w.now_us, &seat)
    if verdict == POOL_GRANTED:
        if seat.worker == w.index:
            client_granted(w, seat)
        else:
            w.io.remove(w, &s.conn)
            k = counters_of(w, s.pool)
            count_add(&k.handoffs, 1)
            count_add(&k.wakeups, push_grant(&w.plane.workers[seat.worker], seat))
    elif verdict == POOL_CLOSE:
        server_close(w, s, s.seat.leaving)


cdef void server_stirs(Worker *w, ServerConn *s) noexcept nogil:
    """Something has come from an idle server: a notice, a changed parameter, or its end."""
    if not pool_take_idle(s.pool.pool, &s.seat, w.index, SV_TESTED, w.now_us):
        return
    s.chore = CHORE_NONE
    s.was_reset = 0
    s.chore_failed = 0
    w.io.pump(w, &s.conn)
    if s.seat.state == SV_TESTED and not s.conn.doomed and s.conn.fd >= 0:
        if s.chore_failed:
            server_quit(w, s, "server reported an error while idle")
        else:
            server_free(w, s)
