"""A server whose client has left: what runs is cancelled, the answers are drained."""

from libc.stdint cimport uint64_t

from pgpool_core.engine.records cimport ServerConn, Worker


cdef void server_orphan(Worker *w, ServerConn *s, bint mid_message, bint orderly) noexcept nogil
cdef void server_unsure(ServerConn *s) noexcept nogil
cdef bint server_ends_copy(Worker *w, ServerConn *s) noexcept nogil
cdef void server_drains(Worker *w, ServerConn *s) noexcept nogil
cdef void server_lingers(Worker *w, ServerConn *s) noexcept nogil
cdef bint server_ask_cancel(Worker *w, ServerConn *s, uint64_t canceller) noexcept nogil
cdef void server_cancel_done(Worker *w, ServerConn *s) noexcept nogil
