"""What functions of users may do to a session, as control has read it from the catalogs: each worker has a copy.

A pool belongs to a database by number (`PoolRecord.functions`); pools of the same database share its `FunctionsMark`. A
text that changes functions makes what is known of them *stale* when its transaction ends: until control has read them
again, every text that may call one counts as suspicious. So does, within the transaction, every text behind it.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.meanings cimport DDL_FUNCTIONS
from pgpool_core.engine.records cimport ClientConn, FunctionsMark, Plane, PoolRecord, ServerConn, Worker
from pgpool_core.session.effects cimport Effects
from pgpool_core.session.sqlscan cimport PROVED_NONE, SqlScan
from pgpool_core.session.sqlwords cimport SQL_DDL, SQL_FUNCTION_DDL, SQL_OPAQUE, VERB_COMMIT
from pgpool_core.statements.text cimport Statement
from pgpool_core.sync.atomic cimport pgpool_load32


cdef enum:
    SQL_HIDDEN = 1 << 27          # beside SQL_*: the text does not say it, nor which settings it is about
    SQL_STALE = 1 << 28           # beside SQL_OPAQUE: only because it is not known what functions do


cdef const Effects *functions_of(Worker *w, const PoolRecord *pool) noexcept nogil
cdef bint mentions(const uint8_t *text, size_t n, const char *word) noexcept nogil      # anywhere, in any case
cdef uint32_t functions_look(Worker *w, ClientConn *c, ServerConn *s, const SqlScan *scan, const uint8_t *text,
                             size_t n) noexcept nogil
cdef uint32_t functions_used(Worker *w, ClientConn *c, ServerConn *s, Statement *statement) noexcept nogil
cdef void functions_value(ServerConn *s, const uint8_t *value, size_t n) noexcept nogil
cdef void functions_unwatched(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil
cdef void functions_changed(Plane *plane, ServerConn *s) noexcept nogil
cdef void functions_mail(Worker *w, Mail *mail) noexcept nogil
cdef void functions_free(Worker *w) noexcept nogil


cdef inline bint functions_stale(Worker *w, const PoolRecord *pool) noexcept nogil:
    """What is known is not the latest, and control is about to know better."""
    cdef uint32_t number = pgpool_load32(&pool.functions)
    cdef FunctionsMark *mark
    cdef const Effects *known
    if number == 0:
        return False
    mark = &w.plane.marks[number - 1]
    known = w.effects[number - 1]
    return pgpool_load32(&mark.known) and (known == NULL or known.serial != pgpool_load32(&mark.changes))


cdef inline bint misreads(const ClientConn *c) noexcept nogil:
    """Characters of `c` may have bytes that stand for others by themselves: names in its texts may be other ones."""
    return c.settings != NULL and c.settings.trailing


cdef inline bint ends_prepared(const SqlScan *scan) noexcept nogil:
    """The text may be COMMIT PREPARED."""
    return scan.verb == VERB_COMMIT and scan.proved == PROVED_NONE


cdef inline uint32_t functions_text(Worker *w, ClientConn *c, ServerConn *s, const SqlScan *scan, const uint8_t *text,
                                    size_t n) noexcept nogil:
    """What the text scanned last may do through what it calls: SQL_*, and SQL_HIDDEN; 0 = nothing, as most texts do."""
    if (scan.hidden | scan.flags & (SQL_FUNCTION_DDL | SQL_OPAQUE | SQL_DDL)) == 0 and not ends_prepared(scan) \
            and not s.function_ddl & DDL_FUNCTIONS and not misreads(c) and not functions_stale(w, c.pool):
        return 0
    return functions_look(w, c, s, scan, text, n)


cdef inline uint32_t functions_statement(Worker *w, ClientConn *c, ServerConn *s, Statement *statement) noexcept nogil:
    """The same for a named statement that is used again: functions may have changed since it was parsed."""
    cdef uint32_t number = pgpool_load32(&c.pool.functions)
    cdef const Effects *known = w.effects[number - 1] if number else NULL
    if (known == NULL or known.count == 0) and not s.function_ddl & DDL_FUNCTIONS and not misreads(c) and not functions_stale(w, c.pool):
        return 0
    return functions_used(w, c, s, statement)
