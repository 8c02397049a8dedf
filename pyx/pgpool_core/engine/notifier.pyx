"""Process ids in notifications; see notifier.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from pgpool_core.engine.buf cimport buf_bytes
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport handle_of, slot_at, slot_live, slot_of, slots_room
from pgpool_core.session.sqlscan cimport PROVED_NOTIFY, VALUE_NONE, VALUE_STRING, SqlScan
from pgpool_core.session.sqltoken cimport name_fold
from pgpool_core.session.sqlwords cimport SQL_NOTIFIES
from pgpool_core.sync.atomic cimport pgpool_load64, pgpool_store64
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport HASH_BEGIN, Span, hash_on


cdef inline uint32_t number_of(const uint8_t *at, uint32_t n) noexcept nogil:
    cdef Span text
    cdef uint32_t h
    text.at = at
    text.len = n
    h = hash_on(HASH_BEGIN, text)
    return h if h else 1


cdef bint is_ascii(const uint8_t *at, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if at[i] >= 0x80:
            return False
    return True


cdef void read_saying(const SqlScan *scan, Saying *out) noexcept nogil:
    """Channel and payload of a NOTIFY that says them plainly; beyond ASCII it depends on client_encoding what they are."""
    cdef uint8_t[63] folded
    cdef int n
    out.channel = out.payload = 0
    if scan == NULL or scan.proved != PROVED_NOTIFY or scan.hidden:
        return
    n = name_fold(scan.name, folded)
    if n > 0 and is_ascii(folded, n):
        out.channel = number_of(folded, n)
    if scan.value_kind == VALUE_NONE:
        out.payload = number_of(folded, 0)
    elif scan.value_kind == VALUE_STRING and scan.value.len >= 2 and is_ascii(scan.value.at, scan.value.len) \
            and memchr(scan.value.at + 1, 0x27, scan.value.len - 2) == NULL:
        out.payload = number_of(scan.value.at + 1, scan.value.len - 2)


cdef void say(Worker *w, ServerConn *s, Saying fresh) noexcept nogil:
    """Under the pool's lock: `fresh` is the last one, and the time of others runs since they were last answered."""
    cdef Notifier *n = &s.notifier
    cdef Saying *at
    cdef int i
    for i in range(MAX_SAYINGS):
        at = &n.said[i]
        if at.client == fresh.client and at.until_us == 0 and at.channel == fresh.channel \
                and at.payload == fresh.payload:
            fresh.client = 0                      # it is there
        elif at.client != fresh.client and at.client != 0 and at.until_us == 0:
            at.until_us = s.ready_us + LAG_US
    if fresh.client == 0:
        return
    at = &n.said[n.sayings & (MAX_SAYINGS - 1)]
    if at.client != 0 and (at.until_us == 0 or w.now_us < at.until_us) and at.client != fresh.client:
        n.lost_us = w.now_us
    at[0] = fresh
    n.sayings += 1


cdef void notifier_text(Worker *w, ClientConn *c, ServerConn *s, uint32_t flags, const SqlScan *scan) noexcept nogil:
    """A text of `c` that may notify goes to `s`; `scan` is its scan, NULL where it is not at hand."""
    cdef Notifier *n = &s.notifier
    cdef Saying fresh
    fresh.client = handle_of(&c.conn.head, <uint8_t>(w.index + 1))
    fresh.until_us = 0
    if n.may != 0 and n.may != fresh.client:
        pgpool_store64(&n.other_us, s.ready_us)
    pgpool_store64(&n.may, fresh.client)
    if flags & SQL_NOTIFIES:
        read_saying(scan, &fresh)
        pthread_mutex_lock(&s.pool.pool.lock)
        say(w, s, fresh)
        pthread_mutex_unlock(&s.pool.pool.lock)


cdef uint64_t whose(ServerConn *s, uint32_t channel, uint32_t payload, uint64_t now_us) noexcept nogil:
    """The client whose doing it was; 0 when nobody can say."""
    cdef Notifier *n = &s.notifier
    cdef uint64_t exact = 0, loose = 0, other_us
    cdef bint doubt = False, lost
    cdef Saying *at
    cdef int i
    pthread_mutex_lock(&s.pool.pool.lock)
    lost = n.lost_us != 0 and now_us < n.lost_us + LAG_US
    for i in range(MAX_SAYINGS):
        at = &n.said[i]
        if at.client == 0 or (at.until_us and now_us >= at.until_us) or (at.channel and at.channel != channel) \
                or (at.payload and at.payload != payload):
            continue
        if at.channel and at.payload:
            doubt = doubt or (exact != 0 and exact != at.client)
            exact = at.client
        else:
            doubt = doubt or (loose != 0 and loose != at.client)
            loose = at.client
    pthread_mutex_unlock(&s.pool.pool.lock)
    if doubt or (exact and loose and exact != loose):
        return 0
    if exact:
        return exact
    if lost or loose:
        return 0 if lost else loose
    other_us = pgpool_load64(&n.other_us)
    return pgpool_load64(&n.may) if other_us == 0 or now_us >= other_us + LAG_US else 0


cdef bint lives(Plane *plane, uint64_t client) noexcept nogil:
    cdef uint32_t worker = <uint32_t>(client >> 56) - 1
    return worker < plane.n_workers and slot_of(&plane.workers[worker].clients, client) != NULL


cdef ServerConn *server_of(Plane *plane, PoolRecord *pool, uint32_t pid) noexcept nogil:
    """The server that backend `pid` of this database is; NULL: it is not ours. For control's thread, which gives slots out."""
    cdef uint32_t slot
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and s.backend_pid == pid and s.pool != NULL and s.pool.database.len == pool.database.len \
                and memcmp(buf_bytes(&s.pool.database), buf_bytes(&pool.database), pool.database.len) == 0:
            return s
    return NULL


cdef uint32_t name_of(Plane *plane, ServerConn *s, const uint8_t *body, uint32_t n, uint64_t now_us) noexcept nogil:
    """The process id that the client was given whose doing a notification is; that of its backend when nobody can say."""
    cdef const uint8_t *end = <const uint8_t *>memchr(body + 4, 0, n - 4)
    cdef uint64_t client = 0
    cdef uint32_t length
    if end != NULL and body[n - 1] == 0 and end < body + n - 1:
        length = <uint32_t>(end - body) - 4
        client = whose(s, number_of(body + 4, length), number_of(end + 1, n - length - 6), now_us)
    if client and lives(plane, client):
        return <uint32_t>(client >> 56) << 24 | <uint32_t>(client & 0xFFFFFF)
    return s.backend_pid


cdef void notifier_name(Plane *plane, PoolRecord *pool, uint8_t *messages, size_t n, uint64_t now_us) noexcept nogil:
    """Put clients' process ids into whole NotificationResponses; on control's thread."""
    cdef size_t at = 0
    cdef uint32_t pid, length, last = 0
    cdef ServerConn *s = NULL
    while at < n:
        length = load_be32(messages + at + 1) - 4
        pid = load_be32(messages + at + HEADER_LEN)
        if pid != last or at == 0:
            last = pid
            s = server_of(plane, pool, pid)
        if s != NULL:
            store_be32(messages + at + HEADER_LEN, name_of(plane, s, messages + at + HEADER_LEN, length, now_us))
        at += HEADER_LEN + <size_t>length


cdef void notifier_own(ServerConn *s, ClientConn *c, uint8_t *body) noexcept nogil:
    """A notification on its way from `s` to `c`, which listens there: what `c` did itself bears its own process id."""
    if load_be32(body) == s.backend_pid:
        store_be32(body, (c.seat.worker + 1) << 24 | c.conn.head.slot)
