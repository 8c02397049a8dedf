"""Filling rows; see rows.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen

from pgpool_core.engine.caller cimport client_user
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport slot_at, slot_live, slot_of, slots_room
from pgpool_core.engine.suspend cimport worker_has
from pgpool_core.engine.sys cimport pgpool_peer_of
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.pool cimport Pool, elapsed_us, pool_first_us
from pgpool_core.pool.server cimport SV_FREE, SV_LOGIN, Server
from pgpool_core.session.settings cimport Block, block_get
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load64, pgpool_load8, pgpool_load_ptr
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.session cimport tls_info
from pgpool_core.wire.span cimport Span


cdef void application_name(const Block *settings, char *out) noexcept nogil:
    cdef Span name, value
    name.at = <const uint8_t *>"application_name"
    name.len = 16
    if block_get(settings, name, &value):
        memcpy(out, value.at, value.len if value.len < 63 else 63)


cdef void fill_client_row(Worker *w, ClientConn *c, ClientRow *row) noexcept nogil:
    """What SHOW CLIENTS tells about `c`; by its own worker only."""
    cdef const char *user
    memset(row, 0, sizeof(ClientRow))
    row.id = c.id
    row.connect_us = c.connect_us
    row.request_us = c.request_us
    row.pool = c.pool
    row.worker = w.index
    row.state = c.state
    row.peer = c.peer
    row.in_login = c.login != NULL and c.login.phase != LG_WELCOME and c.login.phase != LG_DEDICATED
    row.replication = c.replication
    pgpool_peer_of(c.conn.fd, &row.local, 1)
    if row.local.family == 1:
        row.local.port = c.peer.port
    if (c.state == CL_WAITING or c.state == CL_LOGIN and not row.in_login) and w.now_us > c.request_us:
        row.wait_us = w.now_us - c.request_us
    if c.state == CL_ACTIVE and c.seat.server != NULL:
        row.link = (<ServerConn *>(<Server *>c.seat.server).owner).id
    row.fd = c.conn.fd
    row.held = c.conn.held.len
    row.remain = c.cur.remain
    row.unsent = c.conn.out.len
    if c.names != NULL:
        row.prepared = c.names.count
    application_name(c.settings, row.application_name)
    if c.pins:
        row.pins = c.pins
        row.pinned_us = c.pinned_us
        row.pin_cause = c.pin_cause
    if c.conn.tls != NULL:
        tls_info(c.conn.tls, row.tls)
    user = client_user(c)
    if user != NULL:
        memcpy(row.user, user, strlen(user))


cdef uint32_t fill_socket_rows(Worker *w, SocketRow *rows, uint32_t room) noexcept nogil:
    """The servers in this worker's poll set; returns how many rows, `room` at most."""
    cdef uint32_t slot, n = 0
    cdef ServerConn *s
    cdef Pool *pool
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if n == room:
            break
        if not worker_has(w, s):
            continue
        pool = s.pool.pool
        pthread_mutex_lock(&pool.lock)            # nobody takes it over meanwhile
        if worker_has(w, s):
            rows[n].id = s.id
            rows[n].prepared = s.prepared.count
            rows[n].held = s.conn.held.len
            rows[n].remain = s.cur.remain
            rows[n].unsent = s.conn.out.len
            n += 1
        pthread_mutex_unlock(&pool.lock)
    return n


cdef void copy_host(ServerConn *s, char *out) noexcept nogil:
    """To 256 zero bytes."""
    cdef size_t n = strlen(s.host)
    memcpy(out, s.host, n if n < 256 else 255)


cdef bint fill_server_row(ServerConn *s, ServerRow *row) noexcept nogil:
    """What SHOW SERVERS tells about `s`, closing or not; False for one that is not open yet or any more.

    Its worker changes settings under the pool's lock, and says under it that the server is ending before it frees anything.
    """
    cdef PoolRecord *record = s.pool
    cdef Client *seat
    cdef bint found = False
    memset(row, 0, sizeof(ServerRow))
    if not slot_live(&s.conn.head) or record == NULL:
        return False
    pthread_mutex_lock(&record.pool.lock)
    if s.seat.pool == record.pool and s.seat.state != SV_FREE and s.seat.state != SV_LOGIN \
            and not s.ending and s.conn.fd >= 0:
        found = True
        row.id = s.id
        row.pool = record.pool.id
        row.state = s.seat.state
        row.worker = s.seat.worker
        row.close_needed = pgpool_load8(&s.seat.close_needed)
        row.replication = s.replication
        row.adopted_us = s.adopted_us
        row.request_us = pgpool_load64(&s.request_us)
        row.backend_pid = s.backend_pid
        row.cancels = pgpool_load32(&s.cancels)
        row.port = s.port
        row.family_unix = s.family_unix
        row.fd = s.conn.fd
        seat = <Client *>pgpool_load_ptr(<void *>&s.seat.client)
        if seat != NULL:                          # its slot outlives our look: a client leaves its pool under this lock
            row.link = (<ClientConn *>seat.owner).id
        pgpool_peer_of(s.conn.fd, &row.local, 1)
        copy_host(s, row.host)
        memcpy(row.tls, s.tls_info, sizeof(row.tls))
        application_name(s.settings, row.application_name)
    pthread_mutex_unlock(&record.pool.lock)
    return found


cdef bint fill_cancel_target(Plane *plane, uint64_t server, CancelTarget *out) noexcept nogil:
    """Where a cancel request for the server with this handle goes; False when it has gone."""
    cdef ServerConn *s
    cdef bint found = False
    memset(out, 0, sizeof(CancelTarget))
    pthread_mutex_lock(&plane.server_lock)        # it may be closing, but is not forgotten while this is held
    s = <ServerConn *>slot_of(&plane.servers, server)
    if s != NULL and not s.gone and s.host != NULL:
        found = True
        out.pool = s.pool.pool.id
        out.backend_pid = s.backend_pid
        out.port = s.port
        out.key_len = s.key_len
        out.tls = s.tls_info[0] != 0
        memcpy(out.backend_key, s.backend_key, s.key_len)
        copy_host(s, out.host)
    pthread_mutex_unlock(&plane.server_lock)
    return found


cdef void fill_pool_row(PoolRecord *record, uint64_t now_us, PoolRow *row) noexcept nogil:
    """What SHOW POOLS tells about a pool."""
    cdef Pool *p = record.pool
    memset(row, 0, sizeof(PoolRow))
    pthread_mutex_lock(&p.lock)
    row.settings = p.settings
    memcpy(row.count, p.count, sizeof(row.count))
    row.total = p.total
    row.clients = p.clients
    row.waiting = p.waiters.len
    row.logins_waiting = p.logins_waiting + p.dedicated.len + p.dedicated_opening
    row.most_clients = p.most_clients
    row.most_waiting = p.most_waiting
    row.most_servers = p.most_servers
    row.closed = p.closed
    row.maxwait_us = elapsed_us(now_us, pool_first_us(p, now_us))
    pthread_mutex_unlock(&p.lock)
