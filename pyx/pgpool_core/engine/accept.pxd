"""New clients: off a listener, or from a worker that has more."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Worker


cdef void up_accept(Worker *w, uint32_t index) noexcept nogil
cdef void new_client(Worker *w, int fd) noexcept nogil
