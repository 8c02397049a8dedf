"""Statements that need a database without connections: control is told of them, so that it lets idle servers go."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport Plane, ServerConn, Worker


cdef void databases_look(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil
cdef void databases_done(Plane *plane, ServerConn *s) noexcept nogil


cdef inline void databases_text(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """A text goes to `s`, up to a zero or `n` bytes; where it is about databases, or functions that others call, control hears of it.

    Most are not by their first letter.
    """
    cdef uint8_t first = text[0] | 0x20 if n else 0
    if not 0x65 <= first <= 0x7A:                 # e to z: neither CREATE, ALTER, DROP nor what may stand in front
        databases_look(w, s, text, n)
