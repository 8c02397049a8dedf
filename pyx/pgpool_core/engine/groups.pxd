"""The plain part of what a client asks: whole messages that go to its server as they are and need nothing but to be written down.

Nearly all are of this kind: a Query or unnamed Parse with a text that is known to leave nothing behind (`session.known`), then Bind,
Describe and Execute of unnamed statements and portals, and Sync. Any other message, and one that has not come whole, is left to
`forward`, which knows everything.
"""

from libc.stdint cimport uint8_t

from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.records cimport ClientConn, ServerConn, Worker
from pgpool_core.wire.codes cimport FE_BIND
from pgpool_core.wire.scan cimport HEADER_LEN


cdef enum:
    EYES_TRACK = 1                # named statements are renamed: only what has no name is plain
    EYES_WATCH = 2                # texts are looked at: only one that is known to be harmless is plain


cdef size_t groups_past(Worker *w, ClientConn *c, ServerConn *s, Counters *k, uint8_t eyes, const uint8_t *data, size_t n,
                        size_t at) noexcept nogil


cdef inline bint describes_portal(const uint8_t *body, size_t have) noexcept nogil:
    """Whether a Describe is about no statement, of whose body `have` bytes are there."""
    return have != 0 and body[0] == 0x50          # 'P'


cdef inline bint uses_name(const uint8_t *data, size_t n) noexcept nogil:
    """Whether what comes first is a Bind of a statement or portal with a name; a glance, before groups_past finds the same."""
    return n > HEADER_LEN + 1 and data[0] == FE_BIND and data[HEADER_LEN] | data[HEADER_LEN + 1]


cdef inline void query_begins(Worker *w, ServerConn *s, Counters *k) noexcept nogil:
    if s.query_start_us == 0:
        s.query_start_us = w.now_us
        count_add(&k.queries, 1)
        if s.xact_start_us == 0:
            s.xact_start_us = w.now_us
