"""A client after its login: what it sends, what it waits for."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport ClientConn, Worker
from pgpool_core.pool.client cimport Client
from pgpool_core.wire.scan cimport Cursor, Frame


cdef int client_bytes(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
cdef int client_next(Worker *w, ClientConn *c, Cursor *cur, uint32_t max_body, const uint8_t *data, size_t n,
                     size_t *pos, Frame *f) noexcept nogil
cdef void client_request(Worker *w, ClientConn *c) noexcept nogil
cdef void client_granted(Worker *w, Client *seat) noexcept nogil
cdef void client_released(Worker *w, ClientConn *c) noexcept nogil
cdef void client_drain(Worker *w, ClientConn *c) noexcept nogil
cdef void client_go_on(Worker *w, ClientConn *c) noexcept nogil
