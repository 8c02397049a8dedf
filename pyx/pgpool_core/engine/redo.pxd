"""A group that is sent once more: "cached plan must not change result type", while nothing of it has run.

The messages of a group are kept as the client wrote them, from the first one that uses a statement which its server has
had before: only such a one can be refused so. Where it is, the first answer being the refusal, the client does not see
that; behind the ReadyForQuery the same bytes are forwarded once more, and the statement is prepared anew in front of
them. Where the client has not sent its Sync yet, one of ours brings the ReadyForQuery. A transaction block of which nothing but BEGIN has run is begun anew before. In a group that fails otherwise, or not
at all, nothing but the copy has been made.
"""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport CHORE_NONE, ClientConn, ServerConn, Worker
from pgpool_core.wire.codes cimport TX_BLOCK, TX_IDLE


cdef enum:
    REDO_NOT = 0                  # no group is under way that might be sent again
    REDO_OPEN = 1                 # one has begun: Parse and Close so far
    REDO_KEPT = 2                 # it is being kept; nothing of what is kept has been answered
    REDO_WHOLE = 3                # the same, up to its Sync
    REDO_FAILED = 4               # it has been refused; ReadyForQuery is still to come
    REDO_AGAIN = 5                # it is being sent again: not kept another time

    REDO_LASTS = 2                # a bit of REDO_KEPT and REDO_WHOLE

    REDO_MAX = 4096               # bytes of such a group
    REDO_SEES_NOT = 0             # what follows a ParameterDescription: no refusal
    REDO_SEES = 1                 # an ErrorResponse
    REDO_SEES_NOTHING = 2         # it has not come yet


cdef inline bint redo_first(const ServerConn *s) noexcept nogil:
    """`s` is outside a transaction block, and owes nothing but an answer to ourselves."""
    return s.tx_status == TX_IDLE and s.expect.owed == (s.chore != CHORE_NONE)


cdef inline uint8_t redo_begins(ServerConn *s) noexcept nogil:
    """The first message of a group goes to `s`; what has run of its transaction?"""
    s.began_len = s.begin_len
    s.begin_len = 0
    if s.redo != REDO_AGAIN and (redo_first(s) or s.began_len and s.tx_status == TX_BLOCK and s.expect.owed == 0):
        return REDO_OPEN
    return REDO_NOT


cdef void redo_keep(ServerConn *s, const uint8_t *data, size_t n) noexcept nogil
cdef int redo_peek(const uint8_t *data, size_t n, size_t behind) noexcept nogil
cdef bint redo_withholds(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef void redo_text(ServerConn *s, const uint8_t *text, size_t n, bint begins) noexcept nogil
cdef void redo_ready(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef void redo_send(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
