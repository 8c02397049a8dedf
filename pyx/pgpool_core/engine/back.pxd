"""RESET, SET ... TO DEFAULT and DISCARD: what a text gives up goes back to what its client began with.

At the end of a transaction the probe says how the server stands, and what a text of the transaction has given up gets its
value of the beginning in the client's block (`inquiry`). Custom settings and roles do not say there whether somebody has
given them up or has set them so; the text has to. Inside a transaction block the values of the beginning are set at once,
by a query of ours behind the client's.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.session.sqlscan cimport SqlScan
from pgpool_core.wire.span cimport Span


cdef uint32_t back_flags(ServerConn *s, const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil
cdef bint back_meant(const ServerConn *s, Span name, bint standing) noexcept nogil
cdef bint back_may(const ClientConn *c, const ServerConn *s) noexcept nogil
cdef void back_take(Worker *w, ClientConn *c, ServerConn *s, uint32_t before) noexcept nogil
cdef int back_send(Worker *w, ServerConn *s) noexcept nogil
