"""Ends of clients; see client_end.pxd."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen

from pgpool_core.engine.buf cimport buf_free
from pgpool_core.engine.caller cimport caller_free, caller_keep, caller_note, client_asked, client_told, client_user
from pgpool_core.engine.channels cimport channels_forget
from pgpool_core.engine.conn cimport SENT, conn_again, conn_close, conn_doom, conn_send, conn_settle, conn_shut, plane_post
from pgpool_core.engine.console cimport console_tell
from pgpool_core.engine.loan cimport loan_over, loan_refuse
from pgpool_core.engine.pins cimport pins_drop
from pgpool_core.engine.login cimport login_end
from pgpool_core.engine.mailbox cimport MAIL_CONSOLE_GONE, MAIL_LOG, MAIL_MOVED_GONE, Mail
from pgpool_core.engine.orphan cimport server_orphan
from pgpool_core.engine.question cimport stop_asking
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport half_told
from pgpool_core.engine.slots cimport slot_release
from pgpool_core.engine.terms cimport terms_leave
from pgpool_core.engine.timers cimport TIMER_LINGER, timer_clear, timer_set
from pgpool_core.pool.client cimport WAIT_GRANTED
from pgpool_core.pool.pool cimport pool_client_goes, pool_leave_queue
from pgpool_core.pool.server cimport Server
from pgpool_core.session.settings cimport block_unref
from pgpool_core.statements.names cimport names_free
from pgpool_core.sync.atomic cimport pgpool_add32
from pgpool_core.wire.build cimport build_error
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span

cdef enum:
    LINGER_US = 2000000           # how long a client that has its last message may take to hang up


cdef void detach(Worker *w, ClientConn *c) noexcept nogil:
    """Give up whatever `c` holds or waits for."""
    cdef ServerConn *s
    timer_clear(&w.timers, &c.conn.timer)
    timer_clear(&w.timers, &c.watch)
    if c.state == CL_LOGIN:
        stop_asking(w, c)
        login_end(w, c)
    elif c.state == CL_WAITING:
        pool_leave_queue(c.pool.pool, &c.seat)
    elif c.state == CL_ACTIVE and c.seat.server != NULL:
        s = <ServerConn *>(<Server *>c.seat.server).owner
        server_orphan(w, s, c.cur.remain != 0, c.leaving)
    pins_drop(w, c)
    if c.listens != NULL:
        channels_forget(w, c)
    c.holding = 0


cdef void client_end(Worker *w, ClientConn *c, const uint8_t *message, size_t n, const char *reason) noexcept nogil:
    """Send a last message and wait for `c` to hang up, so that it can read that message whole.

    Who has only a part of a server's message hears nothing: what came behind it would be read as the rest.
    """
    cdef int sent
    cdef ServerConn *s
    if c.state == CL_LINGER or c.state == CL_GONE or c.conn.doomed:
        return
    if c.loan != NULL:
        loan_refuse(w, c, message, n, reason)
        return
    if c.state == CL_LOGIN and c.login != NULL and c.login.phase == LG_CANCEL:
        conn_doom(w, &c.conn, reason)             # a cancel request is never answered: libpq takes a word for a failure
        return
    sent = SENT
    if n:
        s = <ServerConn *>(<Server *>c.seat.server).owner if c.state == CL_ACTIVE and c.seat.server != NULL else NULL
        if s == NULL or not half_told(s):
            sent = conn_send(w, &c.conn, message, n)
        caller_note(c, message, n)
        if w.plane.log_pooler_errors:
            client_log(w, c, 2, client_told(c) if client_told(c) != NULL else reason, False)
    detach(w, c)
    if c.conn.doomed:
        return
    c.conn.reason = reason
    c.conn.paused = 0
    buf_free(&c.conn.held)
    forget_pool(w, c)
    caller_keep(c)
    uncount(w, c)
    c.state = CL_LINGER
    timer_set(&w.timers, &c.conn.timer, TIMER_LINGER, w.now_us + LINGER_US)
    if sent == SENT:
        conn_shut(w, &c.conn)
    conn_again(w, &c.conn)


cdef void client_parts(Worker *w, ClientConn *c) noexcept nogil:
    """It has said Terminate, and nothing more is owed to it. What it has not taken yet it still gets, as from PostgreSQL."""
    if conn_settle(w, &c.conn) == SENT and c.conn.out.len == 0:
        conn_doom(w, &c.conn, "client close request")
    else:
        client_end(w, c, NULL, 0, "client close request")


cdef void client_refuse(Worker *w, ClientConn *c, const char *sqlstate, const char *text,
                        const char *reason) noexcept nogil:
    """FATAL with a text of the moment, then the end; `reason`, for the log, is static."""
    cdef size_t n = build_error(w.scratch, SCRATCH_SIZE, "FATAL", sqlstate, text, NULL)
    client_end(w, c, w.scratch, n, reason)


cdef void client_fatal(Worker *w, ClientConn *c, const char *sqlstate, const char *text) noexcept nogil:
    """FATAL, then the end; `text` is static."""
    client_refuse(w, c, sqlstate, text, text)


cdef void with_name(Worker *w, ClientConn *c, const char *sqlstate, const char *before, Span name,
                    const char *after) noexcept nogil:
    """FATAL with a name in its text."""
    cdef char[400] text
    cdef size_t at = strlen(before), n = name.len if name.len < 200 else 200
    memcpy(text, before, at)
    memcpy(text + at, name.at, n)
    at += n
    memcpy(text + at, after, strlen(after) + 1)
    client_refuse(w, c, sqlstate, text, before)


cdef void protocol_error(Worker *w, ClientConn *c, const uint8_t *header) noexcept nogil:
    """A header that no frontend sends: one connection ends, PgBouncer's words."""
    cdef char[48] text
    cdef const char *digits = "0123456789ABCDEF"
    cdef size_t i, at = 20
    memcpy(text, <const char *>"bad packet header: '", 20)
    for i in range(HEADER_LEN):
        text[at] = digits[header[i] >> 4]
        text[at + 1] = digits[header[i] & 15]
        at += 2
    text[at] = 0x27
    text[at + 1] = 0
    client_refuse(w, c, "08P01", text, "bad packet header")


cdef void forget_pool(Worker *w, ClientConn *c) noexcept nogil:
    """`c` counts no more."""
    if c.state != CL_LOGIN and c.state != CL_CONSOLE and c.state != CL_LINGER and c.pool != NULL:
        pool_client_goes(c.pool.pool)


cdef void uncount(Worker *w, ClientConn *c) noexcept nogil:
    """`c` stands in nobody's way any more: max_client_conn and its like have room for another."""
    if c.counted:
        c.counted = 0
        pgpool_add32(&w.plane.n_clients, -1)
    if c.terms != NULL:
        pgpool_add32(&c.pool.pool.database.clients, -1)
        terms_leave(w.plane.terms, c.terms)
        c.terms = NULL


cdef void client_free(Worker *w, ClientConn *c) noexcept nogil:
    """Close its socket and give back what it owns; the slot is the caller's matter."""
    conn_close(w, &c.conn)
    if c.listens != NULL:
        channels_forget(w, c)
    caller_free(c)
    block_unref(w.plane.settings, c.settings)
    block_unref(w.plane.settings, c.start)
    c.settings = c.start = NULL
    names_free(c.names)
    c.names = NULL


cdef void client_leave(Worker *w, ClientConn *c) noexcept nogil:
    """The end of a client: called once, when its turn on the list of the doomed has come."""
    cdef const char *reason = c.conn.reason if c.conn.reason != NULL else <const char *>"closed"
    detach(w, c)
    if c.console:
        console_tell(w, c, MAIL_CONSOLE_GONE)
    if c.loan != NULL:
        loan_over(w, c)
    if client_told(c) != NULL:
        reason = client_told(c)
    if w.plane.log_disconnections and c.conn.fd >= 0 and reason[0]:
        client_log(w, c, 1, reason, True)
    client_gone(w, c)


cdef void client_gone(Worker *w, ClientConn *c) noexcept nogil:
    """It counts no more, and its slot is free again. Where its socket has been given away, `fd` is -1."""
    cdef Mail mail
    if c.moved:
        memset(&mail, 0, sizeof(Mail))
        mail.kind = MAIL_MOVED_GONE
        mail.a = c.id
        plane_post(w, &mail)                      # where it is lost, its key is known for nothing
    forget_pool(w, c)
    uncount(w, c)
    pgpool_add32(&w.n_clients, -1)
    client_free(w, c)
    if c.seat.waiting == WAIT_GRANTED:            # a server is on its way here: the slot waits for it
        c.state = CL_GONE
        return
    slot_release(&w.clients, &c.conn.head)


cdef void client_log(Worker *w, ClientConn *c, uint8_t level, const char *text, bint closing) noexcept nogil:
    """A line about `c`; lost, and counted, when control's ring is full."""
    cdef LogRecord *line = <LogRecord *>calloc(1, sizeof(LogRecord))
    cdef Mail mail
    cdef size_t n = strlen(text)
    cdef const char *user = client_user(c)
    cdef const char *asked = client_asked(c)
    if line == NULL:
        return
    if n > sizeof(line.text) - 20:
        n = sizeof(line.text) - 20
    if closing:
        memcpy(line.text, <const char *>"closing because: ", 17)
        memcpy(line.text + 17, text, n)
    else:
        memcpy(line.text, <const char *>"pooler error: ", 14)
        memcpy(line.text + 14, text, n)
    line.level = level
    line.worker = w.index
    line.id = c.id
    line.pool = c.pool
    if asked != NULL:
        memcpy(line.database, asked, min(strlen(asked), sizeof(line.database) - 1))
    line.peer = c.peer
    if user != NULL:
        memcpy(line.user, user, strlen(user))
    if closing:
        line.age_us = w.now_us - c.connect_us + 1
    mail.kind = MAIL_LOG
    mail.data = line
    mail.len = sizeof(LogRecord)
    mail.client = mail.server = mail.a = mail.b = 0
    if not plane_post(w, &mail):
        free(line)
