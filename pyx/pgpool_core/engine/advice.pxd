"""What clients are told of their session state: warnings of session_state = warn, and that they keep their server (pin_notice).

Kinds are bits PIN_*, with LEFT_SETTING for a setting. A notice is due until the client's stream stands between two messages.
"""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport ClientConn, Worker


cdef enum:
    LEFT_SETTING = 1              # in the place of PIN_SAID, which is no state


cdef void advise_left(Worker *w, ClientConn *c, uint32_t flags) noexcept nogil
cdef void advise_pinned(ClientConn *c, uint32_t pins) noexcept nogil
cdef void advise_tell(Worker *w, ClientConn *c) noexcept nogil
