"""Clients that log in or have hung up, and wait for their share of a turn (`share`): everybody else is read before them.

First come, first served. They are remembered by handle, so that nobody has to be looked for who ends meanwhile.
"""

from pgpool_core.engine.records cimport CL_LOGIN, KIND_CLIENT, ClientConn, Conn, Crowd, Worker


cdef inline bint crowd_has(const Conn *c) noexcept nogil:
    """Whether `c` is one of those who have a share only."""
    return c.kind == KIND_CLIENT and (c.hup or (<const ClientConn *>c).state == CL_LOGIN)


cdef bint crowd_goes_on(Worker *w) noexcept nogil                 # whether one of them is read now, which then counts
cdef void crowd_add(Worker *w, Conn *c) noexcept nogil            # `c` is read when its share comes
cdef Conn *crowd_next(Worker *w) noexcept nogil                   # takes the first one; NULL where that has ended
cdef void crowd_free(Crowd *crowd) noexcept nogil
