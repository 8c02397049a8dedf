"""Queries of console clients; see console.pxd."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from pgpool_core.engine.client cimport client_next
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport conn_hold, conn_send, plane_post
from pgpool_core.engine.mailbox cimport MAIL_CONSOLE, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport handle_of
from pgpool_core.wire.build cimport build_error, build_ready
from pgpool_core.wire.codes cimport FE_FLUSH, FE_QUERY, FE_SYNC, TX_IDLE
from pgpool_core.wire.scan cimport HEADER_LEN, Cursor, Frame, scan_past


cdef int console(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """A console client: whole Query messages go to control one at a time, the extended protocol is refused."""
    cdef size_t pos = 0, length
    cdef Cursor cur
    cdef Frame f
    cdef Mail mail
    cdef int r
    cur.remain = 0
    cur.type = 0
    while not c.busy:
        r = client_next(w, c, &cur, STASH_MAX, data, n, &pos, &f)
        if r < 0:
            return 1
        if r == 0:
            break
        if f.type == FE_QUERY:
            mail.kind = MAIL_CONSOLE
            mail.client = handle_of(&c.conn.head, <uint8_t>(w.index + 1))
            mail.server = mail.b = 0
            mail.a = c.is_admin
            mail.len = f.body_len
            mail.data = calloc(1, f.body_len + 1)
            if mail.data != NULL:
                memcpy(mail.data, data + pos + HEADER_LEN, f.body_len)
            if mail.data == NULL or not plane_post(w, &mail):
                free(mail.data)
                client_fatal(w, c, "53000", "console is overloaded")
                return 1
            c.busy = 1
        elif f.type == FE_SYNC:
            c.skip_to_sync = 0
            conn_send(w, &c.conn, w.scratch, build_ready(w.scratch, SCRATCH_SIZE, TX_IDLE))
        elif not c.skip_to_sync and f.type != FE_FLUSH:
            c.skip_to_sync = 1
            length = build_error(w.scratch, SCRATCH_SIZE, "ERROR", "08P01",
                                 "extended query protocol not supported by admin console", NULL)
            conn_send(w, &c.conn, w.scratch, length)
        scan_past(&cur, &f, n, &pos)
    conn_hold(w, &c.conn, data + pos, n - pos)
    c.conn.paused = c.busy
    return c.busy
