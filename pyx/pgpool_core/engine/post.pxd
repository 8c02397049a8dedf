"""How control speaks to the workers: letters to one or all. What is to be done with a server is noted; see notes.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.records cimport Plane


cdef bint post(Plane *plane, uint32_t worker, const Mail *mail) noexcept nogil     # False: its ring is full
cdef bint tell(Plane *plane, uint32_t worker, uint32_t kind, uint64_t client, uint64_t a, bytes data)
cdef bint tell_all(Plane *plane, uint32_t kind, uint64_t a, bytes data)
