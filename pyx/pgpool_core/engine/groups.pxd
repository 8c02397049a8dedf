"""The plain part of a group of the extended protocol: whole messages behind the first that need nothing but to be written down.

Nearly all groups are of this kind: Bind, Describe and Execute of unnamed statements and portals. Any other message, and one that
has not come whole, is left to `forward`, which knows everything.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.records cimport CHORE_SETTINGS, ClientConn, ServerConn, Worker
from pgpool_core.engine.redo cimport REDO_NOT, REDO_OPEN
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport FE_BIND, FE_COPY_DATA, FE_DESCRIBE, FE_EXECUTE
from pgpool_core.wire.expect cimport EXPECT_BIND, EXPECT_DESCRIBE, EXPECT_EXECUTE, EXPECT_OK
from pgpool_core.wire.scan cimport HEADER_LEN


cdef inline bint describes_portal(const uint8_t *body, size_t have) noexcept nogil:
    """Whether a Describe is about no statement, of whose body `have` bytes are there."""
    return have != 0 and body[0] == 0x50          # 'P'


cdef inline bint is_plain(const ClientConn *c, const ServerConn *s) noexcept nogil:
    """Whether a group is under way, and nothing else: no COPY, no replay, nothing that is skipped."""
    return s.open_group and s.chore != CHORE_SETTINGS and c.cur.remain == 0 and c.cur.type != FE_COPY_DATA \
        and not (s.run | s.copy_doubt | s.expect.silent | s.expect.skipping | c.skip_to_sync)


cdef inline size_t groups_past(Worker *w, ClientConn *c, ServerConn *s, Counters *k, bint tracked, const uint8_t *data,
                               size_t n, size_t at) noexcept nogil:
    """Behind the plain messages that begin at `at`, where a message begins.

    `tracked`: named statements are renamed; then only what has no name is plain. Where there is no room to write a message down,
    `forward` comes to the same end.
    """
    cdef const uint8_t *body
    cdef uint32_t length                          # of the body; of a broken message longer than anything that there is
    cdef uint8_t kind = 0
    while n - at >= HEADER_LEN:
        body = data + at + HEADER_LEN
        length = load_be32(data + at + 1) - 4
        if length > n - at - HEADER_LEN or length > w.plane.max_packet_size:
            break
        if data[at] == FE_BIND:
            if tracked and (length < 2 or body[0] | body[1] or not c.unnamed_here or c.unnamed_flags) \
                    or ask(s, EXPECT_BIND) != EXPECT_OK:
                break
            c.unnamed_fresh = c.unnamed_fresh and not tracked
            count_add(&k.binds, 1)
        elif data[at] == FE_DESCRIBE:
            if tracked and not describes_portal(body, length) or ask(s, EXPECT_DESCRIBE) != EXPECT_OK:
                break
        elif data[at] != FE_EXECUTE or ask(s, EXPECT_EXECUTE) != EXPECT_OK:
            break
        kind = data[at]
        at += HEADER_LEN + <size_t>length
    if kind:
        c.cur.type = kind
        if s.redo == REDO_OPEN:
            s.redo = REDO_NOT                     # it uses nothing that can be outdated
    return at
