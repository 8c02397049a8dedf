"""COPY in both directions and its ends: by either side, by an error, by a client or a server that vanishes at any point."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

import pytest
import trio

from pgpool_core.testing import (
    Message,
    PoolerProcess,
    PostgresServer,
    PostgresUser,
    ScriptedPeer,
    ScriptedServer,
    backend,
    connect_peer,
    frontend,
    open_scripted_server,
)
from tests.conftest import PASSWORDS, PoolerFactory
from tests.console import Console
from tests.peers import letters, logged_in, values
from tests.watching import until_async

BOSS = PostgresUser(name="boss", password=PASSWORDS["boss"], options="superuser replication")
COPY_BOTH = bytes(Message(b"W", struct.pack("!bH", 0, 0)))
FEEDBACK = frontend.copy_data(b"r" + bytes(33))
WALSENDERS = "select count(*) from pg_stat_activity where backend_type = 'walsender'"


@pytest.fixture(scope="module")
def source() -> Iterator[PostgresServer]:
    """A server that may be replicated."""
    with PostgresServer(users=[BOSS], databases=("app",), settings={"wal_level": "logical"}) as server:
        yield server


@contextlib.asynccontextmanager
async def scripted(pooler: PoolerFactory) -> AsyncGenerator[tuple[PoolerProcess, ScriptedServer]]:
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        settings = {"default_pool_size": 1, "function_check_period": 0, "server_tls_sslmode": "disable"}
        yield pooler(auth_type="trust", databases=databases, **settings), fake


@contextlib.asynccontextmanager
async def both(pooler: PoolerFactory) -> AsyncGenerator[tuple[ScriptedPeer, ScriptedPeer, PoolerProcess]]:
    """A replication client and its server, which is a script, in COPY both."""
    async with scripted(pooler) as (place, fake), trio.open_nursery() as nursery:
        arrived: list[ScriptedPeer] = []

        async def accept() -> None:
            arrived.append(await fake.accept())
            startup = await arrived[0].accept_login()
            assert startup.parameters["replication"] == "database"

        nursery.start_soon(accept)
        async with logged_in(place, replication="database") as client:
            server = arrived[0]
            await client.send(frontend.query("START_REPLICATION SLOT s LOGICAL 0/0"))
            await server.expect("Q")
            await server.send(COPY_BOTH)
            await client.expect("W")
            yield client, server, place
            await server.aclose()


async def test_both_sides_send_at_once(pooler: PoolerFactory) -> None:
    """More than all buffers hold, both ways: neither side waits for the other to be read empty first."""
    count, block = 2000, bytes(1000)
    async with both(pooler) as (client, server, _):

        async def receive(peer: ScriptedPeer) -> None:
            for _ in range(count):
                assert (await peer.expect("d")).body == block

        async def send(peer: ScriptedPeer) -> None:
            for _ in range(count):
                await peer.send(frontend.copy_data(block))

        async with trio.open_nursery() as nursery:
            for peer in (client, server):
                nursery.start_soon(receive, peer)
                nursery.start_soon(send, peer)


async def test_the_client_ends_it(pooler: PoolerFactory) -> None:
    async with both(pooler) as (client, server, _):
        await client.send(FEEDBACK, frontend.copy_done())
        await server.expect("dc")
        await server.send(frontend.copy_data(b"on its way"), frontend.copy_done(), backend.command_complete("COPY 0"))
        await server.send(backend.ready())
        assert letters(await client.until("Z")) == "dcCZ"
        await one_more_query(client, server)


async def test_the_server_ends_it(pooler: PoolerFactory) -> None:
    """As at the end of a timeline: a result follows, and the session goes on."""
    async with both(pooler) as (client, server, _):
        await server.send(frontend.copy_done())
        await client.expect("c")
        await client.send(FEEDBACK, frontend.copy_done())
        await server.expect("dc")
        row = backend.row_description("next_tli") + backend.data_row("2") + backend.command_complete("SELECT")
        await server.send(row, backend.command_complete("START_STREAMING"), backend.ready())
        assert letters(await client.until("Z")) == "TDCCZ"
        await one_more_query(client, server)


async def test_an_error_ends_it(pooler: PoolerFactory) -> None:
    """What the client had sent before it could know is dropped by PostgreSQL, its late CopyDone included."""
    async with both(pooler) as (client, server, _):
        await server.send(frontend.copy_data(b"x"), backend.error("58P01", "segment has been removed"), backend.ready())
        assert letters(await client.until("Z")) == "dEZ"
        await client.send(FEEDBACK, frontend.copy_done())
        await server.expect("dc")
        await one_more_query(client, server)


async def test_it_can_be_begun_again(pooler: PoolerFactory) -> None:
    async with both(pooler) as (client, server, _):
        for _ in range(3):
            await client.send(frontend.copy_done())
            await server.expect("c")
            await server.send(frontend.copy_done(), backend.command_complete("COPY 0"), backend.ready())
            assert letters(await client.until("Z")) == "cCZ"
            await client.send(frontend.query("START_REPLICATION SLOT s LOGICAL 0/0"))
            await server.expect("Q")
            await server.send(COPY_BOTH)
            await client.expect("W")


async def one_more_query(client: ScriptedPeer, server: ScriptedPeer) -> None:
    await client.send(frontend.query("IDENTIFY_SYSTEM"))
    await server.expect("Q")
    await server.send(backend.command_complete("IDENTIFY_SYSTEM"), backend.ready())
    assert letters(await client.until("Z")) == "CZ"


async def test_a_server_that_vanishes_is_told_to_the_client(pooler: PoolerFactory) -> None:
    async with both(pooler) as (client, server, _):
        await server.send(frontend.copy_data(b"last words"))
        await client.expect("d")
        await server.cut()
        await client.expect_error("08006")
        await client.expect_end()


async def cut(client: ScriptedPeer) -> None:
    await client.cut()


async def hang_up(client: ScriptedPeer) -> None:
    await client.aclose()


async def half_a_message(client: ScriptedPeer) -> None:
    await client.send(frontend.copy_data(bytes(1000))[:500])
    await client.cut()


async def terminate(client: ScriptedPeer) -> None:
    """It says good-bye and stays connected: its server must not go on for it."""
    await client.send(frontend.terminate())
    while (came := await client.receive()) is not None:
        assert came.type == b"d"


async def end_and_terminate(client: ScriptedPeer) -> None:
    await client.send(frontend.copy_done(), frontend.terminate())
    await client.aclose()


ENDS: tuple[Callable[[ScriptedPeer], Awaitable[None]], ...] = (
    cut,
    hang_up,
    half_a_message,
    terminate,
    end_and_terminate,
)


LEAVING = (
    *((command, end) for command in ("logical", "physical") for end in ENDS),
    *((command, end) for command in ("base backup", "slow query") for end in (cut, hang_up)),
)


@pytest.mark.parametrize(("command", "end"), LEAVING, ids=lambda value: getattr(value, "__name__", value))
async def test_a_client_that_leaves_takes_its_server_with_it(
    pooler: PoolerFactory, source: PostgresServer, command: str, end: Callable[[ScriptedPeer], Awaitable[None]]
) -> None:
    front = pooler(server=source, default_pool_size=2)
    begin = source.sql("select pg_current_wal_flush_lsn()")
    if command == "logical":
        source.sql("select pg_create_logical_replication_slot('left', 'pgoutput')", database="app")
    asked = {
        "logical": "START_REPLICATION SLOT left LOGICAL 0/0 (proto_version '1', publication_names 'p')",
        "physical": f"START_REPLICATION {begin}",
        "base backup": "BASE_BACKUP (CHECKPOINT 'fast')",
        "slow query": "select pg_sleep(600)",
    }[command]
    how = "database" if command in ("logical", "slow query") else "true"
    try:
        async with await connect_peer((front.host, front.port)) as client:
            await client.log_in("boss", "app", PASSWORDS["boss"], replication=how)
            await client.send(frontend.query(asked))
            if command == "base backup":
                await client.until("H")
            elif command == "slow query":
                asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
                await until_async(lambda: source.sql(asleep) == "1")
            else:
                await client.expect("W")
                await client.send(FEEDBACK)
            await end(client)
        await until_async(lambda: source.sql(WALSENDERS) == "0", what="the walsender ends")
        with Console(front) as console:
            await until_async(lambda: console.pool("boss")["sv_active"] == 0)
        async with logged_in(front, "boss", replication="database") as again:
            assert values(await again.query("select 1")) == [[b"1"]]
    finally:
        if command == "logical":
            source.sql("select pg_drop_replication_slot('left')")


async def test_a_client_that_leaves_while_its_server_is_opened(pooler: PoolerFactory) -> None:
    async with scripted(pooler) as (place, fake):
        client = await connect_peer((place.host, place.port))
        await client.send(frontend.startup("app", "app", replication="database"))
        server = await fake.accept()
        await client.cut()
        with Console(place) as console:
            await until_async(lambda: console.lists()["login_clients"] == 0)
        await server.accept_login()
        await server.expect("X")
        await server.aclose()  # until then it counts, for PostgreSQL would count it
        with Console(place) as console:
            await until_async(lambda: console.rows("SHOW POOLS")[1]["sv_login"] == 0)
            assert console.lists()["used_servers"] == 0


async def test_a_client_that_leaves_the_queue_lets_the_next_one_in(pooler: PoolerFactory) -> None:
    async with both(pooler) as (client, server, place), await connect_peer((place.host, place.port)) as second:
        with Console(place) as console:
            await second.send(frontend.startup("app", "app", replication="database"))
            await until_async(lambda: console.waiting() == 1)
            await second.cut()
            await until_async(lambda: console.waiting() == 0)
        await client.send(frontend.copy_done())
        await server.expect("c")


async def test_a_login_to_the_server_that_fails_is_told_to_its_client_alone(pooler: PoolerFactory) -> None:
    async with scripted(pooler) as (place, fake), await connect_peer((place.host, place.port)) as client:
        await client.send(frontend.startup("app", "app", replication="true"))
        async with await fake.accept() as server:
            await server.receive_startup()
            await server.send(
                backend.error("53300", "number of requested standby connections exceeds", severity="FATAL")
            )
        error = await client.expect_error("53300")
        assert "requested standby connections" in error.fields["M"]
        await client.expect_end()
        async with await connect_peer((place.host, place.port)) as other:
            await other.send(frontend.startup("app", "app"))
            async with await fake.accept() as server:  # at once: nothing holds back
                await server.accept_login()
                await other.until("Z")
