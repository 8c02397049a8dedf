"""What is larger than every buffer passes, and a slow reader costs the pooler no memory."""

from __future__ import annotations

import psycopg
import pytest
import trio

from pgpool_core.testing import Message, Messages, PostgresServer, frontend
from tests.conftest import PoolerFactory, Target
from tests.peers import logged_in, values
from tests.watching import rss_bytes, until_async

MIB = 2**20


def test_one_value_of_20_mib(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True) as connection:
        row = connection.execute(f"select repeat('0123456789abcdef', {20 * MIB // 16})").fetchone()
        assert row is not None
        assert row[0] == "0123456789abcdef" * (20 * MIB // 16)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_result_of_20_mib_in_small_rows(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True) as connection:
        rows = connection.execute("select x, repeat('r', 1000) from generate_series(1, 20000) x", binary=True)
        assert sum(number for number, _ in rows) == 20_000 * 20_001 // 2
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_query_of_50_mib(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True) as connection:
        text = b"select length('" + b"q" * (50 * MIB) + b"')"
        assert connection.execute(text).fetchone() == (50 * MIB,)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_parameter_of_50_mib(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
        assert connection.execute("select length(%s::bytea)", (b"p" * (50 * MIB),), binary=True).fetchone() == (
            50 * MIB,
        )
        assert connection.execute("select 1").fetchone() == (1,)


def test_20_mib_both_ways_at_once(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
        payload = b"\x00\xff" * (10 * MIB)
        row = connection.execute("select %b::bytea", (payload,), binary=True).fetchone()
        assert row == (payload,)


@pytest.mark.pooler(default_pool_size=1)
async def test_a_message_above_every_buffer_in_small_pieces(target: Target) -> None:
    async with logged_in(target) as peer:
        message = frontend.query("select length('" + "s" * (2 * MIB) + "')")
        for at in range(0, len(message), 1777):
            await peer.send(message[at : at + 1777])
        assert values(await peer.until("Z")) == [[str(2 * MIB).encode()]]


async def test_a_slow_reader_stops_its_server_and_nobody_else(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=2)
    async with logged_in(place) as slow, logged_in(place) as other:
        pid = values(await slow.query("select pg_backend_pid()"))[0][0]
        assert pid is not None
        await other.query("select 1")
        before = rss_bytes(place.process.pid)
        rows, size = 100_000, 1000
        await slow.send(frontend.query(f"select repeat('z', {size}) from generate_series(1, {rows})"))
        blocked = f"select 1 from pg_stat_activity where pid = {pid.decode()} and wait_event = 'ClientWrite'"
        await until_async(lambda: postgres.sql(blocked), what="PostgreSQL can write no more")
        for _ in range(20):
            await other.query("select 1")
        grown = rss_bytes(place.process.pid) - before
        assert grown < 8 * MIB, f"{grown / MIB:.1f} MiB more with 100 MB on their way to who does not read"
        with trio.fail_after(60):
            came = sum(len(message.body) for message in await slow.until("Z") if message.type == b"D")
        assert came == rows * (size + 6)


async def test_a_slow_server_stops_its_client_and_nobody_else(
    pooler: PoolerFactory, own_postgres: PostgresServer
) -> None:
    place = pooler(server=own_postgres, pool_mode="transaction", message_stall_timeout=60)
    async with logged_in(place) as writer:
        await writer.query("select 1")
        before = rss_bytes(place.process.pid)
        own_postgres.pause()
        message = frontend.query("select length('" + "w" * (50 * MIB) + "')")
        sent = 0
        with trio.move_on_after(10) as patience:
            while sent < len(message):
                with trio.move_on_after(0.5) as stuck:  # nothing could be written for so long: backpressure
                    await writer.stream.send_all(message[sent : sent + 65536])
                    sent += 65536
                if stuck.cancelled_caught:
                    break
        assert not patience.cancelled_caught
        assert sent < len(message), "50 MiB were swallowed while the server read nothing"
        assert rss_bytes(place.process.pid) - before < 8 * MIB
        own_postgres.resume()
    async with logged_in(place) as other:
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_many_large_results_at_once_share_little_memory(pooler: PoolerFactory) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=8)
    before = rss_bytes(place.process.pid)
    size = 5 * MIB

    async def fetch() -> None:
        async with logged_in(place, patience_s=60) as peer:
            cutter, found = Messages(), list[Message]()
            await peer.send(frontend.query(f"select repeat('m', {size})"))
            while not found or found[-1].type != b"Z":
                found += cutter.feed(await peer.stream.receive_some(2**18))
            assert [len(message.body) for message in found if message.type == b"D"] == [size + 6]

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(fetch)
    assert rss_bytes(place.process.pid) - before < 24 * MIB
