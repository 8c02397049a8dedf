"""Limits that several pools share: max_db_connections, max_user_connections and, of clients, max_db_client_connections."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.sync.atomic cimport pgpool_store64


cdef struct Group:                # owned by the PoolSet; `count` and `limit` change under the set's lock only
    uint32_t id
    uint32_t limit                # server connections, 0 = unlimited
    uint32_t count                # slots taken: opening, open, and closing until PostgreSQL has let go
    uint32_t client_limit         # clients, 0 = unlimited; atomic, as what follows
    uint32_t clients              # logged in or logging in; of groups of databases
    uint32_t listening            # of them, connections of control's that listen for clients
    uint64_t claim_us             # atomic; a waiter of another pool has waited since then and finds the limit full; 0 = none


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
