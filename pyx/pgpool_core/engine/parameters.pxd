"""What a startup packet asks for besides database and user."""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Plane, Worker
from pgpool_core.wire.span cimport Span


cdef int choose_settings(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef bint ignored(Plane *plane, Span name) noexcept nogil
