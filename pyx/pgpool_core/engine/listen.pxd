"""LISTEN and UNLISTEN that need no server: recognised in what an idle client sends, answered here.

Taken are, outside a transaction, a Query that is exactly one such statement, and a group of Parse, Bind, perhaps
Describe, Execute and Sync, all unnamed, with that text. Anything else that listens does so on a server, which its client
then keeps (ledger.pxd). What is unlistened to on a server, in a transaction or among other statements, ends the
client's channels here too, when that transaction ends well: `listen_text` notes it, `notify_settle` does it.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.records cimport SESSION_AUTO, ClientConn, Worker
from pgpool_core.pool.pool cimport MODE_SESSION
from pgpool_core.wire.codes cimport FE_PARSE, FE_QUERY


cdef enum:
    TAKE_NOT = 0                  # a server's matter
    TAKE_DONE = 1                 # answered: go on behind it
    TAKE_WAITS = 2                # to be answered when control's connection listens; `holding` is set until then


cdef inline bint listen_may(ClientConn *c, const uint8_t *data, size_t n) noexcept nogil:
    """Whether an idle client's bytes, which hold a whole message or group, may be for us; a glance, for every request."""
    cdef uint8_t first
    if n < 8:
        return False
    if data[0] == FE_QUERY:
        first = data[5]
    elif data[0] == FE_PARSE and data[5] == 0:
        first = data[6]
    else:
        return False
    return (first <= 0x20 or first | 0x20 == 0x6C or first | 0x20 == 0x75 or first == 0x2F or first == 0x2D) \
        and (c.listens != NULL or c.pool.session_state == SESSION_AUTO) and c.pool.pool.settings.mode != MODE_SESSION


cdef int listen_take(Worker *w, ClientConn *c, const uint8_t *data, size_t n, size_t *used) noexcept nogil
cdef void listen_text(ClientConn *c, uint32_t flags, const uint8_t *text, size_t n) noexcept nogil
