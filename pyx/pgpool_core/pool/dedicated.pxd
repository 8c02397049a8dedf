"""Servers that belong to one client each: opened for it, linked to it for as long as it stays, then closed.

They count like all others against pool_size and the shared limits. Where there is no room, a server of the pool that
is idle, or the next one to become so, is closed in their favour, in the order in which everybody came.
"""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.pool.client cimport Client
from pgpool_core.pool.pool cimport Pool
from pgpool_core.pool.server cimport Server


cdef bint dedicated_ask(Pool *pool, Client *client, uint32_t worker, uint64_t now_us) noexcept nogil
cdef void dedicated_leave(Pool *pool, Client *client) noexcept nogil
cdef Client *dedicated_link(Pool *pool, Server *server, uint64_t now_us) noexcept nogil
cdef void dedicated_part(Pool *pool, Server *server, bint again) noexcept nogil

# With the pool's lock held.
cdef bint dedicated_wanted(Pool *pool, uint64_t now_us) noexcept nogil
cdef bint dedicated_claims(Pool *pool, uint64_t first_wait_us) noexcept nogil
cdef void dedicated_bind(Pool *pool, Server *server) noexcept nogil
