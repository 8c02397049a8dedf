"""The end of a server: told good-bye, given up, lost, gone."""

from pgpool_core.engine.records cimport ServerConn, Worker


cdef void server_close(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_quit(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_drop(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_lost(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_unsent(Worker *w, ServerConn *s) noexcept nogil
cdef void server_gone(Worker *w, ServerConn *s) noexcept nogil
cdef void server_outdated(Worker *w, ServerConn *s) noexcept nogil
