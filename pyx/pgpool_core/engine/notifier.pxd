"""Whose doing a notification was: a backend's process id, turned into the one that its client was given at login.

Drivers compare the two to know their own notifications. A backend serves many clients, so each server remembers the
last texts that said NOTIFY or pg_notify(), or name something that does, with channel and payload where the text says them
plainly, and the last client whose text may have notified unseen. A notification is the doing of the one client who may
have sent it. Where there are two, it keeps the backend's own id, which no client has: a client may then take its own
notification for another's, but not another's for its own.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.engine.records cimport ClientConn, Plane, PoolRecord, ServerConn, Worker
from pgpool_core.session.sqlscan cimport SqlScan
from pgpool_core.session.sqlwords cimport (SQL_CALLS, SQL_EXECUTES, SQL_NOTIFIES, SQL_OPAQUE, VERB_DECLARE, VERB_INSERT,
                                           VERB_WITH)


cdef enum:
    LAG_US = 3000000              # a notification is known to control this long after its transaction, at the latest


cdef inline bint notifier_may(uint32_t flags, uint8_t verb, bint known) noexcept nogil:
    """Whether a text may notify: INSERT, UPDATE, DELETE, MERGE and WITH by a trigger, COPY and its like too.

    `known`: functions and triggers that do are known by name, and are in `flags`.
    """
    if flags & (SQL_NOTIFIES | SQL_OPAQUE | SQL_EXECUTES):
        return True
    return not known and (flags & SQL_CALLS or VERB_INSERT <= verb <= VERB_WITH or verb > VERB_DECLARE)


cdef void notifier_text(Worker *w, ClientConn *c, ServerConn *s, uint32_t flags, const SqlScan *scan) noexcept nogil
cdef void notifier_name(Plane *plane, PoolRecord *pool, uint8_t *messages, size_t n, uint64_t now_us) noexcept nogil
cdef void notifier_own(ServerConn *s, ClientConn *c, uint8_t *body) noexcept nogil
