"""What there is in the plane, for the console and for tests. Needs the GIL."""

from pgpool_core.engine.records cimport Plane


cdef list server_rows(Plane *plane)
cdef list memory_rows(Plane *plane)
cdef list worker_rows(Plane *plane)
cdef list pool_rows(Plane *plane)
cdef list empty_pools(Plane *plane)
cdef tuple login_counts(Plane *plane)
cdef dict count_all(Plane *plane)
cdef list find_wrong(Plane *plane)
