"""What a startup packet asks for besides database and user."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Plane, PoolRecord, Worker
from pgpool_core.wire.span cimport Span


cdef int choose_settings(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef bint followed(Plane *plane, PoolRecord *pool, Span name, uint8_t *room, Span *canonical) noexcept nogil
cdef bint ignored(Plane *plane, Span name) noexcept nogil
