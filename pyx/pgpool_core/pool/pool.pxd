"""Pools: who gets which server, who waits, how many there may be. Time comes in as `now_us`; no sockets here.

Locks: `PoolSet.lock` guards the set, the groups and every change of how many slots are taken; `Pool.lock` guards the
lists and states of one pool. Take the set's before a pool's, never two pools' at once. Neither is held over I/O.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.pool.client cimport Client, ClientList
from pgpool_core.pool.limits cimport Group
from pgpool_core.pool.server cimport MAX_WORKERS, SV_CLOSING, SV_LOGIN, SV_STATES, SV_TESTED, Server, ServerList
from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.sync.watched cimport LockWatch


cdef enum:
    POOL_OK = 0
    POOL_GOT = 1                  # request: a server is linked now
    POOL_QUEUED = 2               # request: the client waits
    POOL_CHECK = 3                # request: the client waits, and `out` must be checked by the caller (SV_TESTED)
    POOL_IDLE = 4                 # release: the server waits for a client
    POOL_GRANTED = 5              # release: linked to the client in `out`, whose worker must be told
    POOL_CLOSE = 6                # `out` or the released server is in SV_CLOSING, and the caller has it closed
    POOL_CLOSED = -1              # the pool takes no more clients: its database has gone
    POOL_ENDING = -3              # request: the pooler stops, and waits for its servers only
    POOL_BAD_MOVE = -2            # release: not a server that anybody holds; nothing has changed. Our bug
    MAX_POOLS = 65536
    MAX_GROUPS = 65536

    PAUSE_ALL = 1                 # nobody is given a server, those that come free are closed
    PAUSE_END = 2                 # the same, and nobody may wait

    MODE_SESSION = 0
    MODE_TRANSACTION = 1
    MODE_STATEMENT = 2


cdef struct PoolSettings:         # plain numbers, changed under the pool's lock
    uint32_t pool_size            # 0 = unlimited
    uint32_t min_pool_size
    uint32_t reserve_pool_size
    uint32_t max_opening          # server connections that may be opening at once
    uint64_t reserve_pool_timeout_us
    uint64_t server_check_delay_us   # 0 = check always, UINT64_MAX = never
    uint64_t server_lifetime_us
    uint64_t server_idle_timeout_us  # 0 = never
    uint8_t mode                  # MODE_*
    uint8_t round_robin           # server_round_robin: the server that has been idle for longest goes first
    uint8_t prewarm               # keep min_pool_size even without clients


cdef struct Pool:                 # owned by its PoolSet, at a fixed address until the set ends
    pthread_mutex_t lock
    uint32_t id
    PoolSet *set
    Group *database
    Group *user
    PoolSettings settings
    ServerList[MAX_WORKERS] idle  # one stack a worker; the tail is the one used last
    ServerList used
    ClientList waiters            # first come, first served
    ClientList dedicated          # those who need a server of their own, see dedicated.pxd
    uint32_t count[SV_STATES]     # agrees with the states of its servers
    uint32_t total                # slots taken: everything but SV_FREE; written atomically
    uint32_t dedicated_total      # those among them that belong to one client each
    uint32_t dedicated_opening    # and of these, the ones in SV_LOGIN
    uint32_t clients              # logged in
    uint32_t logins_waiting       # clients that need the first server's greeting
    uint32_t most_clients         # that there have been at one moment, as of `clients`
    uint32_t most_waiting         # of `waiters`
    uint32_t most_servers         # of `total`
    uint64_t retry_us             # no opening before then: the last one failed
    uint64_t lifetime_next_us     # the next close by server_lifetime, spaced
    uint64_t reserve_used         # times that a server was taken from the reserve
    uint32_t want                 # control has been told that servers are wanted; it clears this
    uint8_t closed
    uint8_t paused                # 0 or PAUSE_*
    void *owner                   # the engine's record that this is part of


cdef struct PoolSet:
    pthread_mutex_t lock
    Pool **pools
    Group **groups
    uint32_t n_pools
    uint32_t n_groups
    LockWatch *watches            # MAX_WORKERS: what pools' locks cost each worker that asks for a server or gives one back
    uint32_t starving             # some pool wanted a server and could not have one: plan again when one has gone


cdef PoolSet *poolset_new() noexcept nogil
cdef void poolset_free(PoolSet *set) noexcept nogil
cdef Group *poolset_add_group(PoolSet *set, uint32_t limit) noexcept nogil
cdef Pool *poolset_add_pool(PoolSet *set, Group *database, Group *user) noexcept nogil

cdef inline uint64_t elapsed_us(uint64_t now_us, uint64_t since_us) noexcept nogil:
    """Time from `since_us` to `now_us`; 0 where the reading of another thread's clock is the later one."""
    return now_us - since_us if now_us > since_us else 0


cdef inline uint32_t pool_coming(const Pool *pool) noexcept nogil:
    """Servers that will soon be there for whoever waits first."""
    return pool.count[SV_LOGIN] - pool.dedicated_opening + pool.count[SV_TESTED]


cdef inline uint32_t pool_has(const Pool *pool) noexcept nogil:
    """Servers that any of its clients may use, those that are being opened too."""
    cdef uint32_t others = pool.count[SV_CLOSING] + pool.dedicated_total
    return pool.total - others if pool.total > others else 0


cdef int pool_request(Pool *pool, Client *client, uint32_t worker, uint64_t now_us, Server **out,
                      uint32_t *owner_before) noexcept nogil
cdef Server *pool_next_check(Pool *pool, uint32_t worker, uint64_t now_us, uint32_t *owner_before) noexcept nogil
cdef void pool_client_comes(Pool *pool) noexcept nogil
cdef void pool_client_goes(Pool *pool) noexcept nogil
cdef bint pool_leave_queue(Pool *pool, Client *client) noexcept nogil
cdef int pool_release(Pool *pool, Server *server, uint32_t worker, uint64_t now_us, Client **out) noexcept nogil
cdef int pool_move(Pool *pool, Server *server, uint8_t to, uint64_t now_us) noexcept nogil
cdef int pool_unlink(Pool *pool, Server *server, uint8_t to, uint64_t now_us) noexcept nogil
cdef int pool_join(Pool *pool, Server *server, Client *client, uint32_t worker, uint64_t now_us) noexcept nogil
cdef bint pool_take_idle(Pool *pool, Server *server, uint32_t worker, uint8_t to, uint64_t now_us) noexcept nogil
cdef bint pool_wants(Pool *pool, uint64_t now_us) noexcept nogil
cdef uint64_t pool_first_us(Pool *pool, uint64_t now_us) noexcept nogil
cdef bint below_size(Pool *pool, uint64_t now_us) noexcept nogil
cdef const char *unwanted(Pool *pool, Server *server, uint64_t now_us) noexcept nogil
cdef uint32_t pool_waiting(Pool *pool, bint dedicated) noexcept nogil
cdef Client *pool_pop_waiter(Pool *pool, uint64_t since_us) noexcept nogil
cdef Server *pool_unlist_one(Pool *pool, uint64_t now_us) noexcept nogil
