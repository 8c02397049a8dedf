"""How a client proves who it is, and what becomes of one that does not."""

from libc.stdint cimport uint8_t

from pgpool_core.auth.credentials cimport Credential
from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker
from pgpool_core.wire.span cimport Span


# Begin; `known` is copied, and filled with a mock where there is none. `secret`: what secret_of has said of it.
cdef void authenticate(Worker *w, ClientConn *c, LoginRecord *l, Span user, Credential *known, int secret) noexcept nogil

# Use one PasswordMessage out of the login's input. False: it is not whole, or the login waits, or it is over.
cdef bint password_message(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil

cdef void looked_again(Worker *w, ClientConn *c, LoginRecord *l, uint8_t verdict) noexcept nogil
cdef void checked_elsewhere(Worker *w, ClientConn *c, LoginRecord *l, uint8_t verdict) noexcept nogil
cdef void login_told(Worker *w, ClientConn *c) noexcept nogil            # it has failed, and the time has come to say so
cdef void forget_answer(LoginRecord *l) noexcept nogil                   # the password that it may keep
