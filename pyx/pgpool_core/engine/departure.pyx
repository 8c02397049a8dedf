"""Giving clients and servers away; see departure.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from pgpool_core.auth.cancel_key cimport cancel_key_write
from pgpool_core.engine.buf cimport Buf, buf_bytes, buf_free
from pgpool_core.engine.caller cimport client_user
from pgpool_core.engine.channels cimport channels_put, channels_rest
from pgpool_core.engine.client cimport client_go_on
from pgpool_core.engine.client_end cimport client_gone
from pgpool_core.engine.conn cimport SENT, conn_not_again, conn_settle, plane_post
from pgpool_core.engine.mailbox cimport MAIL_PARCEL, Mail
from pgpool_core.engine.pins cimport pins_drop
from pgpool_core.engine.records cimport *
from pgpool_core.engine.redo cimport REDO_NOT
from pgpool_core.engine.server cimport server_free
from pgpool_core.engine.server_end cimport server_close, server_gone
from pgpool_core.engine.slots cimport slot_at, slots_room
from pgpool_core.engine.suspend cimport worker_has
from pgpool_core.engine.timers cimport timer_clear
from pgpool_core.moving.parcel cimport *
from pgpool_core.pool.client cimport WAIT_NONE
from pgpool_core.pool.pool cimport MODE_SESSION, elapsed_us, pool_leave_queue, pool_move, pool_take_idle, pool_unlink
from pgpool_core.pool.server cimport SV_ACTIVE, SV_CLOSING, SV_IDLE, SV_TESTED, SV_USED, Server
from pgpool_core.session.settings cimport Block, block_entry, block_get
from pgpool_core.statements.names cimport Name, Names
from pgpool_core.statements.prepared cimport Planted
from pgpool_core.statements.text cimport Statement, Texts, text_lasts
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load64, pgpool_load8, pgpool_store8
from pgpool_core.wire.codes cimport TX_IDLE
from pgpool_core.wire.span cimport Span, same, text_span

cdef enum:
    QUEUED_US = 100000            # who has waited for less is likely to have a server here soon, which then comes along
    A_TURN = 32                   # parcels of one worker: control's ring has to have room for other letters too


cdef void depart(Worker *w) noexcept nogil:
    """The end of a turn, while the plane is giving: idle servers first, so that who comes after them finds them there."""
    cdef uint32_t slot, left = A_TURN
    cdef ServerConn *s
    cdef ClientConn *c
    cdef uint8_t giving = pgpool_load8(&w.plane.giving)
    w.gives = 0
    if giving == GIVE_NOTHING or w.suspended != (giving == GIVE_PLAIN):
        return
    for slot in range(slots_room(&w.plane.servers)):
        s = <ServerConn *>slot_at(&w.plane.servers, slot)
        if worker_has(w, s) and (pgpool_load8(&s.seat.state) == SV_IDLE or pgpool_load8(&s.seat.state) == SV_USED):
            left -= server_departs(w, s, giving == GIVE_PLAIN)
            if left == 0:
                break
    for slot in range(slots_room(&w.clients)):
        c = <ClientConn *>slot_at(&w.clients, slot)
        if left and c.conn.head.live and (giving == GIVE_ALL or client_plain(c)):
            left -= client_departs(w, c)
    if left == 0:
        w.gives = 1


cdef bint rests(Worker *w, Conn *c) noexcept nogil:
    """Nothing of it waits to be sent, and nobody receives from it. What has TLS stays: its session cannot be told."""
    if c.doomed or c.fd < 0 or c.tls != NULL or c.hup or c.writing or c.out.len:
        return False
    return w.io.quiet(w, c) and conn_settle(w, c) == SENT and c.out.len == 0


cdef bint settled(Names *names) noexcept nogil:
    """Every name stands for what its client thinks."""
    cdef uint32_t b
    cdef Name *name
    if names == NULL:
        return True
    for b in range(names.n_buckets):
        name = names.buckets[b]
        while name != NULL:
            if name.flights or name.planned != name.stands:
                return False
            name = name.next
    return True


cdef bint plain(const Block *now, const Block *base, bint named) noexcept nogil:
    """Whether `now` differs from `base` only in what SHOW FDS tells, and perhaps (`named`) in application_name."""
    cdef Span name, value, other
    cdef uint32_t at = 0
    while now != NULL and at < now.len:
        at = block_entry(now, at, &name, &value)
        if same(name, text_span("client_encoding")) or same(name, text_span("standard_conforming_strings")) \
                or same(name, text_span("DateStyle")) or same(name, text_span("TimeZone")) \
                or (named and same(name, text_span("application_name"))):
            continue
        if base == NULL or not block_get(base, name, &other) or not same(value, other):
            return False
    return True


cdef bint client_plain(ClientConn *c) noexcept nogil:
    """It is between transactions, with nothing that PgBouncer would not know of. Its application_name it loses."""
    cdef bint fits
    if c.state != CL_IDLE or c.pool == NULL or c.conn.held.len or c.conn.early.len or c.pins or c.loan != NULL \
            or (c.listens != NULL and c.listens.count) \
            or (c.names != NULL and c.names.count):
        return False
    pthread_mutex_lock(&c.pool.lock)
    fits = plain(c.settings, c.pool.defaults, True)
    pthread_mutex_unlock(&c.pool.lock)
    return fits


cdef bint server_plain(const ServerConn *s) noexcept nogil:
    return s.prepared.count == 0 and plain(s.settings, s.begun, False)


cdef bint server_rests(Worker *w, ServerConn *s) noexcept nogil:
    """Nothing is asked of it, and nothing about it is in doubt."""
    return s.expect.owed == 0 and not s.expect.copying and s.chore == CHORE_NONE and s.tx_status == TX_IDLE \
        and not s.open_group and s.cur.remain == 0 and s.conn.held.len == 0 and s.conn.early.len == 0 and s.suspect == 0 \
        and s.owed.len == 0 and s.retag == 0 and s.redo == REDO_NOT and s.back == NULL and not (
            s.seat.dedicated or s.in_doubt or s.copy_doubt or s.query_in_group or s.dirty or s.canceling or s.database_ddl or s.function_ddl) \
        and pgpool_load32(&s.cancels) == 0 and pgpool_load32(&s.notes) == 0 and not pgpool_load8(&s.seat.close_needed) \
        and rests(w, &s.conn)


cdef bint client_departs(Worker *w, ClientConn *c) noexcept nogil:
    """Give `c` away if it is at rest; True when it has gone."""
    cdef ServerConn *s = NULL
    cdef bint waited = c.state == CL_WAITING
    if c.conn.doomed or not (c.state == CL_IDLE or waited or c.state == CL_ACTIVE) or c.pool == NULL or c.replication \
            or c.loan != NULL or not channels_rest(c) or c.leaving or c.holding or c.awaiting or c.skip_to_sync or c.cur.remain \
            or not settled(c.names):
        return False
    if waited and elapsed_us(w.now_us, c.request_us) < QUEUED_US:
        return False
    if c.state == CL_ACTIVE:
        if c.seat.server == NULL or (c.pins == 0 and c.pool.pool.settings.mode != MODE_SESSION) or c.conn.held.len:
            return False
        s = <ServerConn *>(<Server *>c.seat.server).owner
        if pgpool_load8(&s.seat.state) != SV_ACTIVE or not server_rests(w, s):
            return False
    if not rests(w, &c.conn):
        return False
    if waited:
        if not pool_leave_queue(c.pool.pool, &c.seat):
            return False                          # a server is on its way to it
        timer_clear(&w.timers, &c.conn.timer)
        c.state = CL_IDLE
        c.scanned = 0
    if c.seat.waiting != WAIT_NONE:
        return False
    if send(w, c, s):
        return True
    if waited:
        client_go_on(w, c)
    return False


cdef bint server_departs(Worker *w, ServerConn *s, bint only_plain) noexcept nogil:
    """Give an idle server away; True when it has gone, one way or the other.

    It is taken before it is looked at: another worker may have taken it over.
    """
    if not pool_take_idle(s.pool.pool, &s.seat, w.index, SV_TESTED, w.now_us):
        return False
    if not server_rests(w, s) or (only_plain and not server_plain(s)):
        server_free(w, s)
        return False
    pool_move(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
    if not send(w, NULL, s):
        server_close(w, s, "closed by the pooler: handed over")
    return True


cdef void put_statement(Texts *texts, ParcelWriter *p, Statement *statement) noexcept nogil:
    """A text that the other process has not been told of."""
    if not pgpool_load8(&statement.sent):
        text_lasts(texts, statement)      # what it has missed so far, nobody there knows
        parcel_text(p, statement.id, pgpool_load64(&statement.salt), pgpool_load32(&statement.flags), statement.data, statement.len)


cdef void put_block(ParcelWriter *p, uint8_t kind, Block *block) noexcept nogil:
    if block != NULL:
        parcel_block(p, kind, block.data, block.len, pgpool_load8(&block.verified))


cdef void put_channels(ParcelWriter *p, ClientConn *c) noexcept nogil:
    cdef Buf names
    memset(&names, 0, sizeof(Buf))
    if channels_put(c, &names):
        parcel_bytes(p, PARCEL_CHANNELS, buf_bytes(&names), names.len)
    else:
        p.failed = 1
    buf_free(&names)


cdef void put_client(Worker *w, ParcelWriter *p, ClientConn *c) noexcept nogil:
    cdef ClientFacts facts
    cdef uint32_t b
    cdef Name *name
    memset(&facts, 0, sizeof(ClientFacts))
    if c.moved:
        memcpy(facts.key, c.cancel_key, CANCEL_KEY)
    else:
        cancel_key_write(&w.plane.cancel_keys, w.index, c.conn.head.slot, c.secret, facts.key)
    facts.connect_us, facts.request_us, facts.idle_us = c.connect_us, c.request_us, c.idle_us
    facts.pins, facts.pinned_us, facts.pin_cause = c.pins, c.pinned_us, c.pin_cause
    facts.unnamed_flags, facts.unnamed_here, facts.unnamed_fresh = c.unnamed_flags, c.unnamed_here, c.unnamed_fresh
    facts.warned, facts.pin_told = c.warned, c.pin_told != 0
    facts.family, facts.port, facts.uid, facts.pid = c.peer.family, c.peer.port, c.peer.uid, c.peer.pid
    memcpy(facts.addr, c.peer.addr, sizeof(facts.addr))
    parcel_client(p, &facts, text_span(client_user(c)))
    put_block(p, PARCEL_SETTINGS, c.settings)
    put_block(p, PARCEL_START, c.start)
    if c.conn.held.len or c.conn.early.len:
        put_unread(p, &c.conn)
    if c.listens != NULL and c.listens.count:
        put_channels(p, c)
    if c.names == NULL:
        return
    for b in range(c.names.n_buckets):
        name = c.names.buckets[b]
        while name != NULL:
            if name.stands != NULL:
                put_statement(w.plane.texts, p, name.stands)
                parcel_name(p, name.stands.id, name.told == pgpool_load64(&name.stands.epoch), name.text, name.len)
            name = name.next


cdef void put_unread(ParcelWriter *p, Conn *c) noexcept nogil:
    """What is held, and behind it what has been received."""
    if c.early.len == 0:
        parcel_bytes(p, PARCEL_UNREAD, buf_bytes(&c.held), c.held.len)
    elif c.held.len == 0:
        parcel_bytes(p, PARCEL_UNREAD, buf_bytes(&c.early), c.early.len)
    else:
        parcel_two(p, PARCEL_UNREAD, buf_bytes(&c.held), c.held.len, buf_bytes(&c.early), c.early.len)


cdef void put_server(ParcelWriter *p, ServerConn *s) noexcept nogil:
    cdef ServerFacts facts
    cdef Span key
    cdef Planted *planted = s.prepared.oldest
    memset(&facts, 0, sizeof(ServerFacts))
    facts.created_us, facts.adopted_us, facts.backend_pid, facts.port = s.seat.created_us, s.adopted_us, s.backend_pid, s.port
    facts.in_doubt = 0
    facts.family_unix, facts.was_reset, facts.sequences_due = s.family_unix != 0, s.was_reset != 0, s.sequences_due != 0
    key.at, key.len = s.backend_key, s.key_len
    parcel_server(p, &facts, key, text_span(s.host))
    put_block(p, PARCEL_STANDS, s.settings)
    put_block(p, PARCEL_BEGUN, s.begun)
    while planted != NULL:
        if planted.here:
            put_statement(s.prepared.texts, p, planted.statement)
            parcel_planted(p, planted.statement.id, planted.epoch == pgpool_load64(&planted.statement.epoch))
        planted = planted.newer


cdef void told(ClientConn *c, ServerConn *s) noexcept nogil:
    """The letter is on its way: whoever writes another one from now on need not repeat these texts."""
    cdef uint32_t b
    cdef Name *name
    cdef Planted *planted = s.prepared.oldest if s != NULL else NULL
    while planted != NULL:
        if planted.here:
            pgpool_store8(&planted.statement.sent, 1)
        planted = planted.newer
    if c == NULL or c.names == NULL:
        return
    for b in range(c.names.n_buckets):
        name = c.names.buckets[b]
        while name != NULL:
            if name.stands != NULL:
                pgpool_store8(&name.stands.sent, 1)
            name = name.next


cdef bint send(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """Have control send what is at rest to the other process; False, and nothing is changed, when that cannot be.

    The sockets leave the poll set before control has them: it may close its own copies at any time.
    """
    cdef ParcelWriter p
    cdef Mail mail
    cdef PoolRecord *pool = c.pool if c != NULL else s.pool
    parcel_begin(&p)
    if c != NULL:
        put_client(w, &p, c)
    if s != NULL:
        put_server(&p, s)
    if p.failed:
        free(p.at)
        return False
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_PARCEL
    mail.a = pool.pool.id
    mail.data = p.at
    mail.len = p.len
    if c != NULL:
        mail.client = <uint64_t>c.conn.fd + 1
        w.io.remove(w, &c.conn)
    if s != NULL:
        mail.server = <uint64_t>s.conn.fd + 1
        w.io.remove(w, &s.conn)
    if not plane_post(w, &mail):
        free(p.at)
        if c != NULL:
            w.io.add(w, &c.conn)
        if s != NULL:
            w.io.add(w, &s.conn)
        return False
    told(c, s)
    if c != NULL:
        gone(w, c, s)
    if s != NULL:
        conn_not_again(w, &s.conn)
        s.conn.fd = -1
        s.conn.reason = "handed over"
        server_gone(w, s)
    return True


cdef void gone(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """`c` is the other process's, and so is the server that it keeps."""
    timer_clear(&w.timers, &c.conn.timer)
    timer_clear(&w.timers, &c.watch)
    if s != NULL:
        pool_unlink(s.pool.pool, &s.seat, SV_CLOSING, w.now_us)
    pins_drop(w, c)
    c.state = CL_IDLE
    c.conn.fd = -1
    client_gone(w, c)
