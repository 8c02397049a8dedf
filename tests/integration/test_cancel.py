"""Cancel requests: they end the query that they were meant for, and never another."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from signal import SIGQUIT

import psycopg
import pytest
import trio

from pgpool_core.testing import (
    PostgresServer,
    ScriptedPeer,
    ScriptedServer,
    backend,
    connect_peer,
    frontend,
    open_scripted_server,
)
from tests.conftest import PASSWORDS, PoolerFactory, Target
from tests.console import Console
from tests.peers import Place, letters, logged_in, values
from tests.programs import pgbouncer_before
from tests.watching import until, until_async

PROTOCOL_3_2 = 0x00030002
RUNNING = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(61)%' and pid <> pg_backend_pid()"


async def cancel(place: Place, pid: int, key: bytes) -> None:
    """Send one CancelRequest and wait until the other side has done with it."""
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.cancel(pid, key))
        with contextlib.suppress(trio.BrokenResourceError):
            assert await peer.stream.receive_some(1) == b""


async def cancel_until_told(place: Place, peer: ScriptedPeer) -> str:
    """Cancel the query of `peer` and read on to ReadyForQuery."""
    await cancel(place, peer.pid, peer.key)
    return letters(await peer.until("Z"))


async def test_a_running_query_is_cancelled(target: Target, postgres: PostgresServer) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.query("select pg_sleep(61)"))
        await until_async(lambda: postgres.sql(RUNNING) == "1")
        assert await cancel_until_told(target, peer) == "TEZ"
        assert values(await peer.query("select 'lives on'")) == [[b"lives on"]]


async def test_a_cancelled_transaction_can_be_rolled_back(target: Target, postgres: PostgresServer) -> None:
    async with logged_in(target) as peer:
        await peer.query("begin")
        await peer.send(frontend.query("select pg_sleep(61)"))
        await until_async(lambda: postgres.sql(RUNNING) == "1")
        await cancel(target, peer.pid, peer.key)
        assert (await peer.until("Z"))[-1].body == b"E"
        assert (await peer.query("rollback"))[-1].body == b"I"


@pytest.mark.parametrize("method", ["cancel_safe", "cancel"])
def test_psycopg_cancels(target: Target, postgres: PostgresServer, method: str) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True) as connection:
        thread = threading.Thread(
            target=lambda: (until(lambda: postgres.sql(RUNNING) == "1"), getattr(connection, method)())
        )
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(61)")
        thread.join()
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("how", ["key", "pid", "short", "long", "none"])
async def test_a_wrong_key_cancels_nothing(target: Target, postgres: PostgresServer, how: str) -> None:
    if how == "long" and target.is_direct:
        pytest.skip("PostgreSQL 15 reads the first 4 bytes of a longer key")
    async with logged_in(target) as peer:
        await peer.send(frontend.query("select pg_sleep(61)"))
        await until_async(lambda: postgres.sql(RUNNING) == "1")
        wrong = bytes(byte ^ 0x55 for byte in peer.key)
        requests = {
            "key": (peer.pid, wrong),
            "pid": (peer.pid ^ 1, peer.key),
            "short": (peer.pid, peer.key[:3]),
            "long": (peer.pid, peer.key + os.urandom(28)),
            "none": (peer.pid, b""),
        }
        await cancel(target, *requests[how])
        await peer.expect_silence()
        assert postgres.sql(RUNNING) == "1"
        assert await cancel_until_told(target, peer) == "TEZ"


async def test_a_cancel_that_comes_too_late_ends_nothing(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.query("select 1")
        await cancel(target, peer.pid, peer.key)
        if target.is_direct:
            return  # PostgreSQL's own signal may still be on its way
        for _ in range(20):
            assert letters(await peer.query("select 1")) == "TDCZ"


async def test_a_queued_query_is_cancelled_and_its_session_lives_on(pooler: PoolerFactory) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=1)
    with Console(place) as console:
        async with logged_in(place) as holder, logged_in(place) as waiter:
            await holder.query("begin")
            await waiter.send(frontend.query("select 'never run'"))
            await until_async(lambda: console.waiting() == 1)
            await cancel(place, waiter.pid, waiter.key)
            told = await waiter.expect_error("57014")
            assert told.fields["S"] == "ERROR"
            assert (await waiter.expect("Z")).body == b"I"
            assert console.waiting() == 0
            await waiter.send(frontend.query("select 'run'"))
            await until_async(lambda: console.waiting() == 1)
            await holder.query("commit")
            assert values(await waiter.until("Z")) == [[b"run"]]


async def test_a_queued_conversation_is_cancelled_up_to_its_sync(pooler: PoolerFactory) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=1)
    with Console(place) as console:
        async with logged_in(place) as holder, logged_in(place) as waiter:
            await holder.query("begin")
            await waiter.send(frontend.parse("select 1"), frontend.bind(), frontend.execute(), frontend.sync())
            await until_async(lambda: console.waiting() == 1)
            await cancel(place, waiter.pid, waiter.key)
            assert letters(await waiter.until("Z")) == "EZ"
            await holder.query("commit")
            assert values(await waiter.query("select 2")) == [[b"2"]]


async def test_a_cancelled_waiter_leaves_the_queue_to_those_behind_it(pooler: PoolerFactory) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=1)
    with Console(place) as console:
        async with logged_in(place) as holder, logged_in(place) as first, logged_in(place) as second:
            await holder.query("begin")
            await first.send(frontend.query("select 'first'"))
            await until_async(lambda: console.waiting() == 1)
            await second.send(frontend.query("select 'second'"))
            await until_async(lambda: console.waiting() == 2)
            await cancel(place, first.pid, first.key)
            await first.expect_error("57014")
            await holder.query("commit")
            assert values(await second.until("Z")) == [[b"second"]]


async def test_cancels_never_hit_the_next_client_of_a_server(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="transaction", default_pool_size=1, max_client_conn=1000)

    async def be_cancelled(turns: int, done: trio.Event) -> None:
        async with logged_in(place) as peer:
            for _ in range(turns):
                await peer.send(frontend.query("select pg_sleep(0.002)"))
                await cancel(place, peer.pid, peer.key)
                assert letters(await peer.until("Z")) in ("TDCZ", "TDEZ", "TEZ", "EZ")
        done.set()

    async def be_left_alone(done: trio.Event) -> None:
        async with logged_in(place) as peer:
            while not done.is_set():
                assert letters(await peer.query("select 1")) == "TDCZ"

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_cancelled, 100, done)
        nursery.start_soon(be_left_alone, done)
        nursery.start_soon(be_left_alone, done)


async def test_nothing_is_left_of_a_cancel(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=2)
    with Console(place) as console:
        async with logged_in(place) as peer:
            for _ in range(3):
                await peer.send(frontend.query("select pg_sleep(61)"))
                await until_async(lambda: postgres.sql(RUNNING) == "1")
                assert await cancel_until_told(place, peer) == "TEZ"

            names = (
                "cl_active_cancel_req",
                "cl_waiting_cancel_req",
                "sv_active_cancel",
                "sv_being_canceled",
                "sv_active",
            )
            await until_async(lambda: [console.pool()[name] for name in names] == [0] * 5)
            assert console.pool()["sv_idle"] == console.lists()["used_servers"] >= 1


async def test_a_flood_of_cancels_disturbs_nobody(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = pooler(pool_mode="transaction", default_pool_size=2, max_client_conn=1000)
    async with logged_in(place) as victim, logged_in(place) as other:
        await victim.send(frontend.query("select pg_sleep(61)"))
        await until_async(lambda: postgres.sql(RUNNING) == "1")
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(cancel, place, victim.pid, struct.pack("!I", number))
            for _ in range(20):
                assert values(await other.query("select 1")) == [[b"1"]]
        assert await cancel_until_told(place, victim) == "TEZ"


@pytest.mark.parametrize(
    ("version", "options"),
    [(PROTOCOL_3_2, {}), (0x0003270F, {}), (0x00030000, {"_pq_.shiny": "1"}), (PROTOCOL_3_2, {"_pq_.shiny": "1"})],
    ids=["3.2", "3.9999", "option", "both"],
)
async def test_a_newer_protocol_is_negotiated_down(
    target: Target, postgres: PostgresServer, version: int, options: dict[str, str]
) -> None:
    if target.kind == "pgbouncer" and pgbouncer_before(1, 23):
        pytest.skip("PgBouncer refuses every other version than 3.0, up to 1.22")
    newest = 2 if target.is_direct and postgres.binaries.major >= 18 else 0
    if version & 0xFFFF <= newest and not options:
        pytest.skip("PostgreSQL 18 speaks 3.2")
    async with await connect_peer((target.host, target.port)) as peer:
        startup = frontend.startup("app", "app", version, **options)
        await peer.send(startup)
        told = await peer.expect("v")
        minor, count = struct.unpack_from("!II", told.body)
        assert (minor & 0xFFFF, count) == (min(newest, version & 0xFFFF), len(options))
        assert told.body[8:] == b"".join(name.encode() + b"\0" for name in options)
        await peer.expect("R")
    with socket.create_connection((target.host, target.port), timeout=10) as probe:
        probe.sendall(frontend.startup("app", "app"))
        assert probe.recv(1) == b"R"


async def test_who_was_negotiated_down_gets_a_key_of_four_bytes_that_works(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(auth_type="trust", databases={"app": _forced(postgres)})
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup("app", "app", PROTOCOL_3_2))
        came = await peer.until("Z")
        assert came[0].type == b"v"
        key_data = next(message.body for message in came if message.type == b"K")
        assert len(key_data) == 8
        await peer.send(frontend.query("select pg_sleep(61)"))
        await until_async(lambda: postgres.sql(RUNNING) == "1")
        await cancel(place, struct.unpack_from("!I", key_data)[0], key_data[4:])
        assert letters(await peer.until("Z")) == "TEZ"


def _forced(postgres: PostgresServer) -> str:
    return f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"


@pytest.mark.parametrize("workers", [1, 3])
async def test_the_connection_of_a_cancel_request_closes_when_postgresql_has_been_told(
    pooler: PoolerFactory, workers: int
) -> None:
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        place = pooler(
            auth_type="trust", databases=databases, default_pool_size=1, function_check_period=0, workers=workers
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in_once, fake)
            async with logged_in(place) as client:
                await client.send(frontend.query("select 1"))
                server = fake.accepted[0]
                assert letters([await server.receive()]) == "Q"
                async with await connect_peer((place.host, place.port)) as canceller:
                    await canceller.send(frontend.cancel(client.pid, client.key))
                    told = await fake.accept()  # the request has come, and is not yet dealt with
                    await cancel(place, client.pid ^ 0x55, client.key)  # a later one, for nobody, is done with at once
                    with pytest.raises(BlockingIOError):
                        canceller.stream.socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                    await told.stream.aclose()
                    assert await canceller.stream.receive_some(1) == b""
        for peer in fake.accepted:
            peer.stream.socket.close()


async def test_a_cancel_request_that_a_shutdown_ends_is_not_answered_either(pooler: PoolerFactory) -> None:
    """libpq takes whatever is said for a failure of the request."""
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        place = pooler(auth_type="trust", databases=databases, default_pool_size=1, function_check_period=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in_once, fake)
            async with logged_in(place) as client:
                await client.send(frontend.query("select 1"))
                assert letters([await fake.accepted[0].receive()]) == "Q"
                async with await connect_peer((place.host, place.port)) as canceller:
                    await canceller.send(frontend.cancel(client.pid, client.key))
                    await fake.accept()  # the request has come, and is not yet dealt with
                    place.process.signal(SIGQUIT)
                    assert await canceller.stream.receive_some(1000) == b""
                    assert letters([await client.receive()]) == "E"
        assert await trio.to_thread.run_sync(place.process.wait) == 0
        for peer in fake.accepted:
            peer.stream.socket.close()


async def test_a_server_whose_cancel_request_is_not_answered_goes_to_no_other_client(pooler: PoolerFactory) -> None:
    """PostgreSQL may still obey: at any time, and whatever runs then."""
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        place = pooler(
            auth_type="trust",
            databases=databases,
            pool_mode="transaction",
            default_pool_size=1,
            function_check_period=0,
            server_connect_timeout=1,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in_once, fake)
            async with logged_in(place) as client, logged_in(place) as other:
                await client.send(frontend.query("select 1"))
                server = fake.accepted[0]
                assert letters([await server.receive()]) == "Q"
                await cancel_unheard(place, client, fake)
                await server.send(backend.command_complete("SELECT 1") + backend.ready())
                assert letters(await client.until("Z")) == "CZ"
                await other.send(frontend.query("select 2"))
                assert letters([await server.receive()]) == "X"
                await server.stream.aclose()
                next_one = await fake.accept()
                await next_one.accept_login()
                assert "select 2" in await asked(next_one)
        for peer in fake.accepted:
            peer.stream.socket.close()


async def cancel_unheard(place: Place, client: ScriptedPeer, fake: ScriptedServer) -> None:
    """Send a cancel request that PostgreSQL takes in and does not read."""
    async with await connect_peer((place.host, place.port)) as canceller:
        await canceller.send(frontend.cancel(client.pid, client.key))
        await fake.accept()


async def log_in_once(fake: ScriptedServer) -> None:
    await (await fake.accept()).accept_login()


async def test_the_connection_of_a_cancel_request_for_nobody_closes_at_once(target: Target) -> None:
    async with logged_in(target) as client:
        await cancel(target, client.pid, client.key)  # idle
        await cancel(target, client.pid ^ 0x55, client.key)  # nobody


@pytest.mark.parametrize("begun", ["", "-c app.start=fleet"])
async def test_a_cancel_request_that_hits_the_poolers_own_question_costs_no_server(
    pooler: PoolerFactory, begun: str
) -> None:
    """It was on its way when the query ended by itself. Who began with settings of its own is held until the question is answered."""
    done = backend.command_complete("SET") + backend.ready()
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        place = pooler(auth_type="trust", databases=databases, default_pool_size=1, function_check_period=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in_once, fake)
            async with logged_in(place, options=begun) as client:
                await client.send(frontend.query("create temp table gone (i int); drop table gone"))
                server = fake.accepted[0]
                if begun:
                    assert '"start"' in await asked(server)
                    await server.send(done)
                assert "create temp" in await asked(server)
                async with await connect_peer((place.host, place.port)) as canceller:
                    await canceller.send(frontend.cancel(client.pid, client.key))
                    told = await fake.accept()
                    await server.send(done)
                    question = await asked(server)
                    assert letters(await client.until("Z")) == "CZ"
                    await client.send(frontend.query("select 1"))
                    await server.send(backend.error("57014", "canceling statement due to user request"))
                    await server.send(backend.ready())
                    await told.stream.aclose()
                    if begun:  # before its next query, which waits
                        assert await asked(server) == question
                        await server.send(done)
                    assert "select 1" in await asked(server)
                    await server.send(done)
                    if not begun:
                        assert await asked(server) == question
                        await server.send(done)
                assert letters(await client.until("Z")) == "CZ"
                async with logged_in(place) as other:
                    await other.send(frontend.query("select 2"))
                    if begun:
                        assert "RESET" in await asked(server)
                        await server.send(done)
                    assert "select 2" in await asked(server)
                    await server.send(done)
                    assert letters(await other.until("Z")) == "CZ"
        for peer in fake.accepted:
            peer.stream.socket.close()


@pytest.mark.parametrize("known", [False, True], ids=["new settings", "known settings"])
async def test_a_cancel_request_that_comes_while_the_server_takes_the_clients_settings_reaches_the_query(
    pooler: PoolerFactory, known: bool
) -> None:
    """Known ones go in front of the query, in one send; new ones are tried alone."""
    done = backend.command_complete("SET") + backend.ready()
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        place = pooler(
            auth_type="trust",
            databases=databases,
            pool_mode="transaction",
            default_pool_size=1,
            function_check_period=0,
            admin_users="app",
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in_once, fake)
            async with logged_in(place, work_mem="7MB") as client, logged_in(place) as other:
                server = fake.accepted[0]
                for one in (client, other) if known else ():
                    await one.send(frontend.query("select 1"))
                    assert "work_mem" in await asked(server)
                    await server.send(done)
                    assert "select 1" in await asked(server)
                    await server.send(done)
                    await one.until("Z")
                await client.send(frontend.query("select pg_sleep(60)"))
                assert "7MB" in await asked(server)
                if known:
                    assert "pg_sleep" in await asked(server)
                async with await connect_peer((place.host, place.port)) as canceller:
                    await canceller.send(frontend.cancel(client.pid, client.key))
                    await cancel(place, client.pid, client.key)  # a second one, which does not wait: the first is in
                    async with logged_in(place, database="pgbouncer") as console:
                        pools = await console.query("show pools")
                        assert {row[7] for row in values(pools)} == {b"0"}, "sv_active_cancel"
                    await server.send(done)
                    if not known:
                        assert "pg_sleep" in await asked(server)
                    told = await fake.accept()
                    with pytest.raises(BlockingIOError):
                        canceller.stream.socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                    await server.send(backend.error("57014", "canceling statement due to user request"))
                    await server.send(backend.ready())
                    await told.stream.aclose()
                    assert await canceller.stream.receive_some(1) == b""
                assert letters(await client.until("Z")) == "EZ"
        for peer in fake.accepted:
            peer.stream.socket.close()


async def asked(server: ScriptedPeer) -> str:
    """The text of the Query that comes next."""
    message = await server.receive()
    assert message is not None and message.type == b"Q"
    return message.body.decode()
