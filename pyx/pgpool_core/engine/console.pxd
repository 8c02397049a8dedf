"""A client of the console."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport ClientConn, Worker


cdef int console(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
cdef void console_tell(Worker *w, ClientConn *c, uint32_t kind) noexcept nogil
