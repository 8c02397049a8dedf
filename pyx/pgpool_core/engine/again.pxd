"""Going through those that are to be read again; the list is kept by `conn`."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.conn cimport conn_not_again
from pgpool_core.engine.records cimport Conn, Worker


cdef inline uint32_t conns_again(const Worker *w) noexcept nogil:
    """How many there are. Who comes on the list while they are read has the next turn."""
    cdef const Conn *c = w.again_head
    cdef uint32_t n = 0
    while c != NULL:
        n += 1
        c = c.again_next
    return n


cdef inline Conn *conn_next_again(Worker *w) noexcept nogil:
    """Take the first one off the list; NULL when there is none. The others stay on it: reading one may take off another."""
    cdef Conn *c = w.again_head
    if c != NULL:
        conn_not_again(w, c)
    return c
