"""Named prepared statements in transaction and statement mode: the engine's side of `statements`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.auth.startup cimport REPLICATION_NONE
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.pool.pool cimport MODE_SESSION
from pgpool_core.statements.names cimport Name
from pgpool_core.statements.owed cimport OWED_OK, owed_pass
from pgpool_core.wire.codes cimport FE_PARSE
from pgpool_core.wire.scan cimport Frame


cdef enum:
    NAMED_GO_ON = 0               # the message is dealt with up to `*sent`; what is behind goes as it is
    NAMED_HOLD = 1                # it has to wait: for more of itself, or for the server (c.awaiting)
    NAMED_FULL = -1

    DROP_NOT = 0                  # it is no such group: it goes as it is
    DROP_IS = 1
    DROP_NEED_MORE = 2            # call again when more of the group has come
    DROP_WAIT = 3                 # call again when the server has answered more


cdef const char *DEALLOCATES       # a query that does nothing, sent in the place of a DEALLOCATE of a name of ours


cdef inline bint named_tracked(ClientConn *c) noexcept nogil:
    """Whether the statements of `c` follow it."""
    return c.replication == REPLICATION_NONE and c.pool.max_prepared != 0 and c.pool.pool.settings.mode != MODE_SESSION


cdef inline uint8_t unnamed_mark(uint64_t group) noexcept nogil:
    """`unnamed_fresh` of a statement that is parsed in this group of its server's: never 0, and the number as far as there is room."""
    return 0x80 | <uint8_t>(group & 0x7F)


cdef inline uint8_t unnamed_parsed(const ServerConn *s) noexcept nogil:
    """The same for a Parse that is sent now; 0 where its group has failed already, and the server skips it."""
    return 0 if s.error_last and s.owed.answered == s.owed.sent else unnamed_mark(s.owed.sent)


cdef inline int named_unnamed(ClientConn *c, ServerConn *s, Counters *k) noexcept nogil:
    """named_message for a whole Parse without a name, which goes as it is."""
    if owed_pass(&s.owed, FE_PARSE) != OWED_OK:
        return NAMED_FULL
    count_add(&k.client_parses, 1)
    count_add(&k.server_parses, 1)
    c.unnamed_here = 1
    c.unnamed_flags = c.parse_flags | c.parse_hidden
    c.unnamed_fresh = unnamed_parsed(s)
    return NAMED_GO_ON


cdef int named_message(Worker *w, ClientConn *c, ServerConn *s, Counters *k, const Frame *f, const uint8_t *data, size_t n,
                       size_t pos, size_t *sent) noexcept nogil
cdef size_t named_error(Worker *w, ServerConn *s, ClientConn *c, const uint8_t *body, uint32_t n, bint *outdated) noexcept nogil
cdef void named_tag(ServerConn *s, ClientConn *c, const uint8_t *tag, uint32_t n) noexcept nogil
cdef int named_deallocates(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil
cdef int named_drops(Worker *w, ClientConn *c, ServerConn *s, const uint8_t *group, size_t n, Name **name) noexcept nogil
cdef int named_dropped(Worker *w, ServerConn *s, Name *name) noexcept nogil
cdef size_t named_retag(Worker *w, ServerConn *s) noexcept nogil
cdef void named_part(ServerConn *s) noexcept nogil
cdef void named_free(ServerConn *s) noexcept nogil
