"""Cursors, COPY and notifications keep what trio's interfaces of streams and channels promise: every call is a checkpoint, a closed end says
so, closing may be repeated and closes even where it is cancelled, two tasks at once are told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from pgpool_core import Connection, Notification, Pool, PoolError
from pgpool_core.testing import PostgresServer
from tests.in_process import own_or_lent


@pytest.fixture(params=["own", "lent"])
async def pool(request: pytest.FixtureRequest, postgres: PostgresServer) -> AsyncIterator[Pool]:
    """A pool with connections of its own, then one that borrows those of a proxy."""
    async with own_or_lent(request.param, postgres.dsn("app", "app"), 2) as pool:
        yield pool


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """One with a temporary table `streamed`."""
    async with pool.acquire() as connection:
        await connection.execute("create temp table streamed (word text)")
        yield connection
        assert await connection.fetchval("select 1") == 1, "whatever has happened, the connection is of use"


async def is_checkpoint(call: Callable[[], Awaitable[Any]]) -> Any:
    with trio.testing.assert_checkpoints():
        return await call()


async def closes_though_cancelled(close: Callable[[], Awaitable[None]]) -> None:
    with trio.CancelScope() as scope:
        scope.cancel("the test")
        await close()
    assert scope.cancelled_caught


async def test_a_cursor_is_a_receive_channel(connection: Connection) -> None:
    async with connection.cursor("select generate_series(1, 5)", prefetch=2) as rows:
        assert isinstance(rows, trio.abc.ReceiveChannel)
        for number in range(1, 6):  # some are there already, some are fetched
            assert await is_checkpoint(rows.receive) == (number,)
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel), trio.testing.assert_checkpoints():
                await rows.receive()
        await is_checkpoint(rows.aclose)
        await is_checkpoint(rows.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await rows.receive()
    async with connection.cursor("select generate_series(1, 5)") as rows:
        await closes_though_cancelled(rows.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await rows.receive()


async def test_two_tasks_at_one_cursor_are_told_of_it(connection: Connection) -> None:
    async with connection.cursor("select pg_sleep(0.01) from generate_series(1, 5)", prefetch=1) as rows:
        told: list[trio.BusyResourceError] = []

        async def receive() -> None:
            try:
                await rows.receive()
            except trio.BusyResourceError as error:
                told.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(receive)
        assert len(told) == 1


async def test_copy_in_is_a_send_stream(connection: Connection) -> None:
    async with connection.copy_in("copy streamed from stdin") as sink:
        assert isinstance(sink, trio.abc.SendStream)
        await is_checkpoint(lambda: sink.send_all(b"one\ntw"))
        await is_checkpoint(lambda: sink.send_all(b""))
        await is_checkpoint(sink.wait_send_all_might_not_block)
        await is_checkpoint(lambda: sink.send_all(memoryview(b"o\n")))
        await is_checkpoint(sink.aclose)
        await is_checkpoint(sink.aclose)
        for use in (lambda: sink.send_all(b"x"), sink.wait_send_all_might_not_block):
            with pytest.raises(trio.ClosedResourceError):
                await use()
    assert sink.tag.rows == 2
    assert await connection.fetch("select * from streamed") == [("one",), ("two",)]


async def test_copy_in_that_is_closed_and_cancelled_is_over(connection: Connection) -> None:
    with pytest.raises(PoolError, match="closing it was cancelled"):
        async with connection.copy_in("copy streamed from stdin") as sink:
            await sink.send_all(b"one\n")
            await closes_though_cancelled(sink.aclose)
            await sink.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await sink.send_all(b"two\n")
    assert await connection.fetchval("select count(*) from streamed") in (0, 1)


async def test_copy_out_is_a_receive_stream(connection: Connection) -> None:
    async with connection.copy_out("copy (select generate_series(1, 3)) to stdout") as source:
        assert isinstance(source, trio.abc.ReceiveStream)
        with pytest.raises(ValueError, match="at least 1"):
            await source.receive_some(0)
        got = await is_checkpoint(lambda: source.receive_some(1))
        while part := await is_checkpoint(source.receive_some):
            got += part
        assert got == b"1\n2\n3\n"
        for _ in range(2):
            assert await is_checkpoint(source.receive_some) == b""
        await is_checkpoint(source.aclose)
        await is_checkpoint(source.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await source.receive_some()
    async with connection.copy_out("copy (select generate_series(1, 1000000)) to stdout") as source:
        assert await source.receive_some(2) == b"1\n"
        await closes_though_cancelled(source.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await source.receive_some()


async def test_a_copy_of_a_file_to_a_stream_needs_no_more_than_the_interfaces(connection: Connection) -> None:
    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        async for part in source:
            await sink.send_all(part)
        await sink.aclose()

    sender, receiver = trio.testing.memory_stream_one_way_pair()
    lines = b"".join(b"%d\n" % number for number in range(20000))
    async with connection.copy_in("copy streamed from stdin") as sink, trio.open_nursery() as nursery:
        nursery.start_soon(pump, receiver, sink)
        await sender.send_all(lines)
        await sender.aclose()
    back_in, back_out = trio.testing.memory_stream_one_way_pair()
    async with connection.copy_out("copy streamed to stdout") as source:
        await pump(source, back_in)
    got = bytearray()
    async for part in back_out:
        got += part
    assert bytes(got) == lines


async def test_notifications_come_by_a_receive_channel(pool: Pool) -> None:
    async with pool.listen("streamed") as news:
        assert isinstance(news, trio.abc.ReceiveChannel)
        await pool.execute("notify streamed, 'one'; notify streamed, 'two'")
        for payload in ("one", "two"):
            item = await is_checkpoint(news.receive)
            assert isinstance(item, Notification)
            assert item.payload == payload
        with pytest.raises(trio.WouldBlock):
            news.receive_nowait()
        await is_checkpoint(news.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await news.receive()
