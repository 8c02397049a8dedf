"""Planning servers and handing them over; see planned.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strcmp

from pgpool_core.engine.align cimport rights_of
from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_free
from pgpool_core.engine.letters cimport server_parameters
from pgpool_core.engine.mailbox cimport MAIL_KICK
from pgpool_core.engine.named cimport named_free
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.post cimport tell
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport handle_of, slot_at, slot_live, slot_new, slot_of, slot_release, slots_room
from pgpool_core.engine.sys cimport pgpool_now_us
from pgpool_core.engine.texts cimport add_began, add_settings, set_pairs, span
from pgpool_core.engine.timers cimport timer_of
from pgpool_core.pool.dedicated cimport dedicated_part
from pgpool_core.pool.plan cimport PLAN_EVICT, PLAN_OPEN, plan_gone, plan_next
from pgpool_core.pool.pool cimport Pool
from pgpool_core.pool.server cimport NO_WORKER, SV_ACTIVE, SV_CLOSING, SV_FREE, SV_LOGIN, Server
from pgpool_core.session.settings cimport block_ref, block_unref
from pgpool_core.statements.prepared cimport prepared_init
from pgpool_core.sync.atomic cimport (pgpool_add32, pgpool_load32, pgpool_load8, pgpool_next64, pgpool_store32,
                                      pgpool_store8)
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.face cimport Session
from pgpool_core.tls.session cimport tls_info
from pgpool_core.wire.codes cimport TX_IDLE
from pgpool_core.wire.expect cimport expect_init


cdef list plan_servers(Plane *plane, uint64_t now_us):
    cdef ServerConn *slot = NULL
    cdef Server *evicted
    cdef Pool *pool
    cdef int what
    cdef list found = []
    while True:
        if slot == NULL:
            slot = server_seat(plane)
            if slot == NULL:
                break
        evicted = NULL
        what = plan_next(plane.set, now_us, &slot.seat, &pool, &evicted)
        if what == PLAN_OPEN:
            slot.pool = <PoolRecord *>pool.owner
            startup = startup_for(plane, slot) if slot.seat.dedicated else None
            if startup is None and slot.seat.dedicated:      # its client has just left
                plan_gone(plane.set, &slot.seat, now_us)
                continue
            found.append((handle_of(&slot.conn.head, KIND_SERVER), pool.id, startup))
            slot = NULL
        elif what == PLAN_EVICT:
            note(plane, <ServerConn *>evicted.owner, SERVER_CLOSE)
        else:
            break
    if slot != NULL:
        server_unseat(plane, slot)
    return found


cdef ServerConn *server_seat(Plane *plane) noexcept nogil:
    """A fresh record, of no pool yet; NULL when memory is short."""
    cdef ServerConn *s
    pthread_mutex_lock(&plane.server_lock)
    s = <ServerConn *>slot_new(&plane.servers)
    pthread_mutex_unlock(&plane.server_lock)
    if s == NULL:
        return NULL
    s.conn.fd = -1
    s.conn.kind = KIND_SERVER
    timer_of(s, &s.conn.timer)
    s.seat.owner = s
    pgpool_store32(&s.seat.worker, NO_WORKER)
    expect_init(&s.expect)
    prepared_init(&s.prepared, plane.texts)
    return s


cdef void server_unseat(Plane *plane, ServerConn *s) noexcept nogil:
    """One that server_seat has made, and that is in no pool."""
    pthread_mutex_lock(&plane.server_lock)
    slot_release(&plane.servers, &s.conn.head)
    pthread_mutex_unlock(&plane.server_lock)


cdef list startup_for(Plane *plane, ServerConn *s):
    """The startup parameters of the client that `s` is being opened for; None when it has left."""
    cdef Buf packet
    cdef ClientConn *c
    cdef bint there = False
    memset(&packet, 0, sizeof(Buf))
    pthread_mutex_lock(&s.pool.pool.lock)          # a client frees nothing before it has left its place, under this lock
    if s.seat.client != NULL:
        c = <ClientConn *>s.seat.client.owner
        s.replication = c.replication
        there = buf_add(&packet, buf_bytes(&c.login.startup), c.login.startup.len)
    pthread_mutex_unlock(&s.pool.pool.lock)
    found = server_parameters(plane, &packet) if there else None
    buf_free(&packet)
    return found


cdef ServerConn *opening(Plane *plane, uint64_t server) except NULL:
    cdef ServerConn *s = <ServerConn *>slot_of(&plane.servers, server)
    if s == NULL or s.seat.state != SV_LOGIN or s.conn.fd >= 0:
        raise ValueError("no such server is being opened")
    return s


cdef uint64_t server_adopt(Plane *plane, uint64_t server, int fd, uint32_t backend_pid, bytes backend_key, parameters,
                           bytes unread, bint family_unix, bytes host, uint16_t port, began, Session tls) except 0:
    cdef ServerConn *s = opening(plane, server)
    cdef uint32_t best
    cdef uint64_t identity
    if len(backend_key) > 256:
        raise ValueError("backend key is too long")
    s.host = <char *>malloc(len(host) + 1)
    if s.host == NULL or (unread and not buf_add(&s.conn.held, <const uint8_t *><const char *>unread, len(unread))):
        raise MemoryError
    memcpy(s.host, <const char *>host, len(host) + 1)
    add_settings(plane.settings, &s.settings, parameters)
    add_began(plane.settings, &s.settings, began)
    for name, value in parameters:
        s.rights = rights_of(span(name), span(value)) or s.rights
    if s.settings != NULL:
        pgpool_store8(&s.settings.verified, 1)
    s.begun = block_ref(plane.settings, s.settings)
    s.backend_pid = backend_pid
    s.key_len = <uint8_t>len(backend_key)
    memcpy(s.backend_key, <const char *>backend_key, len(backend_key))
    s.family_unix = family_unix
    s.port = port
    s.tx_status = TX_IDLE
    s.adopted_us = pgpool_now_us()
    s.id = pgpool_next64(&plane.last_id)
    best = fewest_servers(plane)
    if s.seat.dedicated:
        set_pairs(&s.greeting, parameters)
        pthread_mutex_lock(&s.pool.pool.lock)
        if s.seat.client != NULL:
            best = s.seat.client.worker
        pthread_mutex_unlock(&s.pool.pool.lock)
    if tls is not None:
        tls_info(tls.session, s.tls_info)
        s.conn.tls = tls.give()
    s.conn.fd = fd
    pgpool_store32(&s.seat.worker, best)
    identity = s.id                               # `s` is the worker's once the note is there
    note(plane, s, SERVER_ADOPT)
    return identity


cdef uint32_t owned(Plane *plane, uint32_t worker) noexcept nogil:
    """How many servers live on a worker: new ones go where there are fewest."""
    cdef uint32_t slot, n = 0
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and pgpool_load32(&s.seat.worker) == worker:
            n += 1
    return n


cdef uint32_t fewest_servers(Plane *plane) noexcept nogil:
    """The worker with the fewest servers."""
    cdef uint32_t i, best = 0
    for i in range(1, plane.n_workers):
        if owned(plane, i) < owned(plane, best):
            best = i
    return best


cdef int server_abandon(Plane *plane, uint64_t server, bytes error) except -1:
    cdef ServerConn *s = opening(plane, server)
    cdef uint64_t client = 0
    cdef uint32_t worker = 0
    if s.seat.dedicated:
        pthread_mutex_lock(&s.pool.pool.lock)
        if s.seat.client != NULL:
            client = (<ClientConn *>s.seat.client.owner).id
            worker = s.seat.client.worker
        pthread_mutex_unlock(&s.pool.pool.lock)
        dedicated_part(s.pool.pool, &s.seat, not (error and client and tell(plane, worker, MAIL_KICK, 0, client, error)))
        buf_free(&s.greeting)
    plan_gone(plane.set, &s.seat, pgpool_now_us())
    buf_free(&s.conn.held)
    block_unref(plane.settings, s.settings)
    block_unref(plane.settings, s.begun)
    s.settings = s.begun = NULL
    free(s.host)
    s.host = NULL
    named_free(s)
    server_unseat(plane, s)
    return 0


cdef void server_cancelled(Plane *plane, uint64_t server, bint in_doubt) noexcept nogil:
    cdef ServerConn *s
    pthread_mutex_lock(&plane.server_lock)
    s = <ServerConn *>slot_of(&plane.servers, server)
    if s != NULL:
        if in_doubt:
            pgpool_store8(&s.seat.close_needed, 1)    # before anybody may release it
        pgpool_add32(&s.cancels, -1)
    pthread_mutex_unlock(&plane.server_lock)
    if s != NULL:
        note(plane, s, SERVER_CANCEL_DONE)


cdef bint is_at(Plane *plane, ServerConn *s, const char *host) noexcept nogil:
    cdef bint it_is
    pthread_mutex_lock(&plane.server_lock)        # while it is held no server is forgotten
    it_is = s.host != NULL and strcmp(s.host, host) == 0
    pthread_mutex_unlock(&plane.server_lock)
    return it_is


cdef void servers_retire(Plane *plane, int pool, const char *host, bint dedicated) noexcept nogil:
    """Of one pool, or of all for -1; of one address, or of all for NULL."""
    cdef uint32_t slot
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and s.pool != NULL and (pool < 0 or s.pool.pool.id == <uint32_t>pool) \
                and (host == NULL or is_at(plane, s, host)):
            pgpool_store8(&s.seat.close_needed, 1)
            if ((dedicated and s.seat.dedicated) or (plane.server_fast_close and not s.seat.dedicated)) \
                    and s.seat.state == SV_ACTIVE:
                note(plane, s, SERVER_RETIRE)


cdef void servers_hurry(Plane *plane) noexcept nogil:
    """server_fast_close has been switched on: servers that wait for their clients to leave wait no more."""
    cdef uint32_t slot
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and pgpool_load8(&s.seat.close_needed) and s.seat.state == SV_ACTIVE:
            note(plane, s, SERVER_RETIRE)


cdef uint32_t closing_servers(Plane *plane, uint32_t pool) noexcept nogil:
    cdef uint32_t slot, n = 0
    cdef uint8_t state
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and s.pool != NULL and s.pool.pool.id == pool:
            state = pgpool_load8(&s.seat.state)
            if state == SV_CLOSING or (state != SV_FREE and pgpool_load8(&s.seat.close_needed)):
                n += 1
    return n
