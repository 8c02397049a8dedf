"""Rows of a query, some at a time.

Source: PostgreSQL docs, "Message Flow", Extended Query (portals, Execute with a limit).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import trio

from pgpool_core.client.line import IDLE
from pgpool_core.client.link import Link
from pgpool_core.client.sqlstate import PostgresError
from pgpool_core.embedded.block import async_block
from pgpool_core.rows.record import Record

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection
    from pgpool_core.rows.statement import Statement

LOST: Final = "rows of this cursor were lost when a receive() of it was cancelled or failed: open another one"


class Cursor(trio.abc.ReceiveChannel[Record]):
    """The rows of a query; `async for row in cursor`, or `await cursor.receive()`."""

    def __init__(self, link: Link, statement: Statement, portal: bytes, prefetch: int) -> None:
        self._link = link
        self._statement = statement
        self._portal = portal
        self._prefetch = prefetch
        self._rows: deque[Record] = deque()
        self._at_end = False
        self._closed = False
        self._broken = False  # rows have been asked for, and lost

    async def receive(self) -> Record:
        """The next row.

        Raises:
            trio.EndOfChannel: there is none.
            trio.BrokenResourceError: an earlier call was cancelled or failed while rows were on their way, and they are lost.
        """
        if self._closed:
            raise trio.ClosedResourceError("this cursor is closed")
        if self._broken:
            raise trio.BrokenResourceError(LOST)
        if self._rows:
            await trio.lowlevel.checkpoint()
        elif not self._at_end:
            await self._fill()
        if not self._rows:
            await trio.lowlevel.checkpoint()
            raise trio.EndOfChannel
        return self._rows.popleft()

    async def _fill(self) -> None:
        link = self._link
        link.ready()
        link.outbox.execute(portal=self._portal, limit=self._prefetch)
        link.outbox.sync()
        rows: list[Record] = []
        link.inbox.expect(self._statement.shape, rows)
        try:
            await link.talk()
        except BaseException:
            self._broken = True
            raise
        self._at_end = bool(link.tag)  # CommandComplete; else PortalSuspended
        self._rows.extend(rows)

    async def aclose(self) -> None:
        """Close it; the server forgets it."""
        self.end()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """The same at once: the server hears of it with the next message."""
        if not self._closed:
            self._closed = True
            self._rows.clear()
            if not self._link.closed and self._link.status != IDLE and not self._link.owed:
                self._link.outbox.close(self._portal, portal=True)


@async_block("cursor(...)", "rows")
async def open_cursor(connection: Connection, sql: str, args: tuple[Any, ...], prefetch: int) -> AsyncIterator[Cursor]:
    """A cursor until the block ends, inside a transaction."""
    if prefetch < 1:
        raise ValueError("prefetch must be at least 1")
    async with AsyncExitStack() as stack:
        link = connection.link
        own = link.status == IDLE
        if own:
            await stack.enter_async_context(connection.transaction())
        statement = await link.prepare(sql)
        try:
            cursor = await _bind(link, statement, args, prefetch)
        except PostgresError as error:
            if not link.statements.is_stale(link, statement, error) or not own:
                raise
            await link.script("ROLLBACK; BEGIN")
            cursor = await _bind(link, await link.prepare(sql), args, prefetch)
        try:
            yield cursor
        finally:
            cursor.end()


async def _bind(link: Link, statement: Statement, args: tuple[Any, ...], prefetch: int) -> Cursor:
    link.portals += 1
    portal = b"c%d" % link.portals
    link.ready()
    link.outbox.bind(statement, args, portal=portal)
    link.outbox.sync()
    link.inbox.expect(None, None)
    if statement.leaves:
        link.dirty = True
    await link.talk()
    return Cursor(link, statement, portal, prefetch)
