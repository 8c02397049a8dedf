"""Names that may be settings, collected for a server: PostgreSQL's catalogues do not list custom ones, so they are asked for by name."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ServerConn, Worker
from pgpool_core.session.sqlscan cimport SQL_EXECUTES, SQL_OPAQUE, SQL_SETS


cdef enum:
    NAMING = SQL_SETS | SQL_OPAQUE | SQL_EXECUTES      # a setting's name may be in the text
    WENT_BACK = 1 << 31           # beside SQL_*: the text gives all settings up, or some; which, it does not say plainly
    WENT_BACK_WHOLLY = 1 << 22    # beside WENT_BACK: DISCARD ALL has been done, which gives up the role, too
    SQL_UNSEEN = 1 << 25          # it names a setting that pg_settings hides from most roles
    WENT_BACK_ONE = 1 << 26       # it gives up one: `gave_up` of the server


cdef void names_in(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil
cdef void names_in_part(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil
cdef void names_quoted(ServerConn *s, const uint8_t *text, size_t n) noexcept nogil
cdef void names_hidden(Worker *w, ServerConn *s) noexcept nogil
cdef void names_lost(ServerConn *s) noexcept nogil
cdef void names_done(ServerConn *s) noexcept nogil
