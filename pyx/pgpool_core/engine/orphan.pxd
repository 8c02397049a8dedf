"""A server whose client has left: what runs is cancelled, the answers are drained."""

from pgpool_core.engine.records cimport ServerConn, Worker


cdef void server_orphan(Worker *w, ServerConn *s, bint mid_message, bint orderly) noexcept nogil
cdef void server_drains(Worker *w, ServerConn *s) noexcept nogil
cdef void server_ask_cancel(Worker *w, ServerConn *s) noexcept nogil
cdef void server_cancel_done(Worker *w, ServerConn *s) noexcept nogil
