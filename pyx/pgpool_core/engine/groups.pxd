"""The plain part of a group of the extended protocol: whole messages behind the first that need nothing but to be written down.

Nearly all groups are of this kind: Bind, Describe and Execute of unnamed statements and portals. Any other message, and one that
has not come whole, is left to `forward`, which knows everything.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.copies cimport RUN_SYNC
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.records cimport CHORE_SETTINGS, ClientConn, ServerConn, Worker
from pgpool_core.engine.redo cimport REDO_KEPT, REDO_NOT, REDO_OPEN
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport FE_BIND, FE_COPY_DATA, FE_DESCRIBE, FE_EXECUTE, FE_SYNC
from pgpool_core.wire.expect cimport EXPECT_BIND, EXPECT_DESCRIBE, EXPECT_EXECUTE, EXPECT_OK, EXPECT_SYNC, expect_push
from pgpool_core.wire.scan cimport HEADER_LEN


cdef inline bint describes_portal(const uint8_t *body, size_t have) noexcept nogil:
    """Whether a Describe is about no statement, of whose body `have` bytes are there."""
    return have != 0 and body[0] == 0x50          # 'P'


cdef inline bint is_plain(const ClientConn *c, const ServerConn *s) noexcept nogil:
    """Whether a group is under way, and nothing else: no COPY, no replay, nothing that is skipped."""
    return s.open_group and s.chore != CHORE_SETTINGS and c.cur.remain == 0 and c.cur.type != FE_COPY_DATA \
        and not (s.run | s.copy_doubt | s.expect.silent | s.expect.skipping | c.skip_to_sync)


cdef inline void query_begins(Worker *w, ServerConn *s, Counters *k) noexcept nogil:
    if s.query_start_us == 0:
        s.query_start_us = w.now_us
        count_add(&k.queries, 1)
        if s.xact_start_us == 0:
            s.xact_start_us = w.now_us


cdef inline bint ends_plainly(Worker *w, ServerConn *s, Counters *k) noexcept nogil:
    """A Sync comes: True where nothing of ours goes with it, and it has been written down."""
    if s.back != NULL or s.redo == REDO_KEPT or ask(s, EXPECT_SYNC) != EXPECT_OK:
        return False
    s.run = RUN_SYNC
    s.open_group = 0
    query_begins(w, s, k)
    return True


cdef inline size_t groups_past(Worker *w, ClientConn *c, ServerConn *s, Counters *k, bint tracked, const uint8_t *data,
                               size_t n, size_t at) noexcept nogil:
    """Behind the plain messages that begin at `at`, where a message begins, up to a Sync.

    `tracked`: named statements are renamed; then only what has no name is plain. Where there is no room to write a message down,
    `forward` comes to the same end.
    """
    cdef uint32_t most = w.plane.max_packet_size
    cdef const uint8_t *body
    cdef uint32_t length                          # of the body; of a broken message longer than anything that there is
    cdef uint8_t kind
    while n - at >= HEADER_LEN:
        kind = data[at]
        body = data + at + HEADER_LEN
        length = load_be32(data + at + 1) - 4
        if length > n - at - HEADER_LEN or length > most:
            break
        if kind == FE_SYNC:
            if ends_plainly(w, s, k):
                c.cur.type = FE_SYNC
                at += HEADER_LEN + <size_t>length
            break
        if kind == FE_BIND:
            if tracked and (length < 2 or body[0] | body[1] or not c.unnamed_here or c.unnamed_flags) \
                    or expect_push(&s.expect, EXPECT_BIND) != EXPECT_OK:
                break
            c.unnamed_fresh = c.unnamed_fresh and not tracked
            count_add(&k.binds, 1)
        elif kind == FE_DESCRIBE:
            if tracked and not describes_portal(body, length) or expect_push(&s.expect, EXPECT_DESCRIBE) != EXPECT_OK:
                break
        elif kind != FE_EXECUTE or expect_push(&s.expect, EXPECT_EXECUTE) != EXPECT_OK:
            break
        c.cur.type = kind
        at += HEADER_LEN + <size_t>length
        if s.redo == REDO_OPEN:
            s.redo = REDO_NOT                     # it uses nothing that can be outdated
    return at
