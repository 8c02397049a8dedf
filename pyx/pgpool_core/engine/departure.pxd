"""Giving clients and servers that are at rest to another process (-R); where they come from, see arrival.pxd.

A client between transactions goes alone, also one that has been in the queue for long, with what it has sent; one that keeps its server (session mode,
pins) goes with it; an idle server goes alone. Those that are in the middle of something go when they are not any more.
"""

from pgpool_core.engine.records cimport ClientConn, Worker


cdef void depart(Worker *w) noexcept nogil
cdef bint client_departs(Worker *w, ClientConn *c) noexcept nogil
