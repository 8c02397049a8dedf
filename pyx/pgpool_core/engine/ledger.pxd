"""The session state of clients in transaction and statement mode: what follows them, and what keeps them on a server.

The text of a statement tells what it may leave behind (`session.sqlscan`); a transaction that may have left something
is followed by one question to PostgreSQL (`session.probe`). Settings go into the client's block and are replayed on
whatever server it gets next. Everything else *pins* the client: it keeps its server until the state is gone.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.auth.startup cimport REPLICATION_NONE
from pgpool_core.engine.records cimport SESSION_OFF, SESSION_WARN, ClientConn, ServerConn, Worker
from pgpool_core.pool.pool cimport MODE_SESSION
from pgpool_core.statements.text cimport Statement


cdef inline bint ledger_watches(ClientConn *c) noexcept nogil:
    """Whether texts of `c` are looked at: it shares its server with others."""
    return c.replication == REPLICATION_NONE and (c.pool.session_state != SESSION_OFF or c.pool.leak_every) \
        and c.pool.pool.settings.mode != MODE_SESSION


cdef inline bint ledger_follows(const ClientConn *c) noexcept nogil:
    """Something is done about session state."""
    return c.pool.session_state != SESSION_OFF and c.pool.session_state != SESSION_WARN


cdef bint ledger_text(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *text, size_t n, bint is_parse) noexcept nogil
cdef void ledger_unseen(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *begins, size_t have) noexcept nogil
cdef void ledger_call(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *body, size_t n, size_t have) noexcept nogil
cdef void ledger_bind(ClientConn *c, ServerConn *s, uint32_t flags, const Statement *statement, const uint8_t *body, size_t n,
                      size_t have) noexcept nogil
cdef size_t ledger_refusal(uint8_t *out, size_t cap, const uint8_t *name, size_t name_len, bint is_parse) noexcept nogil
