"""Queries on a link: what `Pool` and `Connection` have in common."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence, Set
from typing import Any, Final

import trio

from pgpool_core import logs
from pgpool_core.client.line import FAILED, IDLE, IN_BLOCK
from pgpool_core.client.link import Link
from pgpool_core.client.sqlstate import PostgresError
from pgpool_core.client.values import CommandTag
from pgpool_core.rows.record import Record

BATCH: Final = 500  # rows of executemany that are sent before answers are read
BATCH_BYTES: Final = 1 << 20  # or so many bytes and characters in them
ROLLBACK: Final = "ROLLBACK"

Rows = Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]]


async def first_row(link: Link, sql: str, args: tuple[Any, ...], *, raw: bool = False) -> Record | None:
    """The first row of a query."""
    rows = await link.rows(sql, args, raw=raw)
    return rows[0] if rows else None


async def first_value(link: Link, sql: str, args: tuple[Any, ...], column: int | str = 0, *, raw: bool = False) -> Any:
    """One value of the first row of a query, or None where there is no row."""
    rows = await link.rows(sql, args, raw=raw)
    return rows[0][column] if rows else None


async def execute(link: Link, sql: str, args: tuple[Any, ...]) -> CommandTag:
    """Run a command; without arguments it may be several, separated by semicolons."""
    if not args:
        return await link.script(sql)
    await link.rows(sql, args)
    return link.command_tag()


async def execute_many(link: Link, sql: str, rows: Rows) -> int:
    """Run a command for each row of arguments, all or none; how many rows it was about.

    Several are sent at once. Outside of a transaction it has one of its own.
    """
    begun = link.status == IDLE
    if begun:
        await begin(link, "BEGIN", ROLLBACK)
    try:
        with link.statements.held(link):  # what gives the rows may run other queries here
            total = await _many(link, sql, rows, own=begun)
        if begun and link.status == FAILED:
            from pgpool_core.client.transaction import TransactionFailed

            raise TransactionFailed("a query of whatever gives the rows had failed, so they have been rolled back")
    except BaseException:
        if begun and not link.closed:
            await roll_back(link, ROLLBACK)
        raise
    if begun:
        await link.script("COMMIT")
    return total


async def _many(link: Link, sql: str, rows: Rows, *, own: bool) -> int:
    statement = await link.prepare(sql)
    if statement.leaves:
        link.dirty = True
    total, done, size, batch = 0, 0, 0, list[tuple[Any, ...]]()

    async def send() -> None:
        nonlocal statement, total, done, size
        try:
            total += await link.many(statement, batch, done)
        except PostgresError as error:
            if not link.statements.is_stale(link, statement, error) or done or not own:
                raise
            await link.script("ROLLBACK; BEGIN")
            statement = await link.prepare(sql)
            total += await link.many(statement, batch, done)
        done += len(batch)
        size = 0
        batch.clear()

    def is_full_with(row: object) -> bool:
        nonlocal size
        batch.append(arguments(row))
        size += sum([len(value) for value in batch[-1] if isinstance(value, str | bytes | bytearray | memoryview)])
        return len(batch) == BATCH or size >= BATCH_BYTES

    if isinstance(rows, AsyncIterable):
        async for row in rows:
            if is_full_with(row):
                await send()
    else:
        for row in rows:
            if is_full_with(row):
                await send()
    if batch:
        await send()
    return total


def arguments(row: object) -> tuple[Any, ...]:
    """A row that a user gives.

    Raises:
        TypeError: it is none, though it may look like one.
    """
    if isinstance(row, tuple):
        return row
    if not isinstance(row, Iterable) or isinstance(row, str | bytes | bytearray | Mapping | Set):
        raise TypeError(
            f"a row is a tuple or list of values in their order, not {type(row).__name__}: one value is (value,)"
        )
    return tuple(row)


async def begin(link: Link, command: str, back: str) -> None:
    """Run BEGIN or SAVEPOINT; where that is cancelled although the server has run it, run `back` as well."""
    try:
        await link.script(command)
    except Exception:  # nothing has begun, or the link is closed
        raise
    except BaseException:
        if not link.closed and link.status == IN_BLOCK:
            await roll_back(link, back)
        raise


async def roll_back(link: Link, command: str) -> None:
    """Run ROLLBACK, shielded, with a deadline; a link that cannot do it is closed."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + link.cancel_timeout_s):
        try:
            await link.script(command)
            return
        except Exception as error:
            text = f"closing a connection that cannot be rolled back: {type(error).__name__}"
            logs.LOGGER.info("%s", logs.line("", text))
    link.close()
