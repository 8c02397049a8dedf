"""A client in the middle of a message: it holds no server, or not for long."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest
import trio

from pgpool_core.testing import (
    PeerMismatch,
    PoolerProcess,
    PostgresServer,
    ScriptedServer,
    backend,
    frontend,
    open_scripted_server,
)
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.peers import letters, logged_in, values
from tests.watching import until_async


async def test_forty_clients_with_half_a_message_hold_no_server(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2, message_stall_timeout=60)
    half = frontend.query("select 'never finished'")[:20]
    with Console(place) as console:
        async with trio.open_nursery() as nursery:
            done = trio.Event()
            sent = 0

            async def send_half() -> None:
                nonlocal sent
                async with logged_in(place) as peer:
                    await peer.send(half)
                    sent += 1
                    await done.wait()

            for _ in range(40):
                nursery.start_soon(send_half)
            await until_async(lambda: sent == 40)
            async with logged_in(place) as fresh:
                for _ in range(10):
                    assert values(await fresh.query("select 1")) == [[b"1"]]
            assert (console.pool()["sv_active"], console.pool()["cl_waiting"]) == (0, 0)
            done.set()


async def test_half_a_message_can_be_finished_later(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    message = frontend.query("select 'finished'")
    async with logged_in(place) as slow, logged_in(place) as other:
        for cut in (1, 4, 5, 20):
            await slow.send(message[:cut])
            assert values(await other.query("select 'meanwhile'")) == [[b"meanwhile"]]
            await slow.send(message[cut:])
            assert values(await slow.until("Z")) == [[b"finished"]]


async def test_a_large_message_that_stalls_gives_its_server_up(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, message_stall_timeout=1)
    message = frontend.query("select length('" + "l" * 4_000_000 + "')")
    async with logged_in(place) as staller, logged_in(place) as other:
        await staller.send(message[:2_000_000])
        assert values(await other.query("select 'served'")) == [[b"served"]]
        while (came := await staller.receive()) is not None:
            assert came.type == b"E"


@pytest.mark.parametrize("size", [500_000, 4_000_000])
async def test_a_message_that_stalls_behind_a_replay_gives_its_server_up(
    pooler: PoolerFactory, postgres: PostgresServer, size: int
) -> None:
    """Its last bytes came while PostgreSQL was still at the client's settings."""
    place = pooler(default_pool_size=1, message_stall_timeout=1)

    def is_linked() -> bool:
        with Console(place) as console:
            return any(row["link"] for row in console.rows("show clients"))

    async with logged_in(place) as staller, logged_in(place) as other:
        await staller.query("set work_mem = '9MB'")
        await other.query("select 1")
        await trio.to_thread.run_sync(postgres.pause)
        try:
            await staller.send(frontend.query("select length('" + "l" * size + "')")[:100_000])
            await until_async(is_linked)
        finally:
            await trio.to_thread.run_sync(postgres.resume)
        assert values(await other.query("select 'served'")) == [[b"served"]]


async def test_a_large_message_that_is_only_slow_is_not_cut(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, message_stall_timeout=1)
    message = frontend.query("select length('" + "l" * 1_000_000 + "')")
    async with logged_in(place) as slow:
        for at in range(0, len(message), 100_000):
            with trio.move_on_after(0.2):  # 2 s in all, never 1 s without a byte
                await slow.stream.receive_some(1)
                raise AssertionError("an answer before the question was complete")
            await slow.send(message[at : at + 100_000])
        assert values(await slow.until("Z")) == [[b"1000000"]]


@contextlib.asynccontextmanager
async def one_login() -> AsyncGenerator[ScriptedServer]:
    """A server that takes the first connection by itself; all are closed at the end."""
    async with open_scripted_server() as fake, trio.open_nursery() as nursery:
        nursery.start_soon(log_in_once, fake)
        try:
            yield fake
        finally:
            for peer in fake.accepted:
                peer.stream.socket.close()


def before(fake: ScriptedServer, pooler: PoolerFactory, **settings: object) -> PoolerProcess:
    """A pooler with one connection to `fake`."""
    databases = {"app": f"host={fake.host} port={fake.port} user=app"}
    return pooler(auth_type="trust", databases=databases, default_pool_size=1, function_check_period=0, **settings)


async def log_in_once(fake: ScriptedServer) -> None:
    await (await fake.accept()).accept_login()


async def test_who_is_sent_away_in_the_middle_of_a_row_is_not_told_why(pooler: PoolerFactory) -> None:
    """An ErrorResponse there would be read as the rest of the row."""
    half = bytes(backend.data_row(b"x" * 50))[:30]
    async with one_login() as fake:
        place = before(fake, pooler)
        async with logged_in(place) as client:
            await client.send(frontend.query("select 1"))
            assert letters([await fake.accepted[0].expect("Q")]) == "Q"
            await fake.accepted[0].send(backend.row_description("x"), half)
            await client.expect("T")
            await client.send(b"\xff\0\0\0\4")  # what no client sends
            with pytest.raises(PeerMismatch) as found:
                await client.receive()
            assert str(found.value) == f"the connection ended inside a message: {half!r}"


async def test_answers_behind_the_begin_for_which_a_client_is_sent_away_are_read_all_the_same(
    pooler: PoolerFactory,
) -> None:
    answer = [backend.row_description("x"), backend.data_row(b"1"), backend.command_complete("SELECT 1")]
    async with one_login() as fake:
        place = before(fake, pooler, pool_mode="statement")
        async with logged_in(place) as client:
            server = fake.accepted[0]
            await client.send(frontend.query("begin") + frontend.query("select 1"))
            await server.expect("QQ")
            await server.send(backend.command_complete("BEGIN"), backend.ready(b"T"), *answer, backend.ready(b"T"))
            await client.until("E")
        async with await fake.accept() as canceller:
            await canceller.receive_startup()
        assert (await server.expect("Q")).text == "ROLLBACK"
        await server.send(backend.command_complete("ROLLBACK"), backend.ready())
        async with logged_in(place) as other:
            await other.send(frontend.query("select 1"))
            await server.expect("Q")
            await server.send(*answer, backend.ready())
            assert values(await other.until("Z")) == [[b"1"]]
