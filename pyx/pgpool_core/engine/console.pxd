"""A client of the console."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, Worker


cdef int console(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
