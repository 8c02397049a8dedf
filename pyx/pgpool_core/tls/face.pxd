"""Contexts and sessions as Python objects, for control and for tests; the workers use the structs inside."""

from pgpool_core.tls.context cimport TlsContext
from pgpool_core.tls.session cimport TlsSession


cdef class Context:
    cdef TlsContext *context      # held


# A Session for a struct, which moves to it and leaves NULL; None for NULL.
cdef object session_taken(TlsSession **at)


cdef class Session:
    cdef TlsSession *session      # owned; NULL once it has been given away
    cdef object context           # Context

    cdef TlsSession *own(self) except NULL
    cdef int verdict(self, int status) except -1
    # The struct, which moves to the caller; what nobody has received yet and what is left to be sent stay with the object.
    cdef TlsSession *give(self) except NULL
