"""How control speaks to the workers: letters to one or all, notes in the record of a server."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.records cimport Plane, ServerConn


cdef bint tell(Plane *plane, uint32_t worker, uint32_t kind, uint64_t client, uint64_t a, bytes data)
cdef void tell_all(Plane *plane, uint32_t kind, uint64_t a, bytes data)
cdef void note(Plane *plane, ServerConn *s, uint32_t what) noexcept nogil
