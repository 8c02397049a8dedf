"""A server that has come from PgBouncer in the hands of its client: nobody has told what it still has to answer.

The two stay together until PostgreSQL itself shows that nothing is left: when it is idle, and has answered all that we have seen
asked, it is asked for a word that nobody can guess. If the next answer is that word, all before it has been answered. Else what
came was the client's, and is passed on.
"""

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker


cdef enum:
    DOUBT_MOVED = 1               # `in_doubt` of a server: as above
    DOUBT_LASTS = 2               # there is no way to find out


cdef bint doubt_may_end(const ServerConn *s, const ClientConn *c) noexcept nogil
cdef void doubt_ask(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
cdef bint doubt_answered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil
