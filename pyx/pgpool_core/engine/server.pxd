"""A server in the data plane: its answers, its chores, its end."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ServerConn, Worker
from pgpool_core.pool.client cimport Client


cdef int server_bytes(Worker *w, ServerConn *s, uint8_t *data, size_t n) noexcept nogil
cdef void server_lost(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_quit(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_stirs(Worker *w, ServerConn *s) noexcept nogil
cdef void server_orphan(Worker *w, ServerConn *s, bint mid_message, bint orderly) noexcept nogil
cdef bint server_settle(Worker *w, ServerConn *s) noexcept nogil
cdef void server_free(Worker *w, ServerConn *s) noexcept nogil
cdef void server_chore(Worker *w, ServerConn *s, uint8_t chore) noexcept nogil
cdef void server_drains(Worker *w, ServerConn *s) noexcept nogil
cdef void server_ask_cancel(Worker *w, ServerConn *s) noexcept nogil
cdef void server_cancel_done(Worker *w, ServerConn *s) noexcept nogil
cdef void server_close(Worker *w, ServerConn *s, const char *reason) noexcept nogil
cdef void server_gone(Worker *w, ServerConn *s) noexcept nogil
cdef void push_grant(Worker *to, Client *seat) noexcept nogil
cdef void servers_go_back(Worker *w) noexcept nogil
