"""The end of a client: its last message, its last log line."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, Worker
from pgpool_core.wire.span cimport Span


cdef void client_end(Worker *w, ClientConn *c, const uint8_t *message, size_t n, const char *reason) noexcept nogil
cdef void client_fatal(Worker *w, ClientConn *c, const char *sqlstate, const char *text) noexcept nogil
cdef void client_refuse(Worker *w, ClientConn *c, const char *sqlstate, const char *text,
                        const char *reason) noexcept nogil
cdef void client_parts(Worker *w, ClientConn *c) noexcept nogil
cdef void with_name(Worker *w, ClientConn *c, const char *sqlstate, const char *before, Span name,
                    const char *after) noexcept nogil
cdef void protocol_error(Worker *w, ClientConn *c, const uint8_t *header) noexcept nogil
cdef void uncount(Worker *w, ClientConn *c) noexcept nogil
cdef void client_free(Worker *w, ClientConn *c) noexcept nogil
cdef void client_leave(Worker *w, ClientConn *c) noexcept nogil
cdef void client_gone(Worker *w, ClientConn *c) noexcept nogil
cdef void client_log(Worker *w, ClientConn *c, uint8_t level, const char *text, bint closing) noexcept nogil
