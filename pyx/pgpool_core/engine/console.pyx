"""Messages of console clients; see console.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from pgpool_core.engine.client cimport client_next
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport conn_hold, plane_post, plane_wake
from pgpool_core.engine.mailbox cimport MAIL_CONSOLE, MAIL_CONSOLE_GONE, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport handle_of
from pgpool_core.sync.atomic cimport pgpool_store32
from pgpool_core.wire.scan cimport HEADER_LEN, Frame, scan_past


cdef int console(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil:
    """A console client: whole messages go to control one at a time, which answers each, if only with nothing."""
    cdef size_t pos = 0
    cdef Frame f
    cdef Mail mail
    cdef int r
    while not c.busy:
        r = client_next(w, c, &c.cur, STASH_MAX, data, n, &pos, &f)
        if r < 0:
            return 1
        if r == 0:
            break
        mail.kind = MAIL_CONSOLE
        mail.client = handle_of(&c.conn.head, <uint8_t>(w.index + 1))
        mail.server = c.id
        mail.a = c.is_admin
        mail.b = f.type
        mail.len = f.body_len
        mail.data = calloc(1, f.body_len + 1)
        if mail.data != NULL:
            memcpy(mail.data, data + pos + HEADER_LEN, f.body_len)
        if mail.data == NULL or not plane_post(w, &mail):
            free(mail.data)
            client_fatal(w, c, "53000", "console is overloaded")
            return 1
        c.busy = c.console = 1
        scan_past(&c.cur, &f, n, &pos)
    if not conn_hold(w, &c.conn, data + pos, n - pos):
        return 1
    c.conn.paused = c.busy
    return c.busy


cdef void console_tell(Worker *w, ClientConn *c, uint32_t kind) noexcept nogil:
    """Tell control that `c` has left or wants its command cancelled; a leaving that is lost leaves a mark."""
    cdef Mail mail
    mail.kind = kind
    mail.client = mail.server = mail.b = 0
    mail.a = c.id
    mail.data = NULL
    mail.len = 0
    if not plane_post(w, &mail) and kind == MAIL_CONSOLE_GONE:
        pgpool_store32(&w.plane.consoles_missed, 1)
        plane_wake(w.plane)
