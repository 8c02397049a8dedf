"""DROP DATABASE and its like; see databases.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pgpool_core.engine.conn cimport plane_post, plane_wake
from pgpool_core.engine.functions cimport functions_unwatched
from pgpool_core.engine.mailbox cimport MAIL_DATABASE, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_store32

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    MAX_TEXT = 1024               # bytes of such a statement that are looked at


cdef inline bint is_space(uint8_t b) noexcept nogil:
    return b == 0x20 or 0x09 <= b <= 0x0D


cdef size_t past_gap(const uint8_t *text, size_t n, size_t at) noexcept nogil:
    """The first byte at or behind `at` that is neither blank nor in a comment."""
    cdef uint32_t depth = 0
    while at < n:
        if depth == 0 and is_space(text[at]):
            at += 1
        elif depth == 0 and text[at] == 0x2D and n - at > 1 and text[at + 1] == 0x2D:
            while at < n and text[at] != 0x0A and text[at] != 0x0D:
                at += 1
        elif text[at] == 0x2F and n - at > 1 and text[at + 1] == 0x2A:
            depth += 1
            at += 2
        elif depth and text[at] == 0x2A and n - at > 1 and text[at + 1] == 0x2F:
            depth -= 1
            at += 2
        elif depth:
            at += 1
        else:
            break
    return at


cdef bint is_about(const uint8_t *text, size_t n) noexcept nogil:
    """Whether a text begins with CREATE, ALTER or DROP and DATABASE."""
    cdef size_t word, next
    if n == 0:
        return False
    if text[0] | 0x20 == 0x63:                    # 'c'
        word = 6 if n > 6 and strncasecmp(<const char *>text, "create", 6) == 0 else 0
    elif text[0] | 0x20 == 0x61:
        word = 5 if n > 5 and strncasecmp(<const char *>text, "alter", 5) == 0 else 0
    elif text[0] | 0x20 == 0x64:
        word = 4 if n > 4 and strncasecmp(<const char *>text, "drop", 4) == 0 else 0
    else:
        return False
    next = past_gap(text, n, word)
    if word == 0 or next == word:
        return False
    return n - next > 9 and strncasecmp(<const char *>text + next, "database", 8) == 0 and not (
        0x30 <= text[next + 8] <= 0x39 or 0x61 <= text[next + 8] | 0x20 <= 0x7A or text[next + 8] == 0x5F)


cdef void databases_look(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """Look behind blanks and comments."""
    cdef Mail mail
    cdef size_t gap
    cdef bint first
    n = strnlen(<const char *>text, n)
    functions_unwatched(w, s, text, n)
    gap = past_gap(text, n, 0)
    text += gap
    n -= gap
    if not is_about(text, n):
        return
    mail.kind = MAIL_DATABASE
    mail.client = mail.server = mail.a = mail.b = 0
    mail.len = <uint32_t>n if n < MAX_TEXT else MAX_TEXT
    mail.data = malloc(mail.len)
    if mail.data == NULL:
        return
    memcpy(mail.data, text, mail.len)
    first = not s.database_ddl
    if first:
        s.database_ddl = 1
        pgpool_add32(&w.plane.databases_open, 1)
    if plane_post(w, &mail):
        return
    free(mail.data)
    if first:
        databases_done(w.plane, s)


cdef void databases_done(Plane *plane, ServerConn *s) noexcept nogil:
    """The transaction with that text is over; control hears of it when that was the last one."""
    s.database_ddl = 0
    if pgpool_add32(&plane.databases_open, -1) == 0:
        pgpool_store32(&plane.databases_news, 1)
        plane_wake(plane)
