"""New clients: off a listener, or from a worker that has more."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Listener, Plane, Worker
from pgpool_core.engine.sys cimport pgpool_peer


cdef void up_accept(Worker *w, uint32_t index) noexcept nogil
cdef void new_client(Worker *w, int fd, const pgpool_peer *peer) noexcept nogil
cdef void listener_options(Plane *plane, Listener *listener) noexcept nogil
