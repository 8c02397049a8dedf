"""Transactions and savepoints.

Source: PostgreSQL docs, "BEGIN", "SAVEPOINT".
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import attrs
import trio

from pgpool_core.client import queries
from pgpool_core.client.connection import Connection, Isolation
from pgpool_core.client.line import FAILED, IDLE
from pgpool_core.client.queries import ROLLBACK
from pgpool_core.client.sqlstate import TransactionRollback
from pgpool_core.embedded.block import AsyncEntered
from pgpool_core.errors import PgPoolError, PoolError

T = TypeVar("T")

_LEVELS = ("serializable", "repeatable read", "read committed", "read uncommitted")


@attrs.frozen(kw_only=True)
class Begin:
    """How a transaction begins; None leaves it to the server's settings."""

    isolation: Isolation | None = attrs.field(default=None)
    read_only: bool | None = None
    deferrable: bool | None = None

    @isolation.validator
    def _known(self, _: object, isolation: object) -> None:
        if isolation is not None and isolation not in _LEVELS:
            raise ValueError(f"isolation is one of {', '.join(map(repr, _LEVELS))}, not {isolation!r}")

    @property
    def plain(self) -> bool:
        """Whether nothing is said."""
        return self == Begin()

    def sql(self) -> str:
        """The command."""
        words = ["BEGIN"]
        if self.isolation is not None:
            words.append(f"ISOLATION LEVEL {self.isolation.upper()}")
        if self.read_only is not None:
            words.append("READ ONLY" if self.read_only else "READ WRITE")
        if self.deferrable is not None:
            words.append("DEFERRABLE" if self.deferrable else "NOT DEFERRABLE")
        return " ".join(words)


class TransactionFailed(PgPoolError):
    """The block ended well, and yet it has been rolled back: a statement in it had failed, and the error was not passed on.

    Where it was a savepoint, the transaction around it can go on.
    """

    sqlstate = "25P02"


class Transaction(AsyncEntered):
    """`async with connection.transaction() as connection`; commits at the end of the block, rolls back where it ends with an error."""

    _call, _gives = "transaction()", "connection"
    _written = "async with pool.transaction() as connection"

    def __init__(self, borrow: AbstractAsyncContextManager[Connection], begin: Begin, retries: int) -> None:
        if retries < 0:
            raise ValueError("retries cannot be negative")
        self._borrow = borrow
        self._begin = begin
        self._retries = retries
        self._connection: Connection | None = None
        self._savepoint = ""

    async def __aenter__(self) -> Connection:
        if self._retries:
            raise TypeError("a block cannot run twice: give its code to `await transaction(retries=...).run(function)`")
        if self._connection is not None:
            raise RuntimeError("this transaction has begun already: call transaction() once for each block")
        connection = await self._borrow.__aenter__()
        try:
            await self._start(connection)
        except BaseException as error:
            await self._borrow.__aexit__(type(error), error, error.__traceback__)
            raise
        self._connection = connection
        return connection

    async def _start(self, connection: Connection) -> None:
        link = connection.link
        if link.status == IDLE:
            self._savepoint = ""
            await queries.begin(link, self._begin.sql(), ROLLBACK)
        else:
            if not self._begin.plain:
                raise ValueError("isolation, read_only and deferrable are for the outermost transaction")
            link.savepoints += 1
            self._savepoint = f"pgpool_{link.savepoints}"
            await queries.begin(link, f"SAVEPOINT {self._savepoint}", self._back())

    def _back(self) -> str:
        return f"ROLLBACK TO {self._savepoint}; RELEASE {self._savepoint}" if self._savepoint else ROLLBACK

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        try:
            await self._finish(connection, error)
        except BaseException as trouble:
            await self._borrow.__aexit__(type(trouble), trouble, trouble.__traceback__)
            raise
        await self._borrow.__aexit__(kind, error, trace)

    async def _finish(self, connection: Connection, error: BaseException | None) -> None:
        link = connection.link
        if error is not None:
            if not link.closed and link.status != IDLE:
                await queries.roll_back(link, self._back())
            return
        if link.status == IDLE and not link.closed:
            raise PoolError("the transaction was ended inside its block: leave COMMIT and ROLLBACK to the block")
        failed = link.status == FAILED
        if not self._savepoint:
            await link.script("COMMIT")
        elif failed:
            await link.script(self._back())
        else:
            await link.script(f"RELEASE {self._savepoint}")
        if failed:
            what = "savepoint" if self._savepoint else "transaction"
            raise TransactionFailed(f"a statement of the {what} had failed, so that it has been rolled back")

    async def run(self, work: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        """`await work(connection, *args)` inside the transaction; once more, up to `retries` times, where PostgreSQL asks for that.

        It asks by serialization_failure and deadlock_detected (class 40), also out of a nursery of `work`. Inside of another
        transaction nothing is tried again: only the whole may be.
        """
        left = self._retries
        while True:
            once = Transaction(self._borrow, self._begin, 0)
            inner = False
            try:
                async with once as connection:
                    inner = bool(once._savepoint)
                    return await work(connection, *args)
            except (TransactionRollback, ExceptionGroup) as error:
                if left == 0 or inner or not _asks_for_another_try(error):
                    raise
                left -= 1
            await trio.lowlevel.checkpoint()


def _asks_for_another_try(error: Exception) -> bool:
    """Whether it is nothing but PostgreSQL's wish to try again, in groups or not."""
    if isinstance(error, ExceptionGroup):
        return all(_asks_for_another_try(each) for each in error.exceptions)
    return isinstance(error, TransactionRollback)
