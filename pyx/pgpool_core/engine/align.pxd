"""How a server stands, and making it stand as its client wants it."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.session.settings cimport Block
from pgpool_core.wire.scan cimport Frame
from pgpool_core.wire.span cimport Span


cdef void server_stands(Worker *w, ServerConn *s, Block *settings) noexcept nogil
cdef void settings_aligned(Worker *w, ServerConn *s) noexcept nogil
cdef bint settings_seem_reset(const ClientConn *c, const ServerConn *s) noexcept nogil
cdef bint settings_end(ClientConn *c, const Frame *f, const uint8_t *body, size_t have) noexcept nogil
cdef void settings_align(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil
cdef void settings_tell(Worker *w, ClientConn *c, const Block *now) noexcept nogil
cdef uint8_t rights_of(Span name, Span value) noexcept nogil      # RIGHTS_UNKNOWN: another parameter
cdef void rights_tell(Worker *w, ClientConn *c, const ServerConn *s) noexcept nogil


cdef inline bint settings_differ(const ClientConn *c, const ServerConn *s) noexcept nogil:
    """Whether settings_align has something to do for `c` on a server that it has not had just before."""
    if c.settings != s.settings:
        return True
    if c.start == c.settings or c.start == c.pool.resets or c.start == NULL:
        return False
    return settings_seem_reset(c, s)
