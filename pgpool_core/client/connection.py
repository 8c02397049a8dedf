"""A connection that has been borrowed: what a program does with one server, in one transaction or several."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pgpool_core.client import copying, queries
from pgpool_core.client.line import IDLE
from pgpool_core.client.link import Link
from pgpool_core.client.values import CommandTag
from pgpool_core.errors import PoolError
from pgpool_core.rows.record import Record

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from pgpool_core.client.cursor import Cursor
    from pgpool_core.client.pipeline import Pipeline
    from pgpool_core.client.transaction import Transaction

Isolation = Literal["serializable", "repeatable read", "read committed", "read uncommitted"]


class Connection:
    """One server connection, until it is given back. One task at a time may use it."""

    def __init__(self, link: Link) -> None:
        self._link: Link | None = link

    @property
    def link(self) -> Link:
        """The wire under it.

        Raises:
            PoolError: it has been given back.
        """
        link = self._link
        if link is None:
            raise PoolError("this connection has been given back to its pool")
        return link

    def end(self) -> None:
        """It has been given back: every further use is an error."""
        self._link = None

    @property
    def backend_pid(self) -> int:
        """The process of the server, as `pg_backend_pid()` says."""
        return self.link.backend_pid

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction block is open."""
        return self.link.status != IDLE

    @property
    def server_settings(self) -> dict[str, str]:
        """What the server reports of its settings (server_version, TimeZone, ...)."""
        return dict(self.link.parameters)

    async def fetch(self, sql: str, /, *args: Any, raw: bool = False) -> list[Record]:
        """All rows of a query; with `raw` each value is the bytes of its text form."""
        return await self.link.rows(sql, args, raw=raw)

    async def fetchrow(self, sql: str, /, *args: Any, raw: bool = False) -> Record | None:
        """The first row, or None."""
        return await queries.first_row(self.link, sql, args, raw=raw)

    async def fetchval(self, sql: str, /, *args: Any, column: int | str = 0, raw: bool = False) -> Any:
        """One value of the first row, or None where there is no row."""
        return await queries.first_value(self.link, sql, args, column, raw=raw)

    async def execute(self, sql: str, /, *args: Any) -> CommandTag:
        """Run a command, or several where there are no arguments; what the last one said."""
        return await queries.execute(self.link, sql, args)

    async def executemany(self, sql: str, /, rows: queries.Rows) -> int:
        """Run a command once for each row of arguments, all or none; how many rows of tables it was about."""
        return await queries.execute_many(self.link, sql, rows)

    def transaction(
        self,
        *,
        isolation: Isolation | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        retries: int = 0,
    ) -> Transaction:
        """A transaction as a context manager; inside of another, a savepoint. See `Transaction.run` for `retries`."""
        from pgpool_core.client.transaction import Begin, Transaction

        begin = Begin(isolation=isolation, read_only=read_only, deferrable=deferrable)
        return Transaction(Itself(self), begin, retries)

    def cursor(self, sql: str, /, *args: Any, prefetch: int = 100) -> AbstractAsyncContextManager[Cursor]:
        """The rows of a query as a channel, `prefetch` fetched at a time; in a transaction of its own where there is none."""
        from pgpool_core.client.cursor import open_cursor

        return open_cursor(self, sql, args, prefetch)

    def copy_in(self, sql: str, /) -> AbstractAsyncContextManager[copying.CopySink]:
        """COPY ... FROM STDIN as a stream to send into. Leaving the block with an error takes everything back."""
        return copying.copy_in(self, sql)

    def copy_out(self, sql: str, /) -> AbstractAsyncContextManager[copying.CopySource]:
        """COPY ... TO STDOUT as a stream to receive from."""
        return copying.copy_out(self, sql)

    async def copy_records(
        self,
        table: str,
        records: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        columns: Sequence[str] | None = None,
        schema: str | None = None,
    ) -> int:
        """Put rows into a table by a binary COPY; how many there were."""
        return await copying.copy_records(self, table, records, columns, schema)

    def pipeline(self) -> AbstractAsyncContextManager[Pipeline]:
        """Several queries that are sent together when the block ends, all or none."""
        from pgpool_core.client.pipeline import open_pipeline

        return open_pipeline(self)

    def __repr__(self) -> str:
        if self._link is None:
            return "<Connection given back>"
        return f"<Connection to server process {self._link.backend_pid}{' closed' if self._link.closed else ''}>"


class Itself:
    """A connection as a context manager that borrows nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def __aenter__(self) -> Connection:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        return None
