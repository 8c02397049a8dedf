"""Statements that need a database without connections: control is told of them, so that it lets idle servers go."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport Plane, ServerConn, Worker


cdef void databases_text(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil
cdef void databases_done(Plane *plane, ServerConn *s) noexcept nogil
