"""Where a login leads, and what it is checked against. What is not known here is asked of control; the answer is used here, too."""

from libc.stdint cimport uint8_t, uint64_t

from pgpool_core.auth.credentials cimport Credential
from pgpool_core.auth.startup cimport Startup
from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker
from pgpool_core.wire.span cimport Span


cdef enum:
    ASKS_MOST = 16                # times that control is asked about one login, should reloads follow each other closely

    SECRET_NONE = 0               # nothing is known here
    SECRET_FOUND = 1
    SECRET_NOBODY = 2             # control has said that no password is right


cdef void route(Worker *w, ClientConn *c, LoginRecord *l, bint asked) noexcept nogil
cdef bint admitted(Worker *w, ClientConn *c, Span user) noexcept nogil   # else `c` ends: it is one too many
cdef bint route_known(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil       # else `c` ends: it is one too many
cdef void stop_asking(Worker *w, ClientConn *c) noexcept nogil
cdef int secret_of(Worker *w, LoginRecord *l, const Startup *s, Credential *known) noexcept nogil     # SECRET_*
cdef void tell_key(Worker *w, LoginRecord *l) noexcept nogil

# Send control the startup packet, and in LG_ELSEWHERE the password; wait in `phase`.
cdef void ask_control(Worker *w, ClientConn *c, LoginRecord *l, uint8_t phase) noexcept nogil

# Control has answered: `said` is a POLICY_*, and the method to be used + 1 above that; `error` is borrowed, ready to be sent.
cdef void login_verdict(Worker *w, ClientConn *c, uint64_t said, uint8_t *error, size_t n) noexcept nogil
