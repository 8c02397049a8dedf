"""The way of a linked client's bytes to its server: nothing but the headers is looked at, and what session state and statements need."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, Worker

cdef int relay(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
