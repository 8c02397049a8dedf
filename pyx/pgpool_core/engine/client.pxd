"""A client after its login: what it sends, how it waits, how it leaves."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, Worker
from pgpool_core.pool.client cimport Client


cdef int client_bytes(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
cdef void client_granted(Worker *w, Client *seat) noexcept nogil
cdef void client_released(Worker *w, ClientConn *c) noexcept nogil
cdef void client_go_on(Worker *w, ClientConn *c) noexcept nogil
cdef void client_hangup(Worker *w, ClientConn *c) noexcept nogil
cdef void client_cancel(Worker *w, ClientConn *c) noexcept nogil
cdef void client_end(Worker *w, ClientConn *c, const uint8_t *message, size_t n, const char *reason) noexcept nogil
cdef void client_refuse(Worker *w, ClientConn *c, const char *sqlstate, const char *text,
                        const char *reason) noexcept nogil
cdef void client_fatal(Worker *w, ClientConn *c, const char *sqlstate, const char *text) noexcept nogil
cdef void client_leave(Worker *w, ClientConn *c) noexcept nogil
cdef void client_log(Worker *w, ClientConn *c, uint8_t level, const char *text, bint closing) noexcept nogil
