"""Control's side of listening: room for its connections, and what they hear, on its way to the workers.

What is not `nogil` needs the GIL.
"""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Plane


cdef int listener_take(Plane *plane, uint32_t pool) except -1
cdef int listener_give(Plane *plane, uint32_t pool) except -1
cdef int tell_notified(Plane *plane, uint32_t worker, uint32_t pool, bytes messages) except -1
