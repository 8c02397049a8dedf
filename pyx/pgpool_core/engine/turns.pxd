"""max_logins: how many clients of a worker prove who they are at one time. The others wait, first come, first served.

A login has its turn from its startup packet until it has been let in or turned away, but no longer than TURN_US where others wait: who
dawdles goes on without one. What a login waits for later (a server's greeting) costs nobody anything: it is in a list of its own then. The console
needs no turn.
"""

from pgpool_core.engine.records cimport ClientConn, LoginRecord, Worker


cdef enum:
    TURN_US = 1000000


# True: go on. False: it waits, and turns_go_on will go on with it.
cdef bint turn_take(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil
cdef void turn_give(Worker *w, LoginRecord *l) noexcept nogil           # at its end, or when it stops waiting; twice does no harm

# It has given its turn back, and waits for the greeting of its pool.
cdef void turn_over(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil

# Go on with those whose turn has come; True if there were any.
cdef bint turns_go_on(Worker *w) noexcept nogil

# How long to wait at most until somebody's turn is over, where others wait for it; `wait_ms` where that is sooner (-1 = for ever).
cdef int turns_wait_ms(Worker *w, int wait_ms) noexcept nogil
