"""What the pooler itself asks of a server between clients: checks, resets, ROLLBACK, until it is clean."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ServerConn, Worker


cdef void server_chore(Worker *w, ServerConn *s, uint8_t chore) noexcept nogil
cdef bint chore_done(Worker *w, ServerConn *s) noexcept nogil
cdef bint server_settle(Worker *w, ServerConn *s) noexcept nogil
