"""The janitor; see sweep.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.pool.pool cimport Pool, PoolSettings, elapsed_us, pool_wants, unwanted
from pgpool_core.pool.server cimport (MAX_WORKERS, SV_BEING_CANCELED, SV_CLOSING, SV_LOGIN, SV_TESTED, SV_USED, Server,
                                      ServerList, server_move, servers_insert, servers_remove)
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock


cdef uint32_t sweep_list(Pool *pool, ServerList *list, uint64_t now_us, Server **closing, uint32_t room) noexcept nogil:
    """Take out of `list` (longest idle first) what is due; those due for a check go to `used`."""
    cdef PoolSettings *s = &pool.settings
    cdef Server *server = list.head
    cdef Server *next
    cdef const char *leaving
    cdef uint64_t idle_us
    cdef uint32_t n = 0
    while server != NULL and n < room:
        next = server.next
        idle_us = elapsed_us(now_us, server.since_us)
        leaving = unwanted(pool, server, now_us)
        if leaving == NULL and s.server_idle_timeout_us and idle_us >= s.server_idle_timeout_us \
                and pool.total - pool.count[SV_CLOSING] > s.min_pool_size:
            leaving = "server idle timeout"
        if leaving != NULL:
            servers_remove(list, server)
            server_move(server, SV_CLOSING, now_us)
            server.leaving = leaving
            closing[n] = server
            n += 1
        elif list != &pool.used and idle_us >= s.server_check_delay_us:
            servers_remove(list, server)
            idle_us = server.since_us
            server_move(server, SV_USED, now_us)
            server.since_us = idle_us               # idle since then, whatever it is called now
            servers_insert(&pool.used, server)
        server = next
    return n


cdef uint32_t sweep_pool(Pool *pool, uint64_t now_us, Server **closing, uint32_t room) noexcept nogil:
    """The janitor's look at one pool: at most `room` servers go to SV_CLOSING and must be closed by their workers."""
    cdef uint32_t n, i
    pthread_mutex_lock(&pool.lock)
    n = sweep_list(pool, &pool.used, now_us, closing, room)
    for i in range(MAX_WORKERS):
        if pool.idle[i].head != NULL and n < room:
            n += sweep_list(pool, &pool.idle[i], now_us, closing + n, room - n)
    pthread_mutex_unlock(&pool.lock)
    return n


cdef inline bint is_short(uint64_t timeout_us) noexcept nogil:
    return 0 < timeout_us < SHORT_US


cdef bint sweep_soon(Pool *pool, uint64_t now_us) noexcept nogil:
    cdef PoolSettings *s = &pool.settings
    cdef bint soon
    pthread_mutex_lock(&pool.lock)
    soon = pool.waiters.head != NULL or pool.dedicated.head != NULL or pool.logins_waiting != 0 \
        or (pool.count[SV_LOGIN] | pool.count[SV_TESTED] | pool.count[SV_CLOSING] | pool.count[SV_BEING_CANCELED]) != 0 \
        or pool_wants(pool, now_us) or is_short(s.server_idle_timeout_us) or is_short(s.server_check_delay_us) \
        or is_short(s.server_lifetime_us // (pool.total or 1))     # they are closed one after another
    pthread_mutex_unlock(&pool.lock)
    return soon
