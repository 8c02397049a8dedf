"""A client in the middle of a message: it holds no server, or not for long."""

from __future__ import annotations

import trio

from pgpool_core.testing import frontend
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.peers import logged_in, values
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
