"""COPY as streams.

Source: PostgreSQL docs, "Message Flow", COPY Operations; "COPY", Binary Format.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from pgpool_core.client.giving_up import abandon, give_up
from pgpool_core.client.line import READY
from pgpool_core.client.link import Link
from pgpool_core.client.queries import arguments
from pgpool_core.client.values import CommandTag
from pgpool_core.embedded.block import async_block
from pgpool_core.errors import EncodeError, PoolError
from pgpool_core.rows import inbox as codes

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection

CHUNK: Final = 1 << 16  # bytes of a CopyData
ROWS_AT_ONCE: Final = 1 << 16  # bytes of rows that are collected before they are sent


class CopySink(trio.abc.SendStream):
    """Where the data of a COPY ... FROM STDIN goes. After the block `tag` says how many rows there were."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._closed = False
        self.done = False  # the server has it all
        self.tag = CommandTag("")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a part, which may end anywhere in a row.

        Raises:
            PostgresError: the server has found something wrong in what was sent before.
        """
        self._check()
        await trio.lowlevel.checkpoint()
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK):
            self._link.outbox.copy_data(view[start : start + CHUNK])
            await self.send_collected()

    async def send_collected(self) -> None:
        """Send what stands in the outbox, and see whether the server has something against it."""
        link = self._link
        try:
            await link.send()
            link.poll()
            if link.error is not None:
                while link.owed:
                    await link.event()
        except BaseException as error:
            await give_up(link, error)
            raise
        if not link.owed:
            self._closed = True
            link.raise_error()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the server takes more."""
        self._check()
        await trio.lowlevel.wait_writable(self._link.socket)

    async def aclose(self) -> None:
        """No more is to come; the same as the end of the block."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        self._link.outbox.copy_done()
        await self._finish()
        self.tag = self._link.command_tag()
        self.done = True

    async def fail(self) -> None:
        """Take everything back: shielded, with a deadline."""
        if self._closed or self._link.closed or not self._link.owed:
            return
        self._closed = True
        if self._link.sending:
            self._link.close()
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._link.cancel_timeout_s) as scope:
            self._link.outbox.copy_fail(b"the client has given up")
            with contextlib.suppress(Exception):  # the server says that we have given up
                await self._finish()
        if scope.cancelled_caught:
            self._link.close()

    async def _finish(self) -> None:
        link = self._link
        try:
            await link.send()
            while link.owed:
                if await link.event() == codes.COPY_IN:
                    await _refuse(link)
        except BaseException as error:
            await give_up(link, error)
            raise
        link.raise_error()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this COPY is over")
        if self._link.closed:
            self._link.ready()


async def _refuse(link: Link) -> None:
    """The server waits for the data of a COPY FROM STDIN that nobody will send."""
    link.outbox.copy_fail(b"use copy_in() for each COPY FROM STDIN")
    await link.send()


async def _begin(link: Link, sql: str, code: int, what: str) -> None:
    """Send the query and wait for `code`, the answer that lets data flow."""
    raw = sql.encode()
    link.ready()
    link.outbox.query(raw)
    if link.leaves(raw):
        link.dirty = True
    link.inbox.expect(None, None)
    link.error, link.tag = None, b""
    link.owed += 1
    try:
        await link.send()
        while True:
            got = await link.event()
            if got == code:
                return
            if got == codes.COPY_IN:
                await _refuse(link)
            if got == READY:
                break
    except BaseException as error:
        await give_up(link, error)
        raise
    link.raise_error()
    raise PoolError(f"the query is no {what}")


@async_block("copy_in(...)", "sink")
async def copy_in(connection: Connection, sql: str) -> AsyncIterator[CopySink]:
    """See `Connection.copy_in`."""
    link = connection.link
    await _begin(link, sql, codes.COPY_IN, "COPY ... FROM STDIN")
    sink = CopySink(link)
    try:
        yield sink
    except BaseException:
        await sink.fail()
        raise
    await sink.aclose()
    if not sink.done:
        raise PoolError("this COPY failed, or closing it was cancelled: do not count on its rows")


class CopySource(trio.abc.ReceiveStream):
    """The data of a COPY ... TO STDOUT."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._left = b""
        self._at_end = False
        self._closed = False
        self._broken = False  # there was more, and it is lost

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, a whole row where `max_bytes` allows it; b"" at the end.

        Raises:
            trio.BrokenResourceError: an earlier call was cancelled or failed, and what was to come is lost.
        """
        if self._closed:
            raise trio.ClosedResourceError("this COPY is over")
        if self._broken:
            raise trio.BrokenResourceError("this COPY ended when a receive_some() of it was cancelled or failed")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        await trio.lowlevel.checkpoint()
        if not self._left and not self._at_end:
            self._left = await self._next()
        part, self._left = (self._left, b"") if max_bytes is None else (self._left[:max_bytes], self._left[max_bytes:])
        return part

    async def _next(self) -> bytes:
        link = self._link
        try:
            while True:
                code = await link.event()
                if code == codes.COPY_DATA and (data := link.inbox.body()):
                    return data
                if code == codes.COPY_IN:
                    await _refuse(link)
                if code == READY:
                    break
        except BaseException as error:
            self._broken = True
            await give_up(link, error)
            raise
        self._at_end, self._broken = True, link.error is not None
        link.raise_error()
        return b""

    async def aclose(self) -> None:
        """Stop; what has not been read is not sent any more."""
        self._closed = True
        if not self._at_end and not self._link.closed and self._link.owed:
            await abandon(self._link)
        await trio.lowlevel.checkpoint()


@async_block("copy_out(...)", "source")
async def copy_out(connection: Connection, sql: str) -> AsyncIterator[CopySource]:
    """See `Connection.copy_out`."""
    link = connection.link
    await _begin(link, sql, codes.COPY_OUT, "COPY ... TO STDOUT")
    source = CopySource(link)
    try:
        yield source
    finally:
        await source.aclose()


def quoted(name: str) -> str:
    """A name as PostgreSQL takes it as it stands."""
    return '"' + name.replace('"', '""') + '"'


async def copy_records(
    connection: Connection,
    table: str,
    records: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
    columns: Sequence[str] | None,
    schema: str | None,
) -> int:
    """See `Connection.copy_records`."""
    link = connection.link
    where = quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"
    if columns is None:
        columns = await link.statements.columns(link, where) or None
    names = None if columns is None else ", ".join(quoted(name) for name in columns)
    shape = await link.statements.shape(link, f"SELECT {names or '*'} FROM {where} LIMIT 0")
    codecs = () if shape is None else shape.codecs
    for name, each in zip(() if shape is None else shape.names, codecs, strict=True):
        if each.format == 0:
            raise EncodeError(f'column "{name}" has the type {each.name}, which has no binary form here: use copy_in()')
    target = f"{where} ({names})" if names is not None else where
    number = 0
    try:
        async with copy_in(connection, f"COPY {target} FROM STDIN (FORMAT BINARY)") as sink:
            link.outbox.copy_begin()
            if isinstance(records, AsyncIterable):
                async for record in records:
                    number += 1
                    link.outbox.copy_row(codecs, arguments(record))
                    if len(link.outbox) >= ROWS_AT_ONCE:
                        await sink.send_collected()
            else:
                for record in records:
                    number += 1
                    link.outbox.copy_row(codecs, arguments(record))
                    if len(link.outbox) >= ROWS_AT_ONCE:
                        await sink.send_collected()
                        await trio.lowlevel.checkpoint()
            link.outbox.copy_end()
    except EncodeError as error:
        error.add_note(f"row {number}")
        raise
    return sink.tag.rows
