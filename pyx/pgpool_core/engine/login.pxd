"""A client's login, in the worker: startup packet, authentication, the wait for a greeting."""

from libc.stdint cimport uint8_t, uint64_t

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker
from pgpool_core.wire.span cimport Span


cdef void login_told(Worker *w, ClientConn *c) noexcept nogil            # it has failed, and the time has come to say so
cdef void login_turn(Worker *w, ClientConn *c) noexcept nogil            # its turn has come (turns)
cdef int login_bytes(Worker *w, ClientConn *c, uint8_t *data, size_t n) noexcept nogil
cdef void login_verdict(Worker *w, ClientConn *c, uint64_t said, uint8_t *error, size_t n) noexcept nogil
cdef void login_welcome(Worker *w, ClientConn *c, bint waited) noexcept nogil
cdef void login_end(Worker *w, ClientConn *c) noexcept nogil
cdef bint admitted(Worker *w, ClientConn *c, Span user) noexcept nogil
cdef void login_await(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
