"""Process ids in notifications; see notifier.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from pgpool_core.engine.buf cimport buf_bytes
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport handle_of, slot_at, slot_of, slots_room
from pgpool_core.session.sqlwords cimport SQL_NOTIFIES
from pgpool_core.sync.atomic cimport pgpool_load64, pgpool_store64
from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.scan cimport HEADER_LEN


cdef void notifier_text(Worker *w, ClientConn *c, ServerConn *s, uint32_t flags) noexcept nogil:
    """A text of `c` that may notify goes to `s`."""
    cdef Notifier *n = &s.notifier
    cdef uint64_t handle = handle_of(&c.conn.head, <uint8_t>(w.index + 1))
    if n.may != 0 and n.may != handle:
        pgpool_store64(&n.other_us, w.now_us)
    pgpool_store64(&n.may, handle)
    if flags & SQL_NOTIFIES:
        pgpool_store64(&n.said, handle)
        pgpool_store64(&n.said_us, w.now_us)


cdef uint64_t whose(Notifier *n, uint64_t now_us) noexcept nogil:
    """The client whose doing it was; 0 when nobody can say."""
    cdef uint64_t said = pgpool_load64(&n.said), may = pgpool_load64(&n.may)
    cdef uint64_t other_us = pgpool_load64(&n.other_us)
    if said != 0 and (said == may or now_us < pgpool_load64(&n.said_us) + LAG_US):
        return said
    return may if other_us == 0 or now_us >= other_us + LAG_US else 0


cdef bint lives(Plane *plane, uint64_t client) noexcept nogil:
    cdef uint32_t worker = <uint32_t>(client >> 56) - 1
    return worker < plane.n_workers and slot_of(&plane.workers[worker].clients, client) != NULL


cdef uint32_t name_of(Plane *plane, PoolRecord *pool, uint32_t pid, uint64_t now_us) noexcept nogil:
    """The process id that the client was given whose doing backend `pid` sent; `pid` itself when that is not known."""
    cdef uint32_t slot
    cdef uint64_t client
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if not s.conn.head.live or s.backend_pid != pid or s.pool == NULL or s.pool.database.len != pool.database.len \
                or memcmp(buf_bytes(&s.pool.database), buf_bytes(&pool.database), pool.database.len) != 0:
            continue
        client = whose(&s.notifier, now_us)
        if lives(plane, client):
            return <uint32_t>(client >> 56) << 24 | <uint32_t>(client & 0xFFFFFF)
        break
    return pid


cdef void notifier_name(Plane *plane, PoolRecord *pool, uint8_t *messages, size_t n, uint64_t now_us) noexcept nogil:
    """Put clients' process ids into whole NotificationResponses; on control's thread."""
    cdef size_t at = 0
    cdef uint32_t pid, last = 0, named = 0
    while at < n:
        pid = load_be32(messages + at + HEADER_LEN)
        if pid != last or at == 0:
            last = pid
            named = name_of(plane, pool, pid, now_us)
        store_be32(messages + at + HEADER_LEN, named)
        at += 1 + <size_t>load_be32(messages + at + 1)


cdef void notifier_own(ServerConn *s, ClientConn *c, uint8_t *body) noexcept nogil:
    """A notification on its way from `s` to `c`, which listens there: what `c` did itself bears its own process id."""
    if load_be32(body) == s.backend_pid:
        store_be32(body, (c.seat.worker + 1) << 24 | c.conn.head.slot)
