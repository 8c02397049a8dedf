"""Channels that clients listen to without a server: one connection of control's for each pool listens for all of them.

Each worker keeps which of its clients listen to what. The first client of a channel has control listen (MAIL_LISTEN),
the last one that goes has it stop. How what PostgreSQL sends reaches them is in notify.pxd.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.engine.buf cimport Buf
from pgpool_core.engine.records cimport Channel, ClientConn, Listens, Subscription, Worker
from pgpool_core.wire.span cimport Span


cdef enum:
    MAX_OWN = 8192                # channels of one client

    JOIN_LIVE = 0                 # `c` listens
    JOIN_WAITS = 1                # it will when control's connection does
    JOIN_MANY = -1                # MAX_OWN
    JOIN_BUSY = -2                # memory is short, or control's ring is full


cdef struct ChannelRow:           # plain bytes; goes to control by mail
    uint32_t pool
    uint32_t clients
    uint8_t len
    uint8_t name[63]


cdef Channel *channel_find(Worker *w, uint32_t pool, Span name) noexcept nogil
cdef int channel_join(Worker *w, ClientConn *c, Span name) noexcept nogil
cdef bint channels_rest(const ClientConn *c) noexcept nogil
cdef bint channels_put(const ClientConn *c, Buf *out) noexcept nogil
cdef bint channels_join(Worker *w, ClientConn *c, const uint8_t *names, uint32_t n) noexcept nogil
cdef void channel_part(Worker *w, Listens *l, Subscription **at) noexcept nogil
cdef void channel_leave(Worker *w, ClientConn *c, Span name) noexcept nogil
cdef void channels_leave(Worker *w, ClientConn *c) noexcept nogil
cdef void channels_forget(Worker *w, ClientConn *c) noexcept nogil
cdef void channels_tell(Worker *w, uint64_t token) noexcept nogil
cdef void channels_free(Worker *w) noexcept nogil
