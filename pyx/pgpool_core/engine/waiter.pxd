"""A client in the queue that will not wait: it hangs up, or cancels its query."""

from libc.stdint cimport uint64_t

from pgpool_core.engine.records cimport ClientConn, Worker


cdef void client_hangup(Worker *w, ClientConn *c) noexcept nogil
cdef void cancel_elsewhere(Worker *w, uint64_t key) noexcept nogil
cdef void client_cancel(Worker *w, ClientConn *c) noexcept nogil
