"""Replication: a client that has a server of its own, from the end of its login until either of them leaves.

Its server is opened with its startup parameters, because a walsender takes no SET, and greets it itself. Whatever the
pool's mode, the two stay together; a server that has lost its client is closed, never reused.
Source: PostgreSQL docs, "Streaming Replication Protocol".
"""

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker


cdef void dedicated_request(Worker *w, ClientConn *c) noexcept nogil
cdef void dedicated_adopt(Worker *w, ServerConn *s) noexcept nogil
cdef void dedicated_retire(Worker *w, ServerConn *s) noexcept nogil
cdef void dedicated_end(Worker *w, ServerConn *s, bint mid_message, bint orderly) noexcept nogil
