"""Doors to `pool` for tests: one PoolSet with its servers and clients, told apart by small numbers.

Servers and clients lie in memory of their own and are freed when they go, so that a sanitizer sees late use.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from pgpool_core.pool.client cimport WAIT_GRANTED, WAIT_NONE, Client
from pgpool_core.pool.dedicated cimport dedicated_ask, dedicated_leave, dedicated_link, dedicated_part
from pgpool_core.pool.plan cimport PLAN_EVICT, PLAN_OPEN, plan_gone, plan_next
from pgpool_core.pool.pool cimport (
    POOL_CHECK, POOL_CLOSE, POOL_GOT, POOL_GRANTED, Pool, PoolSet, pool_leave_queue, pool_move, pool_next_check, pool_pop_waiter,
    pool_release, pool_request, pool_take_idle, pool_unlink, pool_unlist_one, poolset_add_group, poolset_add_pool,
    poolset_free, poolset_new,
)
from pgpool_core.pool.server cimport MAX_WORKERS, SV_FREE, SV_STATES, Server, server_move
from pgpool_core.pool.sweep cimport sweep_pool, sweep_soon
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.sync.watched cimport HELD_BUCKETS, HELD_EVERY, LockWatch, held_bucket, watch_seen

from pgpool_core.pool.server import SV_NAMES

HELD_EACH = HELD_EVERY


def bucket_of(uint64_t ns):
    return held_bucket(ns)


cdef enum:
    SWEEP_ROOM = 64


@cython.no_gc_clear
cdef class Set:
    cdef PoolSet *set
    cdef dict servers
    cdef dict clients
    cdef object last_server
    cdef object last_client

    def __cinit__(self):
        self.set = poolset_new()
        if self.set is NULL:
            raise MemoryError
        self.servers = {}
        self.clients = {}
        self.last_server = self.last_client = 0

    def __dealloc__(self):
        for address in [*self.servers.values(), *self.clients.values()]:
            free(<void *><size_t>address)
        poolset_free(self.set)

    cdef Server *server(self, number) except NULL:
        return <Server *><size_t>self.servers[number]

    cdef Client *client(self, number) except NULL:
        return <Client *><size_t>self.clients[number]

    cdef Pool *pool(self, uint32_t number) except NULL:
        if number >= self.set.n_pools:
            raise IndexError(number)
        return self.set.pools[number]

    cdef object number_of(self, const Server *server):
        return None if server is NULL else <size_t>server.owner

    cdef object client_number(self, const Client *client):
        return None if client is NULL else <size_t>client.owner

    def add_group(self, uint32_t limit):
        return poolset_add_group(self.set, limit).id

    def set_limit(self, uint32_t group, uint32_t limit):
        self.set.groups[group].limit = limit

    def add_pool(self, uint32_t database, uint32_t user, **settings):
        cdef Pool *pool = poolset_add_pool(self.set, self.set.groups[database], self.set.groups[user])
        pool.settings.server_lifetime_us = 3_600_000_000
        pool.settings.server_check_delay_us = 30_000_000
        self.configure(pool.id, **settings)
        return pool.id

    def configure(self, uint32_t number, **settings):
        cdef Pool *pool = self.pool(number)
        for name, value in settings.items():
            if name == "pool_size":
                pool.settings.pool_size = value
            elif name == "min_pool_size":
                pool.settings.min_pool_size = value
            elif name == "reserve_pool_size":
                pool.settings.reserve_pool_size = value
            elif name == "reserve_pool_timeout_us":
                pool.settings.reserve_pool_timeout_us = value
            elif name == "max_opening":
                pool.settings.max_opening = value
            elif name == "server_check_delay_us":
                pool.settings.server_check_delay_us = value
            elif name == "server_lifetime_us":
                pool.settings.server_lifetime_us = value
            elif name == "server_idle_timeout_us":
                pool.settings.server_idle_timeout_us = value
            elif name == "prewarm":
                pool.settings.prewarm = value
            elif name == "round_robin":
                pool.settings.round_robin = value
            elif name == "clients":
                pool.clients = value
            elif name == "logins_waiting":
                pool.logins_waiting = value
            elif name == "retry_us":
                pool.retry_us = value
            elif name == "closed":
                pool.closed = value
            elif name == "paused":
                pool.paused = value
            else:
                raise ValueError(name)

    def add_client(self):
        cdef Client *client = <Client *>calloc(1, sizeof(Client))
        if client is NULL:
            raise MemoryError
        self.last_client += 1
        client.owner = <void *><size_t>self.last_client
        self.clients[self.last_client] = <size_t>client
        return self.last_client

    def request(self, uint32_t pool, number, uint32_t worker, uint64_t now_us):
        """(verdict, server, in whose poll set it still is)."""
        cdef Server *server = NULL
        cdef uint32_t before = 0
        cdef Pool *asked = self.pool(pool)
        cdef Client *client = self.client(number)
        cdef int verdict
        with nogil:
            verdict = pool_request(asked, client, worker, now_us, &server, &before)
        if verdict == POOL_GOT or verdict == POOL_CHECK or verdict == POOL_CLOSE:
            return verdict, self.number_of(server), before
        return verdict, None, None

    def release(self, number, uint32_t worker, uint64_t now_us):
        """(verdict, the client that it was granted to)."""
        cdef Client *client = NULL
        cdef Server *server = self.server(number)
        cdef int verdict = pool_release(<Pool *>server.pool, server, worker, now_us, &client)
        return verdict, self.client_number(client) if verdict == POOL_GRANTED else None

    def watch(self, uint32_t worker):
        """What the locks of pools have cost a worker."""
        cdef LockWatch *watch = &self.set.watches[worker]
        cdef uint32_t i
        return {
            "taken": watch_seen(&watch.taken), "waits": watch_seen(&watch.waits), "waited_ns": watch_seen(&watch.waited_ns),
            "timed": watch_seen(&watch.timed), "held_ns": watch_seen(&watch.held_ns),
            "held": [watch_seen(&watch.held[i]) for i in range(HELD_BUCKETS)],
        }

    def lock(self, uint32_t pool):
        """Hold its lock; the same thread is to unlock it."""
        pthread_mutex_lock(&self.pool(pool).lock)

    def unlock(self, uint32_t pool):
        pthread_mutex_unlock(&self.pool(pool).lock)

    def leave_queue(self, uint32_t pool, number):
        return bool(pool_leave_queue(self.pool(pool), self.client(number)))

    def ask_dedicated(self, uint32_t pool, number, uint32_t worker, uint64_t now_us):
        return bool(dedicated_ask(self.pool(pool), self.client(number), worker, now_us))

    def leave_dedicated(self, uint32_t pool, number):
        dedicated_leave(self.pool(pool), self.client(number))

    def link_dedicated(self, number, uint64_t now_us):
        """The client that the server was opened for; None when that has left."""
        cdef Server *server = self.server(number)
        return self.client_number(dedicated_link(<Pool *>server.pool, server, now_us))

    def part_dedicated(self, number, bint again):
        cdef Server *server = self.server(number)
        dedicated_part(<Pool *>server.pool, server, again)

    def take_grant(self, number):
        """What the client's worker does with a grant: the linked server, or None where it was refused."""
        cdef Client *client = self.client(number)
        if client.waiting != WAIT_GRANTED:
            raise ValueError("nothing was granted")
        client.waiting = WAIT_NONE
        return self.number_of(<Server *>client.server)

    def pop_waiter(self, uint32_t pool, uint64_t since_us=0):
        return self.client_number(pool_pop_waiter(self.pool(pool), since_us))

    def move(self, number, uint8_t to, uint64_t now_us):
        cdef Server *server = self.server(number)
        return pool_move(<Pool *>server.pool, server, to, now_us)

    def move_alone(self, number, uint8_t to, uint64_t now_us):
        """The table's move by itself: lists do not follow, so nothing of the pool may be asked for after it."""
        return server_move(self.server(number), to, now_us)

    def unlink(self, number, uint8_t to, uint64_t now_us):
        cdef Server *server = self.server(number)
        return pool_unlink(<Pool *>server.pool, server, to, now_us)

    def take_idle(self, number, uint32_t worker, uint8_t to, uint64_t now_us):
        cdef Server *server = self.server(number)
        return bool(pool_take_idle(<Pool *>server.pool, server, worker, to, now_us))

    def unlist_one(self, uint32_t pool, uint64_t now_us):
        return self.number_of(pool_unlist_one(self.pool(pool), now_us))

    def next_check(self, uint32_t pool, uint32_t worker, uint64_t now_us):
        cdef uint32_t before = 0
        return self.number_of(pool_next_check(self.pool(pool), worker, now_us, &before))

    def close_needed(self, number):
        self.server(number).close_needed = 1

    def plan(self, uint64_t now_us, *, bint slot=True):
        """("open", server, pool), ("evict", server, pool) or None."""
        cdef Server *fresh = <Server *>calloc(1, sizeof(Server)) if slot else NULL
        cdef Pool *pool = NULL
        cdef Server *evicted = NULL
        cdef int verdict = plan_next(self.set, now_us, fresh, &pool, &evicted)
        if verdict == PLAN_OPEN:
            self.last_server += 1
            fresh.owner = <void *><size_t>self.last_server
            self.servers[self.last_server] = <size_t>fresh
            return "open", self.last_server, pool.id
        free(fresh)
        if verdict == PLAN_EVICT:
            return "evict", self.number_of(evicted), pool.id
        return None

    def gone(self, number, uint64_t now_us):
        """True when the slot was given back; the server is forgotten then."""
        cdef Server *server = self.server(number)
        plan_gone(self.set, server, now_us)
        if server.state != SV_FREE:
            return False
        del self.servers[number]
        free(server)
        return True

    def sweep(self, uint32_t pool, uint64_t now_us, uint32_t room=SWEEP_ROOM):
        cdef Server *closing[SWEEP_ROOM]
        cdef uint32_t n = sweep_pool(self.pool(pool), now_us, closing, min(room, SWEEP_ROOM))
        return [self.number_of(closing[i]) for i in range(n)]

    def sweep_soon(self, uint32_t pool, uint64_t now_us):
        return sweep_soon(self.pool(pool), now_us)

    def dump_groups(self):
        return [{"limit": self.set.groups[i].limit, "count": self.set.groups[i].count,
                 "claim_us": self.set.groups[i].claim_us, "claim_has": self.set.groups[i].claim_has} for i in range(self.set.n_groups)]

    def dump_pool(self, uint32_t number):
        """Lists (both ways), counts and limits of one pool."""
        cdef Pool *pool = self.pool(number)
        cdef Client *client = pool.waiters.head
        cdef Client *last = NULL
        cdef uint32_t i
        waiters = []
        while client is not NULL:
            if client.prev != last:
                raise AssertionError("the queue's links disagree")
            waiters.append(self.client_number(client))
            last = client
            client = client.next
        if pool.waiters.tail != last or pool.waiters.len != <uint32_t>len(waiters):
            raise AssertionError("the queue's tail or length disagrees")
        return {
            "idle": {i: self.listed(pool.idle[i].head, pool.idle[i].tail, pool.idle[i].len)
                     for i in range(MAX_WORKERS) if pool.idle[i].head is not NULL or pool.idle[i].len},
            "used": self.listed(pool.used.head, pool.used.tail, pool.used.len),
            "waiters": waiters,
            "dedicated": {"waiting": pool.dedicated.len, "total": pool.dedicated_total,
                          "opening": pool.dedicated_opening},
            "count": {SV_NAMES[i]: pool.count[i] for i in range(SV_STATES)},
            "total": pool.total,
            "database": pool.database.id,
            "user": pool.user.id,
            "reserve_used": pool.reserve_used,
        }

    cdef list listed(self, Server *server, Server *tail, uint32_t length):
        cdef Server *last = NULL
        found = []
        while server is not NULL:
            if server.prev != last:
                raise AssertionError("a list's links disagree")
            found.append(self.number_of(server))
            last = server
            server = server.next
        if tail != last or length != <uint32_t>len(found):
            raise AssertionError("a list's tail or length disagrees")
        return found

    def dump_server(self, number):
        cdef Server *server = self.server(number)
        return {"state": SV_NAMES[server.state], "pool": (<Pool *>server.pool).id, "worker": server.worker,
                "client": self.client_number(server.client), "since_us": server.since_us,
                "close_needed": bool(server.close_needed)}

    def dump_client(self, number):
        cdef Client *client = self.client(number)
        return {"waiting": client.waiting, "server": self.number_of(<Server *>client.server)}

    def server_numbers(self):
        return list(self.servers)
