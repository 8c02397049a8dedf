"""Opening, evicting, retiring; see plan.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.pool.limits cimport (Group, evicted_for_group, gives_busy, gives_idle, group_full, group_give,
                                      group_take)
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.dedicated cimport dedicated_bind, dedicated_wanted
from pgpool_core.pool.pool cimport (Pool, PoolSet, below_size, elapsed_us, pool_coming, pool_first_us, pool_has,
                                    pool_wants)
from pgpool_core.pool.server cimport (MAX_WORKERS, SV_CLOSING, SV_FREE, SV_LOGIN, Server, ServerList, server_may, server_move,
                                      servers_remove)
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_store32, pgpool_store64
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock


cdef uint64_t urgency(Pool *pool, uint64_t now_us) noexcept nogil:
    """Since when somebody has been waiting for the pool to open a server; 0 when it wants none."""
    cdef uint64_t since_us = 0
    pthread_mutex_lock(&pool.lock)
    if pool_wants(pool, now_us) or dedicated_wanted(pool, now_us):
        since_us = pool_first_us(pool, now_us)
    else:
        pgpool_store32(&pool.want, 0)
    pthread_mutex_unlock(&pool.lock)
    return since_us


cdef Server *oldest_idle(PoolSet *set, Pool *own, Group *group, uint32_t asker_has, uint64_t now_us) noexcept nogil:
    """Take the longest idle server that a pool in `group` gives to one with `asker_has`, in SV_CLOSING; NULL: there is none.

    `own`, if not NULL, is the pool that asks and gives nothing to itself.
    """
    cdef Pool *best_pool = NULL
    cdef Pool *pool
    cdef Server *best
    cdef uint64_t best_us = 0
    cdef uint32_t i
    cdef ServerList *list
    for i in range(set.n_pools):
        pool = set.pools[i]
        if pool == own or (pool.database != group and pool.user != group):
            continue
        pthread_mutex_lock(&pool.lock)
        best = longest_idle(pool, &list)
        if best != NULL and (best_pool == NULL or best.since_us < best_us) \
                and gives_idle(pool_has(pool), asker_has, elapsed_us(now_us, best.since_us)):
            best_pool = pool
            best_us = best.since_us
        pthread_mutex_unlock(&pool.lock)
    if best_pool == NULL:
        return NULL
    pthread_mutex_lock(&best_pool.lock)
    best = longest_idle(best_pool, &list)       # may be another one by now, or none
    if best != NULL:
        servers_remove(list, best)
        server_move(best, SV_CLOSING, now_us)
        best.leaving = evicted_for_group(best_pool.database == group)
    pthread_mutex_unlock(&best_pool.lock)
    return best


cdef bint somebody_gives(PoolSet *set, Pool *own, Group *group, uint32_t asker_has) noexcept nogil:
    """Whether a pool of `group` gives one with `asker_has` a server as soon as it comes free."""
    cdef uint32_t i
    cdef bint found = False
    cdef Pool *pool
    for i in range(set.n_pools):
        pool = set.pools[i]
        if pool != own and (pool.database == group or pool.user == group):
            pthread_mutex_lock(&pool.lock)
            found = gives_busy(pool_has(pool), asker_has)
            pthread_mutex_unlock(&pool.lock)
            if found:
                return True
    return False


cdef void claim(Group *group, uint64_t since_us, uint32_t has) noexcept nogil:
    """The next server of `group` that comes free where it can be spared is for a pool with `has`; one claim at a time."""
    if group.claim_us == 0 or has < group.claim_has:
        pgpool_store32(&group.claim_has, has)
        pgpool_store64(&group.claim_us, since_us)


cdef void forget_claims(PoolSet *set) noexcept nogil:
    """Pools that still want to be as rich as others say so again."""
    cdef uint32_t i
    for i in range(set.n_groups):
        if set.groups[i].claim_has:
            pgpool_store64(&set.groups[i].claim_us, 0)


cdef bint has_room(const Group *group) noexcept nogil:
    return group == NULL or not group_full(group)


cdef bint poorer_waits(PoolSet *set, Pool *best, Group *group, uint64_t now_us) noexcept nogil:
    """`group` has room for one server, and a pool with fewer than `best` has wants it as well."""
    cdef uint32_t i, has
    cdef Pool *pool
    if group == NULL or group.limit == 0 or group.count + 1 < group.limit:
        return False
    pthread_mutex_lock(&best.lock)
    has = pool_has(best)
    pthread_mutex_unlock(&best.lock)
    for i in range(set.n_pools):
        pool = set.pools[i]
        if pool != best and (pool.database == group or pool.user == group) and has_room(pool.database) \
                and has_room(pool.user) and pgpool_load32(&pool.total) < has and urgency(pool, now_us):
            return True
    return False


cdef Server *longest_idle(Pool *pool, ServerList **list) noexcept nogil:
    cdef Server *best = pool.used.head
    cdef uint32_t i
    list[0] = &pool.used
    for i in range(MAX_WORKERS):
        if pool.idle[i].head != NULL and (best == NULL or pool.idle[i].head.since_us < best.since_us):
            best = pool.idle[i].head
            list[0] = &pool.idle[i]
    return best


cdef uint32_t closing_in(PoolSet *set, Group *group) noexcept nogil:
    """Slots of `group` that are about to come free."""
    cdef uint32_t i, n = 0
    for i in range(set.n_pools):
        if set.pools[i].database == group or set.pools[i].user == group:
            n += pgpool_load32(&set.pools[i].count[SV_CLOSING])
    return n


cdef uint32_t unserved(Pool *pool) noexcept nogil:
    """Clients for which no server is being opened or checked; one login that needs a first server counts too."""
    cdef uint32_t coming, n = 0
    pthread_mutex_lock(&pool.lock)
    coming = pool_coming(pool)
    if pool.waiters.len > coming:
        n = pool.waiters.len - coming
    elif pool.logins_waiting and pool.total == pool.dedicated_total:
        n = 1
    n += pool.dedicated.len
    pthread_mutex_unlock(&pool.lock)
    return n


cdef bint dedicated_turn(Pool *pool, uint64_t now_us, Server **evicted) noexcept nogil:
    """The next server of `pool` is for one client alone. Where the pool is full, an idle one goes first: `evicted`."""
    cdef Server *idle
    cdef Client *first
    cdef ServerList *list
    cdef bint turn
    pthread_mutex_lock(&pool.lock)
    first = pool.waiters.head
    turn = dedicated_wanted(pool, now_us) and not (
        pool_wants(pool, now_us) and first != NULL and first.since_us < pool.dedicated.head.since_us)
    if turn and not below_size(pool, now_us):
        idle = longest_idle(pool, &list)
        servers_remove(list, idle)
        server_move(idle, SV_CLOSING, now_us)
        idle.leaving = "evicted for pool_size"
        evicted[0] = idle
    pthread_mutex_unlock(&pool.lock)
    return turn


cdef void sit(Pool *pool, Server *slot, uint64_t created_us, uint64_t now_us) noexcept nogil:
    """`slot` is a server of `pool` from now on, in SV_LOGIN; the pool's lock is held."""
    slot.pool = pool
    slot.count = pool.count
    slot.client = NULL
    slot.leaving = NULL
    slot.close_needed = slot.dedicated = 0
    slot.created_us = created_us
    slot.was_linked = 0
    pool.count[SV_FREE] += 1                        # server_move takes it off again
    pgpool_add32(&pool.total, 1)
    pool.most_servers = max(pool.most_servers, pool.total)
    server_move(slot, SV_LOGIN, now_us)


cdef bint plan_arrives(PoolSet *set, Pool *pool, Server *slot, bint kept, uint64_t created_us, uint64_t now_us) noexcept nogil:
    """Take a slot for a server that is open already, from another process; False when the limits leave no room for it.

    `kept`: it comes with the client that keeps it, and is taken in any case: PostgreSQL has it already.
    """
    cdef bint fits
    pthread_mutex_lock(&set.lock)
    pthread_mutex_lock(&pool.lock)
    fits = kept or not (
        pool.closed or pool.paused or (pool.settings.pool_size and pool.total >= pool.settings.pool_size)
        or (pool.database != NULL and group_full(pool.database)) or (pool.user != NULL and group_full(pool.user)))
    if fits:
        sit(pool, slot, created_us, now_us)
        slot.was_linked = 1
    pthread_mutex_unlock(&pool.lock)
    if fits:
        group_take(pool.database)
        group_take(pool.user)
    pthread_mutex_unlock(&set.lock)
    return fits


cdef int plan_next(PoolSet *set, uint64_t now_us, Server *slot, Pool **out, Server **evicted) noexcept nogil:
    """The next thing to do for the pool whose first waiter has waited longest.

    A pool whose shared limit is full gets a slot by eviction of an idle server elsewhere; when there is none, its
    claim is noted and the next server that another pool of the group releases is closed for it, both as limits.pxd
    has it; the last slot under a limit is for the pool that has the fewest. Nothing is evicted for min_pool_size alone,
    nor where servers that are closing already make room enough.
    """
    cdef Pool *pool
    cdef Pool *best = NULL
    cdef Group *full
    cdef uint64_t since_us, best_us = 0
    cdef uint64_t last_us = 0
    cdef uint32_t i, has, waiting, coming, last_id = 0
    cdef bint first = True, dedicated
    pthread_mutex_lock(&set.lock)
    forget_claims(set)
    pgpool_store32(&set.starving, 0)
    while True:
        best = NULL
        for i in range(set.n_pools):                # the most urgent one after (last_us, last_id)
            pool = set.pools[i]
            since_us = urgency(pool, now_us)
            if since_us == 0 or (not first and (since_us < last_us or (since_us == last_us and i <= last_id))):
                continue
            if best == NULL or since_us < best_us:
                best = pool
                best_us = since_us
        if best == NULL:
            break
        first = False
        last_us = best_us
        last_id = best.id
        evicted[0] = NULL
        dedicated = dedicated_turn(best, now_us, evicted)
        if evicted[0] != NULL:
            pthread_mutex_unlock(&set.lock)
            out[0] = best
            return PLAN_EVICT
        full = NULL
        if best.database != NULL and group_full(best.database):
            full = best.database
        elif best.user != NULL and group_full(best.user):
            full = best.user
        if full == NULL:
            if slot == NULL:
                break
            if not dedicated and (poorer_waits(set, best, best.database, now_us)
                                  or poorer_waits(set, best, best.user, now_us)):
                continue
            pthread_mutex_lock(&best.lock)
            if (dedicated and best.dedicated.len == 0) or (not dedicated and not pool_wants(best, now_us)):
                pthread_mutex_unlock(&best.lock)        # whoever waited has just left
                continue
            if best.settings.pool_size and best.total >= best.settings.pool_size:
                best.reserve_used += 1
            sit(best, slot, now_us, now_us)
            if dedicated:
                dedicated_bind(best, slot)
            pthread_mutex_unlock(&best.lock)
            group_take(best.database)
            group_take(best.user)
            pthread_mutex_unlock(&set.lock)
            out[0] = best
            return PLAN_OPEN
        pgpool_store32(&set.starving, 1)
        coming = closing_in(set, full)
        pthread_mutex_lock(&best.lock)
        has = 0 if dedicated else pool_has(best) + coming
        waiting = best.waiters.len + best.dedicated.len
        pthread_mutex_unlock(&best.lock)
        if unserved(best) > coming:
            evicted[0] = oldest_idle(set, NULL if dedicated else best, full, has, now_us)
            if evicted[0] != NULL:
                pthread_mutex_unlock(&set.lock)
                out[0] = best
                return PLAN_EVICT
            if waiting and somebody_gives(set, best, full, has):
                claim(full, best_us, has)
    pthread_mutex_unlock(&set.lock)
    return PLAN_NOTHING


cdef void plan_gone(PoolSet *set, Server *server, uint64_t now_us) noexcept nogil:
    """The server's connection no longer exists, as PostgreSQL counts: give its slot back."""
    cdef Pool *pool = <Pool *>server.pool
    pthread_mutex_lock(&set.lock)
    pthread_mutex_lock(&pool.lock)
    if not server_may(server, SV_FREE):
        pthread_mutex_unlock(&pool.lock)            # somebody holds or lists it: a lost slot harms less than its memory
        pthread_mutex_unlock(&set.lock)
        return
    if server.dedicated:
        pgpool_add32(&pool.dedicated_total, -1)
        pool.dedicated_opening -= server.state == SV_LOGIN
    server_move(server, SV_FREE, now_us)
    pool.count[SV_FREE] -= 1
    pgpool_add32(&pool.total, -1)
    pthread_mutex_unlock(&pool.lock)
    group_give(pool.database)
    group_give(pool.user)
    pthread_mutex_unlock(&set.lock)


cdef bint crowded(const Group *group) noexcept nogil:
    """Whether one listening connection more would leave no room for a server."""
    return group != NULL and group.limit != 0 and group.listening + 1 >= group.limit


cdef void make_room(PoolSet *set, Group *full, uint64_t now_us, Server **evicted) noexcept nogil:
    """For one connection that is in no pool: the longest idle server under the limit goes, or the next that is released."""
    if closing_in(set, full) != 0:
        return
    evicted[0] = oldest_idle(set, NULL, full, 0, now_us)
    if evicted[0] == NULL:
        claim(full, now_us, 0)


cdef int plan_listener(PoolSet *set, Pool *pool, uint64_t now_us, Server **evicted) noexcept nogil:
    """A connection that listens for the clients of `pool`: counted by the shared limits, not by pool_size.

    Where a limit is full, the longest idle server under it is closed in its favour; where none is idle, the next one
    that a pool under it releases.
    """
    cdef Group *full = NULL
    cdef int verdict = LISTENER_LATER
    evicted[0] = NULL
    pthread_mutex_lock(&set.lock)
    if pool.paused:
        verdict = LISTENER_LATER
    elif crowded(pool.database) or crowded(pool.user):
        verdict = LISTENER_NEVER
    elif pool.database != NULL and group_full(pool.database):
        full = pool.database
    elif pool.user != NULL and group_full(pool.user):
        full = pool.user
    else:
        group_take(pool.database)
        group_take(pool.user)
        if pool.database != NULL:
            pool.database.listening += 1
        if pool.user != NULL:
            pool.user.listening += 1
        verdict = LISTENER_TAKEN
    if full != NULL:
        make_room(set, full, now_us, evicted)
    pthread_mutex_unlock(&set.lock)
    return verdict


cdef void plan_listener_gone(PoolSet *set, Pool *pool) noexcept nogil:
    """The connection that plan_listener counted has ended."""
    pthread_mutex_lock(&set.lock)
    group_give(pool.database)
    group_give(pool.user)
    if pool.database != NULL:
        pool.database.listening -= 1
    if pool.user != NULL:
        pool.user.listening -= 1
    pthread_mutex_unlock(&set.lock)


cdef bint plan_aside(PoolSet *set, uint32_t database, uint32_t user, uint64_t now_us, Server **evicted) noexcept nogil:
    """Take room for one connection; where a limit is full, the longest idle server under it goes, or the next that is released."""
    cdef Group *full = NULL
    evicted[0] = NULL
    pthread_mutex_lock(&set.lock)
    if group_full(set.groups[database]):
        full = set.groups[database]
    elif group_full(set.groups[user]):
        full = set.groups[user]
    else:
        group_take(set.groups[database])
        group_take(set.groups[user])
    if full != NULL:
        make_room(set, full, now_us, evicted)
    pthread_mutex_unlock(&set.lock)
    return full == NULL


cdef void plan_aside_gone(PoolSet *set, uint32_t database, uint32_t user) noexcept nogil:
    """The connection that plan_aside counted has ended."""
    pthread_mutex_lock(&set.lock)
    group_give(set.groups[database])
    group_give(set.groups[user])
    pthread_mutex_unlock(&set.lock)
