"""Making, greeting, failing and ending pools; see pools.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from pgpool_core.engine.buf cimport buf_free
from pgpool_core.engine.conn cimport plane_want, worker_wake
from pgpool_core.engine.mailbox cimport MAIL_KICK_POOL
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.post cimport tell_all
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server cimport push_grant
from pgpool_core.engine.slots cimport slot_at, slot_live, slots_room
from pgpool_core.engine.sys cimport pgpool_now_us
from pgpool_core.engine.texts cimport add_began, add_settings, set_pairs, set_text
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.limits cimport Group
from pgpool_core.pool.pool cimport PAUSE_END, Pool, PoolSet, pool_pop_waiter, poolset_add_group, poolset_add_pool
from pgpool_core.pool.server cimport SV_CLOSING, SV_FREE, SV_LOGIN, Server
from pgpool_core.pool.sweep cimport sweep_pool, sweep_soon
from pgpool_core.session.settings cimport Block, block_ref, block_unref
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_store32, pgpool_store64, pgpool_store_ptr
from pgpool_core.sync.mutex cimport pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock


cdef PoolRecord *record_of(Plane *plane, uint32_t pool) except NULL:
    if pool >= plane.set.n_pools:
        raise ValueError("no such pool")
    return plane.records[pool]


cdef Group *new_group(Plane *plane, uint32_t limit) except NULL:
    cdef Group *group = poolset_add_group(plane.set, limit)
    if group == NULL:
        raise MemoryError
    return group


cdef int limit_group(Plane *plane, uint32_t group, uint32_t limit) except -1:
    if group >= plane.set.n_groups:
        raise ValueError("no such group")
    pthread_mutex_lock(&plane.set.lock)
    plane.set.groups[group].limit = limit
    pthread_mutex_unlock(&plane.set.lock)
    plane_want(plane)
    return 0


cdef int limit_clients(Plane *plane, uint32_t group, uint32_t limit) except -1:
    if group >= plane.set.n_groups:
        raise ValueError("no such group")
    pgpool_store32(&plane.set.groups[group].client_limit, limit)
    return 0


cdef Pool *new_pool(Plane *plane, bytes database, bytes user, uint32_t database_group, uint32_t user_group) except NULL:
    cdef PoolSet *set = plane.set
    cdef PoolRecord *record
    cdef Pool *pool
    if database_group >= set.n_groups or user_group >= set.n_groups:
        raise ValueError("no such group")
    record = <PoolRecord *>calloc(1, sizeof(PoolRecord))
    if record == NULL:
        raise MemoryError
    pthread_mutex_init(&record.lock, NULL)
    pool = poolset_add_pool(set, set.groups[database_group], set.groups[user_group])
    if pool == NULL:
        free(record)
        raise MemoryError("no more pools fit")
    pool.settings.max_opening = 1
    pool.settings.server_check_delay_us = <uint64_t>-1
    pool.settings.server_lifetime_us = <uint64_t>-1
    pool.owner = record
    record.pool = pool
    plane.records[pool.id] = record
    set_text(&record.database, database)
    set_text(&record.user, user)
    return pool


cdef int pool_welcome(Plane *plane, uint32_t pool, parameters, began, at_login, fixed) except -1:
    cdef PoolRecord *record = record_of(plane, pool)
    cdef Block *defaults = NULL
    cdef Block *resets = NULL
    cdef Block *old
    cdef Block *kept = NULL
    cdef Block *old_resets
    cdef Block *old_kept
    add_settings(plane.settings, &defaults, parameters)
    add_began(plane.settings, &defaults, began)
    if at_login is None:
        resets = block_ref(plane.settings, defaults)
    else:
        add_settings(plane.settings, &resets, at_login)
    add_began(plane.settings, &kept, [pair for pair in began if pair[0] in fixed])
    pthread_mutex_lock(&record.lock)
    set_pairs(&record.welcome, parameters)
    record.welcome_old = 0
    old, old_resets, old_kept = record.defaults, record.resets, record.fixed
    record.defaults, record.resets = defaults, resets
    pgpool_store_ptr(<void *>&record.fixed, kept)
    pgpool_add32(&record.retold, 1)
    buf_free(&record.error)
    buf_free(&record.first_error)
    pgpool_store64(&record.error_until_us, 0)
    pthread_mutex_unlock(&record.lock)
    block_unref(plane.settings, old)
    block_unref(plane.settings, old_resets)
    block_unref(plane.settings, old_kept)
    tell_logins(plane)
    return 0


cdef void tell_logins(Plane *plane) noexcept nogil:
    """Those that wait for a greeting look whether there is one, or an error. No letter: it would be lost where a worker's ring is full."""
    cdef uint32_t i
    for i in range(plane.n_workers):
        pgpool_store32(&plane.workers[i].greetings, 1)
        worker_wake(&plane.workers[i])


cdef int pool_forget_welcome(Plane *plane, uint32_t pool) except -1:
    cdef PoolRecord *record = record_of(plane, pool)
    pthread_mutex_lock(&record.lock)
    record.welcome_old = 1
    pthread_mutex_unlock(&record.lock)
    return 0


cdef int pool_fail(Plane *plane, uint32_t pool, bytes first, bytes error, uint64_t until_us, uint64_t since_us) except -1:
    cdef PoolRecord *record = record_of(plane, pool)
    cdef bint none
    pthread_mutex_lock(&record.pool.lock)
    record.pool.retry_us = until_us
    pthread_mutex_unlock(&record.pool.lock)
    none = not has_servers(plane, record.pool)
    pthread_mutex_lock(&record.lock)
    set_text(&record.first_error, first)
    set_text(&record.error, error)
    pgpool_store64(&record.error_until_us, until_us)
    pthread_mutex_unlock(&record.lock)
    if none and first:
        empty_queue(plane, record, 0)
    elif none and error:
        empty_queue(plane, record, since_us)
    return none


cdef void empty_queue(Plane *plane, PoolRecord *record, uint64_t since_us):
    """Who has come to the queue at `since_us` or later is sent `first_error`, or `error`; logins look whether there is one for them."""
    cdef Client *seat
    while True:
        seat = pool_pop_waiter(record.pool, since_us)
        if seat == NULL:
            break
        push_grant(&plane.workers[seat.worker], seat)
    tell_logins(plane)


cdef int pool_turn_away(Plane *plane, uint32_t pool, bytes error) except -1:
    """The pooler stops: who waits in `pool`, or for its first server, is sent `error`."""
    cdef PoolRecord *record = record_of(plane, pool)
    pthread_mutex_lock(&record.lock)
    set_text(&record.first_error, error)
    set_text(&record.error, error)
    pgpool_store64(&record.error_until_us, <uint64_t>-1)
    pthread_mutex_unlock(&record.lock)
    empty_queue(plane, record, 0)
    return 0


cdef int pool_pause(Plane *plane, uint32_t pool, uint8_t how) except -1:
    """`how`: PAUSE_*, and idle servers are closed at once; or 0, and servers are opened again."""
    cdef PoolRecord *record = record_of(plane, pool)
    pthread_mutex_lock(&record.pool.lock)
    if record.pool.paused != PAUSE_END:           # which is for good
        record.pool.paused = how
    pthread_mutex_unlock(&record.pool.lock)
    if how:
        sweep_one(plane, record, pgpool_now_us())
    else:
        plane_want(plane)
    return 0


cdef int pool_hold(Plane *plane, uint32_t pool, uint64_t until_us) except -1:
    """Open nothing before then."""
    cdef PoolRecord *record = record_of(plane, pool)
    pthread_mutex_lock(&record.pool.lock)
    record.pool.retry_us = until_us
    pthread_mutex_unlock(&record.pool.lock)
    plane_want(plane)
    return 0


cdef void pools_open(Plane *plane, uint32_t at_once) noexcept nogil:
    """How many servers each pool may be opening at one time."""
    cdef uint32_t i
    for i in range(plane.set.n_pools):
        pthread_mutex_lock(&plane.set.pools[i].lock)
        plane.set.pools[i].settings.max_opening = at_once
        pthread_mutex_unlock(&plane.set.pools[i].lock)


cdef bint has_servers(Plane *plane, Pool *pool) noexcept nogil:
    """Whether `pool` has a server that its clients may share. For control's thread, which alone gives slots out."""
    cdef uint32_t slot
    cdef ServerConn *s
    cdef bint found = False
    pthread_mutex_lock(&pool.lock)                # under which states change
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if slot_live(&s.conn.head) and s.seat.pool == pool and not s.seat.dedicated and s.seat.state != SV_FREE \
                and s.seat.state != SV_CLOSING and (s.seat.state != SV_LOGIN or s.conn.fd >= 0):     # handed over, and not looked at yet
            found = True
            break
    pthread_mutex_unlock(&pool.lock)
    return found


cdef int pool_close(Plane *plane, uint32_t pool, bytes error) except -1:
    cdef PoolRecord *record = record_of(plane, pool)
    pthread_mutex_lock(&record.pool.lock)
    record.pool.closed = 1
    pthread_mutex_unlock(&record.pool.lock)
    pthread_mutex_lock(&record.lock)
    set_text(&record.first_error, error)
    pthread_mutex_unlock(&record.lock)
    tell_all(plane, MAIL_KICK_POOL, pool, error)
    empty_queue(plane, record, 0)                 # that letter may be lost where a ring is full, a grant is not
    sweep_one(plane, record, pgpool_now_us())
    return 0


cdef void sweep_one(Plane *plane, PoolRecord *record, uint64_t now_us) noexcept nogil:
    cdef Server *closing[64]
    cdef uint32_t n, i
    while True:
        n = sweep_pool(record.pool, now_us, closing, 64)
        for i in range(n):
            note(plane, <ServerConn *>closing[i].owner, SERVER_CLOSE)
        if n < 64:
            break


cdef bint sweep_all(Plane *plane, uint64_t now_us) noexcept nogil:
    cdef uint32_t i
    cdef bint soon = False
    for i in range(plane.set.n_pools):
        sweep_one(plane, plane.records[i], now_us)
        soon = sweep_soon(plane.records[i].pool, now_us) or soon
    return soon
