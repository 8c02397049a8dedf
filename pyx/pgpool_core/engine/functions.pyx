"""Functions with effects of their own; see functions.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, strlen

from pgpool_core.engine.conn cimport plane_wake
from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.records cimport *
from pgpool_core.pool.pool cimport MAX_POOLS
from pgpool_core.session.effects cimport effects_valid
from pgpool_core.session.known cimport known_forget
from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load64, pgpool_store32, pgpool_store64

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)


cdef const Effects *functions_of(Worker *w, const PoolRecord *pool) noexcept nogil:
    """What is known; NULL: nothing."""
    cdef uint32_t mark = pgpool_load32(&pool.functions)
    return w.effects[mark - 1] if mark else NULL


cdef bint runs(uint8_t verb) noexcept nogil:
    """A statement with this verb may call functions."""
    return verb > VERB_NONE and not (VERB_SET <= verb <= VERB_RELEASE or VERB_DEALLOCATE <= verb <= VERB_NOTIFY
                                     or verb == VERB_CLOSE or verb == VERB_LOAD)


cdef bint mentions(const uint8_t *text, size_t n, const char *word) noexcept nogil:
    cdef size_t length = strlen(word)
    cdef size_t i
    for i in range(n - length + 1 if n >= length else 0):
        if strncasecmp(<const char *>text + i, word, length) == 0:
            return True
    return False


cdef bint may_create(const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil:
    """Whether a DO block, or what a function is to run, has the words for changing functions, or what calls them."""
    return (mentions(text, n, "create") or mentions(text, n, "alter")) and (
        scan.hidden or mentions(text, n, "function") or mentions(text, n, "procedure") or mentions(text, n, "trigger")
        or mentions(text, n, "view") or mentions(text, n, "rule"))


cdef inline uint32_t hidden_by(const SqlScan *scan) noexcept nogil:
    """What the names in the text lead to. Where one is in a definition, something else may lead there from now on."""
    if scan.hidden and scan.flags & SQL_DDL:
        return scan.hidden | SQL_FUNCTION_DDL
    return scan.hidden


cdef uint32_t functions_look(Worker *w, ClientConn *c, ServerConn *s, const SqlScan *scan, const uint8_t *text,
                             size_t n) noexcept nogil:
    """functions_text, where there may be something."""
    cdef uint32_t hidden = hidden_by(scan)
    if pgpool_load32(&c.pool.functions) == 0:
        return 0
    if (scan.flags | hidden) & SQL_FUNCTION_DDL \
            or ((scan.flags | hidden) & SQL_OPAQUE and may_create(scan, text, n)):
        s.function_ddl = 1
    if (runs(scan.verb) or scan.statements > 1) and functions_stale(w, c.pool) and c.pool.session_state != SESSION_PIN:
        hidden |= SQL_OPAQUE
    return hidden | SQL_HIDDEN if hidden else 0


cdef uint32_t functions_used(Worker *w, ClientConn *c, Statement *statement) noexcept nogil:
    """functions_statement, where there may be something."""
    cdef const Effects *known = functions_of(w, c.pool)
    cdef const uint8_t *end
    cdef uint64_t seen
    cdef SqlScan scan
    if pgpool_load32(&c.pool.functions) == 0:
        return 0
    if functions_stale(w, c.pool) and c.pool.session_state != SESSION_PIN:
        return SQL_OPAQUE | SQL_HIDDEN
    if known == NULL or known.count == 0:
        return 0
    seen = pgpool_load64(&statement.hidden)
    if <uint32_t>(seen >> 32) != known.generation:
        end = <const uint8_t *>memchr(statement.data, 0, statement.len)
        scan_sql(statement.data, end - statement.data if end != NULL else statement.len, READ_UNKNOWN | READ_TRAILING,
                 known, &scan)
        seen = <uint64_t>known.generation << 32 | hidden_by(&scan)
        pgpool_store64(&statement.hidden, seen)
    return <uint32_t>seen | SQL_HIDDEN if <uint32_t>seen else 0


cdef void functions_changed(Plane *plane, ServerConn *s) noexcept nogil:
    """A transaction that may have changed functions has ended on `s`, or a text before the last of a pipeline has."""
    cdef uint32_t mark = pgpool_load32(&s.pool.functions)
    if s.expect.owed == 0:
        s.function_ddl = 0
    if mark:
        pgpool_add32(&plane.marks[mark - 1].changes, 1)
        pgpool_store32(&plane.functions_news, 1)
        plane_wake(plane)


cdef void functions_mail(Worker *w, Mail *mail) noexcept nogil:
    """Control knows better."""
    if mail.a >= MAX_POOLS or not effects_valid(<const Effects *>mail.data, mail.len):
        return
    known_forget(w.known)
    free(w.effects[mail.a])
    w.effects[mail.a] = <Effects *>mail.data
    mail.data = NULL


cdef void functions_free(Worker *w) noexcept nogil:
    """The end of `w`."""
    cdef uint32_t i
    if w.effects != NULL:
        for i in range(MAX_POOLS):
            free(w.effects[i])
    free(w.effects)
