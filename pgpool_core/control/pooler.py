"""The pooler: owns the engine and does, on one trio loop, everything that is not a query's bytes.

What the workers ask by mail is answered in `mailroom`, connections are opened in `opener`; here are start, reload and end.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.change import with_setting
from pgpool_core.config.diff import reload_config
from pgpool_core.config.doubts import without_effect
from pgpool_core.config.model import Config
from pgpool_core.config.settings import describe
from pgpool_core.control import routing
from pgpool_core.control.access import Access, load_access
from pgpool_core.control.arrivals import Arrivals
from pgpool_core.control.auth_query import AuthQuery
from pgpool_core.control.channels import Channels
from pgpool_core.control.connect import open_server
from pgpool_core.control.databases import Databases
from pgpool_core.control.engine_settings import configure_engine, make_engine, worker_count
from pgpool_core.control.functions import Functions
from pgpool_core.control.goodbye import SHUTTING_DOWN, say_goodbye
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.handing import Handing
from pgpool_core.control.host_key import host_key
from pgpool_core.control.inquiries import Inquiries
from pgpool_core.control.ldap import Ldap
from pgpool_core.control.leaving import leave
from pgpool_core.control.listeners import Listener, open_listeners, unix_listener
from pgpool_core.control.loans import Loans
from pgpool_core.control.mailroom import Mailroom
from pgpool_core.control.observe import Observed
from pgpool_core.control.opener import Opener, OpenServer, clock_us
from pgpool_core.control.orders import Orders
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.reload import plan_pools
from pgpool_core.control.report import Report
from pgpool_core.control.rounds import Statistician, janitor
from pgpool_core.control.server_tls import make_contexts, wishes_of
from pgpool_core.control.succession import NOT_RUNNING, Here, Succession
from pgpool_core.control.tls import client_tls
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError, PoolClosed
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import ConfigRow, Snapshot
from pgpool_core.policy.scram import mock_salt
from pgpool_core.policy.userlist import Userlist, load_users

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine
    from pgpool_core.metrics.prometheus import Facts

LET_GO_LOOK_S: Final = 0.005  # how often it is looked whether the workers have let go of the listening sockets


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
        self._port = config.listen_port
        self._given_userlist = userlist
        self._userlist = userlist if userlist is not None else load_users(config.auth_file)
        self._access = load_access(config, strict=False)
        self._client_tls = client_tls(config)
        self._server_tls = make_contexts(wishes_of(config))
        self.first_text = 0
        """Texts of prepared statements get higher numbers than this: another process, which we are to take from, has lower ones."""
        self.mock_key = host_key()
        """What users who do not exist are made of; that of another process, where we take its place."""
        self.on_applying: Callable[[Config], None] = lambda config: None
        """Called with a new configuration before it is in force; what it raises, a ConfigError, refuses it."""
        self.on_reload: Callable[[Config], None] = lambda config: None
        """Called with the configuration in force after each reload; must not raise."""
        self.on_reloading: Callable[[], None] = lambda: None
        """Called when a reload begins; must not raise. So are the others."""
        self.on_reloaded: Callable[[], None] = lambda: None
        """Called when it is over, whatever came of it."""
        self.on_stats: Callable[[str], None] = lambda line: None
        """Called with the line of statistics, every stats_period."""
        self.on_calm: Callable[[], None] = lambda: None
        """Called when a burst of logins is over, and what it has left free has gone back to the system."""
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
        self.succession = Succession()
        """Clients, servers and cancel requests of another process."""

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
        if self.listeners:
            self._port = self.listeners[0].port
        try:
            await self._observed.open(self.config.metrics_listen)
            engine = self._make_engine(worker_count(self.config), self.config.io_backend)
            try:
                self._engine = engine
                if self.first_text:
                    engine.count_texts_from(self.first_text)
                engine.imitate_by(self.mock_key)
                self._pools = PoolRegistry(engine, self.config, self._userlist)
                self._pools.salt_of = partial(mock_salt, self.mock_key)
                self._pools.contexts.use(self._server_tls)
                self._channels = Channels(engine, self._pools, open_server=self._open_server)
                self._functions = Functions(engine, self._pools, open_server=self._open_server)
                self._loans = Loans(engine, self._pools, self._functions)
                self._loans.home = trio.lowlevel.current_trio_token()
                self._auth_query = AuthQuery(engine, self._pools, open_server=self._open_server)
                self._inquiries = Inquiries(self._pools, self._auth_query)
                self._ldap = Ldap(self.config.max_ldap_logins)
                self._report = Report(engine, self._pools, self._now_us, self._channels.status)
                self._statistician = Statistician(self._report, lambda: self.config, lambda line: self.on_stats(line))
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
                self._engine = self.succession.here = None
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
        in_force = reload_config(self.config, config).config  # listen_addr stays until a restart
        access = await trio.to_thread.run_sync(partial(load_access, in_force, strict=True))
        tls = await trio.to_thread.run_sync(client_tls, config, self._client_tls)
        server_tls = await trio.to_thread.run_sync(make_contexts, wishes_of(config))
        await self._observed.open(config.metrics_listen)
        if self._engine is None or self._stop.is_set():  # meanwhile
            self._observed.discard()
            await trio.lowlevel.checkpoint_if_cancelled()
            raise PoolClosed(NOT_RUNNING)
        try:
            plan = plan_pools(self.config, config, userlist, {record.key: record.target for record in self._pools})
            self.on_applying(plan.config)
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
        self._statistician.reloaded()
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
        """The port in use, or that was, which is not that of the configuration where that said 0."""
        return self._port

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
        given = self._given_userlist
        return self.config, given if given is not None else load_users(self.config.auth_file)

    async def hand_over(self) -> None:
        """Accept nobody any more, in favour of a process that has our listening sockets too; returns when no worker watches them."""
        self._leaving = "handed over"
        while not self.engine.let_go_of_listeners():  # noqa: ASYNC110 (the workers send no mail about this)
            await trio.sleep(LET_GO_LOOK_S)
        while self.listeners:
            self.listeners.pop().release()
        self._observed.close()
        await self._orders.release_all()  # the console is the other process's from now on

    def own_unix_socket(self) -> None:
        """The file of the unix socket is ours from now on; where it has gone with the process that had made it, we listen there anew.

        Raises:
            ConfigError: that is not possible.
        """
        for listener in list(self.listeners):
            if not listener.own_file():
                self.listeners.append(unix_listener(self.config, listener.port))
                self._listen_on(self.listeners[-1])

    def _listen_on(self, listener: Listener) -> None:
        try:
            self.engine.add_listener(listener.fd, is_unix=listener.is_unix, port=listener.port, late=listener.late)
        except OSError as error:  # ENOSPC: fs.epoll.max_user_watches
            raise ConfigError([ConfigProblem(f"cannot watch {listener.place}: {error.strerror} (epoll)")]) from error
        logs.LOGGER.info("listening on %s", listener.place)

    async def wait_for_clients(self, others: Callable[[], int] = lambda: 0) -> None:
        """Wait until no client is left; with client_drain_timeout, send them away, each when it holds no server.

        Args:
            others: how many more are to be waited for, that may become clients.
        """
        await leave(
            self.engine,
            self._report,
            lambda: self.config.client_drain_timeout,
            lambda: self.succession.gives,
            lambda: self.succession.arriving + others(),
        )
        if self._mailroom is not None:
            self._mailroom.read()

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
            ConfigError: there is no such setting, a restart is needed for it, or the value, or the file that it names, is not
                acceptable.
        """
        async with self._reloading:
            config, userlist = with_setting(self.config, key, value), self._userlist
            if key == "auth_file" and (self._given_userlist is None or self._reread is not None):  # as at a reload
                userlist = await trio.to_thread.run_sync(load_users, config.auth_file)
            await self.apply(config, userlist)

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
        for text in (*without_effect(self.config), *self._access.warnings()):
            logs.LOGGER.warning("%s", logs.line("", text))
        for listener in self.listeners:
            listener.defer_accept(self.config.tcp_defer_accept)
        self.engine.set_client_tls(self._client_tls.context, routing.tls_is_required(self.config))
        configure_engine(self.engine, self.config)

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
        self._report.opener = self._opener
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
            moved=self.succession.wait_given,
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
        self.succession.here = Here(engine, self._pools, self._opener, self._mailroom)
        self._orders.interrupt = self._auth_query.interrupt
        self._orders.went_on = self._mailroom.handing.end
        self._pools.hear = self._mailroom.read
        self._report.listeners, self._report.peers = self.listeners, self._mailroom.peers
        self._channels.nursery = self._functions.nursery = nursery
        self._observed.nursery = nursery
        self._pools.make_known()
        self._pools.tell_users()
        for listener in self.listeners:
            self._listen_on(listener)
        nursery.start_soon(self._mailroom.pump)
        clean = partial(janitor, engine, self._pools, self._opener, self._loans, self._auth_query, self._channels)
        nursery.start_soon(clean, self._now_us, lambda: self.on_calm(), name="janitor")
        nursery.start_soon(self._statistician.run)
        nursery.start_soon(self._functions.watch)
        fields = {"workers": engine.workers, "io_backend": engine.io_backend}
        logs.LOGGER.info("%s", logs.line("", f"process up: {version_text(__version__)}", fields))
        if engine.io_refusal:
            logs.LOGGER.info("no io_uring: %s (io_backend)", engine.io_refusal)

    async def _say_goodbye(self, engine: Engine) -> None:
        engine.drop_listeners()  # nobody is taken in any more
        self._close_listeners()
        self._auth_query.close()
        await say_goodbye(engine, self._pools, self._report)

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
        for listener in [each for each in self.listeners if not each.is_unix]:
            self.listeners.remove(listener)
            listener.close()

    def _close_listeners(self) -> None:
        while self.listeners:
            self.listeners.pop().close()
