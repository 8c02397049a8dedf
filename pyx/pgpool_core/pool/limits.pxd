"""Limits that several pools share: max_db_connections, max_user_connections and, of clients, max_db_client_connections.

Where servers are short, pools with clients that wait become equal, and then leave each other alone: each server that
changes its pool costs a connection closed and one opened. Pools without any take turns.
"""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.sync.atomic cimport pgpool_store64


cdef enum:
    UNUSED_US = 1000000           # a server that has been idle for so long is not needed where it is


cdef struct Group:                # owned by the PoolSet; `count` and `limit` change under the set's lock only
    uint32_t id
    uint32_t limit                # server connections, 0 = unlimited
    uint32_t count                # slots taken: opening, open, and closing until PostgreSQL has let go
    uint32_t client_limit         # clients, 0 = unlimited; atomic, as what follows
    uint32_t clients              # logged in or logging in; of groups of databases
    uint32_t listening            # of them, connections of control's that listen for clients
    uint64_t claim_us             # atomic; a pool finds the limit full, its first waiter has waited since then; 0 = none
    uint32_t claim_has            # atomic; how many servers that pool has


cdef inline bint group_full(const Group *group) noexcept nogil:
    return group.limit != 0 and group.count >= group.limit


cdef inline void group_take(Group *group) noexcept nogil:
    """One more server connection; whatever was claimed has been served."""
    if group != NULL:
        group.count += 1
        pgpool_store64(&group.claim_us, 0)


cdef inline void group_give(Group *group) noexcept nogil:
    if group != NULL:
        group.count -= 1


cdef inline bint gives_idle(uint32_t has, uint32_t asker_has, uint64_t idle_us) noexcept nogil:
    """Whether a pool with `has` servers, one of them idle, gives that one to a pool with `asker_has` where clients wait."""
    return asker_has == 0 or has > asker_has or idle_us >= UNUSED_US


cdef inline bint gives_busy(uint32_t has, uint32_t asker_has) noexcept nogil:
    """The same of one that has just come free: only a pool that then still has as many as the other parts with it."""
    return asker_has == 0 or has > asker_has + 1


cdef inline const char *evicted_for_group(bint of_database) noexcept nogil:
    """Why a server was closed for a pool that shares a limit with its own, in PgBouncer's words."""
    if of_database:
        return "evicted for max_db_connections"
    return "evicted for max_user_connections"
