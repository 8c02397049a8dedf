"""The door of the data plane for control: making pools, handing servers over, reading mail. See plane.pyi."""

import os
import threading
import time

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc

from pgpool_core.auth.credentials cimport credentials_clear, credentials_mock_by
from pgpool_core.auth.digest cimport SHA256_LEN
from pgpool_core.engine.arrival cimport forget_texts, learn_texts, place_server, take_client, take_server
from pgpool_core.engine.aside cimport aside_give, aside_take
from pgpool_core.engine.cancels cimport cancel_find, cancel_moved
from pgpool_core.engine.conn cimport plane_wake, plane_want
from pgpool_core.engine.departure cimport GIVE_ALL, GIVE_NOTHING, GIVE_PLAIN
from pgpool_core.engine.forwarding cimport set_networks
from pgpool_core.engine.hearing cimport listener_give, listener_take, tell_notified
from pgpool_core.engine.lender cimport loan_back, loan_letters, loan_new, loan_order
from pgpool_core.engine.letters cimport take_letters
from pgpool_core.engine.life cimport (BACKEND_AUTO, BACKEND_EPOLL, BACKEND_URING, plane_close_all, plane_close_files,
                                      plane_end, plane_free, plane_open, plane_shut, why_not)
from pgpool_core.engine.listeners cimport listeners_add, listeners_drop, listeners_let_go, listeners_tune
from pgpool_core.engine.mailbox cimport (MAIL_ASK_CLIENTS, MAIL_CANCEL_DONE, MAIL_CHANNELS_BACK, MAIL_CHANNELS_LOST, MAIL_DRAIN, MAIL_EFFECTS,
                                         MAIL_GIVE, MAIL_KICK, MAIL_KICK_POOL, MAIL_LISTEN_FAILED, MAIL_LISTENING, MAIL_PATIENCE, MAIL_REPLY,
                                         MAIL_SUSPEND, MAIL_VERDICT)
from pgpool_core.engine.planned cimport (closing_servers, plan_servers, server_abandon, server_adopt, server_cancelled, servers_hurry,
                                         servers_retire)
from pgpool_core.engine.pools cimport (limit_clients, limit_group, new_group, new_pool, pool_close, pool_fail, pool_hold, pool_pause,
                                       pool_forget_welcome, pool_turn_away, pool_welcome, pools_open, record_of, sweep_all)
from pgpool_core.engine.post cimport tell, tell_all
from pgpool_core.engine.records cimport *
from pgpool_core.engine.report cimport (count_all, empty_pools, find_wrong, login_counts, memory_rows, pool_rows, server_rows,
                                        worker_rows)
from pgpool_core.engine.routes cimport routes_clear, routes_drop, routes_put
from pgpool_core.engine.rules cimport rules_ignore, rules_notice, rules_tls, rules_track
from pgpool_core.engine.secrets cimport secret_forget, secret_nobody, secret_set
from pgpool_core.engine.sys cimport pgpool_now_us
from pgpool_core.engine.terms cimport AS_ALL, PATIENCES, terms_begin, terms_end, terms_set
from pgpool_core.engine.texts cimport set_text, set_times, span
from pgpool_core.engine.worker cimport worker_run
from pgpool_core.pool.plan cimport LISTENER_LATER as LATER, LISTENER_NEVER as NEVER, LISTENER_TAKEN as TAKEN
from pgpool_core.pool.pool cimport MAX_POOLS, PAUSE_ALL, PAUSE_END, Pool, PoolSettings
from pgpool_core.pool.server cimport MAX_WORKERS
from pgpool_core.sync.atomic cimport (pgpool_add32, pgpool_load32, pgpool_load64, pgpool_store32, pgpool_store64,
                                      pgpool_store8)
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.face cimport Context, Session

VERDICT_RETRY = POLICY_RETRY
VERDICT_CONSOLE_ADMIN = POLICY_CONSOLE_ADMIN
VERDICT_CONSOLE_STATS = POLICY_CONSOLE_STATS
VERDICT_CONSOLE_TRUSTED = POLICY_CONSOLE_TRUSTED
VERDICT_REFUSE = POLICY_REFUSE
VERDICT_REFUSE_LATE = POLICY_REFUSE_LATE
BACKENDS = {"auto": BACKEND_AUTO, "epoll": BACKEND_EPOLL, "io_uring": BACKEND_URING}
LISTENER_TAKEN = TAKEN
LISTENER_LATER = LATER
LISTENER_NEVER = NEVER

cdef enum:
    MAX_BODY = 0x7FFFFFFB         # what an Int32 length can say


cdef class Engine:
    """The data plane: worker threads, the pools that they share, and the mail between them and control."""

    cdef Plane *plane
    cdef list threads
    cdef bint stopped
    cdef int owner_pid
    cdef uint64_t token
    cdef uint64_t last_loan
    cdef dict loans               # token -> Loan *, of those that somebody waits for or has
    cdef uint32_t max_opening
    cdef dict texts
    cdef readonly int wakeup_fd
    cdef readonly int workers
    cdef str chosen
    cdef readonly str io_refusal

    def __cinit__(self, *, int workers, str io_backend):
        cdef int refusal = 0
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers must be 1 to {MAX_WORKERS}")
        if io_backend not in BACKENDS:
            raise ValueError(f"io_backend {io_backend} is not there")
        self.threads = []
        self.loans = {}
        self.texts = {}
        self.owner_pid = os.getpid()
        self.workers = workers
        self.plane = <Plane *>calloc(1, sizeof(Plane))
        if self.plane == NULL:
            raise MemoryError
        plane_open(self.plane, workers, BACKENDS[io_backend], &refusal)
        self.io_refusal = why_not(refusal)
        if refusal and io_backend == "io_uring":
            raise OSError(refusal, self.io_refusal)
        self.chosen = "epoll" if refusal or io_backend == "epoll" else "io_uring"
        self.wakeup_fd = self.plane.control_fd

    def __dealloc__(self):
        if self.plane == NULL or self.owner_pid != os.getpid():
            return                                # a forked child: the threads and their state are the parent's
        self.halt()
        plane_free(self.plane)

    @property
    def io_backend(self):
        """epoll or io_uring: epoll, too, where the system has begun to refuse the other."""
        cdef uint32_t i
        for i in range(self.plane.n_workers):
            if pgpool_load32(&self.plane.workers[i].ring_broken):
                return "epoll"
        return self.chosen

    @property
    def connections(self):
        """How many there have ever been, of clients and servers."""
        return pgpool_load64(&self.plane.last_id)

    # -- life ------------------------------------------------------------------------------------------------------

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
        if self.stopped:
            return
        self.stopped = True
        plane_end(self.plane)
        for thread in self.threads:
            thread.join()
        self.threads = []
        plane_close_all(self.plane)

    def stop(self):
        """Stop the threads and close every socket; once is enough, twice does no harm."""
        self.halt()

    def close(self):
        """Stop, and close all other descriptors too: the memory goes when nobody knows of the engine any more. No mail after this."""
        self.halt()
        plane_shut(self.plane)

    def after_fork_in_child(self):
        """In a forked child: close every descriptor by number; the threads are not there, their state is not touched."""
        self.stopped = True
        self.threads = []
        plane_close_files(self.plane)

    def configure(self, *, uint32_t max_client_conn, uint64_t client_login_timeout_us, uint8_t auth_type,
                  uint32_t max_packet_size, bint log_connections, bint log_disconnections, bint log_pooler_errors,
                  bint disable_pqexec=False, bint server_fast_close=False, bint application_name_add_host=False,
                  bytes login_notify_message=b"", uint32_t scram_iterations=0, uint8_t looks_up=0, uint32_t tcp_user_timeout=0,
                  uint32_t tcp_socket_buffer=0, uint32_t packets_a_turn=5,
                  uint32_t max_opening, ignore_startup_parameters, track_extra_parameters=(), bint tcp_keepalive, uint32_t tcp_keepidle,
                  uint32_t tcp_keepintvl, uint32_t tcp_keepcnt, uint64_t message_stall_timeout_us,
                  uint64_t drain_timeout_us, uint64_t query_wait_notify_us=0, uint16_t peer_id=0, proxy_networks=(),
                  uint32_t max_logins=0, bint tcp_defer_accept=False, uint64_t auth_failure_delay_us=0):
        """Set what holds for every client; new values count from the next event on."""
        cdef Plane *p = self.plane
        rules_ignore(p, ignore_startup_parameters)
        rules_track(p, track_extra_parameters)
        rules_notice(p, login_notify_message)
        p.cancel_keys.peer_id = peer_id
        p.max_client_conn = max_client_conn
        p.client_login_timeout_us = client_login_timeout_us
        pgpool_store32(&p.max_logins, max(1, max_logins // p.n_workers) if max_logins else 0)
        p.auth_failure_delay_us = auth_failure_delay_us
        p.auth_type = auth_type
        p.looks_up = looks_up
        p.max_packet_size = min(max_packet_size, MAX_BODY)
        set_networks(p, proxy_networks)
        pgpool_store32(&p.credentials.mock_iterations, scram_iterations)
        p.disable_pqexec = disable_pqexec
        p.application_name_add_host = application_name_add_host
        pgpool_add32(&p.retold, 1)                # what a login has made of it meanwhile is not remembered
        p.tcp_user_timeout = tcp_user_timeout
        p.tcp_socket_buffer = tcp_socket_buffer
        p.bytes_a_turn = <uint64_t>packets_a_turn * PACKET if packets_a_turn else <uint64_t>-1
        if server_fast_close and not p.server_fast_close:
            p.server_fast_close = 1
            servers_hurry(p)
        p.server_fast_close = server_fast_close
        p.log_connections = log_connections
        p.log_disconnections = log_disconnections
        p.log_pooler_errors = log_pooler_errors
        p.tcp_keepalive = tcp_keepalive
        p.tcp_keepidle = tcp_keepidle
        p.tcp_keepintvl = tcp_keepintvl
        p.tcp_keepcnt = tcp_keepcnt
        p.tcp_defer_accept = tcp_defer_accept
        p.message_stall_timeout_us = message_stall_timeout_us
        p.drain_timeout_us = drain_timeout_us
        p.query_wait_notify_us = query_wait_notify_us
        listeners_tune(p)
        self.max_opening = max_opening
        pools_open(p, max_opening)

    def imitate_by(self, bytes key):
        """What users who do not exist are made of: 32 bytes, the same for every process that a client may take for this one."""
        if len(key) != SHA256_LEN:
            raise ValueError("a key has 32 bytes")
        credentials_mock_by(self.plane.credentials, <const uint8_t *><const char *>key)

    def set_client_tls(self, Context context, bint required):
        """TLS for clients whose handshake begins from now on; None: there is none. `required`: who comes without is sent away."""
        rules_tls(self.plane, context, required)

    def add_listener(self, int fd, *, bint is_unix, uint16_t port, bint late=False):
        """Let every worker accept from `fd`, which stays the caller's.

        `late`: it has been open for a while without TCP_NODELAY and SO_KEEPALIVE, which clients get from it.

        Raises:
            OSError: the kernel does not let it be watched.
        """
        listeners_add(self.plane, fd, is_unix, port, late)

    def drop_listeners(self):
        """Accept from nobody any more; the caller closes the sockets."""
        listeners_drop(self.plane)

    def let_go_of_listeners(self, *, bint tcp_only=False):
        """drop_listeners, where another process has the sockets too. True once no worker watches them: then they may be closed.

        `tcp_only`: those on the unix socket stay.
        """
        return listeners_let_go(self.plane, tcp_only)

    def know_elsewhere(self, bint known):
        """Whether cancel keys of nobody here come as letters "cancel_elsewhere"."""
        pgpool_store8(&self.plane.elsewhere, known)

    def find_cancel(self, bytes key):
        """A cancel request, by its eight bytes, that came to another process."""
        return cancel_find(self.plane, key)

    def client_count(self):
        """How many clients there are, those logging in among them, the console's not."""
        return pgpool_load32(&self.plane.n_clients)

    def console_logins(self):
        """How many clients have logged in to the console since the start."""
        return pgpool_load32(&self.plane.console_logins)

    def logins(self):
        """Logins in progress, those that wait for their turn; and since the start: how many have had to, how many have failed."""
        return login_counts(self.plane)

    def drain(self):
        """From now on clients that hold no server are sent away, FATAL 57P01, the others as soon as they give theirs back.

        To be repeated while there are clients: one that logs in or leaves the queue meanwhile is seen the next time.
        """
        pgpool_store8(&self.plane.draining, 1)
        tell_all(self.plane, MAIL_DRAIN, 0, b"")

    # -- pools, routes, secrets ------------------------------------------------------------------------------------

    def add_group(self, uint32_t limit):
        """A limit on server connections that several pools share; 0 = none."""
        return new_group(self.plane, limit).id

    def set_group_limit(self, uint32_t group, uint32_t limit):
        """Change a shared limit; connections above a lowered one are not closed, but none is opened."""
        limit_group(self.plane, group, limit)

    def set_group_clients(self, uint32_t group, uint32_t limit):
        """How many clients the databases of a group may have, those logging in included; 0 = any number."""
        limit_clients(self.plane, group, limit)

    def add_pool(self, bytes database, bytes user, *, uint32_t database_group, uint32_t user_group):
        """A new pool; configure_pool gives it its size."""
        cdef Pool *pool = new_pool(self.plane, database, user, database_group, user_group)
        if self.max_opening:
            pool.settings.max_opening = self.max_opening
        return pool.id

    def configure_pool(self, uint32_t pool, *, uint8_t mode, uint32_t pool_size, uint32_t min_pool_size,
                       uint32_t reserve_pool_size, uint64_t reserve_pool_timeout_us, uint64_t server_check_delay_us,
                       uint64_t server_lifetime_us, uint64_t server_idle_timeout_us,
                       bytes reset_query, bint reset_always, bytes check_query, uint8_t session_state,
                       uint32_t max_prepared_statements, uint32_t max_pinned, bint prewarm, bint round_robin,
                       uint32_t leak_every, bytes connect_query, bint pin_notice, patience):
        """Set or change what holds for one pool."""
        cdef PoolRecord *record = record_of(self.plane, pool)
        cdef PoolSettings *s = &record.pool.settings
        cdef uint64_t[PATIENCES] times
        cdef uint32_t i
        set_times(times, patience)
        pthread_mutex_lock(&record.pool.lock)
        s.mode = mode
        s.pool_size = pool_size
        s.min_pool_size = min_pool_size
        s.reserve_pool_size = reserve_pool_size
        s.reserve_pool_timeout_us = reserve_pool_timeout_us
        s.server_check_delay_us = server_check_delay_us if check_query else <uint64_t>-1
        s.server_lifetime_us = server_lifetime_us
        s.server_idle_timeout_us = server_idle_timeout_us
        s.prewarm = prewarm
        s.round_robin = round_robin
        pthread_mutex_unlock(&record.pool.lock)
        pthread_mutex_lock(&record.lock)
        set_text(&record.reset_query, reset_query)
        set_text(&record.check_query, check_query)
        record.reset_always = reset_always
        record.reset_is_discard = reset_query.strip(b" ;").upper() == b"DISCARD ALL"
        record.session_state = session_state
        pgpool_add32(&record.retold, 1)
        record.max_prepared = max_prepared_statements
        record.max_pinned = max_pinned
        for i in range(PATIENCES):
            pgpool_store64(&record.patience[i], times[i])
        record.pin_notice = pin_notice
        record.leak_every = leak_every
        set_text(&record.connect_query, connect_query)
        pthread_mutex_unlock(&record.lock)
        plane_want(self.plane)

    def set_users(self, users, *, uint32_t max_clients):
        """What [users] says of login users; nothing holds any more for those who are not in `users`.

        The timeouts of clients that are here are looked at anew, those of their pools too.
        """
        cdef uint64_t[PATIENCES] times
        terms_begin(self.plane.terms, max_clients)
        for name, own_clients, patience in users:
            set_times(times, patience)
            if not terms_set(self.plane.terms, span(name), AS_ALL if own_clients is None else own_clients, times):
                raise MemoryError
        terms_end(self.plane.terms)
        tell_all(self.plane, MAIL_PATIENCE, 0, b"")

    def empty_pools(self):
        """Ids of the pools that have no clients and no servers, and nobody who logs in."""
        return empty_pools(self.plane)

    def park_pool(self, uint32_t pool, bint parked):
        """A parked pool is shown only while somebody uses it, and logins that would go there ask control again."""
        cdef PoolRecord *record = record_of(self.plane, pool)
        pgpool_store8(&record.parked, parked)
        if parked:
            routes_drop(self.plane.routes, record)

    def add_route(self, bytes database, bytes user, uint32_t pool):
        """Logins of (database, user) go to `pool` from now on, without a question to control."""
        if not routes_put(self.plane.routes, span(database), span(user), record_of(self.plane, pool)):
            raise MemoryError

    def clear_routes(self):
        """Forget every route."""
        routes_clear(self.plane.routes)

    def set_credential(self, bytes user, *, bytes plain=None, bytes md5=None, scram=None, bytes database=None,
                       bint asks_key=False):
        """What `user` proves a login with; nothing given = the user exists and no password matches.

        `database`: it holds for logins to that one, where there is none that holds for all.
        `asks_key`: the next SCRAM login that succeeds comes with a "client_key" letter.
        """
        secret_set(self.plane, user, database, plain, md5, scram, asks_key)

    def set_nobody(self, bytes user, bytes database):
        """No password is right for logins of `user` to a database: they fail without a question, in the time that others take."""
        secret_nobody(self.plane, user, database)

    def forget_credential(self, bytes user, bytes database):
        """Forget what holds for logins of `user` to one database: the next one asks."""
        secret_forget(self.plane, user, database)

    def clear_credentials(self):
        """Forget every secret."""
        credentials_clear(self.plane.credentials)

    def answer_policy(self, uint64_t client, uint8_t verdict, bytes error=b"", *, method=None):
        """Answer a "policy" letter; False when the worker's ring is full (the client then ends by its timeout).

        `method`: the auth_type of this one login, by number.
        """
        cdef uint64_t said = verdict if method is None else verdict | (<uint64_t>method + 1) << 8
        return tell(self.plane, <uint32_t>(client >> 56) - 1, MAIL_VERDICT, client, said, error)

    def cancel_over(self, uint64_t canceller):
        """The cancel request of this connection is done with: let it close. 0: nobody waits."""
        if canceller and not self.stopped:
            tell(self.plane, <uint32_t>(canceller >> 56) - 1, MAIL_CANCEL_DONE, canceller, 0, b"")

    def set_welcome(self, uint32_t pool, parameters, began=(), at_login=None, fixed=()):
        """What clients are told at login; those that waited for it are greeted.

        `began`: further settings that servers begin with, and that clients begin with, too. `at_login`: the parameters as they were
        before connect_query, which RESET goes back to; None: nothing has run since. `fixed`: names among `began` that the login cannot set itself.
        """
        pool_welcome(self.plane, pool, parameters, began, at_login, fixed)

    def forget_welcome(self, uint32_t pool):
        """The next server may report something else: who logs in when none of the old ones is in use waits for it."""
        pool_forget_welcome(self.plane, pool)

    def fail_pool(self, uint32_t pool, bytes first, bytes error, uint64_t until_us, uint64_t since_us=0):
        """Open nothing for `pool` before `until_us`; where it has no server, `first` goes to those who wait, `error` to those
        who come, and without `first` to those in the queue who have come at `since_us` or later. Returns whether it has none."""
        return bool(pool_fail(self.plane, pool, first, error, until_us, since_us))

    def close_pool(self, uint32_t pool, bytes error):
        """End a pool: its clients are sent `error`, its servers are closed."""
        pool_close(self.plane, pool, error)

    def disconnect(self, uint64_t client_id, bytes error):
        """Send `error` to the client with this id and close it; nothing happens when it has gone. False: a ring is full."""
        return tell_all(self.plane, MAIL_KICK, client_id, error)

    def kick_pool(self, uint32_t pool, bytes error):
        """Send `error` to every client of a pool and close it. False: a ring is full, and not all have heard."""
        return tell_all(self.plane, MAIL_KICK_POOL, pool, error)

    def pause_pool(self, uint32_t pool, bint on):
        """Give servers of `pool` to nobody and close those that come free, or go on."""
        pool_pause(self.plane, pool, PAUSE_ALL if on else 0)

    def end_pool(self, uint32_t pool, bytes error):
        """As pause_pool, for good: who waits for a server is sent `error`, who asks for one from now on is sent away too."""
        pool_pause(self.plane, pool, PAUSE_END)
        pool_turn_away(self.plane, pool, error)

    def suspend(self, uint64_t token, bint drop):
        """Have every worker stand still between messages; each says in a "suspended" letter how many connections are not
        at rest. `drop`: those are ended. False: a ring is full."""
        return tell_all(self.plane, MAIL_SUSPEND, token << 2 | (SUSPEND_DROP if drop else SUSPEND_BEGIN), b"")

    def go_on(self, uint64_t token):
        """The end of `suspend`, answered in the same way."""
        return tell_all(self.plane, MAIL_SUSPEND, token << 2 | SUSPEND_END, b"")

    def reply(self, uint64_t client, bytes data):
        """The finished answer to a "console" letter."""
        return tell(self.plane, <uint32_t>(client >> 56) - 1, MAIL_REPLY, client, 0, data)

    # -- servers ---------------------------------------------------------------------------------------------------

    def plan(self, uint64_t now_us):
        """Server connections to be opened now, (server, pool, startup) each. Their slots are counted from here on.

        `startup`: the parameters that a server for one client alone is to be started with; None for all others.
        """
        return [] if self.stopped else plan_servers(self.plane, now_us)

    def adopt_server(self, uint64_t server, int fd, *, uint32_t backend_pid, bytes backend_key, parameters,
                     bytes unread, bint family_unix, bytes host, uint16_t port, began=(), Session tls=None):
        """A planned server is logged in: `fd` moves to the engine, which gives it to the first waiter. Returns its id.

        `began`: the settings that it stands at beside `parameters`.
        """
        if self.stopped:
            raise RuntimeError("the engine has stopped")
        return server_adopt(self.plane, server, fd, backend_pid, backend_key, parameters, unread, family_unix, host,
                            port, began, tls)

    def abandon_server(self, uint64_t server, bytes error=b""):
        """A planned server could not be opened: its slot is given back.

        The client that it was for, if it was for one alone, is sent `error` and closed; with b"" it goes on waiting.
        """
        server_abandon(self.plane, server, error)

    def cancel_done(self, uint64_t server, *, bint in_doubt=False):
        """The connection that carried a cancel request to this server has closed.

        `in_doubt`: not by PostgreSQL, which may still obey. No other client gets this server.
        """
        server_cancelled(self.plane, server, in_doubt)

    def sweep(self, uint64_t now_us):
        """The janitor's round: idle servers that are due for a check, too old, idle for too long or not wanted.

        Returns whether the next one should come soon (`sweep_soon`).
        """
        return not self.stopped and sweep_all(self.plane, now_us)

    def retire_servers(self, int pool, bytes host=None, *, bint dedicated=True):
        """Close every server of `pool` (-1 = of all pools), or those at one address, as soon as nobody is linked to it.

        `dedicated`: clients with a server of their own are sent away, else they keep it until they leave.
        """
        servers_retire(self.plane, pool, NULL if host is None else <const char *>host, dedicated)
        self.sweep(pgpool_now_us())

    def servers_to_close(self, uint32_t pool):
        """How many servers of `pool` are to be closed, now or as soon as they are free."""
        return closing_servers(self.plane, pool)

    def hold_pool(self, uint32_t pool, uint64_t until_us):
        """Open nothing for `pool` before then; those who need a server wait."""
        pool_hold(self.plane, pool, until_us)

    # -- servers for the program around us -------------------------------------------------------------------------

    def borrow(self, uint32_t pool, uint32_t worker, bytes startup):
        """Ask for a server of `pool`, as a client would that has sent this startup packet. Answered by a letter with the token
        returned here: "lent", or "loan_ended"."""
        cdef Loan *loan
        if self.stopped:
            raise RuntimeError("the engine has stopped")
        self.last_loan += 1
        loan = loan_new(self.plane, record_of(self.plane, pool), worker, self.last_loan, startup)
        self.loans[self.last_loan] = <size_t>loan
        loan_order(self.plane, loan, LOAN_ASK, True)
        return self.last_loan

    def stop_waiting(self, uint64_t token):
        """Nobody waits for this loan any more; there will be no letter about it."""
        cdef size_t at = self.loans.pop(token, 0)
        if at and not self.stopped:
            loan_order(self.plane, <Loan *>at, LOAN_LEAVE, True)

    def forget_loan(self, uint64_t token):
        """The answer to "loan_ended": nothing of the server is open here any more."""
        cdef size_t at = self.loans.pop(token, 0)
        if at and not self.stopped:
            loan_order(self.plane, <Loan *>at, LOAN_FORGET, True)

    def give_back(self, uint64_t token, *, bint broken, bint busy, bint dirty, bint functions, bint spent, uint8_t tx_status,
                  uint64_t received, uint64_t sent, bytes queries, bytes xacts, bytes parameters, Session tls=None):
        """What was lent comes back; nothing where it has been taken away.

        `broken`: it is of no more use, `busy`: and may be at work still. `dirty`: it is to be cleaned, `spent`: which is not
        enough. `functions`: some may have changed. `queries`, `xacts`: the time that each has taken, 8 bytes. `parameters`: what
        the server has reported of its settings: name, zero, value, zero, and so on.
        """
        cdef size_t at = self.loans.pop(token, 0)
        cdef Loan *loan = <Loan *>at
        if not at or self.stopped:
            return
        loan.tx_status = tx_status
        loan.received, loan.sent = received, sent
        if tls is not None:
            loan.tls = tls.give()
        loan_back(self.plane, loan, broken * RETURNED_BROKEN | busy * RETURNED_BUSY | dirty * RETURNED_DIRTY
                  | functions * RETURNED_FUNCTIONS | spent * RETURNED_SPENT, queries, xacts, parameters)

    def functions_changed(self, uint32_t mark):
        """A transaction of the program's own may have changed the functions of a database."""
        pgpool_add32(&self.plane.marks[mark].changes, 1)
        pgpool_store32(&self.plane.functions_news, 1)
        plane_wake(self.plane)

    def reads_sequences(self, uint32_t pool):
        """Somebody uses currval or lastval: what others have left for them is to be forgotten from now on."""
        pgpool_store8(&record_of(self.plane, pool).reads_sequences, 1)

    # -- another process -------------------------------------------------------------------------------------------

    @property
    def last_text(self):
        """The highest number that a text of a prepared statement has had."""
        return pgpool_load64(&self.plane.texts.last_id)

    def count_texts_from(self, uint64_t number):
        """Before `start`: texts have higher numbers than that, because another process may tell of some with lower ones."""
        self.plane.texts.last_id = number

    def give(self, *, bint plain=False):
        """Have clients and servers that are at rest come as "parcel" letters, from now on; to be repeated.

        Spare servers are opened no more. `plain`: while everybody stands still, those that SHOW FDS can tell of; the rest stays as it is.
        """
        cdef uint32_t i
        cdef Pool *pool
        for i in range(self.plane.set.n_pools):
            pool = self.plane.set.pools[i]
            pthread_mutex_lock(&pool.lock)
            if not plain:
                pool.settings.min_pool_size = 0
            pthread_mutex_unlock(&pool.lock)
        pgpool_store8(&self.plane.giving, GIVE_PLAIN if plain else GIVE_ALL)
        tell_all(self.plane, MAIL_GIVE, 0, b"")

    def keep(self):
        """The end of `give`: there is nobody to give to any more."""
        pgpool_store8(&self.plane.giving, GIVE_NOTHING)

    def learn_texts(self, bytes parcel):
        """Before anything else of a parcel: keep the texts in it, which later ones may name.

        Raises:
            ValueError: it is broken.
        """
        return learn_texts(self.plane, self.texts, parcel)

    def forget_texts(self):
        """No further parcel comes."""
        forget_texts(self.plane, self.texts)

    def place_server(self, uint32_t pool, bytes parcel, *, bint kept=False):
        """A slot for the server in `parcel`, counted from here on; 0: there is no room for it.

        `kept`: it comes with a client that keeps it, and there is always room.
        """
        return 0 if self.stopped else place_server(self.plane, pool, kept, parcel)

    def take_server(self, uint64_t server, int fd, bytes parcel):
        """A placed server that is idle: `fd` moves to the engine. Returns its id."""
        return take_server(self.plane, self.texts, server, fd, parcel)

    def take_client(self, uint32_t pool, int fd, bytes parcel, *, uint64_t server=0, int server_fd=-1, bint stale=False):
        """A client, with the server placed for it: the descriptors move to the engine. Returns its id and its worker.

        `stale`: nobody after this client may have that server.
        """
        return take_client(self.plane, self.texts, pool, fd, server, server_fd, stale, parcel)

    def cancel_moved(self, uint64_t client_id, uint32_t worker, uint64_t canceller):
        """A cancel request with the key that this client has of the process it came from. False: the worker's ring is full."""
        return cancel_moved(self.plane, client_id, worker, canceller)

    # -- functions -------------------------------------------------------------------------------------------------

    def watch_functions(self, uint32_t pool, int mark):
        """`pool` belongs to the database with this number, which is control's choice; -1: functions do not matter."""
        if not -1 <= mark < MAX_POOLS:
            raise ValueError("no such mark")
        pgpool_store32(&record_of(self.plane, pool).functions, <uint32_t>(mark + 1))

    def function_changes(self, uint32_t mark):
        """How many transactions may have changed the functions of a database."""
        return pgpool_load32(&self.plane.marks[mark].changes)

    def tell_functions(self, uint32_t mark, uint32_t worker, bytes effects):
        """What a worker is to know of the functions (effects_pack); False when its ring is full."""
        return tell(self.plane, worker, MAIL_EFFECTS, 0, mark, effects)

    def functions_known(self, uint32_t mark):
        """All workers have been told: what is older than `function_changes` counts as stale from now on."""
        pgpool_store32(&self.plane.marks[mark].known, 1)

    # -- channels --------------------------------------------------------------------------------------------------

    def take_aside(self, uint32_t database_group, uint32_t user_group):
        """Ask for room for one connection of control's own under these limits. False: there is none yet; what can be closed for
        it is, so ask again."""
        return not self.stopped and aside_take(self.plane, database_group, user_group)

    def give_aside(self, uint32_t database_group, uint32_t user_group):
        """The connection has ended."""
        if not self.stopped:
            aside_give(self.plane, database_group, user_group)

    def take_listener(self, uint32_t pool):
        """Ask for room for one connection that listens: LISTENER_*."""
        return LISTENER_NEVER if self.stopped else listener_take(self.plane, pool)

    def give_listener(self, uint32_t pool):
        """The connection has ended."""
        if not self.stopped:
            listener_give(self.plane, pool)

    def listening(self, uint32_t pool, uint32_t worker, uint64_t token, bytes channel):
        """The answer to a "listen" letter; False when the worker's ring is full."""
        return tell(self.plane, worker, MAIL_LISTENING, token, pool, channel)

    def listen_failed(self, uint32_t pool, uint32_t worker, bytes error):
        """Whoever waits for a channel of `pool` gets `error` (a whole ErrorResponse) and does not listen to it."""
        return tell(self.plane, worker, MAIL_LISTEN_FAILED, 0, pool, error)

    def channels_lost(self, uint32_t pool, uint32_t worker):
        """The listening connection of `pool` is lost: LISTENs wait."""
        return tell(self.plane, worker, MAIL_CHANNELS_LOST, 0, pool, b"")

    def channels_back(self, uint32_t pool, uint32_t worker, bytes notice):
        """All channels of `pool` that were live are so again; their clients are sent `notice`."""
        return tell(self.plane, worker, MAIL_CHANNELS_BACK, 0, pool, notice)

    def notify(self, uint32_t pool, uint32_t worker, bytes messages):
        """Whole NotificationResponses for the clients of `pool` on one worker; False when its ring is full."""
        return tell_notified(self.plane, worker, pool, messages)

    # -- what there is ---------------------------------------------------------------------------------------------

    def ask_clients(self):
        """Ask every worker for its clients; each answers with a "clients" letter that names the token returned here."""
        self.token += 1
        tell_all(self.plane, MAIL_ASK_CLIENTS, self.token, b"")
        return self.token

    def servers(self):
        """A row for each server connection that is open."""
        return server_rows(self.plane)

    def memory(self):
        """Records by kind: (name, bytes of one, used, kept for later)."""
        return memory_rows(self.plane)

    def pools(self):
        """A row for each pool that is not closed and empty."""
        return pool_rows(self.plane)

    def worker_rows(self):
        """What each worker has counted of itself and of the others in its way; `thread` is the system's number of its thread."""
        rows = worker_rows(self.plane)
        for row, thread in zip(rows, self.threads):
            if thread.is_alive():
                row["thread"] = thread.native_id
                row["cpu_ns"] = time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
        return rows

    def counters(self):
        """What has been counted for each pool since the start, all workers together."""
        return count_all(self.plane)

    def invariants(self):
        """Sentences about what must hold and does not; empty when all is well. At rest only, for tests."""
        return find_wrong(self.plane)

    def take_mail(self):
        """All letters that have come, oldest first."""
        letters = take_letters(self.plane)
        if not self.stopped:
            letters += loan_letters(self.plane, self.loans)
        return letters
