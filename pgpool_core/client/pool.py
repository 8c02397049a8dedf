"""The pool of a trio program: `async with open_pool("postgresql://...") as pool: rows = await pool.fetch("select 1")`."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal

import trio

from pgpool_core.client import queries
from pgpool_core.client.catalogue import CustomCodec
from pgpool_core.client.connection import Connection, Isolation
from pgpool_core.client.lender import Lender, call_hook
from pgpool_core.client.link import Link
from pgpool_core.client.links import OwnLinks
from pgpool_core.client.listener import News, listen
from pgpool_core.client.settings import Hook, Password, PoolSettings, target_of
from pgpool_core.client.statistics import PoolStatistics
from pgpool_core.client.transaction import Begin, Transaction
from pgpool_core.client.values import CommandTag
from pgpool_core.control.groups import sole_errors
from pgpool_core.embedded.block import AsyncEntered, async_block
from pgpool_core.embedded.fork import close_in_children
from pgpool_core.errors import ConfigError, PoolError
from pgpool_core.rows.record import Record

if TYPE_CHECKING:
    from pgpool_core.client.cursor import Cursor


class Pool:
    """Connections to one database, shared by the tasks of one trio run. Made by `open_pool`."""

    def __init__(self, links: Lender) -> None:
        self._links = links

    # -- queries ---------------------------------------------------------------------------------------------------

    async def fetch(self, sql: str, /, *args: Any, raw: bool = False) -> list[Record]:
        """All rows of a query; with `raw` each value is the bytes of its text form."""
        if self._links.hooks.at_each_loan:
            async with self.acquire() as connection:
                return await connection.fetch(sql, *args, raw=raw)
        link = self._links.borrow_now() or await self._links.borrow()
        try:
            return await link.rows(sql, args, raw=raw)
        finally:
            if self._links.needs_cleaning(link):
                await self._links.clean(link)
            self._links.give_back(link)

    async def fetchrow(self, sql: str, /, *args: Any, raw: bool = False) -> Record | None:
        """The first row, or None."""
        rows = await self.fetch(sql, *args, raw=raw)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, /, *args: Any, column: int | str = 0, raw: bool = False) -> Any:
        """One value of the first row, or None where there is no row."""
        rows = await self.fetch(sql, *args, raw=raw)
        return rows[0][column] if rows else None

    async def execute(self, sql: str, /, *args: Any) -> CommandTag:
        """Run a command, or several where there are no arguments; what the last one said."""
        async with self.acquire() as connection:
            tag = await connection.execute(sql, *args)
            if connection.in_transaction:
                raise PoolError(
                    "this has begun a transaction and not ended it, so it is rolled back: use pool.transaction()"
                )
            return tag

    async def executemany(self, sql: str, /, rows: queries.Rows) -> int:
        """Run a command once for each row of arguments, all or none; how many rows of tables it was about."""
        async with self.acquire() as connection:
            return await connection.executemany(sql, rows)

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for the time of a block: first come, first served.

        Raises:
            PoolTimeout: not within acquire_timeout, or more than max_waiting wait already.
            PoolClosed: the pool is closed.
        """
        return Acquire(self._links)

    def transaction(
        self,
        *,
        isolation: Isolation | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        retries: int = 0,
    ) -> Transaction:
        """A connection with a transaction on it, for the time of a block; see `Transaction.run` for `retries`."""
        begin = Begin(isolation=isolation, read_only=read_only, deferrable=deferrable)
        return Transaction(Acquire(self._links), begin, retries)

    @async_block("cursor(...)", "rows")
    async def cursor(self, sql: str, /, *args: Any, prefetch: int = 100) -> AsyncIterator[Cursor]:
        """The rows of a query as a channel, on a connection of its own; see `Connection.cursor`."""
        async with self.acquire() as connection, connection.cursor(sql, *args, prefetch=prefetch) as cursor:
            yield cursor

    def listen(
        self, *channels: str, max_buffer: int = 1000
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[News]]:
        """Notifications of these channels, on a connection of its own beside `max_size`.

        Where that is lost, another one is opened, and the channel gives a `Reconnected`: what was sent in between is lost.
        """
        return listen(self._links, channels, max_buffer)

    # -- codecs ----------------------------------------------------------------------------------------------------

    def set_codec(
        self,
        type_name: str,
        *,
        decode: Callable[[Any], Any] | None = None,
        encode: Callable[[Any], Any] | None = None,
        format: Literal["text", "binary"] = "text",
    ) -> None:
        """From now on values of a type (`name` or `schema.name`) are read by `decode` and made by `encode`.

        Without both it is as if no codec had been set. The type may be created later. Until there is one, a query that has arguments or columns, and is not prepared yet, raises ConfigError.

        Args:
            format: "text": they take and give str. "binary": bytes, as the type's send and receive functions have them.
        Raises:
            TypeError: one of them is no function.
        """
        if format not in ("text", "binary"):
            raise ValueError(f'format is "text" or "binary", not {format!r}')
        for name, given in (("decode", decode), ("encode", encode)):
            if given is not None and not callable(given):
                raise TypeError(f"{name} must be a function, not {type(given).__name__}")
        custom = None if decode is encode is None else CustomCodec(decode=decode, encode=encode, format=format)
        self._links.catalogue.set_custom(type_name, custom)

    def forget_types(self) -> None:
        """Look types up anew, after ALTER TYPE or DROP TYPE."""
        self._links.catalogue.forget()

    # -- the pool itself -------------------------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """What it has and has done."""
        return self._links.statistics()

    async def drain(self) -> None:
        """Replace every connection: idle ones now, others when they are given back. For new passwords, moved servers."""
        self._links.drain()
        await trio.lowlevel.checkpoint()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Other limits from now on; what is too much is closed as it comes back.

        Raises:
            ConfigError: they contradict each other.
            PoolError: the limits are those of a proxy.
        """
        self._links.resize(min_size, max_size)

    def suspend(self) -> None:
        """Lend nothing until `resume`; whoever asks waits. Queries that run go on."""
        self._links.suspend()

    def resume(self) -> None:
        """The end of `suspend`."""
        self._links.resume()

    @property
    def closed(self) -> bool:
        """Whether its block has ended, or a fork has taken it away."""
        return self._links.closed

    def __repr__(self) -> str:
        name = f"{self._links.settings.name} " if self._links.settings.name else ""
        return f"<Pool {name}{'closed' if self.closed else self._links.state()}>"


class Acquire(AsyncEntered):
    """A borrowed connection as a context manager; may be entered again after its end."""

    _call, _gives = "acquire()", "connection"
    _written = "async with pool.acquire() as connection"

    def __init__(self, links: Lender) -> None:
        self._links = links
        self._connection: Connection | None = None
        self._link: Link | None = None
        self._in_use = False

    async def __aenter__(self) -> Connection:
        if self._in_use:
            raise RuntimeError("this acquire() is in use: call acquire() once for each block")
        self._in_use = True
        try:
            return await self._borrow()
        except BaseException:
            self._in_use = False
            raise

    async def _borrow(self) -> Connection:
        links = self._links
        link = links.borrow_now()
        if link is None:
            link = await links.borrow()
        else:
            try:
                await trio.lowlevel.checkpoint()
            except BaseException:
                links.give_back(link)
                raise
        self._link = link
        self._connection = Connection(link)
        if links.settings.on_acquire is not None:
            try:
                await call_hook("on_acquire", links.settings.on_acquire, self._connection)
            except BaseException:
                await self._release()
                raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        await self._release()
        if error is None:  # else it goes on, and needs no Cancelled beside it
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _release(self) -> None:
        link, connection, links = self._link, self._connection, self._links
        assert link is not None
        assert connection is not None
        try:
            if links.needs_cleaning(link):
                await links.clean(link)
            if links.settings.on_release is not None and not link.closed:
                await links.on_release(connection)
        finally:
            self._link = self._connection = None
            self._in_use = False
            connection.end()
            links.give_back(link)


@async_block("open_pool(...)", "pool", loop="trio")
async def open_pool(
    dsn: str | None = None,
    *,
    min_size: int = 0,
    max_size: int = 10,
    max_waiting: int | None = None,
    acquire_timeout: float = 30.0,
    max_lifetime: float = 3600.0,
    max_idle: float = 600.0,
    check_after_idle: float = 30.0,
    connect_timeout: float = 15.0,
    cancel_timeout: float = 2.0,
    leak_after: float | None = None,
    statement_cache_size: int = 100,
    password: Password | None = None,
    server_settings: Mapping[str, str] | None = None,
    on_connect: Hook | None = None,
    on_acquire: Hook | None = None,
    on_release: Hook | None = None,
    on_close: Callable[[int, str], object] | None = None,
    name: str = "",
) -> AsyncIterator[Pool]:
    """A pool of connections until the block ends. Times are seconds.

    The block begins when `min_size` connections, and at least one, have been opened.

    Args:
        dsn: `postgresql://...` or `key=value` words; None: libpq's variables, PGHOST, PGUSER, PGPASSWORD, PGSSLMODE, ...
        min_size: connections that are kept open. max_size: how many there are at most.
        max_waiting: how many tasks may wait for a connection. acquire_timeout: how long each.
        max_lifetime: the age at which a connection is replaced, less up to a tenth by chance.
        max_idle: connections beyond `min_size` that nobody has used for so long are closed.
        check_after_idle: one that nobody has used for so long has to answer before it is lent.
        connect_timeout: for opening one, and for that answer.
        cancel_timeout: for everything that cleans up: a cancelled query, ROLLBACK, DISCARD ALL. What takes longer is closed.
        leak_after: who has a connection for so long is told of in the log, with the stack that acquired it.
        statement_cache_size: statements that each connection keeps prepared; 0 for none.
        password: instead of the one in `dsn`; a function, plain or async, is called for every connection.
        server_settings: settings of the session, such as `{"statement_timeout": "5s"}`.
        on_connect, on_acquire, on_release: async functions of a `Connection`. A connection whose on_connect fails is not used, and
            one whose on_release fails is closed. on_close: a function of the server's process id and the reason.
        name: for statistics and errors.
    Raises:
        ConfigError: an argument cannot be used.
        ServerUnavailable, ServerLoginRefused: the first connection could not be opened.
    """
    settings = PoolSettings(
        min_size=min_size,
        max_size=max_size,
        max_waiting=max_waiting,
        acquire_timeout=acquire_timeout,
        max_lifetime=max_lifetime,
        max_idle=max_idle,
        check_after_idle=check_after_idle,
        connect_timeout=connect_timeout,
        cancel_timeout=cancel_timeout,
        leak_after=leak_after,
        statement_cache_size=statement_cache_size,
        password=password,
        on_connect=on_connect,
        on_acquire=on_acquire,
        on_release=on_release,
        on_close=on_close,
        name=name,
    )
    try:
        target = target_of(dsn, server_settings or {})
    except ValueError as error:
        raise ConfigError(str(error)) from None
    async with sole_errors(), trio.open_nursery() as nursery:
        links = OwnLinks(target, settings, nursery)
        close_in_children(links)
        try:
            await links.open_first()
            nursery.start_soon(links.keep_up, name=f"{name or 'pool'}: timer")
            yield Pool(links)
        finally:
            nursery.cancel_scope.cancel("the pool's block has ended")
            await links.finish()
