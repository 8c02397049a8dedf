"""The loop of a worker, its mail, its timers; see worker.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from pgpool_core.engine.again cimport conn_next_again, conns_again
from pgpool_core.engine.arrival cimport Arrival, arrival_free, cancel_moved, client_arrives
from pgpool_core.engine.accept cimport new_client, up_accept
from pgpool_core.engine.chore cimport server_chore
from pgpool_core.engine.buf cimport spares_free
from pgpool_core.engine.channels cimport channels_free, channels_tell
from pgpool_core.engine.client cimport client_bytes, client_drain, client_go_on, client_granted
from pgpool_core.engine.client_end cimport client_end, client_fatal, client_free, client_leave
from pgpool_core.engine.conn cimport conn_doom, conn_send, plane_post
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.crowd cimport crowd_add, crowd_free, crowd_goes_on, crowd_has, crowd_next
from pgpool_core.engine.departure cimport depart
from pgpool_core.engine.dedicated cimport dedicated_adopt, dedicated_retire
from pgpool_core.engine.functions cimport functions_free, functions_mail
from pgpool_core.engine.leak cimport leak_begin
from pgpool_core.engine.loan cimport loans_lend, loans_read, loans_wait
from pgpool_core.engine.login cimport login_end, login_greetings, login_unsaid
from pgpool_core.engine.mailbox cimport *
from pgpool_core.engine.notes cimport note, notes_taken
from pgpool_core.engine.notify cimport notify_mail
from pgpool_core.engine.patience cimport never_served, patience_login, patience_look, patience_waits
from pgpool_core.engine.proof cimport login_told
from pgpool_core.engine.question cimport login_verdict
from pgpool_core.engine.orphan cimport server_cancel_done, server_drains, server_lingers
from pgpool_core.engine.records cimport *
from pgpool_core.engine.rows cimport ClientRow, SocketRow, fill_client_row, fill_socket_rows
from pgpool_core.engine.server cimport client_of, server_bytes, server_free, server_stirs, servers_go_back
from pgpool_core.engine.server_end cimport server_close, server_gone, server_lost, server_outdated, server_unsent
from pgpool_core.engine.secure cimport secure_tell
from pgpool_core.engine.sends cimport sends_new
from pgpool_core.engine.slots cimport slot_at, slot_of, slots_free, slots_init, slots_room
from pgpool_core.engine.suspend cimport suspend_mail
from pgpool_core.engine.sys cimport *
from pgpool_core.engine.timers cimport *
from pgpool_core.engine.turns cimport turns_go_on, turns_wait_ms
from pgpool_core.engine.waiter cimport cancel_elsewhere, cancel_over, client_cancel, client_hangup
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.dedicated cimport dedicated_link
from pgpool_core.pool.pool cimport MAX_POOLS, pool_move
from pgpool_core.pool.server cimport SV_ACTIVE, SV_CLOSING, SV_IDLE, SV_TESTED, SV_USED, Server
from pgpool_core.session.known cimport KnownTexts
from pgpool_core.session.outcome cimport OUTCOMES, Outcome
from pgpool_core.session.regulars cimport REGULARS, Regular, regulars_free
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load8, pgpool_swap32, pgpool_swap_ptr


cdef int up_bytes(Worker *w, Conn *c, uint8_t *data, size_t n) noexcept nogil:
    if c.kind == KIND_CLIENT:
        return client_bytes(w, <ClientConn *>c, data, n)
    return server_bytes(w, <ServerConn *>c, data, n)


cdef void up_closed(Worker *w, Conn *c, int error) noexcept nogil:
    """End of stream."""
    cdef ServerConn *s
    if c.kind == KIND_CLIENT:
        if c.tls != NULL and c.tls.failed:
            secure_tell(w, <ClientConn *>c)
            c.reason = "TLS failed"
        elif (<ClientConn *>c).state != CL_LINGER:
            c.reason = "" if login_unsaid(<ClientConn *>c) else "client unexpected eof"
        conn_doom(w, c, c.reason)
        return
    s = <ServerConn *>c
    if error == EAGAIN:
        server_unsent(w, s)
        return
    if s.seat.state != SV_CLOSING or c.reason == NULL:
        c.reason = "server conn crashed?"
    server_lost(w, s, c.reason)


cdef void up_hangup(Worker *w, Conn *c) noexcept nogil:
    cdef uint8_t state
    if c.kind == KIND_CLIENT:
        client_hangup(w, <ClientConn *>c)
        return
    state = (<ServerConn *>c).seat.state
    if state == SV_IDLE or state == SV_USED:
        server_stirs(w, <ServerConn *>c)


cdef void up_blocked(Worker *w, Conn *c) noexcept nogil:
    """The other end of the link is not read until this one takes more."""
    cdef ClientConn *client
    if c.kind == KIND_CLIENT:
        client = <ClientConn *>c
        if client.state == CL_ACTIVE and client.seat.server != NULL:
            (<ServerConn *>(<Server *>client.seat.server).owner).conn.paused = 1
        return
    client = client_of(<ServerConn *>c)
    if client != NULL:
        client.conn.paused = 1


cdef void adopt(Worker *w, ServerConn *s) noexcept nogil:
    """Control has logged a server in and handed it over."""
    if not w.io.add(w, &s.conn):
        if s.seat.dedicated:
            dedicated_link(s.pool.pool, &s.seat, w.now_us)     # who waits for it hears of it as its client
        server_lost(w, s, "cannot be watched")
        return
    if s.seat.dedicated:
        dedicated_adopt(w, s)
    elif leak_begin(s) or s.dirty:
        s.was_reset = 1                           # a new one needs none
        pool_move(s.pool.pool, &s.seat, SV_TESTED, w.now_us)
        server_chore(w, s, CHORE_CLEAN if s.dirty else CHORE_LEAK)
    else:
        server_free(w, s)


cdef void read_notes(Worker *w) noexcept nogil:
    """What control has to say about servers of this worker."""
    cdef ServerConn *s = <ServerConn *>pgpool_swap_ptr(<void *>&w.notes, NULL)
    cdef ServerConn *next
    cdef uint32_t notes
    while s != NULL:
        next = s.note_next
        notes = notes_taken(w.plane, s)
        if notes & SERVER_ADOPT:
            adopt(w, s)
        if notes & SERVER_CLOSE and pgpool_load32(&s.seat.worker) != w.index:
            note(w.plane, s, SERVER_CLOSE)        # it has gone on to another worker before the note was left
        elif notes & SERVER_CLOSE and s.seat.state == SV_CLOSING and not s.conn.doomed:
            server_close(w, s, s.seat.leaving if s.seat.leaving != NULL else <const char *>"closed by the pooler")
        if notes & SERVER_RETIRE:
            if s.seat.dedicated and not s.conn.doomed:
                dedicated_retire(w, s)
            elif pgpool_load8(&s.seat.state) == SV_ACTIVE and pgpool_load32(&s.seat.worker) != w.index:
                note(w.plane, s, SERVER_RETIRE)   # it lives elsewhere by now
            elif not s.conn.doomed:
                server_outdated(w, s)
        if notes & SERVER_CANCEL_DONE:
            server_cancel_done(w, s)
        s = next


cdef void read_grants(Worker *w) noexcept nogil:
    """Servers that other workers have given to waiters of this one, in the order in which they were given."""
    cdef Client *seat = <Client *>pgpool_swap_ptr(<void *>&w.granted, NULL)
    cdef Client *first = NULL
    cdef Client *next
    cdef ServerConn *s
    while seat != NULL:
        next = seat.granted_next
        seat.granted_next = first
        first = seat
        seat = next
    while first != NULL:
        next = first.granted_next
        if first.server != NULL:
            s = <ServerConn *>(<Server *>first.server).owner
            if not w.io.add(w, &s.conn):
                server_lost(w, s, "cannot be watched")         # who was to have it hears of it
        client_granted(w, first)
        first = next


cdef void read_mail(Worker *w) noexcept nogil:
    cdef Mail mail
    cdef ClientConn *c
    cdef pgpool_peer peer
    cdef uint32_t slot
    cdef bint waits
    while mailbox_take(&w.inbox, &mail):
        c = NULL
        if mail.kind == MAIL_VERDICT or mail.kind == MAIL_REPLY or mail.kind == MAIL_CANCEL_DONE:
            c = <ClientConn *>slot_of(&w.clients, mail.client)
            if c != NULL and c.conn.doomed:
                c = NULL
        if mail.kind == MAIL_ACCEPTED:
            pgpool_peer_of(<int>mail.a, &peer, 0)
            new_client(w, <int>mail.a, &peer)
        elif mail.kind == MAIL_VERDICT and c != NULL:
            login_verdict(w, c, mail.a, <uint8_t *>mail.data, mail.len)
        elif mail.kind == MAIL_REPLY and c != NULL and c.state == CL_CONSOLE:
            if mail.len:
                conn_send(w, &c.conn, <uint8_t *>mail.data, mail.len)
            c.busy = 0
            client_go_on(w, c)
        elif mail.kind == MAIL_FIND_CANCEL:
            c = <ClientConn *>slot_at(&w.clients, <uint32_t>mail.client)
            if c != NULL and c.conn.head.live and (c.secret ^ mail.a) & mail.b == 0 and not c.conn.doomed:
                waits = client_cancel(w, c, mail.canceller)
            else:
                waits = cancel_elsewhere(w, mail.server, mail.canceller)
            if not waits and mail.canceller:
                cancel_over(w, mail.canceller)
        elif mail.kind == MAIL_CANCEL_DONE:
            if c != NULL and c.login != NULL and c.login.phase == LG_CANCEL:
                conn_doom(w, &c.conn, "cancel request")
        elif mail.kind == MAIL_LISTENERS:
            watch_listeners(w)
        elif mail.kind == MAIL_GIVE:
            w.gives = 1
        elif mail.kind == MAIL_ARRIVE:
            client_arrives(w, <Arrival *>mail.data)
            mail.data = NULL
        elif mail.kind == MAIL_CANCEL_MOVED:
            cancel_moved(w, mail.a, mail.canceller)
        elif mail.kind == MAIL_DRAIN:
            for slot in range(slots_room(&w.clients)):
                c = <ClientConn *>slot_at(&w.clients, slot)
                if c.conn.head.live:
                    client_drain(w, c)
        elif mail.kind == MAIL_KICK or mail.kind == MAIL_KICK_POOL or mail.kind == MAIL_ASK_CLIENTS or mail.kind == MAIL_PATIENCE:
            every_client(w, &mail)
        elif mail.kind == MAIL_SUSPEND:
            suspend_mail(w, mail.a)
        elif mail.kind == MAIL_EFFECTS:
            functions_mail(w, &mail)
        elif mail.kind >= MAIL_LISTENING:
            notify_mail(w, &mail)
        free(mail.data)


cdef void watch_listeners(Worker *w) noexcept nogil:
    """Watch the listeners that are new, let go of those that are no longer live.

    Closing a socket is not enough: where another process has it too, it would stay in the poll set, and take connections' events
    away from that process.
    """
    cdef uint32_t i
    cdef Listener *listener
    while w.listening < pgpool_load32(&w.plane.n_listeners):
        if not w.suspended:
            w.io.listen(w, w.plane.listeners[w.listening].fd, w.listening)
        w.listening += 1
    for i in range(w.listening):
        listener = &w.plane.listeners[i]
        if not pgpool_load8(&listener.live) and not (w.unlistened >> i) & 1:
            w.io.unlisten(w, listener.fd)
            w.unlistened |= <uint64_t>1 << i
            pgpool_add32(&listener.watchers, -1)


cdef void tell_sockets(Worker *w, uint64_t token) noexcept nogil:
    """Tell control what only this worker may look at of its servers."""
    cdef Mail mail
    cdef uint32_t room = slots_room(&w.plane.servers)
    cdef SocketRow *rows
    if room == 0:
        return
    rows = <SocketRow *>malloc(room * sizeof(SocketRow))
    if rows == NULL:
        return
    mail.kind = MAIL_SOCKETS
    mail.client = mail.server = 0
    mail.a = token
    mail.b = fill_socket_rows(w, rows, room)
    mail.data = rows
    mail.len = <uint32_t>(mail.b * sizeof(SocketRow))
    if not plane_post(w, &mail):
        free(rows)


cdef void every_client(Worker *w, Mail *mail) noexcept nogil:
    """Mail that concerns clients by pool or by id, or all of them."""
    cdef uint32_t slot, n = 0
    cdef ClientConn *c
    cdef ClientRow *rows = NULL
    cdef Mail answer
    if mail.kind == MAIL_ASK_CLIENTS:
        channels_tell(w, mail.a)
        tell_sockets(w, mail.a)
        rows = <ClientRow *>malloc((<size_t>w.clients.live + 1) * sizeof(ClientRow))
        if rows == NULL:
            return
    for slot in range(slots_room(&w.clients)):
        c = <ClientConn *>slot_at(&w.clients, slot)
        if not c.conn.head.live or c.conn.doomed or c.state == CL_GONE:
            continue
        if mail.kind == MAIL_KICK:
            if c.id == mail.a and c.login != NULL and c.login.phase == LG_DEDICATED:
                client_end(w, c, <uint8_t *>mail.data, mail.len, "server login failed")
            elif c.id == mail.a:
                client_end(w, c, <uint8_t *>mail.data, mail.len, "closed by the pooler")
        elif mail.kind == MAIL_KICK_POOL:
            if c.pool != NULL and c.pool.pool.id == mail.a:
                client_end(w, c, <uint8_t *>mail.data, mail.len, "closed by the pooler")
        elif mail.kind == MAIL_PATIENCE:
            if c.state == CL_WAITING:
                patience_waits(w, c)
            elif c.state == CL_LOGIN and c.login != NULL and c.login.phase != LG_CANCEL and c.login.phase != LG_HELD:
                patience_login(w, c)
            patience_look(w, c)
        elif c.state != CL_LINGER:
            fill_client_row(w, c, &rows[n])
            n += 1
    if rows != NULL:
        answer.kind = MAIL_CLIENTS
        answer.client = answer.server = 0
        answer.a = mail.a
        answer.b = n
        answer.data = rows
        answer.len = n * sizeof(ClientRow)
        if not plane_post(w, &answer):
            free(rows)


cdef void up_woken(Worker *w) noexcept nogil:
    cdef uint64_t count
    read(w.wake_fd, &count, 8)
    pgpool_swap32(&w.signalled, 0)                # no store: what is looked at next must not have been read before it is seen
    read_mail(w)                                  # first: what is known of functions comes ahead of the server it was read on
    if pgpool_swap32(&w.greetings, 0):
        login_greetings(w)
    read_grants(w)
    read_notes(w)
    loans_read(w)


cdef void timer_fired(Worker *w, Timer *timer) noexcept nogil:
    cdef Conn *conn = <Conn *>timer_owner(timer)
    cdef ClientConn *c
    cdef uint8_t kind = timer.kind
    timer_clear(&w.timers, timer)
    if conn.doomed:
        return
    if kind == TIMER_LOGIN:
        c = <ClientConn *>conn
        if c.login != NULL and c.login.phase == LG_CANCEL:
            conn_doom(w, &c.conn, "cancel request")
        elif c.login != NULL and c.login.phase == LG_HELD:
            login_told(w, c)
        elif c.login != NULL and (c.login.phase == LG_WELCOME or c.login.phase == LG_DEDICATED):
            if w.plane.client_login_timeout_us and w.now_us >= c.login.started_us + w.plane.client_login_timeout_us:
                never_served(w, c, "08P01", "client_login_timeout (server down)")
            else:
                never_served(w, c, "53000", "query_wait_timeout")
        else:
            client_fatal(w, c, "08P01", "client_login_timeout")
    elif kind == TIMER_QUERY_WAIT:
        c = <ClientConn *>conn
        if c.state == CL_WAITING:
            patience_waits(w, c)
        else:
            client_fatal(w, c, "53000", "query_wait_timeout")
    elif kind == TIMER_PATIENCE:
        patience_look(w, <ClientConn *>conn)
    elif kind == TIMER_STALL:
        client_fatal(w, <ClientConn *>conn, "08P01", "client stalled in mid-message (message_stall_timeout)")
    elif kind == TIMER_LINGER:
        conn_doom(w, conn, conn.reason)
    elif kind == TIMER_DRAIN:
        server_drains(w, <ServerConn *>conn)
    elif kind == TIMER_CLOSE:
        server_lingers(w, <ServerConn *>conn)


cdef void end_the_doomed(Worker *w) noexcept nogil:
    cdef Conn *conn
    while w.doomed != NULL:
        conn = w.doomed
        w.doomed = conn.doomed_next
        if conn.kind == KIND_CLIENT:
            client_leave(w, <ClientConn *>conn)
        else:
            server_doomed(w, <ServerConn *>conn)


cdef void server_doomed(Worker *w, ServerConn *s) noexcept nogil:
    """A server at its end; one that broke outside server_lost still has its client and its place."""
    if s.seat.state != SV_CLOSING:
        s.conn.doomed = 0
        server_lost(w, s, s.conn.reason)
        return
    server_gone(w, s)


cdef bint worker_init(Worker *w, Plane *plane, unsigned int index, const Io *io) noexcept nogil:
    """Everything a worker needs before its thread runs; False when the system refuses. Either way worker_free gives it back."""
    memset(w, 0, sizeof(Worker))
    w.plane = plane
    w.index = index
    w.poll_fd = w.ring_fd = w.wake_fd = w.spare_fd = -1
    w.io = io
    w.up = &upcalls
    w.now_us = pgpool_now_us()
    timers_init(&w.timers, w.now_us)
    w.buf = <uint8_t *>malloc(HEADROOM + RECV_SIZE)
    w.scratch = <uint8_t *>malloc(SCRATCH_SIZE)
    w.mix = <uint8_t *>malloc(SCRATCH_SIZE)
    w.cipher = <uint8_t *>malloc(CIPHER_SIZE)
    w.sends = sends_new()
    w.outcomes = <Outcome *>calloc(OUTCOMES, sizeof(Outcome))
    w.regulars = <Regular *>calloc(REGULARS, sizeof(Regular))
    w.known = <KnownTexts *>calloc(1, sizeof(KnownTexts))
    w.counters = <Counters **>calloc(MAX_POOLS, sizeof(Counters *))
    w.spare_counters = <Counters *>calloc(1, sizeof(Counters))
    w.effects = <Effects **>calloc(MAX_POOLS, sizeof(Effects *))
    w.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    w.spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)
    return (w.buf != NULL and w.scratch != NULL and w.mix != NULL and w.cipher != NULL and w.sends != NULL
            and w.outcomes != NULL and w.regulars != NULL and w.known != NULL and w.counters != NULL and w.spare_counters != NULL and w.effects != NULL and w.wake_fd >= 0
            and slots_init(&w.clients, sizeof(ClientConn)) and mailbox_init(&w.inbox) and w.io.start(w))


cdef void worker_run(Worker *w) noexcept nogil:
    """Turn until told to stop."""
    cdef Conn *c
    cdef Timer *timer
    cdef uint32_t left
    cdef int wait_ms
    pgpool_processor_number(0)
    w.io.begin(w)
    while not pgpool_load32(&w.stop):
        if w.again_head != NULL or w.crowd.n or w.gives or (w.due != NULL and not w.suspended and loans_wait(w)):
            wait_ms = 0
        elif w.suspended:
            wait_ms = -1                          # no timer runs
        else:
            wait_ms = turns_wait_ms(w, timers_wait_ms(&w.timers, pgpool_now_us()))
        w.crowd_taken = 0
        w.io.turn(w, wait_ms)
        left = conns_again(w)
        while left:
            left -= 1
            c = conn_next_again(w)
            if c == NULL:
                break
            if c.doomed:
                continue
            if crowd_has(c):
                crowd_add(w, c)
            else:
                w.io.pump(w, c)
        while w.crowd.n and crowd_goes_on(w):
            c = crowd_next(w)
            if c != NULL:
                w.io.pump(w, c)
        servers_go_back(w)
        if w.due != NULL and not w.suspended:
            loans_lend(w)
        timer = NULL if w.suspended else timers_due(&w.timers, w.now_us)
        while timer != NULL:
            timer_fired(w, timer)
            timer = timers_due(&w.timers, w.now_us)
        end_the_doomed(w)
        while turns_go_on(w):
            end_the_doomed(w)
        if w.gives:
            depart(w)
    w.io.leave(w)
    pgpool_processor_number(1)


cdef void worker_close(Worker *w) noexcept nogil:
    """After its thread has ended: close every client of this worker, without a word."""
    cdef uint32_t slot
    cdef ClientConn *c
    for slot in range(slots_room(&w.clients)):
        c = <ClientConn *>slot_at(&w.clients, slot)
        if c.conn.head.live:
            login_end(w, c)
            client_free(w, c)
            c.conn.head.live = 0
    channels_free(w)


cdef void worker_free(Worker *w) noexcept nogil:
    """Give back what worker_init took."""
    cdef uint32_t i
    cdef Mail mail
    if w.io != NULL:
        w.io.stop(w)
    if w.wake_fd >= 0:
        close(w.wake_fd)
    if w.spare_fd >= 0:
        close(w.spare_fd)
    if w.inbox.cells != NULL:
        while mailbox_take(&w.inbox, &mail):
            if mail.kind == MAIL_ACCEPTED:
                close(<int>mail.a)
            if mail.kind == MAIL_ARRIVE:
                arrival_free(w.plane, <Arrival *>mail.data)
            else:
                free(mail.data)
    mailbox_free(&w.inbox)
    slots_free(&w.clients)
    if w.counters != NULL:
        for i in range(MAX_POOLS):
            free(w.counters[i])
    free(w.counters)
    free(w.spare_counters)
    functions_free(w)
    free(w.buf)
    free(w.scratch)
    free(w.mix)
    free(w.cipher)
    free(w.sends)
    free(w.outcomes)
    regulars_free(w.regulars, w.plane.settings)
    free(w.known)
    spares_free(&w.spares)
    crowd_free(&w.crowd)


cdef Upcalls upcalls
upcalls.bytes = up_bytes
upcalls.closed = up_closed
upcalls.hangup = up_hangup
upcalls.accept = up_accept
upcalls.woken = up_woken
upcalls.blocked = up_blocked
