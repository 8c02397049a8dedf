"""SUSPEND: a worker stands still between messages, until it is told to go on.

Nothing is read then, nobody is accepted and no timer runs; only the console is served, and what has been begun is brought to the
end of its message. What comes meanwhile waits in the kernel.
"""

from libc.stdint cimport uint64_t

from pgpool_core.engine.records cimport Conn, ServerConn, Worker


cdef bint suspend_rests(const Conn *c) noexcept nogil
cdef void suspend_mail(Worker *w, uint64_t a) noexcept nogil
cdef bint worker_has(Worker *w, ServerConn *s) noexcept nogil
