"""What the text of a named statement depends on beside its bytes: settings, tables, and whether anybody knows these."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.engine.records cimport ClientConn, Plane, ServerConn
from pgpool_core.session.sqlscan cimport SQL_DDL, SQL_DISCARDS, SQL_FUNCTION_DDL, SQL_OPAQUE, SQL_SETS, SQL_TEMPS, SqlScan
from pgpool_core.statements.text cimport Statement


cdef enum:
    DDL_FUNCTIONS = 1             # bits of `function_ddl` of a server
    DDL_TABLES = 2                # those whose names are in `changing`
    DDL_ANY = 4                   # of what there may be: which, is not known

    SQL_UNSETTLES = 1 << 24       # beside SQL_*: what texts mean may not be what it was, until its transaction is over
    SQL_CHANGES = 1 << 23         # beside SQL_*: it may change tables, types or what else texts are about

    MAY_UNSETTLE = SQL_SETS | SQL_TEMPS | SQL_DISCARDS | SQL_OPAQUE | SQL_DDL | SQL_FUNCTION_DDL


cdef uint64_t meanings_salt(const ClientConn *c) noexcept nogil
cdef uint64_t meanings_span(const ClientConn *c, ServerConn *s) noexcept nogil
cdef uint32_t meanings_look(ServerConn *s, const SqlScan *scan, uint32_t hidden, const uint8_t *text, size_t n,
                            bint is_parse) noexcept nogil
cdef void meanings_used(ServerConn *s, uint32_t flags, const Statement *statement) noexcept nogil
cdef void meanings_lost(ServerConn *s) noexcept nogil
cdef void meanings_changed(Plane *plane, ServerConn *s) noexcept nogil


cdef inline uint32_t meanings_text(ServerConn *s, const SqlScan *scan, uint32_t hidden, const uint8_t *text, size_t n,
                                   bint is_parse) noexcept nogil:
    """The text scanned last goes to `s`: SQL_UNSETTLES and SQL_CHANGES as far as they are true, and written down.

    What is only parsed does nothing before its Bind (meanings_used).
    """
    return meanings_look(s, scan, hidden, text, n, is_parse) if (scan.flags | hidden) & MAY_UNSETTLE else 0
