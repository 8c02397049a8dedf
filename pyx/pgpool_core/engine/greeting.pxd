"""The end of a login that has succeeded."""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, ServerConn, Worker


cdef void greet(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef void greet_dedicated(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil
cdef void greet_console(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
