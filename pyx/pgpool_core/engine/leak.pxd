"""leak_check: asking a server, between two clients, for session state that nobody is known to have.

Each server is asked once before its first client, so that what it began with (connect_query) is no leak, and then at
every so-manieth return to its pool. What its settings block has is known; anything else is reported, and the server is
closed instead of used again.
"""

from libc.stdint cimport uint8_t, uint64_t

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker


cdef enum:
    MAX_LEAKS_TOLD = 16           # of one server at one time


cdef inline bint leak_released(ServerConn *s, const ClientConn *c) noexcept nogil:
    """`c` gives `s` back; True when that is to be asked before it goes to anybody else."""
    return s.leak != NULL and leak_count(s, c)


cdef bint leak_count(ServerConn *s, const ClientConn *c) noexcept nogil
cdef bint leak_begin(ServerConn *s) noexcept nogil
cdef void leak_text(ServerConn *s, const ClientConn *c, uint64_t cause, const uint8_t *text, size_t n) noexcept nogil
cdef size_t leak_ask(Worker *w, ServerConn *s) noexcept nogil
cdef void leak_answered(Worker *w, ServerConn *s) noexcept nogil
cdef void leak_free(ServerConn *s) noexcept nogil
