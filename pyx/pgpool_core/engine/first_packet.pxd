"""What a connection begins with: requests for TLS or GSSAPI, TLS without a request, a cancel request, and then the startup packet."""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker


# Use one of them out of the login's input. False: it is not whole, or it was the end, or more has to be received first.
cdef bint first_packet(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
