"""Notifications on their way to the clients that listen without a server: between transactions, never inside a message.

What comes while a client is in a transaction waits for its end, as in PostgreSQL. A client for which more than
MAX_QUEUE bytes wait is ended by an error that says so; PostgreSQL would let its own queue grow instead.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.records cimport ClientConn, Worker


cdef enum:
    MAX_QUEUE = 1 << 20           # bytes of notifications that wait for one client


cdef void notify_arrives(Worker *w, ClientConn *c, const uint8_t *names, uint32_t n) noexcept nogil
cdef void notify_settle(Worker *w, ClientConn *c) noexcept nogil
cdef void notify_mail(Worker *w, Mail *mail) noexcept nogil
