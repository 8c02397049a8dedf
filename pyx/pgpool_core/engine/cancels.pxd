"""Cancel requests that another process brings. Needs the GIL."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.records cimport Plane


cdef bint cancel_find(Plane *plane, bytes key)
cdef bint cancel_moved(Plane *plane, uint64_t client_id, uint32_t worker, uint64_t canceller)
