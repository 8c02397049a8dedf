"""Taking clients off listeners; see accept.pxd."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc

from pgpool_core.engine.conn cimport conn_doom, worker_wake
from pgpool_core.engine.forwarding cimport is_forwarded
from pgpool_core.engine.mailbox cimport MAIL_ACCEPTED, Mail, mailbox_post
from pgpool_core.engine.patience cimport patience_login
from pgpool_core.engine.records cimport *
from pgpool_core.engine.share cimport STREAK_MOST, share_accepts, share_lets
from pgpool_core.engine.slots cimport slot_new, slot_release
from pgpool_core.engine.sys cimport *
from pgpool_core.engine.timers cimport timer_of
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load8, pgpool_next64
from pgpool_core.wire.build cimport build_error

cdef extern from "<openssl/rand.h>" nogil:
    int RAND_bytes(unsigned char *, int)

cdef void up_accept(Worker *w, uint32_t index) noexcept nogil:
    """Take new clients off a listener; a worker with fewer clients gets some of them.

    The one that the listener was reported for is there, so it is taken without asking for more: the kernel makes a socket before it says
    that nobody is left. More are taken where there were some in the turns before; and where there are more than that, the listener is
    reported again, in turn with everybody who is in already.
    """
    cdef Listener *listener = &w.plane.listeners[index]
    cdef int fd, error
    cdef uint32_t i, j, best
    cdef pgpool_peer peer
    cdef Mail mail
    for i in range(share_accepts(w.accept_streak)):
        if not pgpool_load8(&listener.live):
            return
        if i and (w.crowd.n or not share_lets(w.crowd_taken, pgpool_now_us() - w.now_us)):
            w.accepts_left = 1
            return
        fd = pgpool_accept(listener.fd, &peer)
        if fd < 0:
            error = pgpool_errno()
            if error == EMFILE or error == ENFILE:
                turn_away(w, listener)
            if error != EINTR and error != ECONNABORTED:
                w.accept_streak = 0
                return
            continue
        if listener.late:
            client_options(w.plane, listener, fd)
        best = w.index
        for j in range(w.plane.n_workers):
            if pgpool_load32(&w.plane.workers[j].n_clients) + 1 < pgpool_load32(&w.plane.workers[best].n_clients):
                best = j
        if best != w.index:
            mail.kind = MAIL_ACCEPTED
            mail.client = mail.server = mail.b = mail.len = 0
            mail.a = <uint64_t>fd
            mail.data = NULL
            mail.worker = w.index
            if mailbox_post(&w.plane.workers[best].inbox, &mail):
                worker_wake(&w.plane.workers[best])
                continue
        new_client(w, fd, &peer)
    w.accepts_left = 1
    w.accept_streak += w.accept_streak < STREAK_MOST


cdef void turn_away(Worker *w, Listener *listener) noexcept nogil:
    """No descriptor is left: use the spare one to take a client and close it, or it would wait without an answer."""
    cdef int fd
    cdef size_t n
    cdef pgpool_peer peer
    if w.spare_fd < 0:
        return
    close(w.spare_fd)
    fd = pgpool_accept(listener.fd, &peer)
    if fd >= 0:
        n = build_error(w.scratch, SCRATCH_SIZE, "FATAL", "53300", "too many open file descriptors", NULL)
        pgpool_send(fd, w.scratch, n)
        close(fd)
    w.spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)


cdef bint take_secret(Worker *w, ClientConn *c) noexcept nogil:
    """For the cancel key, made many at a time; False where there is no randomness."""
    if w.secrets_left == 0:
        if RAND_bytes(<unsigned char *>w.secrets, sizeof(w.secrets)) != 1:
            return False
        w.secrets_left = SECRETS
    w.secrets_left -= 1
    c.secret = w.secrets[w.secrets_left]
    return True


cdef void new_client(Worker *w, int fd, const pgpool_peer *peer) noexcept nogil:
    cdef ClientConn *c = <ClientConn *>slot_new(&w.clients)
    if c != NULL:
        c.login = <LoginRecord *>calloc(1, sizeof(LoginRecord))
    if c == NULL or c.login == NULL:
        close(fd)
        if c != NULL:
            slot_release(&w.clients, &c.conn.head)
        return
    c.conn.fd = fd
    c.conn.kind = KIND_CLIENT
    timer_of(c, &c.conn.timer)
    timer_of(c, &c.watch)
    c.peer = peer[0]
    if is_forwarded(w.plane, &c.peer):
        c.login.phase = LG_FORWARDED
    if c.peer.family != 1:
        tcp_options(w.plane, fd)
    else:
        c.peer.port = unix_port(w.plane)
    c.id = pgpool_next64(&w.plane.last_id)
    c.connect_us = c.request_us = c.login.started_us = w.now_us
    pgpool_add32(&w.n_clients, 1)
    patience_login(w, c)
    if not take_secret(w, c):
        conn_doom(w, &c.conn, "no random numbers")
    elif not w.io.add(w, &c.conn):
        conn_doom(w, &c.conn, "cannot be watched")
    elif w.plane.tcp_defer_accept and c.peer.family != 1:
        w.crowd_taken += 1
        w.io.pump(w, &c.conn)                     # the kernel has waited for its first packet


cdef uint16_t unix_port(Plane *plane) noexcept nogil:
    """A unix socket has no port but that in its name; 0 where there is none."""
    cdef uint32_t i
    for i in range(plane.n_listeners):
        if plane.listeners[i].is_unix:
            return plane.listeners[i].port
    return 0


cdef void listener_options(Plane *plane, Listener *listener) noexcept nogil:
    """What every client of a TCP listener has: Linux hands it on to the sockets that it accepts."""
    client_options(plane, listener, listener.fd)


cdef void client_options(Plane *plane, Listener *listener, int fd) noexcept nogil:
    cdef int on = 1, keepalive = plane.tcp_keepalive
    if not listener.is_unix:
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(int))
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, sizeof(int))


cdef void tcp_options(Plane *plane, int fd) noexcept nogil:
    """What clients of a TCP listener have besides, mostly nothing."""
    if plane.tcp_user_timeout:
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &plane.tcp_user_timeout, sizeof(int))
    if plane.tcp_socket_buffer:
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &plane.tcp_socket_buffer, sizeof(int))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &plane.tcp_socket_buffer, sizeof(int))
    if not plane.tcp_keepalive:
        return
    if plane.tcp_keepidle:
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &plane.tcp_keepidle, sizeof(int))
    if plane.tcp_keepintvl:
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &plane.tcp_keepintvl, sizeof(int))
    if plane.tcp_keepcnt:
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &plane.tcp_keepcnt, sizeof(int))
