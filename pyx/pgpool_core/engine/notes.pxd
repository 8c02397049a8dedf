"""What a server's worker must hear from others, noted in the server's record and stacked on that worker.

A record on a stack keeps its slot: one that has gone meanwhile is freed by whoever takes it off.
"""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Plane, ServerConn


cdef void note(Plane *plane, ServerConn *s, uint32_t what) noexcept nogil
cdef uint32_t notes_taken(Plane *plane, ServerConn *s) noexcept nogil
cdef void slot_forget(Plane *plane, ServerConn *s) noexcept nogil
