"""What workers accept from: the listening sockets, which are control's. Needs the GIL."""

from libc.stdint cimport uint16_t

from pgpool_core.engine.records cimport Plane


cdef int listeners_add(Plane *plane, int fd, bint is_unix, uint16_t port, bint late) except -1
cdef void listeners_drop(Plane *plane) noexcept nogil
cdef bint listeners_let_go(Plane *plane, bint tcp_only)
cdef void listeners_tune(Plane *plane) noexcept nogil
