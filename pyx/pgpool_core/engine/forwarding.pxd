"""Who is behind a load balancer: which connections begin with a PROXY header, and what becomes of it."""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Plane, Worker
from pgpool_core.engine.sys cimport pgpool_peer


cdef bint is_forwarded(Plane *plane, const pgpool_peer *peer) noexcept nogil
cdef int set_networks(Plane *plane, networks) except -1

# Use the header at the front of the login's input: from then on the client is whom it names. False while it is not whole, and at the end.
cdef bint forwarded(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
