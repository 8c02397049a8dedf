"""A worker: one thread, one loop, no GIL."""

from pgpool_core.engine.records cimport Io, Plane, Worker


cdef bint worker_init(Worker *w, Plane *plane, unsigned int index, const Io *io) noexcept nogil
cdef void worker_run(Worker *w) noexcept nogil
cdef void worker_close(Worker *w) noexcept nogil
cdef void worker_free(Worker *w) noexcept nogil
