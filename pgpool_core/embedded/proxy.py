"""The pooler inside a trio program: `async with open_proxy("postgresql://...") as proxy`, then any driver against `proxy.url`.

No signal handlers, nothing global: several proxies may run side by side. The executable is a user of this module like any other.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Never

import attrs
import trio

from pgpool_core.config.model import Config
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.orders import Orders
from pgpool_core.control.pooler import Pooler
from pgpool_core.control.routing import tls_is_required
from pgpool_core.embedded.address import ProxyAddress, Reachable
from pgpool_core.embedded.block import async_block
from pgpool_core.embedded.fork import close_in_children
from pgpool_core.embedded.source import Prepared, Source, is_connection_string, prepare
from pgpool_core.errors import ConfigError, PoolClosed, PoolError
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import Snapshot
from pgpool_core.policy.userlist import Userlist, load_users

if TYPE_CHECKING:
    from pgpool_core.client.pool import Pool
    from pgpool_core.client.settings import Hook

STOPPED: Final = "this proxy has stopped"
FORKED: Final = "this proxy lives in the process that opened it, not in a forked child: open one here"
ELSEWHERE: Final = (
    "this proxy belongs to the trio.run() that opened it: use it there, or run_proxy_in_thread(...) from any thread"
)


class Proxy(Reachable):
    """A running pooler. It belongs to the trio run that opened it; its address is good for everybody on this machine."""

    def __init__(self, pooler: Pooler, address: ProxyAddress, given: Userlist | None) -> None:
        """Called by `open_proxy`.

        Args:
            given: the users where they do not come from auth_file.
        """
        self._pooler = pooler
        self._given = given
        self._closed = trio.Event()
        self._pid = os.getpid()
        self._home = trio.lowlevel.current_trio_token()
        self._address = address

    @property
    def address(self) -> ProxyAddress:
        """Host, port and default login; stays known after the end."""
        return self._address

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._pooler.config

    @property
    def closed(self) -> bool:
        """Whether it has stopped, by `shutdown`, from the console, or by a fork."""
        return self._closed.is_set() or self._pid != os.getpid()

    def statistics(self) -> Snapshot:
        """Pools, servers, counters and averages now; no rows of clients, for these ask `snapshot`.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return self._running().statistics()

    def features(self) -> SessionFeatures:
        """Which session features the clients have used since the start: settings, named statements, pins by reason.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return self._running().features()

    async def snapshot(self) -> Snapshot:
        """As `statistics`, with a row for each client.

        Raises:
            PoolClosed: the proxy has stopped.
            PoolError: this is not the trio run that the proxy lives in; so with all that follows.
        """
        return await self._here().snapshot()

    async def reload(self, config: Config | None = None) -> None:
        """Run with another configuration from now on, all of it or nothing; without one, read files again.

        Settings that need a restart keep their value, with a warning in the log.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
            PoolClosed: the proxy has stopped.
        """
        pooler = self._here()
        if config is None:
            await pooler.reload()
            return
        if not isinstance(config, Config):
            raise ConfigError(
                f"reload takes a Config, as of Config.of(...) or load_config(...), not {type(config).__name__}"
            )
        use_given = self._given is not None and config.auth_file is None
        userlist = self._given if use_given and self._given is not None else load_users(config.auth_file)
        await trio.lowlevel.checkpoint()
        await pooler.apply(config, userlist)

    async def pause(self, database: str | None = None) -> None:
        """Give servers to nobody and close them as they come free, of one database or of all; returns when the last has gone.

        Clients wait meanwhile, each up to its query_wait_timeout. Cancelled: resumes.

        Raises:
            CommandRefused: no such database, or paused already.
            PoolClosed: the proxy has stopped.
        """
        await self._here().orders.pause(database)

    async def resume(self, database: str | None = None) -> None:
        """End `pause`.

        Raises:
            CommandRefused: it is not paused.
            PoolClosed: the proxy has stopped.
        """
        await self._here().orders.resume(database)

    def open_pool(
        self,
        database: str | None = None,
        user: str | None = None,
        *,
        max_waiting: int | None = None,
        acquire_timeout: float = 30.0,
        cancel_timeout: float = 2.0,
        leak_after: float | None = None,
        statement_cache_size: int = 100,
        server_settings: Mapping[str, str] | None = None,
        on_acquire: Hook | None = None,
        on_release: Hook | None = None,
        name: str = "",
        **others: Never,
    ) -> AbstractAsyncContextManager[Pool]:
        """A pool for this program whose connections are those of the proxy: one queue, one set of limits, one place to look.

        Every task that borrows is a client of the proxy, in SHOW CLIENTS and in all that counts clients, and logs in without a
        password. Times are seconds.

        Args:
            database, user: as clients name them; without, those of `proxy.url`.
            max_waiting: how many tasks may have asked for a connection and have none yet, one at least; None is no limit.
            acquire_timeout: how long each waits; query_wait_timeout holds too.
            cancel_timeout: for cleaning up after a query that was cancelled. What takes longer is closed.
            leak_after: who has a connection for so long is told of in the log, with the stack that acquired it.
            statement_cache_size: statements kept prepared on each connection; none with max_prepared_statements = 0.
            server_settings: settings of the session, such as `{"statement_timeout": "5s"}`.
            on_acquire, on_release: async functions of a `Connection`. One whose on_release fails is closed.
            name: for statistics and errors.
            others: nothing: those of `pgpool_core.open_pool` that are the proxy's affair are refused with the setting to use instead.
        Raises:
            ConfigError: an argument cannot be used, or pool_mode is statement.
            PoolClosed: the proxy has stopped, or takes nobody in.
            PoolError: this is not the trio run that the proxy lives in.
        """
        from pgpool_core.client.settings import LendingSettings, refused
        from pgpool_core.client.shared import open_shared_pool

        for argument in others:
            raise refused(argument)
        if max_waiting == 0 and max_waiting is not False:
            raise ConfigError(
                "max_waiting = 0 would lend nothing over a proxy, where whoever asks waits until a worker of it has answered; "
                "None is no limit (max_waiting)"
            )
        settings = LendingSettings(
            max_waiting=max_waiting,
            acquire_timeout=acquire_timeout,
            cancel_timeout=cancel_timeout,
            leak_after=leak_after,
            statement_cache_size=statement_cache_size,
            on_acquire=on_acquire,
            on_release=on_release,
            name=name,
        )
        names = database or self.address.database, user or self.address.user
        if not all(names):
            raise ConfigError("open_pool needs a database and a user: the proxy has none of its own")
        return open_shared_pool(self._running().loans, *names, server_settings or {}, settings)

    @property
    def orders(self) -> Orders:
        """All that operators may order: pause, resume, suspend, disable, kill, reconnect, shut down.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return self._here().orders

    def call_after_reload(self, action: Callable[[Config], None]) -> None:
        """From now on call `action` with the configuration in force after each reload, whoever asked for it."""
        self._pooler.on_reload = action

    async def shutdown(self) -> None:
        """Stop: clients get FATAL 57P01 `pooler is shutting down`, servers Terminate. Returns when it is done; may be repeated."""
        if self._pid == os.getpid():
            self.begin_shutdown("shutdown()")
            await self.wait_closed()

    def begin_shutdown(self, reason: str) -> None:
        """Begin to stop and return at once; `reason` is for the log."""
        self._check_run()
        self._pooler.stop(reason)

    async def wait_closed(self) -> None:
        """Wait until it has stopped, by `shutdown` or by SHUTDOWN on the console."""
        self._check_run()
        await self._closed.wait()

    def forget_in_child(self) -> None:
        """After a fork, in the child: close what the child must not hold."""
        self._pooler.forget_in_child()

    def _running(self) -> Pooler:
        if self._pid != os.getpid():
            raise PoolClosed(FORKED)
        return self._pooler

    def _here(self) -> Pooler:
        """The same, for what only the run that the proxy lives in may do."""
        pooler = self._running()
        self._check_run()
        return pooler

    def _check_run(self) -> None:
        if self.closed:
            return
        try:
            here = trio.lowlevel.current_trio_token()
        except RuntimeError:
            raise PoolError(ELSEWHERE) from None
        if here is not self._home:
            raise PoolError(ELSEWHERE)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self._pooler.run(task_status=task_status)
        finally:
            self._closed.set()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "running"
        return f"<Proxy {state} on {self.host}:{self.port}, password hidden>"


@async_block("open_proxy(...)", "proxy", loop="trio")
async def open_proxy(source: Source, *, listen: str | None = None, **settings: object) -> AsyncIterator[Proxy]:
    """Run a pooler until the block ends; ready for clients when the block begins.

    Args:
        source: a connection string (`postgresql://...` or `key=value` words) of the server to stand in front of, a Config, or the path
            of an ini file. With a connection string clients log in by SCRAM with a random password of this run, which is in `proxy.url`;
            pool_mode is transaction.
        listen: `"host:port"` (port 0 = any free one), `"unix"` (a socket that only this user can reach), or the folder of a unix
            socket. Default: 127.0.0.1 and any free port for a connection string, else what the configuration says.
        settings: settings of [pgbouncer] by their ini names, such as `default_pool_size=5`; they go before those of `source`.

    Raises:
        ConfigError: something in it cannot be used, or cannot be listened on.
    """
    async with open_prepared(prepare(source, listen, settings), _reader(source, listen, settings)) as proxy:
        yield proxy


@asynccontextmanager
async def open_prepared(
    prepared: Prepared, reread: Callable[[], tuple[Config, Userlist]] | None = None
) -> AsyncIterator[Proxy]:
    """As `open_proxy`, of what has been read already.

    Args:
        reread: reads it again for RELOAD; without it only auth_file is read again.
    """
    with _private_dir(prepared) as config:
        pooler = Pooler(config, userlist=prepared.userlist, reread=reread)
        async with sole_errors(), trio.open_nursery() as nursery:
            proxy = await _start(pooler, prepared, nursery)
            try:
                yield proxy
            finally:
                if proxy._pid == os.getpid():
                    proxy.begin_shutdown("its block has ended")
                    with trio.CancelScope(shield=True):  # the pooler's good-bye has a deadline of its own
                        await proxy.wait_closed()


async def serve(
    source: Source,
    *,
    listen: str | None = None,
    task_status: trio.TaskStatus[Proxy] = trio.TASK_STATUS_IGNORED,
    **settings: object,
) -> None:
    """As a task of a nursery: `proxy = await nursery.start(serve, config)`. Ends when the proxy is shut down; see `open_proxy`."""
    async with open_proxy(source, listen=listen, **settings) as proxy:
        task_status.started(proxy)
        await proxy.wait_closed()


def _reader(
    source: Source, listen: str | None, settings: dict[str, object]
) -> Callable[[], tuple[Config, Userlist]] | None:
    """How RELOAD reads the configuration again; None where there is no file to read."""
    if isinstance(source, Config) or is_connection_string(source):
        return None

    def read() -> tuple[Config, Userlist]:
        config = prepare(source, listen, settings).config
        return config, load_users(config.auth_file)

    return read


async def _start(pooler: Pooler, prepared: Prepared, nursery: trio.Nursery) -> Proxy:
    proxy = Proxy(pooler, _NOWHERE, prepared.userlist)
    await nursery.start(proxy._run)
    proxy._address = ProxyAddress.of(
        pooler.listeners[0],
        user=prepared.user,
        database=prepared.database,
        userlist=pooler.userlist,
        needs_tls=tls_is_required(pooler.config),
    )
    close_in_children(proxy)
    return proxy


_NOWHERE: Final = ProxyAddress(host="", port=0, user="", database="", userlist=Userlist({}))


@contextmanager
def _private_dir(prepared: Prepared) -> Iterator[Config]:
    """The configuration, with a folder of our own for the unix socket where that was asked for; removed afterwards."""
    if not prepared.private_dir:
        yield prepared.config
        return
    owner, folder = os.getpid(), tempfile.mkdtemp(prefix="pgpool-core-")  # mode 0700
    try:
        yield attrs.evolve(prepared.config, unix_socket_dir=folder)
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
