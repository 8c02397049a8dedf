"""The door of the data plane for control: making pools, handing servers over, reading mail. See plane.pyi."""

import os
import threading

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.auth.credentials cimport *
from pgpool_core.engine.buf cimport Buf, buf_add, buf_free
from pgpool_core.engine.conn cimport plane_want, worker_wake
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.letters cimport address, bytes_of, client_rows, count, log_letter, policy_letter
from pgpool_core.engine.mailbox cimport *
from pgpool_core.engine.records cimport *
from pgpool_core.engine.routes cimport routes_clear, routes_free, routes_new, routes_put
from pgpool_core.engine.rows cimport ClientRow, PoolRow, ServerRow, fill_pool_row, fill_server_row
from pgpool_core.engine.server cimport push_grant
from pgpool_core.engine.slots cimport (CHUNK_SLOTS, handle_of, slot_at, slot_new, slot_of, slot_release, slots_free,
                                       slots_init)
from pgpool_core.engine.sys cimport *
from pgpool_core.engine.worker cimport worker_close, worker_free, worker_init, worker_run
from pgpool_core.pool.client cimport Client
from pgpool_core.pool.limits cimport Group
from pgpool_core.pool.plan cimport PLAN_EVICT, PLAN_OPEN, plan_gone, plan_next, sweep_pool
from pgpool_core.pool.pool cimport *
from pgpool_core.pool.server cimport *
from pgpool_core.session.settings cimport (SETTINGS_OK, Block, block_unref, block_with, setting_tracked, settings_free,
                                           settings_new)
from pgpool_core.sync.atomic cimport (pgpool_add32, pgpool_cas_ptr, pgpool_load_ptr, pgpool_next64, pgpool_or32,
                                      pgpool_store32, pgpool_swap32)
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.build cimport build_empty
from pgpool_core.wire.codes cimport FE_TERMINATE, TX_IDLE
from pgpool_core.wire.expect cimport expect_free, expect_init
from pgpool_core.wire.span cimport Span

VERDICT_RETRY = POLICY_RETRY
VERDICT_CONSOLE_ADMIN = POLICY_CONSOLE_ADMIN
VERDICT_CONSOLE_STATS = POLICY_CONSOLE_STATS
VERDICT_CONSOLE_TRUSTED = POLICY_CONSOLE_TRUSTED
VERDICT_REFUSE = POLICY_REFUSE
VERDICT_REFUSE_LATE = POLICY_REFUSE_LATE

cdef enum:
    MAX_BODY = 0x7FFFFFFB         # what an Int32 length can say

SERVER_STATES = {SV_FREE: "new", SV_LOGIN: "new", SV_IDLE: "idle", SV_USED: "used", SV_TESTED: "tested",
                 SV_ACTIVE: "active", SV_BEING_CANCELED: "being_canceled", SV_CLOSING: "closing"}


cdef Span span(bytes text):
    cdef Span s
    s.at = <const uint8_t *><const char *>text
    s.len = <uint32_t>len(text)
    return s


cdef int set_text(Buf *b, bytes text) except -1:
    buf_free(b)
    if text and not buf_add(b, <const uint8_t *><const char *>text, len(text)):
        raise MemoryError
    return 0


cdef class Engine:
    """The data plane: worker threads, the pools that they share, and the mail between them and control."""

    cdef Plane *plane
    cdef list threads
    cdef bint stopped
    cdef int owner_pid
    cdef uint64_t token
    cdef uint32_t max_opening
    cdef readonly int wakeup_fd
    cdef readonly int workers
    cdef readonly str io_backend

    def __cinit__(self, *, int workers, str io_backend):
        cdef uint32_t i
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers must be 1 to {MAX_WORKERS}")
        if io_backend not in ("auto", "epoll"):
            raise ValueError(f"io_backend {io_backend} is not there")
        self.threads = []
        self.owner_pid = os.getpid()
        self.workers = workers
        self.io_backend = "epoll"
        self.plane = <Plane *>calloc(1, sizeof(Plane))
        if self.plane == NULL:
            raise MemoryError
        self.plane.control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self.wakeup_fd = self.plane.control_fd
        pthread_mutex_init(&self.plane.server_lock, NULL)
        pthread_mutex_init(&self.plane.ignored_lock, NULL)
        self.plane.set = poolset_new()
        self.plane.records = <PoolRecord **>calloc(MAX_POOLS, sizeof(PoolRecord *))
        self.plane.credentials = credentials_new()
        self.plane.routes = routes_new()
        self.plane.settings = settings_new()
        self.plane.workers = <Worker *>calloc(workers, sizeof(Worker))
        if (self.plane.set == NULL or self.plane.records == NULL or self.plane.credentials == NULL
                or self.plane.routes == NULL or self.plane.settings == NULL or self.plane.workers == NULL
                or self.plane.control_fd < 0 or not mailbox_init(&self.plane.outbox)
                or not slots_init(&self.plane.servers, sizeof(ServerConn))):
            raise MemoryError
        for i in range(<uint32_t>workers):
            if not worker_init(&self.plane.workers[i], self.plane, i):
                raise OSError("a worker cannot be set up: out of descriptors or memory")
            self.plane.n_workers += 1

    def __dealloc__(self):
        cdef uint32_t i
        if self.plane == NULL or self.owner_pid != os.getpid():
            return                                # a forked child: the threads and their state are the parent's
        self.halt()
        for i in range(self.plane.n_workers):
            worker_free(&self.plane.workers[i])
        for i in range(self.plane.set.n_pools):
            free_record(self.plane.records[i])
        mailbox_free(&self.plane.outbox)
        slots_free(&self.plane.servers)
        credentials_free(self.plane.credentials)
        routes_free(self.plane.routes)
        settings_free(self.plane.settings)
        poolset_free(self.plane.set)
        if self.plane.control_fd >= 0:
            close(self.plane.control_fd)
        free(self.plane.records)
        free(self.plane.workers)
        free(self.plane.ignored)
        free(self.plane)

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self):
        """Start the worker threads."""
        for index in range(self.workers):
            thread = threading.Thread(target=self._run, args=(index,), name=f"pgpool-core-{index}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _run(self, uint32_t index):
        cdef Worker *w = &self.plane.workers[index]
        with nogil:
            worker_run(w)

    cdef void halt(self):
        cdef uint32_t i
        if self.stopped:
            return
        self.stopped = True
        for i in range(self.plane.n_workers):
            pgpool_store32(&self.plane.workers[i].stop, 1)
            worker_wake(&self.plane.workers[i])
        for thread in self.threads:
            thread.join()
        self.threads = []
        for i in range(self.plane.n_workers):
            worker_close(&self.plane.workers[i])
        self.close_servers()

    cdef void close_servers(self):
        """The workers have ended: tell every server good-bye and close."""
        cdef uint32_t slot
        cdef ServerConn *s
        cdef uint8_t[8] terminate
        cdef size_t n = build_empty(terminate, sizeof(terminate), FE_TERMINATE)
        for slot in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
            s = <ServerConn *>slot_at(&self.plane.servers, slot)
            if not s.conn.head.live:
                continue
            if s.conn.fd >= 0:
                pgpool_send(s.conn.fd, terminate, n)
                close(s.conn.fd)
                s.conn.fd = -1
            buf_free(&s.conn.out)
            buf_free(&s.conn.held)
            expect_free(&s.expect)
            free(s.host)
            s.host = NULL

    def stop(self):
        """Stop the threads and close every socket; once is enough, twice does no harm."""
        self.halt()

    def after_fork_in_child(self):
        """In a forked child: close every descriptor by number; the threads are not there, their state is not touched."""
        cdef uint32_t i, slot
        cdef ServerConn *s
        cdef ClientConn *c
        self.stopped = True
        self.threads = []
        for i in range(self.plane.n_workers):
            close(self.plane.workers[i].poll_fd)
            close(self.plane.workers[i].wake_fd)
            close(self.plane.workers[i].spare_fd)
            for slot in range(self.plane.workers[i].clients.n_chunks * CHUNK_SLOTS):
                c = <ClientConn *>slot_at(&self.plane.workers[i].clients, slot)
                if c.conn.head.live and c.conn.fd >= 0:
                    close(c.conn.fd)
        for slot in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
            s = <ServerConn *>slot_at(&self.plane.servers, slot)
            if s.conn.head.live and s.conn.fd > 0:
                close(s.conn.fd)
        close(self.plane.control_fd)

    def configure(self, *, uint32_t max_client_conn, uint64_t client_login_timeout_us, uint8_t auth_type,
                  uint32_t max_packet_size, bint log_connections, bint log_disconnections, bint log_pooler_errors,
                  uint32_t max_opening, ignore_startup_parameters, bint tcp_keepalive, uint32_t tcp_keepidle,
                  uint32_t tcp_keepintvl, uint32_t tcp_keepcnt, uint64_t message_stall_timeout_us,
                  uint64_t drain_timeout_us):
        """Set what holds for every client; new values count from the next event on."""
        cdef Plane *p = self.plane
        cdef uint32_t i
        cdef bytes names = b"".join(bytes(name) + b"\0" for name in ignore_startup_parameters) + b"\0"
        cdef uint8_t *ignored = <uint8_t *>malloc(len(names))
        if ignored == NULL:
            raise MemoryError
        memcpy(ignored, <const char *>names, len(names))
        pthread_mutex_lock(&p.ignored_lock)
        free(p.ignored)
        p.ignored = ignored
        pthread_mutex_unlock(&p.ignored_lock)
        p.max_client_conn = max_client_conn
        p.client_login_timeout_us = client_login_timeout_us
        p.auth_type = auth_type
        p.max_packet_size = min(max_packet_size, MAX_BODY)
        p.log_connections = log_connections
        p.log_disconnections = log_disconnections
        p.log_pooler_errors = log_pooler_errors
        p.tcp_keepalive = tcp_keepalive
        p.tcp_keepidle = tcp_keepidle
        p.tcp_keepintvl = tcp_keepintvl
        p.tcp_keepcnt = tcp_keepcnt
        p.message_stall_timeout_us = message_stall_timeout_us
        p.drain_timeout_us = drain_timeout_us
        self.max_opening = max_opening
        for i in range(p.set.n_pools):
            pthread_mutex_lock(&p.set.pools[i].lock)
            p.set.pools[i].settings.max_opening = max_opening
            pthread_mutex_unlock(&p.set.pools[i].lock)

    cdef bint tell(self, uint32_t worker, uint32_t kind, uint64_t client, uint64_t a, bytes data):
        """Post mail to a worker; False when its ring is full."""
        cdef Mail mail
        memset(&mail, 0, sizeof(Mail))
        mail.kind = kind
        mail.client = client
        mail.a = a
        if data:
            mail.data = malloc(len(data))
            if mail.data == NULL:
                return False
            memcpy(mail.data, <const char *>data, len(data))
            mail.len = <uint32_t>len(data)
        if not mailbox_post(&self.plane.workers[worker].inbox, &mail):
            free(mail.data)
            return False
        worker_wake(&self.plane.workers[worker])
        return True

    cdef void tell_all(self, uint32_t kind, uint64_t a, bytes data):
        cdef uint32_t i
        for i in range(self.plane.n_workers):
            self.tell(i, kind, 0, a, data)

    def add_listener(self, int fd, *, bint is_unix, uint16_t port):
        """Let every worker accept from `fd`, which stays the caller's."""
        cdef Listener *listener
        if self.plane.n_listeners == MAX_LISTENERS:
            raise ValueError(f"at most {MAX_LISTENERS} addresses can be listened on (listen_addr)")
        listener = &self.plane.listeners[self.plane.n_listeners]
        listener.fd = fd
        listener.port = port
        listener.is_unix = is_unix
        listener.live = 1
        self.plane.n_listeners += 1
        self.tell_all(MAIL_LISTENERS, 0, b"")

    def drop_listeners(self):
        """Accept from nobody any more; the caller closes the sockets."""
        cdef uint32_t i
        for i in range(self.plane.n_listeners):
            self.plane.listeners[i].live = 0

    # -- pools, routes, secrets ----------------------------------------------------------------------------------

    def add_group(self, uint32_t limit):
        """A limit on server connections that several pools share; 0 = none."""
        cdef Group *group = poolset_add_group(self.plane.set, limit)
        if group == NULL:
            raise MemoryError
        return group.id

    def set_group_limit(self, uint32_t group, uint32_t limit):
        """Change a shared limit; connections above a lowered one are not closed, but none is opened."""
        if group >= self.plane.set.n_groups:
            raise ValueError("no such group")
        pthread_mutex_lock(&self.plane.set.lock)
        self.plane.set.groups[group].limit = limit
        pthread_mutex_unlock(&self.plane.set.lock)
        plane_want(self.plane)

    def add_pool(self, bytes database, bytes user, *, uint32_t database_group, uint32_t user_group):
        """A new pool; configure_pool gives it its size."""
        cdef PoolSet *set = self.plane.set
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
        pool.settings.max_opening = self.max_opening if self.max_opening else 1
        pool.settings.server_check_delay_us = <uint64_t>-1
        pool.settings.server_lifetime_us = <uint64_t>-1
        pool.owner = record
        record.pool = pool
        self.plane.records[pool.id] = record
        set_text(&record.database, database)
        set_text(&record.user, user)
        return pool.id

    cdef PoolRecord *record(self, uint32_t pool) except NULL:
        if pool >= self.plane.set.n_pools:
            raise ValueError("no such pool")
        return self.plane.records[pool]

    def configure_pool(self, uint32_t pool, *, uint8_t mode, uint32_t pool_size, uint32_t min_pool_size,
                       uint32_t reserve_pool_size, uint64_t reserve_pool_timeout_us, uint64_t query_wait_timeout_us,
                       uint64_t server_check_delay_us, uint64_t server_lifetime_us, uint64_t server_idle_timeout_us,
                       bytes reset_query, bint reset_always, bytes check_query, bint prewarm):
        """Set or change what holds for one pool."""
        cdef PoolRecord *record = self.record(pool)
        cdef PoolSettings *s = &record.pool.settings
        pthread_mutex_lock(&record.pool.lock)
        s.mode = mode
        s.pool_size = pool_size
        s.min_pool_size = min_pool_size
        s.reserve_pool_size = reserve_pool_size
        s.reserve_pool_timeout_us = reserve_pool_timeout_us
        s.query_wait_timeout_us = query_wait_timeout_us
        s.server_check_delay_us = server_check_delay_us if check_query else <uint64_t>-1
        s.server_lifetime_us = server_lifetime_us
        s.server_idle_timeout_us = server_idle_timeout_us
        s.prewarm = prewarm
        pthread_mutex_unlock(&record.pool.lock)
        pthread_mutex_lock(&record.lock)
        set_text(&record.reset_query, reset_query)
        set_text(&record.check_query, check_query)
        record.reset_always = reset_always
        pthread_mutex_unlock(&record.lock)
        plane_want(self.plane)

    def add_route(self, bytes database, bytes user, uint32_t pool):
        """Logins of (database, user) go to `pool` from now on, without a question to control."""
        if not routes_put(self.plane.routes, span(database), span(user), self.record(pool)):
            raise MemoryError

    def clear_routes(self):
        """Forget every route."""
        routes_clear(self.plane.routes)

    def set_credential(self, bytes user, *, bytes plain=None, bytes md5=None, scram=None):
        """What `user` proves a login with; nothing given = the user exists and no password matches."""
        cdef Credential c
        cdef bytes salt, stored, server
        memset(&c, 0, sizeof(Credential))
        try:
            if plain is not None and credential_plain(&c, span(user), span(plain)) != CREDENTIALS_OK:
                raise ValueError("unusable password")
            if md5 is not None and credential_md5(&c, span(md5)) != CREDENTIALS_OK:
                raise ValueError("unusable md5 secret")
            if scram is not None:
                iterations, salt, stored, server = scram
                if credential_scram(&c, iterations, span(salt), span(stored), span(server)) != CREDENTIALS_OK:
                    raise ValueError("unusable SCRAM secret")
            if credentials_put(self.plane.credentials, span(user), &c) != CREDENTIALS_OK:
                raise MemoryError
        finally:
            credential_wipe(&c)

    def clear_credentials(self):
        """Forget every secret."""
        credentials_clear(self.plane.credentials)

    def answer_policy(self, uint64_t client, uint8_t verdict, bytes error=b""):
        """Answer a "policy" letter; False when the worker's ring is full (the client then ends by its timeout)."""
        return self.tell(<uint32_t>(client >> 56) - 1, MAIL_VERDICT, client, verdict, error)

    def set_welcome(self, uint32_t pool, parameters):
        """What clients are told at login; those that waited for it are greeted."""
        cdef PoolRecord *record = self.record(pool)
        cdef Block *defaults = NULL
        cdef Block *old
        cdef Block *fresh
        cdef Span name, canonical
        for key, value in parameters:
            name = span(key)
            if setting_tracked(name, &canonical) and block_with(self.plane.settings, defaults, canonical, span(value),
                                                                &fresh) == SETTINGS_OK:
                block_unref(self.plane.settings, defaults)
                defaults = fresh
        pthread_mutex_lock(&record.lock)
        set_text(&record.welcome, b"".join(key + b"\0" + value + b"\0" for key, value in parameters))
        old = record.defaults
        record.defaults = defaults
        buf_free(&record.error)
        record.error_until_us = 0
        pthread_mutex_unlock(&record.lock)
        block_unref(self.plane.settings, old)
        self.tell_all(MAIL_WELCOME, pool, b"")

    def fail_pool(self, uint32_t pool, bytes error, uint64_t until_us):
        """Open nothing for `pool` before `until_us`; where it has no server, `error` goes to those who wait or come."""
        cdef PoolRecord *record = self.record(pool)
        cdef Client *seat
        cdef bint none
        pthread_mutex_lock(&record.pool.lock)
        record.pool.retry_us = until_us
        none = record.pool.total == record.pool.count[SV_LOGIN] + record.pool.count[SV_CLOSING]
        pthread_mutex_unlock(&record.pool.lock)
        pthread_mutex_lock(&record.lock)
        set_text(&record.error, error)
        record.error_until_us = until_us
        pthread_mutex_unlock(&record.lock)
        if not none or not error:
            return
        while True:
            seat = pool_pop_waiter(record.pool)
            if seat == NULL:
                break
            push_grant(&self.plane.workers[seat.worker], seat)
        self.tell_all(MAIL_WELCOME, pool, b"")

    def close_pool(self, uint32_t pool, bytes error):
        """End a pool: its clients are sent `error`, its servers are closed."""
        cdef PoolRecord *record = self.record(pool)
        pthread_mutex_lock(&record.pool.lock)
        record.pool.closed = 1
        pthread_mutex_unlock(&record.pool.lock)
        self.tell_all(MAIL_KICK_POOL, pool, error)
        self.sweep_one(record, pgpool_now_us())

    def disconnect(self, uint64_t client_id, bytes error):
        """Send `error` to the client with this id and close it; nothing happens when it has gone."""
        self.tell_all(MAIL_KICK, client_id, error)

    def reply(self, uint64_t client, bytes data):
        """The finished answer to a "console" letter."""
        return self.tell(<uint32_t>(client >> 56) - 1, MAIL_REPLY, client, 0, data)

    # -- servers -------------------------------------------------------------------------------------------------

    cdef void note(self, ServerConn *s, uint32_t what):
        """Leave a note for the worker of `s`."""
        cdef Worker *w = &self.plane.workers[s.seat.worker]
        cdef void *head
        if pgpool_or32(&s.notes, what) != 0:
            return                                # on the stack already
        while True:
            head = pgpool_load_ptr(&w.notes)
            s.note_next = <ServerConn *>head
            if pgpool_cas_ptr(<void **>&w.notes, head, s):
                break
        worker_wake(w)

    def plan(self, uint64_t now_us):
        """Server connections to be opened now: (server, pool) pairs. Their slots are counted from here on."""
        cdef ServerConn *slot = NULL
        cdef Server *evicted
        cdef Pool *pool
        cdef int what
        cdef list found = []
        if self.stopped:
            return found
        while True:
            if slot == NULL:
                pthread_mutex_lock(&self.plane.server_lock)
                slot = <ServerConn *>slot_new(&self.plane.servers)
                pthread_mutex_unlock(&self.plane.server_lock)
                if slot == NULL:
                    break
                slot.conn.fd = -1
                slot.conn.kind = KIND_SERVER
                slot.conn.timer.owner = slot
                slot.seat.owner = slot
                slot.seat.worker = NO_WORKER
                expect_init(&slot.expect)
            evicted = NULL
            what = plan_next(self.plane.set, now_us, &slot.seat, &pool, &evicted)
            if what == PLAN_OPEN:
                slot.pool = <PoolRecord *>pool.owner
                found.append((handle_of(&slot.conn.head, KIND_SERVER), pool.id))
                slot = NULL
            elif what == PLAN_EVICT:
                self.note(<ServerConn *>evicted.owner, SERVER_CLOSE)
            else:
                break
        if slot != NULL:
            pthread_mutex_lock(&self.plane.server_lock)
            slot_release(&self.plane.servers, &slot.conn.head)
            pthread_mutex_unlock(&self.plane.server_lock)
        return found

    cdef ServerConn *opening(self, uint64_t server) except NULL:
        cdef ServerConn *s = <ServerConn *>slot_of(&self.plane.servers, server)
        if s == NULL or s.seat.state != SV_LOGIN or s.conn.fd >= 0:
            raise ValueError("no such server is being opened")
        return s

    def adopt_server(self, uint64_t server, int fd, *, uint32_t backend_pid, bytes backend_key, parameters,
                     bytes unread, bint family_unix, bytes host, uint16_t port):
        """A planned server is logged in: `fd` moves to the engine, which gives it to the first waiter. Returns its id."""
        cdef ServerConn *s = self.opening(server)
        cdef Span name, canonical
        cdef Block *fresh
        cdef uint32_t i, best = 0
        if self.stopped:
            raise RuntimeError("the engine has stopped")
        if len(backend_key) > 256:
            raise ValueError("backend key is too long")
        s.host = <char *>malloc(len(host) + 1)
        if s.host == NULL or (unread and not buf_add(&s.conn.held, <const uint8_t *><const char *>unread, len(unread))):
            raise MemoryError
        memcpy(s.host, <const char *>host, len(host) + 1)
        for key, value in parameters:
            name = span(key)
            if setting_tracked(name, &canonical) and block_with(self.plane.settings, s.settings, canonical,
                                                                span(value), &fresh) == SETTINGS_OK:
                block_unref(self.plane.settings, s.settings)
                s.settings = fresh
        if s.settings != NULL:
            s.settings.verified = 1
        s.backend_pid = backend_pid
        s.key_len = <uint8_t>len(backend_key)
        memcpy(s.backend_key, <const char *>backend_key, len(backend_key))
        s.family_unix = family_unix
        s.port = port
        s.tx_status = TX_IDLE
        s.adopted_us = pgpool_now_us()
        s.id = pgpool_next64(&self.plane.last_id)
        for i in range(1, self.plane.n_workers):
            if self.owned(i) < self.owned(best):
                best = i
        s.conn.fd = fd
        s.seat.worker = best
        identity = s.id                           # `s` is the worker's once the note is there
        self.note(s, SERVER_ADOPT)
        return identity

    cdef uint32_t owned(self, uint32_t worker):
        """How many servers live on a worker: new ones go where there are fewest."""
        cdef uint32_t slot, n = 0
        cdef ServerConn *s
        for slot in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
            s = <ServerConn *>slot_at(&self.plane.servers, slot)
            n += s.conn.head.live and s.seat.worker == worker
        return n

    def abandon_server(self, uint64_t server):
        """A planned server could not be opened: its slot is given back."""
        cdef ServerConn *s = self.opening(server)
        plan_gone(self.plane.set, &s.seat, pgpool_now_us())
        buf_free(&s.conn.held)
        block_unref(self.plane.settings, s.settings)
        s.settings = NULL
        free(s.host)
        s.host = NULL
        pthread_mutex_lock(&self.plane.server_lock)
        slot_release(&self.plane.servers, &s.conn.head)
        pthread_mutex_unlock(&self.plane.server_lock)

    def cancel_done(self, uint64_t server):
        """The connection that carried a cancel request to this server has closed."""
        cdef ServerConn *s = <ServerConn *>slot_of(&self.plane.servers, server)
        if s == NULL:
            return
        pgpool_add32(&s.cancels, -1)
        self.note(s, SERVER_CANCEL_DONE)

    cdef void sweep_one(self, PoolRecord *record, uint64_t now_us):
        cdef Server *closing[64]
        cdef uint32_t n, i
        while True:
            n = sweep_pool(record.pool, now_us, closing, 64)
            for i in range(n):
                self.note(<ServerConn *>closing[i].owner, SERVER_CLOSE)
            if n < 64:
                break

    def sweep(self, uint64_t now_us):
        """The janitor's round: idle servers that are due for a check, too old, idle for too long or not wanted."""
        cdef uint32_t i
        if self.stopped:
            return
        for i in range(self.plane.set.n_pools):
            self.sweep_one(self.plane.records[i], now_us)

    def retire_servers(self, int pool):
        """Close every server of `pool` (-1 = of all pools) as soon as nobody is linked to it."""
        cdef uint32_t slot
        cdef ServerConn *s
        for slot in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
            s = <ServerConn *>slot_at(&self.plane.servers, slot)
            if s.conn.head.live and s.pool != NULL and (pool < 0 or s.pool.pool.id == <uint32_t>pool):
                s.seat.close_needed = 1
        self.sweep(pgpool_now_us())

    # -- what there is -------------------------------------------------------------------------------------------

    def ask_clients(self):
        """Ask every worker for its clients; each answers with a "clients" letter that names the token returned here."""
        self.token += 1
        self.tell_all(MAIL_ASK_CLIENTS, self.token, b"")
        return self.token

    def servers(self):
        """A row for each server connection that is open."""
        cdef uint32_t slot
        cdef ServerRow row
        cdef list rows = []
        for slot in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
            if not fill_server_row(<ServerConn *>slot_at(&self.plane.servers, slot), &row):
                continue
            rows.append({
                "id": row.id, "pool": row.pool, "state": SERVER_STATES[row.state],
                "addr": "unix" if row.family_unix else row.host.decode("utf-8", "replace"), "port": row.port,
                "local_addr": address(&row.local), "local_port": row.local.port, "connect_us": row.adopted_us,
                "request_us": row.request_us, "link": row.link, "remote_pid": row.backend_pid,
                "close_needed": bool(row.close_needed), "application_name": "",
                "worker": row.worker,
            })
        return rows

    def pools(self):
        """A row for each pool that is not closed and empty."""
        cdef uint32_t i
        cdef PoolRow p
        cdef ServerRow server
        cdef uint64_t now_us = pgpool_now_us()
        cdef PoolRecord *record
        cdef dict cancels = {}
        cdef list rows = []
        for i in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
            if fill_server_row(<ServerConn *>slot_at(&self.plane.servers, i), &server) and server.cancels:
                cancels[server.pool] = cancels.get(server.pool, 0) + server.cancels
        for i in range(self.plane.set.n_pools):
            record = self.plane.records[i]
            fill_pool_row(record, now_us, &p)
            if p.closed and not p.total and not p.clients:
                continue
            rows.append({
                "id": i, "database": bytes_of(&record.database).decode("utf-8", "surrogateescape"),
                "user": bytes_of(&record.user).decode("utf-8", "surrogateescape"), "mode": p.settings.mode,
                "pool_size": p.settings.pool_size, "min_pool_size": p.settings.min_pool_size,
                "reserve_pool_size": p.settings.reserve_pool_size,
                "cl_active": p.clients - p.waiting if p.clients > p.waiting else 0,
                "cl_waiting": p.waiting + p.logins_waiting, "cl_active_cancel_req": cancels.get(i, 0),
                "cl_waiting_cancel_req": 0, "sv_active": p.count[SV_ACTIVE], "sv_active_cancel": cancels.get(i, 0),
                "sv_being_canceled": p.count[SV_BEING_CANCELED], "sv_idle": p.count[SV_IDLE],
                "sv_used": p.count[SV_USED], "sv_tested": p.count[SV_TESTED], "sv_login": p.count[SV_LOGIN],
                "servers_total": p.total, "maxwait_us": p.maxwait_us,
            })
        return rows

    def counters(self):
        """What has been counted for each pool since the start, all workers together."""
        cdef uint32_t i, j
        cdef Counters *k
        cdef dict found = {}, row
        for i in range(self.plane.set.n_pools):
            row = None
            for j in range(self.plane.n_workers):
                k = self.plane.workers[j].counters[i]
                if k == NULL:
                    continue
                if row is None:
                    row = count(k)
                else:
                    for name, value in count(k).items():
                        if isinstance(value, list):
                            row[name] = [a + b for a, b in zip(row[name], value)]
                        else:
                            row[name] += value
            if row is not None:
                found[i] = row
        return found

    def invariants(self):
        """Sentences about what must hold and does not; empty when all is well. At rest only, for tests."""
        cdef uint32_t i, j, slot
        cdef Pool *p
        cdef ServerConn *s
        cdef list wrong = []
        cdef dict states
        cdef Server *at
        for i in range(self.plane.set.n_pools):
            p = self.plane.set.pools[i]
            states = {}
            for slot in range(self.plane.servers.n_chunks * CHUNK_SLOTS):
                s = <ServerConn *>slot_at(&self.plane.servers, slot)
                if s.conn.head.live and s.seat.pool == p:
                    states[s.seat.state] = states.get(s.seat.state, 0) + 1
            pthread_mutex_lock(&p.lock)
            for j in range(SV_STATES):
                if p.count[j] != states.get(j, 0):
                    wrong.append(f"pool {i}: {p.count[j]} servers counted as {SERVER_STATES[j]}, {states.get(j, 0)} are")
            if sum(states.values()) != p.total:
                wrong.append(f"pool {i}: {p.total} slots taken, {sum(states.values())} servers")
            if p.waiters.len and p.count[SV_IDLE]:
                wrong.append(f"pool {i}: {p.waiters.len} wait beside {p.count[SV_IDLE]} idle servers")
            j = p.used.len
            for slot in range(MAX_WORKERS):
                j += p.idle[slot].len
            if j != p.count[SV_IDLE] + p.count[SV_USED]:
                wrong.append(f"pool {i}: {j} servers on idle lists, {p.count[SV_IDLE] + p.count[SV_USED]} idle or used")
            pthread_mutex_unlock(&p.lock)
        return wrong

    def take_mail(self):
        """All letters that have come, oldest first."""
        cdef Mail mail
        cdef uint64_t count
        cdef list letters = []
        if self.plane.control_fd >= 0:
            read(self.plane.control_fd, &count, 8)
        pgpool_store32(&self.plane.signalled, 0)
        if pgpool_swap32(&self.plane.want, 0):
            letters.append(("want",))
        while mailbox_take(&self.plane.outbox, &mail):
            letter = self.letter(&mail)
            free(mail.data)
            if letter is not None:
                letters.append(letter)
        return letters

    cdef object letter(self, Mail *mail):
        cdef ServerConn *s
        if mail.kind == MAIL_POLICY:
            return policy_letter(mail)
        if mail.kind == MAIL_CONSOLE:
            return ("console", mail.client, (<char *>mail.data)[:mail.len].rstrip(b"\0"), bool(mail.a))
        if mail.kind == MAIL_CANCEL:
            s = <ServerConn *>slot_of(&self.plane.servers, mail.server)
            if s == NULL or s.host == NULL:
                return None
            return ("cancel", mail.server, s.pool.pool.id, s.backend_pid, s.backend_key[:s.key_len], <bytes>s.host, s.port)
        if mail.kind == MAIL_SERVER_CLOSED:
            return ("server_closed", mail.server, mail.a, (<bytes>(<const char *>mail.client)).decode(), mail.b)
        if mail.kind == MAIL_LOG:
            return log_letter(<LogRecord *>mail.data)
        return ("clients", mail.a, mail.worker, client_rows(<ClientRow *>mail.data, <uint32_t>mail.b))


cdef void free_record(PoolRecord *record) noexcept nogil:
    pthread_mutex_destroy(&record.lock)
    buf_free(&record.database)
    buf_free(&record.user)
    buf_free(&record.reset_query)
    buf_free(&record.check_query)
    buf_free(&record.welcome)
    buf_free(&record.error)
    free(record)
