"""A server in the data plane: its answers, its way back to the pool."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.pool.client cimport Client


cdef int server_bytes(Worker *w, ServerConn *s, uint8_t *data, size_t n) noexcept nogil
cdef void server_stirs(Worker *w, ServerConn *s) noexcept nogil
cdef void server_free(Worker *w, ServerConn *s) noexcept nogil
cdef bint server_idles(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef bint push_grant(Worker *to, Client *seat) noexcept nogil
cdef void servers_go_back(Worker *w) noexcept nogil
cdef int server_parameter(Worker *w, ServerConn *s, ClientConn *c, const uint8_t *body, uint32_t n, bint swallow) noexcept nogil


cdef inline ClientConn *client_of(ServerConn *s) noexcept nogil:
    return <ClientConn *>s.seat.client.owner if s.seat.client != NULL else NULL


cdef inline bint half_told(const ServerConn *s) noexcept nogil:
    """The client has only a part of the message that `s` sends: what is sent to it now would be read as the rest."""
    return s.cur.remain != 0 and not s.swallowing
