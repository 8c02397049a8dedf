"""Servers for the program around us: `open_pool` of a proxy. The worker's side.

A borrower is a client without a socket, in the slots of a worker: it is let in, waits, is granted a server and aligned like
any other. Then the socket leaves the poll set and control gets a copy of its descriptor, to read and write it as it likes;
the server stays SV_ACTIVE and linked. When it comes back, it is cleaned as after a client that has left.

Orders and news travel like grants: a bit in the loan, and the loan on a stack, so they need no memory and none is lost.

- Control makes a loan with LOAN_ASK. It ends with LOAN_LEAVE or LOAN_RETURN, after which control does not touch it any more,
  unless LOAN_ENDED comes; that is answered with LOAN_FORGET, once its descriptor is closed. The worker frees it.
- LOAN_LEAVE has no effect once LOAN_LENT is on its way: whoever has left answers that with LOAN_RETURN.
"""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, Loan, Plane, ServerConn, Worker


cdef void loans_read(Worker *w) noexcept nogil
cdef bint loans_wait(const Worker *w) noexcept nogil
cdef void loans_lend(Worker *w) noexcept nogil
cdef void loan_greeted(Worker *w, ClientConn *c) noexcept nogil
cdef void loan_linked(Worker *w, ClientConn *c) noexcept nogil
cdef void loan_refuse(Worker *w, ClientConn *c, const uint8_t *message, size_t n, const char *reason) noexcept nogil
cdef void loan_over(Worker *w, ClientConn *c) noexcept nogil
cdef void loan_seize(Worker *w, ServerConn *s) noexcept nogil
cdef void loan_free(Plane *plane, Loan *loan) noexcept nogil
