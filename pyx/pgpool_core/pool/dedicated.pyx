"""Waiting for a server of one's own; see dedicated.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.pool.client cimport (WAIT_COMING, WAIT_DEDICATED, WAIT_NONE, Client, clients_push, clients_push_first,
                                      clients_remove)
from pgpool_core.pool.pool cimport PAUSE_END, Pool, below_size
from pgpool_core.pool.server cimport SV_ACTIVE, SV_CLOSING, SV_IDLE, SV_LOGIN, SV_USED, Server, server_move
from pgpool_core.sync.atomic cimport pgpool_add32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock


cdef bint dedicated_ask(Pool *pool, Client *client, uint32_t worker, uint64_t now_us) noexcept nogil:
    """Put `client` into the queue; False: the pool takes no more clients."""
    cdef bint open
    pthread_mutex_lock(&pool.lock)
    open = not pool.closed and pool.paused != PAUSE_END
    if open:
        client.since_us = now_us
        client.worker = worker
        client.waiting = WAIT_DEDICATED
        clients_push(&pool.dedicated, client)
    pthread_mutex_unlock(&pool.lock)
    return open


cdef void dedicated_leave(Pool *pool, Client *client) noexcept nogil:
    """`client` waits no more; a server that is coming for it will find nobody."""
    pthread_mutex_lock(&pool.lock)
    if client.waiting == WAIT_DEDICATED:
        clients_remove(&pool.dedicated, client)
        client.waiting = WAIT_NONE
    elif client.waiting == WAIT_COMING:
        (<Server *>client.server).client = NULL
        client.server = NULL
        client.waiting = WAIT_NONE
    pthread_mutex_unlock(&pool.lock)


cdef bint dedicated_wanted(Pool *pool, uint64_t now_us) noexcept nogil:
    """Somebody waits, and a server can be opened or an idle one closed to make room.

    Not held back after failures: what one client's login to the server failed of need not concern the next.
    """
    if pool.dedicated.len == 0 or pool.closed or pool.paused or pool.count[SV_LOGIN] >= pool.settings.max_opening:
        return False
    return below_size(pool, now_us) or (
        pool.count[SV_IDLE] + pool.count[SV_USED] != 0 and pool.count[SV_CLOSING] < pool.dedicated.len)


cdef bint dedicated_claims(Pool *pool, uint64_t first_wait_us) noexcept nogil:
    """The pool is full, and who waits for a server of its own came before `first_wait_us` (0 = nobody else waits)."""
    if pool.dedicated.len <= pool.count[SV_CLOSING] or pool.settings.pool_size == 0:
        return False
    return pool.total >= pool.settings.pool_size and (
        first_wait_us == 0 or pool.dedicated.head.since_us <= first_wait_us)


cdef void dedicated_bind(Pool *pool, Server *server) noexcept nogil:
    """`server`, about to be opened, is for the first in the queue."""
    cdef Client *client = pool.dedicated.head
    clients_remove(&pool.dedicated, client)
    client.waiting = WAIT_COMING
    client.server = server
    server.client = client
    server.dedicated = 1
    pgpool_add32(&pool.dedicated_total, 1)
    pool.dedicated_opening += 1


cdef Client *dedicated_link(Pool *pool, Server *server, uint64_t now_us) noexcept nogil:
    """`server` is open: link it to its client. NULL: that has left, and the caller closes the server (SV_CLOSING)."""
    cdef Client *client
    pthread_mutex_lock(&pool.lock)
    client = server.client
    pool.dedicated_opening -= 1
    if client != NULL and not pool.closed:
        client.waiting = WAIT_NONE
        server_move(server, SV_ACTIVE, now_us)
    else:
        if client != NULL:                    # its database has gone: it will be told
            client.waiting = WAIT_NONE
            client.server = server.client = NULL
            client = NULL
        server_move(server, SV_CLOSING, now_us)
    pthread_mutex_unlock(&pool.lock)
    return client


cdef void dedicated_part(Pool *pool, Server *server, bint again) noexcept nogil:
    """`server` could not be opened. Its client, if still there, waits for another one (`again`) or is to be refused."""
    cdef Client *client
    pthread_mutex_lock(&pool.lock)
    client = server.client
    server.client = NULL
    if client != NULL:
        client.server = NULL
        client.waiting = WAIT_NONE
        if again:
            client.waiting = WAIT_DEDICATED
            clients_push_first(&pool.dedicated, client)
    pthread_mutex_unlock(&pool.lock)
