"""What holds for every client, where it is more than a number: names, a notice, certificates. Needs the GIL."""

from pgpool_core.engine.records cimport Plane
from pgpool_core.tls.face cimport Context


cdef int rules_ignore(Plane *plane, names) except -1
cdef int rules_track(Plane *plane, names) except -1
cdef int rules_notice(Plane *plane, bytes text) except -1
cdef int rules_tls(Plane *plane, Context context, bint required) except -1
