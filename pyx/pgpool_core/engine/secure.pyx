"""Sending and receiving with TLS; see secure.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, strlen

from pgpool_core.engine.buf cimport buf_add, buf_bytes, buf_take
from pgpool_core.engine.client_end cimport client_log
from pgpool_core.engine.conn cimport SEND_DEAD, SEND_LATER, SENT, conn_again, conn_doom, conn_write
from pgpool_core.engine.records cimport CIPHER_SIZE, KIND_CLIENT, SECRET_SIZE, STREAM_ON, ClientConn, Conn, Worker
from pgpool_core.engine.sys cimport pgpool_broken, pgpool_no_data, pgpool_recv, pgpool_send, ssize_t
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.context cimport TlsContext, context_ref, context_unref
from pgpool_core.tls.session cimport (TLS_NOT_YET, TLS_OK, TLS_SLACK, TlsSession, tls_close, tls_new,
                                      tls_receive, tls_send, tls_taken)

cdef enum:
    UNIX = 1                      # family of a peer
    ROUNDS = 16                   # receives in a row that bring no plaintext
    LOGIN_UNREAD = 65536          # bytes: who has not logged in and reads nothing is sent no more
    UNTAKEN_MOST = 65536          # bytes that answer TLS itself, such as KeyUpdate, to who reads nothing


cdef bint secure_accept(Worker *w, ClientConn *c) noexcept nogil:
    cdef TlsContext *context
    if c.conn.tls != NULL or c.peer.family == UNIX:
        return False
    pthread_mutex_lock(&w.plane.ignored_lock)
    context = context_ref(w.plane.client_tls)
    pthread_mutex_unlock(&w.plane.ignored_lock)
    if context != NULL:
        c.conn.tls = tls_new(context, NULL, NULL)
    context_unref(context)
    return c.conn.tls != NULL


cdef int send_left(Worker *w, Conn *c) noexcept nogil:
    """What the session itself wants to say: handshake, alerts, tickets."""
    cdef TlsSession *t = c.tls
    cdef int status = SENT
    if t.left_len:
        status = conn_write(w, c, t.left, t.left_len)
        t.untaken = t.untaken + t.left_len if status == SEND_LATER else 0
        tls_taken(t)
    return status


cdef int secure_send(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    cdef TlsSession *t = c.tls
    cdef size_t part, length = 0
    cdef int status
    if c.doomed or c.fd < 0:
        return SEND_DEAD
    if n == 0:
        return conn_write(w, c, data, 0)
    status = send_left(w, c)
    while n and status != SEND_DEAD:
        part = n if n < SECRET_SIZE else SECRET_SIZE
        status = tls_send(t, data, part, w.cipher, CIPHER_SIZE, &length)
        if status == TLS_NOT_YET:                 # a last word for whom has not finished the handshake
            return SENT
        if status != TLS_OK:
            conn_doom(w, c, "TLS failed")
            return SEND_DEAD
        status = conn_write(w, c, w.cipher, length)
        data += part
        n -= part
    return status


cdef bint secure_put(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil:
    cdef size_t part, length = 0
    if send_left(w, c) == SEND_DEAD:
        return False
    while n:
        part = n if n < SECRET_SIZE else SECRET_SIZE
        if tls_send(c.tls, data, part, w.cipher, CIPHER_SIZE, &length) != TLS_OK or not buf_add(&c.out, w.cipher, length):
            return False
        data += part
        n -= part
    return True


cdef ssize_t secure_receive(Worker *w, Conn *c, uint8_t *into, size_t cap) noexcept nogil:
    """Go on until there is plaintext, or nothing more to be had."""
    cdef TlsSession *t = c.tls
    cdef size_t room = cap - TLS_SLACK, got = 0
    cdef ssize_t n
    cdef bint full
    cdef int status = TLS_OK
    cdef uint32_t rounds
    t.more = 0
    for rounds in range(ROUNDS):
        if t.failed or t.closed:                  # found behind the plaintext that was given before
            return pgpool_broken() if t.failed else 0
        if c.early.len:
            n = <ssize_t>(c.early.len if c.early.len < room else room)
            memcpy(w.cipher, buf_bytes(&c.early), <size_t>n)
            buf_take(&c.early, <size_t>n)
            full = True
        elif c.stream >= STREAM_ON:
            return pgpool_no_data()
        else:
            n = pgpool_recv(c.fd, w.cipher, room)
            if n <= 0:
                return n
            full = <size_t>n == room
        status = tls_receive(t, w.cipher, <size_t>n, into, cap, &got)
        if send_left(w, c) == SEND_DEAD:
            return pgpool_no_data()
        if t.untaken > UNTAKEN_MOST or (c.out.len > LOGIN_UNREAD and c.kind == KIND_CLIENT and (<ClientConn *>c).login != NULL):
            conn_doom(w, c, "TLS failed")
            return pgpool_no_data()
        if got:
            t.more = full or status != TLS_OK
            return <ssize_t>got
    conn_again(w, c)                              # it may never say anything: the others want their turn
    return pgpool_no_data()


cdef void secure_bye(Worker *w, Conn *c) noexcept nogil:
    if c.fd >= 0 and not c.doomed:
        tls_close(c.tls)
        send_left(w, c)


cdef void secure_last(Conn *c) noexcept nogil:
    """libpq tells an end from a cut: a cancel request, for one, has failed without this."""
    if not c.writing and not c.tls.closed:
        tls_close(c.tls)
        if c.tls.left_len:
            pgpool_send(c.fd, c.tls.left, c.tls.left_len)


cdef void secure_tell(Worker *w, ClientConn *c) noexcept nogil:
    cdef const char *what = "TLS broken: " if c.conn.tls.established else "TLS handshake failed: "
    cdef char[200] text
    cdef size_t n = strlen(what), more = strlen(c.conn.tls.why)
    if not w.plane.log_pooler_errors:
        return
    if more > sizeof(text) - n - 1:
        more = sizeof(text) - n - 1
    memcpy(text, what, n)
    memcpy(text + n, c.conn.tls.why, more)
    text[n + more] = 0
    client_log(w, c, 2, text, False)
