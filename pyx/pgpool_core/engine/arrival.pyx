"""Clients and servers of another process; see arrival.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_free
from pgpool_core.engine.client cimport client_go_on
from pgpool_core.engine.conn cimport conn_doom, worker_wake
from pgpool_core.engine.mailbox cimport MAIL_ARRIVE, Mail, mailbox_post
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.notify cimport notify_arrives
from pgpool_core.engine.patience cimport patience_look
from pgpool_core.engine.pins cimport pins_set
from pgpool_core.engine.planned cimport fewest_servers, server_seat, server_unseat
from pgpool_core.engine.pools cimport record_of
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport server_idles
from pgpool_core.engine.server_end cimport server_lost
from pgpool_core.engine.slots cimport handle_of, slot_at, slot_new, slot_of, slots_room
from pgpool_core.engine.sys cimport close, pgpool_now_us
from pgpool_core.engine.terms cimport TERMS_OK, terms_leave, terms_stay
from pgpool_core.engine.timers cimport timer_of
from pgpool_core.engine.waiter cimport cancel_over, client_cancel
from pgpool_core.moving.parcel cimport *
from pgpool_core.pool.plan cimport plan_arrives
from pgpool_core.pool.pool cimport pool_client_comes, pool_join
from pgpool_core.pool.server cimport SV_LOGIN
from pgpool_core.session.settings cimport SETTINGS_OK, Block, block_of, block_unref
from pgpool_core.statements.names cimport Name, name_plan, name_settle, name_stands, names_add, names_find, names_free
from pgpool_core.statements.prepared cimport Planted, prepared_add, prepared_find, prepared_is, prepared_settle
from pgpool_core.statements.text cimport EPOCH_NEVER, Statement, text_arrives, text_unref
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load64, pgpool_next64, pgpool_store8, pgpool_store32
from pgpool_core.wire.codes cimport TX_BLOCK, TX_IDLE

cdef extern from "<openssl/rand.h>" nogil:
    int RAND_bytes(unsigned char *, int)


cdef int opened(bytes parcel, Parcel *out) except -1:
    """Read `parcel`, which must live as long as `out`."""
    if parcel_read(<const uint8_t *><const char *>parcel, len(parcel), out) != PARCEL_OK:
        raise ValueError("a broken parcel")
    return 0


cdef tuple learn_texts(Plane *plane, dict known, bytes parcel):
    """Keep the texts that `parcel` tells, by their numbers, for it and those that come after it. Returns user and cancel key of its client."""
    cdef Parcel p
    cdef ParcelText text
    cdef Statement *statement
    cdef uint32_t at = 0
    opened(parcel, &p)
    while parcel_next(&p, PARCEL_TEXT, &at, &text):
        if text.id > pgpool_load64(&plane.texts.last_id):
            raise ValueError("a text with a number of the future")
        if text.id in known:
            continue
        statement = text_arrives(plane.texts, text.body.at, text.body.len, text.salt, text.id)
        if statement == NULL:
            raise MemoryError
        if text.flags:
            pgpool_store32(&statement.flags, text.flags)
        known[text.id] = <uintptr_t>statement
    if not p.has_client:
        return None, b""
    return p.user.at[:p.user.len], (<uint8_t *>p.client.key)[:CANCEL_KEY]


cdef int forget_texts(Plane *plane, dict known) except -1:
    for address in known.values():
        text_unref(plane.texts, <Statement *><uintptr_t>address)
    known.clear()
    return 0


cdef Statement *text_of(dict known, uint64_t id) except NULL:
    address = known.get(id)
    if address is None:
        raise ValueError("a text that has not been told")
    return <Statement *><uintptr_t>address


cdef uint64_t place_server(Plane *plane, uint32_t pool, bint kept, bytes parcel) except? 1:
    """A slot for the server in `parcel`, to be given to take_server or take_client, or abandoned; 0: there is no room for it."""
    cdef PoolRecord *record = record_of(plane, pool)
    cdef Parcel p
    cdef ServerConn *s
    cdef uint64_t now_us = pgpool_now_us()
    opened(parcel, &p)
    if not p.has_server:
        raise ValueError("a parcel without a server")
    s = server_seat(plane)
    if s == NULL:
        return 0
    if not plan_arrives(plane.set, record.pool, &s.seat, kept, min(p.server.created_us, now_us), now_us):
        server_unseat(plane, s)
        return 0
    s.pool = record
    return handle_of(&s.conn.head, KIND_SERVER)


cdef int copied(Span text, char **out) except -1:
    out[0] = <char *>calloc(1, text.len + 1)
    if out[0] == NULL:
        raise MemoryError
    memcpy(out[0], text.at, text.len)
    return 0


cdef int interned(Plane *plane, Parcel *p, int which, Block **out) except -1:
    """One of the blocks of `p`, where it tells of it."""
    if p.blocks[which].at != NULL and block_of(plane.settings, p.blocks[which].at, p.blocks[which].len, p.verified[which], out) != SETTINGS_OK:
        raise MemoryError
    return 0


cdef int fill_server(Plane *plane, dict known, ServerConn *s, Parcel *p, bint kept) except -1:
    """What `p` says of a server; whatever has been filled in when this fails is freed by server_abandon."""
    cdef ParcelText text
    cdef Statement *statement
    cdef Planted *planted
    cdef uint32_t at = 0
    cdef uint64_t epoch
    copied(p.host, &s.host)
    interned(plane, p, 2, &s.settings)
    interned(plane, p, 3, &s.begun)
    while parcel_next(p, PARCEL_PLANTED, &at, &text):
        statement = text_of(known, text.id)
        if statement.id != text.id:               # the same text has another name here by now
            s.dirty |= not kept
            continue
        if prepared_find(&s.prepared, text.id) != NULL:
            raise ValueError("a statement that is there twice")
        planted = prepared_add(&s.prepared, statement)
        if planted == NULL:
            raise MemoryError
        epoch = pgpool_load64(&statement.epoch)
        prepared_is(&s.prepared, planted, True, epoch if text.fresh else EPOCH_NEVER)
        prepared_settle(&s.prepared, planted)
    s.backend_pid = p.server.backend_pid
    s.key_len = <uint8_t>p.key.len
    memcpy(s.backend_key, p.key.at, p.key.len)
    s.family_unix = p.server.family_unix
    s.port = p.server.port
    s.was_reset = p.server.was_reset
    s.sequences_due = p.server.sequences_due
    s.in_doubt = p.server.in_doubt
    s.tx_status = TX_BLOCK if s.in_doubt else TX_IDLE           # until it says so itself
    s.adopted_us = min(p.server.adopted_us, pgpool_now_us())
    s.id = pgpool_next64(&plane.last_id)
    return 0


cdef ServerConn *placed(Plane *plane, uint64_t server) except NULL:
    cdef ServerConn *s = <ServerConn *>slot_of(&plane.servers, server)
    if s == NULL or s.seat.state != SV_LOGIN or s.conn.fd >= 0 or s.host != NULL:
        raise ValueError("no such server has been placed")
    return s


cdef uint64_t take_server(Plane *plane, dict known, uint64_t server, int fd, bytes parcel) except 0:
    """An idle server: `fd` moves to a worker. Returns its id. After an error it is to be abandoned, and `fd` is the caller's."""
    cdef ServerConn *s = placed(plane, server)
    cdef Parcel p
    cdef uint64_t identity
    opened(parcel, &p)
    if not p.has_server or p.has_client:
        raise ValueError("not a server alone")
    fill_server(plane, known, s, &p, False)
    s.conn.fd = fd
    pgpool_store32(&s.seat.worker, fewest_servers(plane))
    identity = s.id                               # `s` is the worker's once the note is there
    note(plane, s, SERVER_ADOPT)
    return identity


cdef int fill_names(Plane *plane, dict known, Arrival *a, Parcel *p) except -1:
    cdef ParcelText text
    cdef Statement *statement
    cdef Name *name
    cdef uint32_t at = 0
    while parcel_next(p, PARCEL_NAME, &at, &text):
        statement = text_of(known, text.id)
        if a.names != NULL and names_find(a.names, text.body) != NULL:
            raise ValueError("a name that is there twice")
        name = names_add(&a.names, plane.texts, text.body)
        if name == NULL:
            raise MemoryError
        name_plan(name, statement, 0)
        name.flights = 0
        name_stands(name, statement)
        name_settle(name)
        name.told = pgpool_load64(&statement.epoch) if text.fresh else EPOCH_NEVER
    return 0


cdef int fill_client(Plane *plane, dict known, Arrival *a, Parcel *p) except -1:
    a.facts = p.client
    interned(plane, p, 0, &a.settings)
    interned(plane, p, 1, &a.start)
    if p.unread.len and not buf_add(&a.unread, p.unread.at, p.unread.len):
        raise MemoryError
    if p.channels.len and not buf_add(&a.channels, p.channels.at, p.channels.len):
        raise MemoryError
    fill_names(plane, known, a, p)
    if terms_stay(plane.terms, p.user, &a.terms) != TERMS_OK:
        raise MemoryError
    return 0


cdef tuple take_client(Plane *plane, dict known, uint32_t pool, int fd, uint64_t server, int server_fd, bint stale, bytes parcel):
    """A client, and the server that it keeps (0: none): the descriptors move to a worker. Returns the client's id and that worker.

    A `stale` server is closed when that client lets go of it, which it does at once unless it has a reason of its own to keep it.

    After an error the server is to be abandoned, and the descriptors are the caller's.
    """
    cdef PoolRecord *record = record_of(plane, pool)
    cdef Parcel p
    cdef Arrival *a
    cdef Mail mail
    cdef ServerConn *s = NULL
    cdef uint32_t i, best = 0
    cdef uint64_t identity
    opened(parcel, &p)
    if not p.has_client or p.has_server != (server != 0):
        raise ValueError("not a client")
    for i in range(1, plane.n_workers):
        if pgpool_load32(&plane.workers[i].n_clients) < pgpool_load32(&plane.workers[best].n_clients):
            best = i
    a = <Arrival *>calloc(1, sizeof(Arrival))
    if a == NULL:
        raise MemoryError
    a.fd = -1
    a.pool = record
    try:
        if server:
            s = placed(plane, server)
            fill_server(plane, known, s, &p, True)
            pgpool_store8(&s.seat.close_needed, stale)
        fill_client(plane, known, a, &p)
        a.id = identity = pgpool_next64(&plane.last_id)
        a.fd = fd
        a.server = s
        if s != NULL:
            s.conn.fd = server_fd
            pgpool_store32(&s.seat.worker, best)
        memset(&mail, 0, sizeof(Mail))
        mail.kind = MAIL_ARRIVE
        mail.data = a
        pgpool_add32(&plane.n_clients, 1)         # now, for whoever waits until nobody is here
        if not mailbox_post(&plane.workers[best].inbox, &mail):
            pgpool_add32(&plane.n_clients, -1)
            a.fd = -1
            a.server = NULL
            if s != NULL:
                s.conn.fd = -1
            raise BlockingIOError("the worker's ring is full")
    except BaseException:
        arrival_free(plane, a)
        raise
    worker_wake(&plane.workers[best])
    return identity, best


cdef void arrival_free(Plane *plane, Arrival *a) noexcept nogil:
    """One that nobody has taken in."""
    if a.fd >= 0:
        close(a.fd)
    names_free(a.names)
    block_unref(plane.settings, a.settings)
    block_unref(plane.settings, a.start)
    terms_leave(plane.terms, a.terms)
    buf_free(&a.unread)
    buf_free(&a.channels)
    free(a)


cdef void client_arrives(Worker *w, Arrival *a) noexcept nogil:
    """A client that has logged in to another process is this worker's from now on."""
    cdef ClientConn *c = <ClientConn *>slot_new(&w.clients)
    cdef ServerConn *s = a.server
    cdef Buf channels
    if c == NULL:
        if s != NULL:
            server_lost(w, s, "out of memory")
        pgpool_add32(&w.plane.n_clients, -1)
        arrival_free(w.plane, a)
        return
    c.conn.fd = a.fd
    c.conn.kind = KIND_CLIENT
    timer_of(c, &c.conn.timer)
    timer_of(c, &c.watch)
    memset(&c.peer, 0, sizeof(c.peer))
    c.peer.family, c.peer.port, c.peer.uid, c.peer.pid = a.facts.family, a.facts.port, a.facts.uid, a.facts.pid
    memcpy(c.peer.addr, a.facts.addr, sizeof(a.facts.addr))
    RAND_bytes(<unsigned char *>&c.secret, 4)
    memcpy(c.cancel_key, a.facts.key, sizeof(c.cancel_key))
    c.moved = c.counted = 1
    c.id = a.id
    c.connect_us, c.request_us, c.idle_us = a.facts.connect_us, a.facts.request_us, a.facts.idle_us
    c.unnamed_flags, c.unnamed_here, c.unnamed_fresh = a.facts.unnamed_flags, a.facts.unnamed_here, a.facts.unnamed_fresh
    c.warned, c.pin_told = <uint16_t>a.facts.warned, a.facts.pin_told
    c.pool, c.terms, c.names, c.settings, c.start = a.pool, a.terms, a.names, a.settings, a.start
    c.conn.held = a.unread
    c.seat.pool = a.pool.pool
    c.seat.owner = c
    c.seat.worker = w.index
    c.state = CL_IDLE
    pgpool_add32(&w.n_clients, 1)
    pgpool_add32(&a.pool.pool.database.clients, 1)
    pool_client_comes(a.pool.pool)
    if s != NULL:
        keeps(w, c, s, a)
    channels = a.channels
    free(a)
    if not w.io.add(w, &c.conn):
        conn_doom(w, &c.conn, "cannot be watched")
    elif channels.len:
        notify_arrives(w, c, buf_bytes(&channels), channels.len)
    buf_free(&channels)
    if c.conn.doomed:
        return
    if c.state == CL_ACTIVE and c.pins == 0 and c.seat.server != NULL:
        server_idles(w, s, c)                     # the pool's mode is another one now
    if c.state == CL_IDLE or c.state == CL_ACTIVE:
        patience_look(w, c)
        if c.conn.held.len and not c.holding:
            client_go_on(w, c)


cdef void keeps(Worker *w, ClientConn *c, ServerConn *s, const Arrival *a) noexcept nogil:
    """`s` has come with `c`."""
    pool_join(s.pool.pool, &s.seat, &c.seat, w.index, w.now_us)
    c.state = CL_ACTIVE
    s.last_client = c.id
    s.ready_us = a.facts.idle_us
    if not w.io.add(w, &s.conn):
        server_lost(w, s, "cannot be watched")
        return
    if a.facts.pins:
        pins_set(w, c, a.facts.pins)
        c.pinned_us, c.pin_cause = a.facts.pinned_us, a.facts.pin_cause
        c.pin_due = 0


cdef void cancel_moved(Worker *w, uint64_t id, uint64_t canceller) noexcept nogil:
    """A cancel request for the client with this id, which carries the key of the process that it came from."""
    cdef ClientConn *c
    cdef uint32_t slot
    for slot in range(slots_room(&w.clients)):
        c = <ClientConn *>slot_at(&w.clients, slot)
        if c.conn.head.live and c.id == id and not c.conn.doomed:
            if client_cancel(w, c, canceller):
                return
            break
    if canceller:
        cancel_over(w, canceller)
