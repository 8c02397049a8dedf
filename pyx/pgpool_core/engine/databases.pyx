"""DROP DATABASE and its like; see databases.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pgpool_core.engine.conn cimport plane_post, plane_wake
from pgpool_core.engine.mailbox cimport MAIL_DATABASE, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.sync.atomic cimport pgpool_store32

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    MAX_TEXT = 1024               # bytes of such a statement that are looked at


cdef inline bint is_space(uint8_t b) noexcept nogil:
    return b == 0x20 or 0x09 <= b <= 0x0D


cdef bint is_about(const uint8_t *text, size_t n) noexcept nogil:
    """Whether a text begins with CREATE, ALTER or DROP and DATABASE."""
    cdef size_t at = 0
    cdef size_t word
    while at < n and is_space(text[at]):
        at += 1
    if at == n:
        return False
    if text[at] | 0x20 == 0x63:                   # 'c'
        word = 6 if n - at > 6 and strncasecmp(<const char *>text + at, "create", 6) == 0 else 0
    elif text[at] | 0x20 == 0x61:
        word = 5 if n - at > 5 and strncasecmp(<const char *>text + at, "alter", 5) == 0 else 0
    elif text[at] | 0x20 == 0x64:
        word = 4 if n - at > 4 and strncasecmp(<const char *>text + at, "drop", 4) == 0 else 0
    else:
        return False
    at += word
    if word == 0 or not is_space(text[at]):
        return False
    while at < n and is_space(text[at]):
        at += 1
    return n - at > 9 and strncasecmp(<const char *>text + at, "database", 8) == 0 and not (
        0x30 <= text[at + 8] <= 0x39 or 0x61 <= text[at + 8] | 0x20 <= 0x7A or text[at + 8] == 0x5F)


cdef void databases_text(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """A text goes to `s`; where it is about databases, control hears of it."""
    cdef Mail mail
    if not is_about(text, n):
        return
    mail.kind = MAIL_DATABASE
    mail.client = mail.server = mail.a = mail.b = 0
    mail.len = <uint32_t>n if n < MAX_TEXT else MAX_TEXT
    mail.data = malloc(mail.len)
    if mail.data == NULL:
        return
    memcpy(mail.data, text, mail.len)
    if plane_post(w, &mail):
        s.database_ddl = 1
    else:
        free(mail.data)


cdef void databases_done(Plane *plane, ServerConn *s) noexcept nogil:
    """The transaction with that text is over."""
    s.database_ddl = 0
    pgpool_store32(&plane.databases_news, 1)
    plane_wake(plane)
