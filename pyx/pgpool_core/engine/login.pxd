"""A client's login, in the worker, from its first byte to the wait for a greeting.

What it begins with is `first_packet`, where it leads `question`, who it is `proof`; here is the order of these, and its end.
"""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker


cdef int login_bytes(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
cdef void login_turn(Worker *w, ClientConn *c) noexcept nogil            # its turn has come (turns)
cdef void login_go_on(Worker *w, ClientConn *c) noexcept nogil           # use what has come while it waited
cdef void login_passed(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef void login_await(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef void login_greetings(Worker *w) noexcept nogil                      # a pool has a greeting, or none can be had: whose is it?
cdef bint login_unsaid(const ClientConn *c) noexcept nogil               # it hangs up, and nothing that it has asked for is due
cdef void login_end(Worker *w, ClientConn *c) noexcept nogil
