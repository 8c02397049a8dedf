"""How long clients may take: query_timeout, transaction_timeout, idle_transaction_timeout, client_idle_timeout, message_stall_timeout;
and client_login_timeout.

A client is looked at when the first of them could be over, not at each message: the way of its bytes only writes down when
something began. One that nothing of this concerns has no timer.
"""

from libc.stdint cimport uint64_t

from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.sync.atomic cimport pgpool_load64


cdef inline uint64_t patience_us(ClientConn *c, int kind) noexcept nogil:
    """PATIENCE_* in force for a routed client: its user's own, else its pool's; 0 = none."""
    cdef uint64_t own = pgpool_load64(&c.terms.patience[kind]) if c.terms != NULL else <uint64_t>-1
    return own if own != <uint64_t>-1 else pgpool_load64(&c.pool.patience[kind])


# `c` has begun a message that its server waits for, and for nothing else: it has message_stall_timeout for the next bytes. False: it has not.
cdef bint patience_stalls(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil
# `c`, which logs in, has what is left of client_login_timeout since it has begun, and of query_wait_timeout where it waits for a server.
cdef void patience_login(Worker *w, ClientConn *c) noexcept nogil
cdef void patience_look(Worker *w, ClientConn *c) noexcept nogil
cdef void patience_waits(Worker *w, ClientConn *c) noexcept nogil
cdef void never_served(Worker *w, ClientConn *c, const char *sqlstate, const char *text) noexcept nogil
