"""A client in the queue that will not wait: it hangs up, or cancels its query."""

from libc.stdint cimport uint64_t

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker


cdef void client_hangup(Worker *w, ClientConn *c) noexcept nogil
cdef bint cancel_elsewhere(Worker *w, uint64_t key, uint64_t canceller) noexcept nogil
cdef bint client_cancel(Worker *w, ClientConn *c, uint64_t canceller) noexcept nogil
cdef void cancel_goes_on(Worker *w, ServerConn *s, uint64_t canceller) noexcept nogil
cdef void cancel_over(Worker *w, uint64_t canceller) noexcept nogil
