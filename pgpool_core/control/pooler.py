"""The pooler: owns the engine and does, on one trio loop, everything that is not a query's bytes.

What the workers ask by mail is answered in `mailroom`, connections are opened in `opener`; here are start and end, reload, the janitor
and the clock of the statistics.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.change import with_setting
from pgpool_core.config.doubts import without_effect
from pgpool_core.config.model import Config
from pgpool_core.config.settings import describe
from pgpool_core.config.units import network_parts
from pgpool_core.control import routing
from pgpool_core.control.access import Access, load_access
from pgpool_core.control.arrivals import Arrivals, Parcel, PoolFacts
from pgpool_core.control.auth_query import AuthQuery
from pgpool_core.control.channels import Channels
from pgpool_core.control.connect import open_server
from pgpool_core.control.databases import Databases
from pgpool_core.control.functions import Functions
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.handing import Handing
from pgpool_core.control.inquiries import Inquiries
from pgpool_core.control.ldap import Ldap
from pgpool_core.control.leaving import leave
from pgpool_core.control.listeners import Listener, open_listeners
from pgpool_core.control.loans import Loans
from pgpool_core.control.mailroom import Mailroom
from pgpool_core.control.observe import Observed
from pgpool_core.control.opener import Opener, OpenServer, clock_us
from pgpool_core.control.orders import Orders
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.reload import plan_pools
from pgpool_core.control.report import Report
from pgpool_core.control.routing import microseconds
from pgpool_core.control.server_tls import make_contexts, wishes_of
from pgpool_core.control.strangers import Strangers
from pgpool_core.control.tls import client_tls
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError, PoolClosed, error_response
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import ConfigRow, Snapshot
from pgpool_core.policy.userlist import Userlist, load_userlist

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine
    from pgpool_core.metrics.prometheus import Facts

JANITOR_S: Final = 1 / 3  # precision of all timeouts that the janitor checks, as PgBouncer's
NAMES_S: Final = 1.0  # how often it is looked which names are due to be looked up again
HOSTS_TOLD: Final = 16  # of a database, to another process
LET_GO_LOOK_S: Final = 0.005  # how often it is looked whether the workers have let go of the listening sockets
GOODBYE_S: Final = 1.0  # at most, for the last error to reach clients and Terminate to reach servers
GOODBYE_LOOK_S: Final = 0.01  # how often it is looked whether they have gone

LAST_SERVERS_S: Final = 0.5  # at most, for servers without clients to go to the process that has taken over

NOT_RUNNING: Final = "the pooler is not running"
SHUTTING_DOWN: Final = error_response(PoolClosed("pooler is shutting down", sqlstate="57P01"))


def make_engine(workers: int, io_backend: str) -> Engine:
    """The compiled data plane; imported here so that everything else works without it.

    Raises:
        ConfigError: io_uring is asked for and cannot be had.
    """
    from pgpool_core.engine.plane import Engine

    try:
        return Engine(workers=workers, io_backend=io_backend)
    except OSError as refused:
        if io_backend != "io_uring":
            raise
        text = f"io_uring cannot be had: {refused.strerror} (io_backend)"
        raise ConfigError([ConfigProblem(text, section="pgbouncer", key="io_backend")]) from None


def load_users(config: Config) -> Userlist:
    """The users of auth_file; none where it is not set.

    Raises:
        ConfigError: it cannot be read, or a line is broken.
    """
    return load_userlist(config.auth_file) if config.auth_file else Userlist({})


def looks_up(config: Config) -> int:
    """The engine's number: secrets come from auth_file alone, from auth_query too, or from there anew for every login."""
    if not (config.auth_user or any(entry.auth_user for entry in config.databases.values())):
        return 0
    return 1 if config.auth_query_ttl else 2


class Pooler:
    """One pooler: listeners, engine, pools. `run` is its whole life; the other methods work while it runs.

    It is also what the console may command (`admin.commands.PoolerCommands`).
    """

    def __init__(
        self,
        config: Config,
        *,
        userlist: Userlist | None = None,
        reread: Callable[[], tuple[Config, Userlist]] | None = None,
        make_engine: Callable[[int, str], Engine] = make_engine,
        open_server: OpenServer = open_server,
        listen: Callable[[Config], Awaitable[list[Listener]]] = open_listeners,
        now_us: Callable[[], int] = clock_us,
    ) -> None:
        """Check the configuration; nothing is opened yet.

        Args:
            userlist: who may log in, where that is not in auth_file.
            reread: reads the configuration again for RELOAD; without it only auth_file is read again.
            listen: opens the listening sockets; they become ours.
            make_engine, open_server, now_us: stand-ins for tests.

        Raises:
            ConfigError: the configuration cannot be used.
        """
        routing.check_entries(config)
        self.config = config
        self.listeners: list[Listener] = []
        self._given_userlist = userlist
        self._userlist = userlist if userlist is not None else load_users(config)
        self._access = load_access(config, strict=False)
        self._client_tls = client_tls(config)
        self._server_tls = make_contexts(wishes_of(config))
        self.first_text = 0
        """Texts of prepared statements get higher numbers than this: another process, which we are to take from, has lower ones."""
        self.on_reload: Callable[[Config], None] = lambda config: None
        """Called with the configuration in force after each reload; must not raise."""
        self.on_reloading: Callable[[], None] = lambda: None
        """Called when a reload begins; must not raise. So are the others."""
        self.on_reloaded: Callable[[], None] = lambda: None
        """Called when it is over, whatever came of it."""
        self.on_stats: Callable[[str], None] = lambda line: None
        """Called with the line of statistics, every stats_period."""
        self.on_stopping: Callable[[], None] = lambda: None
        """Called when the end begins."""
        self._reread = reread
        self._make_engine = make_engine
        self._open_server = open_server
        self._listen = listen
        self._now_us = now_us
        self._stop = trio.Event()
        self._leaving = ""  # why clients are not taken in any more
        self._reloading = trio.Lock()
        self._engine: Engine | None = None
        self._mailroom: Mailroom | None = None
        self._observed = Observed(self.snapshot, self._facts, self.unready)

    @property
    def engine(self) -> Engine:
        """The engine, while the pooler runs.

        Raises:
            PoolClosed: it does not run.
        """
        if self._engine is None:
            raise PoolClosed(NOT_RUNNING)
        return self._engine

    @property
    def access(self) -> Access:
        """What auth_type = hba goes by."""
        return self._access

    @property
    def userlist(self) -> Userlist:
        """Who may log in."""
        return self._userlist

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is called or the task is cancelled, then say good-bye to clients and servers; started once it listens.

        Raises:
            ConfigError: an address cannot be listened on; before it has started.
        """
        self.listeners = await self._listen(self.config)
        try:
            await self._observed.open(self.config.metrics_listen)
            workers = self.config.workers or len(os.sched_getaffinity(0))
            engine = self._make_engine(workers, self.config.io_backend)
            try:
                self._engine = engine
                if self.first_text:
                    engine.count_texts_from(self.first_text)
                self._pools = PoolRegistry(engine, self.config, self._userlist)
                self._pools.contexts.use(self._server_tls)
                self._channels = Channels(engine, self._pools, open_server=self._open_server)
                self._functions = Functions(engine, self._pools, open_server=self._open_server)
                self._loans = Loans(engine, self._pools, self._functions)
                self._loans.home = trio.lowlevel.current_trio_token()
                self._auth_query = AuthQuery(engine, self._pools, open_server=self._open_server)
                self._inquiries = Inquiries(self._pools, self._auth_query)
                self._ldap = Ldap(self.config.max_ldap_logins)
                self._report = Report(engine, self._pools, self._now_us, self._channels.status)
                self._configure()
                engine.start()
                async with sole_errors(), trio.open_nursery() as nursery:
                    self._start(nursery)
                    self._observed.use()
                    task_status.started()
                    await self._stop.wait()
                    await self._say_goodbye(engine)
                    nursery.cancel_scope.cancel(reason="the pooler stops")
            finally:
                self._engine = None
                self._close(engine)
        finally:
            self._observed.close()
            self._close_listeners()

    def stop(self, reason: str) -> None:
        """Begin an orderly end; `run` returns soon after."""
        if not self._stop.is_set():
            logs.LOGGER.info("%s", logs.line("", "shutting down", {"reason": reason}))
            self.on_stopping()
        self._stop.set()

    async def apply(self, config: Config, userlist: Userlist) -> None:
        """Run with another configuration from now on: all of it or, after an error, nothing of it.

        Raises:
            ConfigError: it cannot be used.
        """
        if self._engine is None:
            raise PoolClosed(NOT_RUNNING)
        access = await trio.to_thread.run_sync(partial(load_access, config, strict=True))
        tls = await trio.to_thread.run_sync(client_tls, config, self._client_tls)
        server_tls = await trio.to_thread.run_sync(make_contexts, wishes_of(config))
        await self._observed.open(config.metrics_listen)
        if self._engine is None or self._stop.is_set():  # meanwhile
            self._observed.discard()
            await trio.lowlevel.checkpoint_if_cancelled()
            raise PoolClosed(NOT_RUNNING)
        try:
            plan = plan_pools(self.config, config, userlist, {record.key: record.target for record in self._pools})
        except BaseException:
            self._observed.discard()
            raise
        self.config, self._userlist, self._access = plan.config, userlist, access
        self._client_tls, self._server_tls = tls, server_tls
        self._configure()
        self._pools.contexts.use(server_tls)
        self._pools.apply(plan)
        self._auth_query.reloaded()
        self._inquiries.reloaded()
        self._ldap.configure(self.config.max_ldap_logins)
        self._channels.reloaded()
        self._observed.use()
        self._functions.reloaded()
        for text in plan.warnings:
            logs.LOGGER.warning("%s", logs.line("", text))
        logs.LOGGER.info("%s", logs.line("", "configuration reloaded", {"pools": len(self._pools)}))
        self._opener.poke()
        self.on_reload(self.config)

    async def snapshot(self) -> Snapshot:
        """The pooler as it is now: clients, servers, pools, counters. For SHOW and `proxy.snapshot()`.

        Raises:
            PoolClosed: it does not run.
        """
        return await self._running_report().snapshot(self.config, self._userlist, self.port)

    def statistics(self) -> Snapshot:
        """As `snapshot`, at once and without rows of clients, which only the workers could tell.

        Raises:
            PoolClosed: it does not run.
        """
        return self._running_report().build((), self.config, self._userlist, self.port)

    def features(self) -> SessionFeatures:
        """Which session features the clients have used since the start.

        Raises:
            PoolClosed: it does not run.
        """
        return self._running_report().features()

    def _running_report(self) -> Report:
        if self._engine is None:
            raise PoolClosed(NOT_RUNNING)
        return self._report

    @property
    def port(self) -> int:
        """The port in use, which is not that of the configuration where that said 0."""
        return self.listeners[0].port if self.listeners else self.config.listen_port

    async def reload(self) -> None:
        """Read the configuration again and apply it. An error is logged, and raised for whoever asked.

        Raises:
            ConfigError: the new configuration cannot be used; the old one stays in force.
        """
        async with self._reloading:
            self.on_reloading()
            try:
                config, userlist = await trio.to_thread.run_sync(self._read_again)
                await self.apply(config, userlist)
            except PgPoolError as error:
                for text in str(error).splitlines():
                    logs.LOGGER.error("%s", logs.line("", f"reload failed, nothing was changed: {text}"))
                raise
            finally:
                self.on_reloaded()

    def _read_again(self) -> tuple[Config, Userlist]:
        if self._reread is not None:
            return self._reread()
        return self.config, self._given_userlist if self._given_userlist is not None else load_users(self.config)

    async def hand_over(self) -> None:
        """Accept nobody any more, in favour of a process that has our listening sockets too; returns when no worker watches them."""
        self._leaving = "handed over"
        while not self.engine.let_go_of_listeners():  # noqa: ASYNC110 (the workers send no mail about this)
            await trio.sleep(LET_GO_LOOK_S)
        for listener in self.listeners:
            listener.release()
        self._observed.close()
        await self._orders.release_all()  # the console is the other process's from now on

    def pass_cancels_to(self, elsewhere: Callable[[bytes], Awaitable[None]] | None) -> None:
        """Cancel keys of nobody here go there from now on, while it runs; None: nowhere."""
        if self._engine is not None and self._mailroom is not None:
            self._mailroom.elsewhere = elsewhere
            self._engine.know_elsewhere(elsewhere is not None or len(self._mailroom.arrivals) > 0)

    async def cancel(self, key: bytes) -> None:
        """Cancel the query of the client with this key, wherever it is."""
        if self.engine.find_cancel(key) or self._mailroom is None or self._mailroom.arrivals.cancel(key, 0):
            return
        if self._mailroom.elsewhere is not None:
            await self._mailroom.elsewhere(key)

    async def wait_for_clients(self) -> None:
        """Wait until no client is left; with client_drain_timeout, send them away, each when it holds no server."""
        await leave(
            self.engine,
            self._report,
            lambda: self.config.client_drain_timeout,
            lambda: self._mailroom is not None and self._mailroom.departures is not None,
        )
        if self._mailroom is not None:
            self._mailroom.read()

    def give_to(self, take: Callable[[Parcel], None] | None) -> None:
        """Clients and servers that are at rest go there from now on; None: they stay."""
        if self._engine is None or self._mailroom is None:
            return
        self._mailroom.departures = take
        if take is not None:
            self._engine.give()
        else:
            self._engine.keep()

    async def give_servers(self) -> None:
        """No client is left: let the idle servers go to the other process too; those that are not at rest soon are closed."""
        with trio.move_on_after(LAST_SERVERS_S):
            while any(pool["servers_total"] for pool in self.engine.pools()):
                self.engine.give()
                await trio.sleep(GOODBYE_LOOK_S)

    def take_back(self, parcel: Parcel) -> None:
        """What was to be given away has not been taken: it goes on here."""
        facts = self.pool_facts(parcel.pool)
        if self._engine is None or self._mailroom is None or facts is None:
            parcel.close(SHUTTING_DOWN)
        else:
            self._mailroom.arrivals.take(facts, parcel)

    async def handed_out(self) -> int:
        """Wait until a process has our sockets by SHOW FDS, and wants us to end: its number, or 0. `hand_over` is to follow."""
        assert self._mailroom is not None
        self._mailroom.handing.enabled = True
        await self._mailroom.handing.taken.wait()
        return self._mailroom.handing.pid

    def let_go(self) -> None:
        """That process may begin."""
        if self._mailroom is not None:
            self._mailroom.handing.let_go()

    def take(self, facts: PoolFacts, parcel: Parcel) -> None:
        """A client or a server of another process is ours from now on."""
        if self._engine is None or self._mailroom is None:
            parcel.close(SHUTTING_DOWN)
            return
        self._engine.know_elsewhere(True)  # for the cancel keys that clients bring along
        self._mailroom.arrivals.take(facts, parcel)

    async def take_strangers(
        self, fds: Sequence[tuple[Mapping[str, str], int]], about: Sequence[Mapping[str, str]]
    ) -> None:
        """Clients and servers of a PgBouncer that has ended are ours from now on: rows of its SHOW FDS with descriptors, of SHOW CLIENTS."""
        assert self._mailroom is not None
        self.engine.know_elsewhere(True)  # for the cancel keys that clients bring along
        await Strangers(self.engine, self._pools, self._opener, self._mailroom.arrivals).take(fds, about)
        await self.took_all()

    async def took_all(self) -> None:
        """No more of them come."""
        if self._engine is not None and self._mailroom is not None:
            await self._mailroom.arrivals.end()

    def pool_facts(self, pool: int) -> PoolFacts | None:
        """What another process has to know of a pool."""
        record = self._pools.get(pool) if self._engine is not None else None
        if record is None:
            return None
        target = routing.target_digest(record.target)
        return PoolFacts(
            database=record.key.database,
            user=record.key.user,
            target=target,
            welcome=tuple(record.welcome),
            hosts=tuple(state.told(host) for host, state in [*record.target.host_order.states.items()][:HOSTS_TOLD]),
        )

    def client_keys(self) -> frozenset[bytes]:
        """Keys for servers that clients have revealed by their logins."""
        return self._pools.keys.known() if self._engine is not None else frozenset()

    def learn_key(self, key: bytes) -> None:
        """Such a key, from another process."""
        if self._engine is not None:
            self._pools.keys.learn(key)

    @property
    def moved(self) -> tuple[int, int]:
        """Clients and servers that have come from another process."""
        if self._engine is None or self._mailroom is None:
            return 0, 0
        return self._mailroom.arrivals.clients, self._mailroom.arrivals.servers

    @property
    def last_text(self) -> int:
        """The highest number of a prepared statement's text; the next process counts from beyond it."""
        return self.engine.last_text

    def listening_sockets(self) -> tuple[list[socket.socket], str, list[socket.socket]]:
        """Those for clients, the value of metrics_listen, and those for metrics. They stay ours."""
        return ([listener.socket for listener in self.listeners], *self._observed.sockets)

    def use_for_metrics(self, metrics_listen: str, sockets: list[socket.socket]) -> None:
        """Before `run`: sockets that are open already, for this value of the setting; they become ours."""
        self._observed.take(metrics_listen, sockets)

    async def change_setting(self, key: str, value: str) -> None:
        """Change one setting until the next reload, as a reload would.

        Raises:
            ConfigError: there is no such setting, a restart is needed for it, or the value is not acceptable.
        """
        async with self._reloading:
            await self.apply(with_setting(self.config, key, value), self._userlist)

    @property
    def orders(self) -> Orders:
        """Pause, resume, suspend, shut down and the like.

        Raises:
            PoolClosed: it does not run.
        """
        if self._engine is None:
            raise PoolClosed(NOT_RUNNING)
        return self._orders

    @property
    def loans(self) -> Loans:
        """Servers for the program around us.

        Raises:
            PoolClosed: it does not run.
        """
        if self._engine is None:
            raise PoolClosed(NOT_RUNNING)
        return self._loans

    def config_rows(self) -> Iterable[ConfigRow]:
        """Every setting of [pgbouncer], for SHOW CONFIG."""
        return [self._as_chosen(ConfigRow(*row)) for row in describe(self.config)]

    def _as_chosen(self, row: ConfigRow) -> ConfigRow:
        """With what `auto` has come to."""
        if row.key == "io_backend" and row.value != self.engine.io_backend:
            return attrs.evolve(row, value=f"{row.value} ({self.engine.io_backend})")
        return row

    def unready(self) -> str:
        """Why clients are not to be sent here; "" when they are."""
        if self._engine is None:
            return NOT_RUNNING
        holds = self._pools.holds
        if self._stop.is_set() or holds.ending:
            return "shutting down"
        return self._leaving or ("suspended" if holds.suspended else "paused" if holds.paused_all else "")

    def _facts(self) -> Facts:
        from pgpool_core import __version__
        from pgpool_core.admin.reply import version_text
        from pgpool_core.metrics.prometheus import Facts

        c = self.config
        return Facts(
            version=version_text(__version__),
            max_client_conn=c.max_client_conn,
            max_user_connections=c.max_user_connections,
            logins=self.engine.logins(),
        )

    def forget_in_child(self) -> None:
        """In a forked child: close our descriptors by number; threads and event loops of the parent are not there."""
        self._observed.forget_in_child()
        for listener in self.listeners:
            listener.forget_in_child()
        if self._engine is not None:
            self._engine.after_fork_in_child()

    def _configure(self) -> None:
        c = self.config
        for text in (*without_effect(c), *self._access.warnings()):
            logs.LOGGER.warning("%s", logs.line("", text))
        for listener in self.listeners:
            listener.defer_accept(c.tcp_defer_accept)
        self.engine.set_client_tls(self._client_tls.context, routing.tls_is_required(c))
        self.engine.configure(
            max_client_conn=c.max_client_conn,
            client_login_timeout_us=microseconds(c.client_login_timeout),
            auth_type=routing.auth_type_number(c),
            max_packet_size=c.max_packet_size,
            log_connections=c.log_connections,
            log_disconnections=c.log_disconnections,
            log_pooler_errors=c.log_pooler_errors,
            disable_pqexec=c.disable_pqexec,
            server_fast_close=c.server_fast_close,
            application_name_add_host=c.application_name_add_host,
            login_notify_message=c.login_notify_message.encode(),
            looks_up=looks_up(c),
            scram_iterations=c.scram_iterations,
            tcp_user_timeout=c.tcp_user_timeout,
            tcp_socket_buffer=c.tcp_socket_buffer,
            reads_a_turn=c.sbuf_loopcnt,
            max_opening=c.server_connect_parallel,
            track_extra_parameters=[name.encode() for name in c.track_extra_parameters],
            ignore_startup_parameters=[name.encode() for name in c.ignore_startup_parameters],
            tcp_keepalive=c.tcp_keepalive,
            tcp_keepidle=c.tcp_keepidle,
            tcp_keepintvl=c.tcp_keepintvl,
            tcp_keepcnt=c.tcp_keepcnt,
            message_stall_timeout_us=microseconds(c.message_stall_timeout),
            drain_timeout_us=microseconds(c.server_drain_timeout),
            query_wait_notify_us=microseconds(c.query_wait_notify),
            peer_id=c.peer_id,
            max_logins=c.max_logins,
            auth_failure_delay_us=microseconds(c.auth_failure_delay),
            proxy_networks=[network_parts(network) for network in c.proxy_protocol_networks],
        )

    def _start(self, nursery: trio.Nursery) -> None:
        from pgpool_core import __version__
        from pgpool_core.admin.commands import Console
        from pgpool_core.admin.reply import version_text

        engine = self.engine
        self._opener = Opener(
            engine,
            self._pools,
            nursery,
            open_server=self._open_server,
            before_first_use=self._functions.before_first_use,
            now_us=self._now_us,
        )
        self._orders = Orders(
            engine,
            self._pools,
            self._report,
            self._channels,
            nursery,
            config=lambda: self.config,
            stop=self.stop,
            close_tcp=self._close_tcp,
            clients_leave=self.wait_for_clients,
        )
        console = Console(self, version=__version__)
        databases = self._loans.databases = Databases(
            engine, self._pools, self._channels, self._auth_query, now_us=self._now_us
        )
        self._functions.holds = self._auth_query.holds = databases.holds
        self._opener.databases = databases
        arrivals = Arrivals(engine, self._pools, self._functions, self._auth_query, nursery)
        self._mailroom = Mailroom(
            engine,
            self._pools,
            self._opener,
            self._report,
            self._channels,
            self._functions,
            databases,
            nursery,
            console,
            self._orders,
            self._auth_query,
            self._inquiries,
            self._ldap,
            lambda: self._access,
            self._loans,
            arrivals,
            Handing(engine, self._pools, self._report, arrivals, lambda: self.listeners, self._orders.round_trip),
        )
        self._orders.went_on = self._mailroom.handing.end
        self._pools.hear = self._mailroom.read
        self._report.listeners, self._report.peers = self.listeners, self._mailroom.peers
        self._channels.nursery = self._functions.nursery = nursery
        self._observed.nursery = nursery
        self._pools.make_known()
        self._pools.tell_users()
        for listener in self.listeners:
            engine.add_listener(listener.fd, is_unix=listener.is_unix, port=listener.port, late=listener.late)
            logs.LOGGER.info("listening on %s", listener.place)
        nursery.start_soon(self._mailroom.pump)
        nursery.start_soon(self._janitor)
        nursery.start_soon(self._namekeeper)
        nursery.start_soon(self._statistician)
        nursery.start_soon(self._functions.watch)
        fields = {"workers": engine.workers, "io_backend": engine.io_backend}
        logs.LOGGER.info("%s", logs.line("", f"process up: {version_text(__version__)}", fields))
        if engine.io_refusal:
            logs.LOGGER.info("no io_uring: %s (io_backend)", engine.io_refusal)

    async def _janitor(self) -> None:
        backend = self.engine.io_backend
        while True:
            await trio.sleep(JANITOR_S)
            if backend != self.engine.io_backend:
                backend = self.engine.io_backend
                logs.LOGGER.warning("the system refuses io_uring by now: %s goes on (io_backend)", backend)
            self.engine.sweep(self._now_us())
            self._loans.look()
            self._pools.forget_empty(self._now_us())
            self._auth_query.expire()
            self._opener.poke()

    async def _namekeeper(self) -> None:
        while True:
            await trio.sleep(NAMES_S)
            self._pools.moved(await self._pools.names.refresh())

    async def _statistician(self) -> None:
        while True:
            await trio.sleep(self.config.stats_period)
            averages = self._report.end_period()
            line = logs.stats_line(averages)
            self.on_stats(line)
            if self.config.log_stats:
                logs.LOGGER.info("%s", line)

    async def _say_goodbye(self, engine: Engine) -> None:
        """Take nobody in any more, tell all clients why, let the servers go; wait until they have gone, but not for long."""
        engine.drop_listeners()
        self._close_listeners()
        self._auth_query.close()
        with trio.move_on_after(GOODBYE_S, shield=True):
            for row in await self._report.clients():
                engine.disconnect(row["id"], SHUTTING_DOWN)
            for record in self._pools:
                engine.end_pool(record.id, SHUTTING_DOWN)
                engine.close_pool(record.id, SHUTTING_DOWN)
            while any(  # noqa: ASYNC110 (the workers send no mail about this)
                pool["cl_active"] + pool["cl_waiting"] + pool["servers_total"] for pool in engine.pools()
            ):
                await trio.sleep(GOODBYE_LOOK_S)

    def _close(self, engine: Engine) -> None:
        """The end without a wait, also after a good-bye: what is still open is closed, the workers are joined."""
        try:
            engine.drop_listeners()
            self._close_listeners()
            for record in self._pools:
                engine.close_pool(record.id, SHUTTING_DOWN)
        finally:
            engine.stop()
            self._loans.stop()
            if self._mailroom is not None:
                self._mailroom.last_words()
            engine.close()

    async def _close_tcp(self) -> None:
        """Take nobody in any more but by the unix socket, which stays for the console."""
        self._leaving = "shutting down"
        self.on_stopping()
        while not self.engine.let_go_of_listeners(tcp_only=True):  # noqa: ASYNC110 (the workers send no mail about this)
            await trio.sleep(LET_GO_LOOK_S)
        for listener in self.listeners:
            if not listener.is_unix:
                listener.close()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()
