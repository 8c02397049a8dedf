"""What logins are checked against, as control tells it. Needs the GIL."""

from pgpool_core.engine.records cimport Plane


cdef int secret_set(Plane *plane, bytes user, bytes database, bytes plain, bytes md5, scram, bint asks_key) except -1
cdef int secret_nobody(Plane *plane, bytes user, bytes database) except -1
cdef int secret_forget(Plane *plane, bytes user, bytes database) except -1
