"""The end of a login that has succeeded."""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker


cdef void greet(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef void greet_console(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
