"""What follows a transaction that may have left something: one question to PostgreSQL (`session.probe`), whose answer alone decides what
follows the client, and what pins it; or the memory of what the same text did before."""

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.session.settings cimport Block


cdef enum:
    MAX_ANSWER = 1 << 22          # bytes of an answer; more is not understood


cdef bint inquiry_keeps(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef bint inquiry_last(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef void inquiry_answered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef void inquiry_left(Worker *w, ServerConn *s) noexcept nogil
cdef void inquiry_part(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef void inquiry_cleaned(Worker *w, ServerConn *s) noexcept nogil
cdef void inquiry_free(ServerConn *s) noexcept nogil
cdef bint inquiry_lost(Worker *w, ServerConn *s, const Block *now) noexcept nogil
