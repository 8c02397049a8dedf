"""Requesting and releasing servers; see pool.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pgpool_core.pool.client cimport (WAIT_GRANTED, WAIT_NONE, WAIT_QUEUED, Client, clients_push, clients_remove)
from pgpool_core.pool.dedicated cimport dedicated_claims
from pgpool_core.pool.limits cimport Group, evicted_for_group, gives_busy
from pgpool_core.pool.server cimport (MAX_WORKERS, SV_ACTIVE, SV_CLOSING, SV_IDLE, SV_LOGIN, SV_MOVED, SV_STATES,
                                      SV_TESTED, SV_USED, Server, ServerList, server_may, server_move, servers_push,
                                      servers_remove)
from pgpool_core.sync.atomic cimport (pgpool_cas64, pgpool_load32, pgpool_load64, pgpool_load8, pgpool_store32, pgpool_store8,
                                      pgpool_store_ptr)
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.sync.watched cimport LockWatch, watched_lock, watched_unlock


cdef extern from * nogil:
    """
    #include <stdio.h>
    #include <stdlib.h>
    static void pgpool_broken(unsigned pool, const char *what) {
        fprintf(stderr, "pool %u: %s\\n", pool, what);
        abort();
    }
    """
    int PGPOOL_CORE_DEBUG
    void pgpool_broken(unsigned int, const char *)

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t, size_t)


cdef void check(Pool *pool) noexcept nogil:
    """What must hold whenever a pool's lock is given back; a debug build ends loudly where it does not."""
    cdef uint32_t i, idle = 0, total = 0
    for i in range(MAX_WORKERS):
        idle += pool.idle[i].len
    for i in range(SV_STATES):
        total += pool.count[i]
    if idle != pool.count[SV_IDLE] or pool.used.len != pool.count[SV_USED]:
        pgpool_broken(pool.id, "lists and counts of idle servers disagree")
    if total != pool.total:
        pgpool_broken(pool.id, "states and slots disagree")
    if pool.waiters.len and idle and not pool.closed and not pool.paused:
        pgpool_broken(pool.id, "somebody waits beside an idle server")


cdef enum:
    MARKS_LOOKED_AT = 8


cdef inline void unlock(Pool *pool) noexcept nogil:
    if PGPOOL_CORE_DEBUG:
        check(pool)
    pthread_mutex_unlock(&pool.lock)


cdef inline void unlock_watched(Pool *pool, LockWatch *watch, uint64_t since_ns) noexcept nogil:
    if PGPOOL_CORE_DEBUG:
        check(pool)
    watched_unlock(&pool.lock, watch, since_ns)


cdef PoolSet *poolset_new() noexcept nogil:
    """An empty set, owned by the caller; NULL when memory is short."""
    cdef PoolSet *set = <PoolSet *>calloc(1, sizeof(PoolSet))
    if set == NULL:
        return NULL
    set.pools = <Pool **>calloc(MAX_POOLS, sizeof(Pool *))
    set.groups = <Group **>calloc(MAX_GROUPS, sizeof(Group *))
    set.watches = <LockWatch *>aligned_alloc(sizeof(LockWatch), MAX_WORKERS * sizeof(LockWatch))
    if set.pools == NULL or set.groups == NULL or set.watches == NULL:
        free(set.pools)
        free(set.groups)
        free(set.watches)
        free(set)
        return NULL
    memset(set.watches, 0, MAX_WORKERS * sizeof(LockWatch))
    pthread_mutex_init(&set.lock, NULL)
    return set


cdef void poolset_free(PoolSet *set) noexcept nogil:
    """Free the set, its pools and groups; nobody may use any of them any more."""
    cdef uint32_t i
    if set == NULL:
        return
    for i in range(set.n_pools):
        pthread_mutex_destroy(&set.pools[i].lock)
        free(set.pools[i])
    for i in range(set.n_groups):
        free(set.groups[i])
    pthread_mutex_destroy(&set.lock)
    free(set.pools)
    free(set.groups)
    free(set.watches)
    free(set)


cdef Group *poolset_add_group(PoolSet *set, uint32_t limit) noexcept nogil:
    """A new shared limit, owned by the set; NULL when memory is short or MAX_GROUPS are there."""
    cdef Group *group = <Group *>calloc(1, sizeof(Group))
    if group == NULL:
        return NULL
    group.limit = limit
    pthread_mutex_lock(&set.lock)
    if set.n_groups == MAX_GROUPS:
        pthread_mutex_unlock(&set.lock)
        free(group)
        return NULL
    group.id = set.n_groups
    set.groups[set.n_groups] = group
    set.n_groups += 1
    pthread_mutex_unlock(&set.lock)
    return group


cdef Pool *poolset_add_pool(PoolSet *set, Group *database, Group *user) noexcept nogil:
    """A new pool, owned by the set; NULL when memory is short or MAX_POOLS are there."""
    cdef Pool *pool = <Pool *>calloc(1, sizeof(Pool))
    if pool == NULL:
        return NULL
    pthread_mutex_init(&pool.lock, NULL)
    pool.set = set
    pool.database = database
    pool.user = user
    pool.settings.max_opening = 1
    pthread_mutex_lock(&set.lock)
    if set.n_pools == MAX_POOLS:
        pthread_mutex_unlock(&set.lock)
        pthread_mutex_destroy(&pool.lock)
        free(pool)
        return NULL
    pool.id = set.n_pools
    set.pools[set.n_pools] = pool
    set.n_pools += 1
    pthread_mutex_unlock(&set.lock)
    return pool


cdef inline void link(Server *server, Client *client, uint32_t worker, uint64_t now_us) noexcept nogil:
    server.was_linked = 1
    pgpool_store32(&server.worker, worker)
    pgpool_store_ptr(<void *>&server.client, client)
    client.server = server
    server_move(server, SV_ACTIVE, now_us)


cdef Server *last_idle(Pool *pool, uint32_t worker, const void *mark) noexcept nogil:
    """The idle server to use next: the worker's own last used one, else the last used of all.

    Among the last few of its own, one with the client's mark goes first.
    """
    cdef Server *best = pool.idle[worker].tail
    cdef Server *at = best
    cdef uint32_t i = 0
    while at != NULL and i < MARKS_LOOKED_AT:
        if at.mark == mark:
            return at
        at = at.prev
        i += 1
    if best != NULL or pool.count[SV_IDLE] == 0:
        return best
    for i in range(MAX_WORKERS):
        if pool.idle[i].tail != NULL and (best == NULL or pool.idle[i].tail.since_us > best.since_us):
            best = pool.idle[i].tail
    return best


cdef Server *first_idle(Pool *pool) noexcept nogil:
    """The server that has been idle for longest, whoever's it is."""
    cdef Server *best = NULL
    cdef uint32_t i
    for i in range(MAX_WORKERS):
        if pool.idle[i].head != NULL and (best == NULL or pool.idle[i].head.since_us < best.since_us):
            best = pool.idle[i].head
    return best


cdef int pool_request(Pool *pool, Client *client, uint32_t worker, uint64_t now_us, Server **out,
                      uint32_t *owner_before) noexcept nogil:
    """Link `client` to an idle server, or put it into the queue.

    POOL_GOT: `out` is linked and belongs to `worker` now; its socket is still in the poll set of `owner_before`.
    POOL_CHECK: `out` has been idle for long; the caller checks it and releases it, the client waits meanwhile.
    POOL_CLOSE: `out` was idle and is not to be used again (close_needed): its worker is to close it; ask again.
    POOL_CLOSED, POOL_ENDING: the client may not wait here.
    """
    cdef Server *server = NULL
    cdef int verdict = POOL_QUEUED
    cdef LockWatch *watch = &pool.set.watches[worker]
    cdef uint64_t since_ns = watched_lock(&pool.lock, watch)
    if pool.closed:
        unlock_watched(pool, watch, since_ns)
        return POOL_CLOSED
    if pool.paused == PAUSE_END:
        unlock_watched(pool, watch, since_ns)
        return POOL_ENDING
    if not pool.paused:
        server = first_idle(pool) if pool.settings.round_robin else last_idle(pool, worker, client.mark)
    if server != NULL:
        servers_remove(&pool.idle[server.worker], server)
        owner_before[0] = server.worker
        out[0] = server
        if pgpool_load8(&server.close_needed):
            server_move(server, SV_CLOSING, now_us)
            server.leaving = "obsolete connection"
            unlock_watched(pool, watch, since_ns)
            return POOL_CLOSE
        link(server, client, worker, now_us)
        unlock_watched(pool, watch, since_ns)
        return POOL_GOT
    server = NULL if pool.paused else pool.used.tail
    if server != NULL:
        servers_remove(&pool.used, server)
        owner_before[0] = server.worker
        if pgpool_load8(&server.close_needed):
            server_move(server, SV_CLOSING, now_us)
            server.leaving = "obsolete connection"
            out[0] = server
            unlock_watched(pool, watch, since_ns)
            return POOL_CLOSE
        pgpool_store32(&server.worker, worker)
        server_move(server, SV_TESTED, now_us)
        out[0] = server
        verdict = POOL_CHECK
    client.since_us = now_us
    client.worker = worker
    client.waiting = WAIT_QUEUED
    clients_push(&pool.waiters, client)
    pool.most_waiting = max(pool.most_waiting, pool.waiters.len)
    client.unserved = verdict == POOL_QUEUED and not pool.paused and pool.waiters.len > pool_coming(pool) and (
        pool.settings.pool_size == 0 or pool.total < pool.settings.pool_size + pool.settings.reserve_pool_size)
    unlock_watched(pool, watch, since_ns)
    return verdict


cdef Server *pool_next_check(Pool *pool, uint32_t worker, uint64_t now_us, uint32_t *owner_before) noexcept nogil:
    """A server in SV_USED that somebody waits for and nobody checks, in SV_TESTED now; NULL when there is none.

    To be asked when a server in SV_TESTED has failed or is kept from its pool: the client that it was checked for may
    be waiting beside another one. As with POOL_CHECK, the caller checks it and releases it.
    """
    cdef Server *server = NULL
    pthread_mutex_lock(&pool.lock)
    if pool.waiters.len > pool_coming(pool) and pool.used.tail != NULL and not pool.paused:
        server = pool.used.tail
        servers_remove(&pool.used, server)
        owner_before[0] = server.worker
        pgpool_store32(&server.worker, worker)
        server_move(server, SV_TESTED, now_us)
    unlock(pool)
    return server


cdef void pool_client_comes(Pool *pool) noexcept nogil:
    """One more has logged in, been lent to, or moved here from another process."""
    pthread_mutex_lock(&pool.lock)
    pool.clients += 1
    pool.most_clients = max(pool.most_clients, pool.clients)
    pthread_mutex_unlock(&pool.lock)


cdef void pool_client_goes(Pool *pool) noexcept nogil:
    """One of those has left."""
    pthread_mutex_lock(&pool.lock)
    pool.clients -= 1
    pthread_mutex_unlock(&pool.lock)


cdef bint pool_leave_queue(Pool *pool, Client *client) noexcept nogil:
    """Take `client` out of the queue; False when a server has been granted to it already."""
    cdef bint left = False
    pthread_mutex_lock(&pool.lock)
    if client.waiting == WAIT_QUEUED:
        clients_remove(&pool.waiters, client)
        client.waiting = WAIT_NONE
        left = True
    unlock(pool)
    return left


cdef uint32_t pool_waiting(Pool *pool, bint dedicated) noexcept nogil:
    """How many clients are in the queue; `dedicated`: with those who wait for a server of their own."""
    cdef uint32_t n
    pthread_mutex_lock(&pool.lock)
    n = pool.waiters.len
    if dedicated:
        n += pool.dedicated.len
    pthread_mutex_unlock(&pool.lock)
    return n


cdef Client *pool_pop_waiter(Pool *pool, uint64_t since_us) noexcept nogil:
    """Take the last waiter out of the queue to refuse it; NULL when nobody waits, or has since before `since_us`.

    Its worker must be told.
    """
    cdef Client *client
    pthread_mutex_lock(&pool.lock)
    client = pool.waiters.tail
    if client != NULL and client.since_us < since_us:
        client = NULL
    if client != NULL:
        clients_remove(&pool.waiters, client)
        client.waiting = WAIT_GRANTED        # granted nothing: `server` stays NULL
    unlock(pool)
    return client


cdef inline bint claimed(Pool *pool, Group *group, uint64_t first_wait_us) noexcept nogil:
    """True, and the claim is taken, when this pool is to give a server to another one: see limits.pxd.

    To one without any only in favour of a client that has waited for longer than this pool's own.
    """
    cdef uint64_t claim_us
    cdef uint32_t asker_has
    if group == NULL:
        return False
    claim_us = pgpool_load64(&group.claim_us)
    if claim_us == 0:
        return False
    asker_has = pgpool_load32(&group.claim_has)
    if not gives_busy(pool_has(pool), asker_has):
        return False
    if asker_has == 0 and first_wait_us != 0 and first_wait_us <= claim_us:
        return False
    return pgpool_cas64(&group.claim_us, claim_us, 0)     # another pool may have taken it meanwhile


cdef bint too_old(Pool *pool, Server *server, uint64_t now_us) noexcept nogil:
    """server_lifetime is over, and the pool's last close for that reason is long enough ago. 0: after one use, not before."""
    cdef uint64_t lifetime_us = pool.settings.server_lifetime_us
    if lifetime_us == 0 and not server.was_linked:
        return False
    if elapsed_us(now_us, server.created_us) < lifetime_us or now_us < pool.lifetime_next_us:
        return False
    pool.lifetime_next_us = now_us
    if pool.settings.pool_size:
        pool.lifetime_next_us += lifetime_us // pool.settings.pool_size
    return True


cdef inline bint too_many(const Pool *pool) noexcept nogil:
    """More servers than pool_size and the reserve allow by now, those that are closing not counted."""
    cdef uint32_t most = pool.settings.pool_size + pool.settings.reserve_pool_size
    return pool.total > most and pool.settings.pool_size != 0 and pool.total - pool.count[SV_CLOSING] > most


cdef inline const char *reason_against(Pool *pool, Server *server, uint64_t now_us) noexcept nogil:
    """Why `server`, with no client, is to be closed, in PgBouncer's words; NULL when it may stay."""
    if pool.paused == PAUSE_END:
        return "pooler is shutting down"
    if pool.closed:
        return "database removed"
    if pool.paused:
        return "pause mode"
    if pgpool_load8(&server.close_needed):
        return "database configuration changed"
    if too_many(pool):
        return "too many servers in the pool"
    if too_old(pool, server, now_us):
        return "server lifetime over"
    return NULL


cdef const char *unwanted(Pool *pool, Server *server, uint64_t now_us) noexcept nogil:
    """The same, for other files."""
    return reason_against(pool, server, now_us)


cdef const char *evicted_for(Pool *pool, uint64_t first_wait_us) noexcept nogil:
    """The limit for whose sake a server that comes free is closed; NULL: nobody else claims it."""
    if pool.dedicated.len and dedicated_claims(pool, first_wait_us):
        return "evicted for pool_size"
    if claimed(pool, pool.database, first_wait_us):
        return evicted_for_group(True)
    if claimed(pool, pool.user, first_wait_us):
        return evicted_for_group(False)
    return NULL


cdef int pool_release(Pool *pool, Server *server, uint32_t worker, uint64_t now_us, Client **out) noexcept nogil:
    """`server`, in the poll set of `worker`, is clean and free: give it to the first waiter, else keep it idle.

    POOL_GRANTED: linked to `out`; when that client lives on another worker, the caller moves the socket there.
    POOL_CLOSE: it is not to be used again; the caller closes it.
    """
    cdef Client *client
    cdef uint64_t first_wait_us
    cdef const char *leaving
    cdef LockWatch *watch = &pool.set.watches[worker]
    cdef uint64_t since_ns = watched_lock(&pool.lock, watch)
    if not server_may(server, SV_IDLE):
        unlock_watched(pool, watch, since_ns)
        return POOL_BAD_MOVE
    if server.client != NULL:
        server.client.server = NULL
        server.client = NULL
    pgpool_store32(&server.worker, worker)
    client = pool.waiters.head
    leaving = reason_against(pool, server, now_us)
    if leaving == NULL and server.dedicated:
        leaving = "replication client was closed"
    first_wait_us = client.since_us if client != NULL else 0
    if leaving == NULL:
        leaving = evicted_for(pool, first_wait_us)
    if leaving != NULL:
        pgpool_store8(&server.close_needed, 1)
        server_move(server, SV_CLOSING, now_us)
        server.leaving = leaving
        unlock_watched(pool, watch, since_ns)
        return POOL_CLOSE
    if client != NULL:
        clients_remove(&pool.waiters, client)
        client.waiting = WAIT_GRANTED
        link(server, client, client.worker, now_us)
        out[0] = client
        unlock_watched(pool, watch, since_ns)
        return POOL_GRANTED
    if pool.settings.server_check_delay_us == 0:
        server_move(server, SV_USED, now_us)
        servers_push(&pool.used, server)
    else:
        server_move(server, SV_IDLE, now_us)
        servers_push(&pool.idle[worker], server)
    unlock_watched(pool, watch, since_ns)
    return POOL_IDLE


cdef int pool_move(Pool *pool, Server *server, uint8_t to, uint64_t now_us) noexcept nogil:
    """Move a server that is on no list."""
    cdef int status
    pthread_mutex_lock(&pool.lock)
    status = server_move(server, to, now_us)
    unlock(pool)
    return status


cdef int pool_unlink(Pool *pool, Server *server, uint8_t to, uint64_t now_us) noexcept nogil:
    """Part `server` from its client; the server moves to `to` (SV_TESTED, SV_BEING_CANCELED or SV_CLOSING)."""
    cdef int status
    pthread_mutex_lock(&pool.lock)
    status = server_move(server, to, now_us)
    if status == SV_MOVED and server.client != NULL:
        server.client.server = NULL
        server.client = NULL
    unlock(pool)
    return status


cdef int pool_join(Pool *pool, Server *server, Client *client, uint32_t worker, uint64_t now_us) noexcept nogil:
    """`server`, in SV_LOGIN, has come with `client`, which keeps it."""
    pthread_mutex_lock(&pool.lock)
    link(server, client, worker, now_us)
    unlock(pool)
    return POOL_OK


cdef bint pool_take_idle(Pool *pool, Server *server, uint32_t worker, uint8_t to, uint64_t now_us) noexcept nogil:
    """Take an idle server off its list for the worker that saw something happen on it; False when another was first."""
    cdef bint taken = False
    pthread_mutex_lock(&pool.lock)
    if server.worker == worker and server_may(server, to):
        if server.state == SV_IDLE:
            servers_remove(&pool.idle[worker], server)
            taken = True
        elif server.state == SV_USED:
            servers_remove(&pool.used, server)
            taken = True
        if taken:
            server_move(server, to, now_us)
    unlock(pool)
    return taken


cdef Server *pool_unlist_one(Pool *pool, uint64_t now_us) noexcept nogil:
    """Take any idle server off its list, in SV_CLOSING, to be closed by its worker; NULL when none is idle."""
    cdef Server *server = NULL
    cdef ServerList *list = &pool.used
    cdef uint32_t i = 0
    pthread_mutex_lock(&pool.lock)
    while list.head == NULL and i < MAX_WORKERS:
        list = &pool.idle[i]
        i += 1
    server = list.head
    if server != NULL:
        servers_remove(list, server)
        server_move(server, SV_CLOSING, now_us)
    unlock(pool)
    return server


cdef uint64_t pool_first_us(Pool *pool, uint64_t now_us) noexcept nogil:
    """Since when the first of all who wait does so; `now_us` when nobody waits."""
    cdef uint64_t since_us = now_us
    if pool.waiters.head != NULL and pool.waiters.head.since_us < since_us:
        since_us = pool.waiters.head.since_us
    if pool.dedicated.head != NULL and pool.dedicated.head.since_us < since_us:
        since_us = pool.dedicated.head.since_us
    return since_us


cdef bint below_size(Pool *pool, uint64_t now_us) noexcept nogil:
    """One more server fits into pool_size, or into the reserve when the first waiter has waited for long."""
    cdef PoolSettings *s = &pool.settings
    if s.pool_size == 0 or pool.total < s.pool_size:
        return True
    return (s.reserve_pool_timeout_us != 0 and pool.total < s.pool_size + s.reserve_pool_size
            and elapsed_us(now_us, pool_first_us(pool, now_us)) >= s.reserve_pool_timeout_us)


cdef bint pool_wants(Pool *pool, uint64_t now_us) noexcept nogil:
    """The pool, its lock held, would open one more server for anybody if the shared limits let it."""
    cdef uint32_t floor = pool.settings.min_pool_size
    if pool.closed or pool.paused or now_us < pool.retry_us or pool.count[SV_LOGIN] >= pool.settings.max_opening:
        return False
    if pool.waiters.len > pool_coming(pool) and below_size(pool, now_us):
        return True
    if pool.logins_waiting and pool.total == pool.dedicated_total and below_size(pool, now_us):
        return True
    if pool.settings.pool_size and floor > pool.settings.pool_size:
        floor = pool.settings.pool_size
    return (pool.clients or pool.settings.prewarm) and pool.total < floor
