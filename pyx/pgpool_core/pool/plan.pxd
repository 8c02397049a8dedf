"""What control has to do about servers: open here, close there. Called by control only, with nothing held."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.pool.pool cimport Pool, PoolSet
from pgpool_core.pool.server cimport Server


cdef enum:
    PLAN_NOTHING = 0
    PLAN_OPEN = 1                 # `slot` is in `pool`, in SV_LOGIN: open a connection for it
    PLAN_EVICT = 2                # `evicted` is in SV_CLOSING: its worker must close it; then plan again

    LISTENER_TAKEN = 0            # counted: open it
    LISTENER_LATER = 1            # the limit is full: try again; what is in `evicted`, if anything, is closed for it
    LISTENER_NEVER = 2            # the limit would leave no connection for queries


cdef int plan_next(PoolSet *set, uint64_t now_us, Server *slot, Pool **pool, Server **evicted) noexcept nogil
cdef bint plan_arrives(PoolSet *set, Pool *pool, Server *slot, bint kept, uint64_t created_us, uint64_t now_us) noexcept nogil
cdef void plan_gone(PoolSet *set, Server *server, uint64_t now_us) noexcept nogil
cdef int plan_listener(PoolSet *set, Pool *pool, uint64_t now_us, Server **evicted) noexcept nogil
cdef void plan_listener_gone(PoolSet *set, Pool *pool) noexcept nogil

# A connection of control's own: counted by these two of the set's groups, and by no pool. False: one of them is full.
cdef bint plan_aside(PoolSet *set, uint32_t database, uint32_t user, uint64_t now_us, Server **evicted) noexcept nogil
cdef void plan_aside_gone(PoolSet *set, uint32_t database, uint32_t user) noexcept nogil
