"""Bytes that mean nothing, in every state that a client or a server can be in."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import AsyncGenerator

import pytest
import trio
import trio.testing

from pgpool_core.testing import (
    Message,
    Messages,
    PeerMismatch,
    PoolerProcess,
    ScriptedPeer,
    ScriptedServer,
    backend,
    connect_peer,
    frontend,
    open_scripted_server,
)
from tests.chaos.conftest import Scene
from tests.conftest import PASSWORDS, PoolerFactory
from tests.peers import letters, logged_in, values

GARBAGE = {
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
    "unknown type": bytes(Message(b"\x01", b"what")),
    "length zero": b"Q" + bytes(4) + b"select 1",
    "length three": b"Q\0\0\0\3",
    "negative length": b"Q\x80\0\0\0",
    "a server's message": backend.ready(),
    "a startup packet": frontend.startup("app", "app"),
    "a password": frontend.password("secret"),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
STATES = ("login", "password", "idle", "transaction", "unsynced", "copy")


async def until_ended(peer: ScriptedPeer) -> None:
    """Read whatever comes until the other side has ended the connection."""
    with contextlib.suppress(PeerMismatch, trio.BrokenResourceError, ValueError), trio.move_on_after(5):
        while await peer.receive() is not None:
            pass


async def enter(peer: ScriptedPeer, state: str) -> None:
    """Bring a new connection into `state`."""
    if state == "login":
        return
    if state == "password":
        await peer.send(frontend.startup("app", "app"))
        await peer.expect("R")
        return
    await peer.log_in("app", "app", PASSWORDS["app"])
    if state == "transaction":
        await peer.query("begin")
    elif state == "unsynced":
        await peer.send(frontend.parse("select 1"), frontend.flush())
        await peer.expect("1")
    elif state == "copy":
        await peer.query("begin; create temp table t(x int) on commit drop")
        await peer.send(frontend.query("copy t from stdin"))
        await peer.expect("G")


@pytest.mark.parametrize("state", STATES)
async def test_garbage_hurts_only_who_sends_it(scene: Scene, state: str) -> None:
    async with logged_in(scene) as other:
        for name, garbage in GARBAGE.items():
            try:
                async with await connect_peer((scene.host, scene.port)) as peer:
                    await enter(peer, state)
                    await peer.send(garbage)
                    await peer.half_close()
                    await until_ended(peer)
                assert values(await other.query("select 1")) == [[b"1"]]
            except BaseException as failure:
                failure.add_note(f"{name!r} in the state {state!r}")
                raise


async def test_random_bytes_hurt_only_who_sends_them(scene: Scene) -> None:
    source = random.Random(2)
    async with logged_in(scene) as other:
        for turn in range(60):
            async with await connect_peer((scene.host, scene.port)) as peer:
                await enter(peer, STATES[turn % len(STATES)])
                good = frontend.query("select 1") + frontend.parse("select 1") + frontend.sync()
                cut = source.randrange(len(good))
                with contextlib.suppress(PeerMismatch, trio.BrokenResourceError):
                    await peer.send(good[:cut] + source.randbytes(source.randrange(1, 200)))
                    await peer.half_close()
                await until_ended(peer)
            assert values(await other.query("select 1")) == [[b"1"]]


SERVER_GARBAGE = {
    "zeros": bytes(50),
    "impossible length": b"D" + struct.pack("!I", 2) + b"xx",
    "unknown type": bytes(Message(b"\x02", b"?")),
    "impossible status": bytes(Message(b"Z", b"Q")),
    "a client's message": frontend.query("select 1"),
}


@contextlib.asynccontextmanager
async def in_front_of_a_script(pooler: PoolerFactory) -> AsyncGenerator[tuple[PoolerProcess, ScriptedServer]]:
    """A pooler of one server, which is a script of the test."""
    async with open_scripted_server() as fake:
        databases = {"app": f"host={fake.host} port={fake.port} user=app"}
        try:
            yield (
                pooler(
                    auth_type="trust",
                    databases=databases,
                    default_pool_size=1,
                    server_login_retry=0,
                    function_check_period=0,
                ),
                fake,
            )
        finally:
            for server in fake.accepted:
                server.stream.socket.close()


@pytest.mark.parametrize("garbage", SERVER_GARBAGE.values(), ids=SERVER_GARBAGE)
async def test_a_server_that_sends_garbage_is_closed_and_its_client_told(pooler: PoolerFactory, garbage: bytes) -> None:
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:
        logged: list[ScriptedPeer] = []

        async def accept() -> None:
            logged.append(await fake.accept())
            await logged[-1].accept_login()

        nursery.start_soon(accept)
        async with logged_in(place) as client:
            await client.send(frontend.query("select 1"))
            server = logged[0]
            await server.expect("Q")
            await server.send(garbage)
            told = []
            while (came := await client.receive()) is not None:
                told.append(came)
            assert letters(told) == "E"
            assert told[0].fields["S"] == "FATAL"
            await server.expect_end()
            await server.aclose()  # until then it counts, for PostgreSQL would count it
        async with logged_in(place) as client:
            await client.send(frontend.query("select 2"))
            await accept()
            await logged[1].expect("Q")
            await logged[1].send(backend.command_complete("SELECT 0"), backend.ready())
            assert letters(await client.until("Z")) == "CZ"


async def test_a_server_that_ends_inside_a_message_has_no_error_put_into_it(pooler: PoolerFactory) -> None:
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:
        servers: list[ScriptedPeer] = []

        async def accept() -> None:
            servers.append(await fake.accept())
            await servers[0].accept_login()

        nursery.start_soon(accept)
        async with logged_in(place) as client:
            await client.send(frontend.query("select 1"))
            await servers[0].expect("Q")
            await servers[0].send(backend.row_description("x"), backend.data_row("y" * 100)[:50])
            await servers[0].cut()
            said = Messages()
            told = []
            with contextlib.suppress(trio.BrokenResourceError):
                while data := await client.stream.receive_some(4096):
                    told += said.feed(data)
            # Either the row was held back and an error stands in its place, or it ends as abruptly as the server did.
            assert (letters(told), said.rest) in (
                ("TE", b""),
                ("T", backend.data_row("y" * 100)[: len(said.rest)]),
            )


async def told_when_settings_meet(pooler: PoolerFactory, error: Message) -> dict[str, str]:
    """What a client reads whose server ends with `error` instead of taking the client's settings."""
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:

        async def serve() -> None:
            server = await fake.accept()
            await server.accept_login()
            assert b"mine" in (await server.expect("Q")).body
            await server.send(error)
            await server.aclose()

        nursery.start_soon(serve)
        async with logged_in(place, application_name="mine") as client:
            await client.send(frontend.query("select 1"))
            return (await client.until("E"))[-1].fields


async def test_a_server_that_ends_while_it_takes_the_client_s_settings_is_not_blamed_on_them(
    pooler: PoolerFactory,
) -> None:
    error = backend.error("57P01", "terminating connection due to administrator command", "FATAL")
    assert (await told_when_settings_meet(pooler, error))["C"] == "08006"


async def test_what_a_server_ends_with_while_it_takes_the_client_s_settings_is_told_in_its_words(
    pooler: PoolerFactory,
) -> None:
    """Another pooler that has no server for it, for one."""
    told = await told_when_settings_meet(pooler, backend.error("53000", "query_wait_timeout", "FATAL", D="why"))
    assert (told["S"], told["C"], told["M"], told["D"]) == ("FATAL", "53000", "query_wait_timeout", "why")


async def test_the_statement_timeout_of_another_client_ends_nobody(pooler: PoolerFactory) -> None:
    """The settings of the next client are said to the server while it still stands at those of the one before."""
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:

        async def serve() -> None:
            server = await fake.accept()
            await server.accept_login()
            taken = backend.command_complete("SET") + backend.ready()
            selected = backend.command_complete("SELECT 0") + backend.ready()
            for said, answer in (
                (b"work_mem", taken),
                (b"select 1", selected),
                (b"statement_timeout", taken),
                (b"select 2", selected),
                (b"work_mem", backend.error("57014", "canceling statement due to statement timeout") + backend.ready()),
                (b"work_mem", taken),
                (b"select 3", selected),
            ):
                assert said in (await server.expect("Q")).body
                await server.send(answer)

        nursery.start_soon(serve)
        async with (
            logged_in(place, options="-c work_mem=9MB") as client,
            logged_in(place, options="-c statement_timeout=1") as hurried,
        ):
            for who, text in ((client, "select 1"), (hurried, "select 2"), (client, "select 3")):
                await who.send(frontend.query(text))
                assert letters(await who.until("Z")) == "CZ"


async def test_a_server_whose_copy_ended_before_it_read_a_sync_is_asked_and_used_again(pooler: PoolerFactory) -> None:
    """A Sync inside a COPY has no answer, unless an error (a cancel request, a timeout) ends the COPY before it is read."""
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:
        servers: list[ScriptedPeer] = []

        async def accept() -> None:
            servers.append(await fake.accept())
            await servers[-1].accept_login()

        nursery.start_soon(accept)
        async with logged_in(place) as client:
            await client.send(frontend.parse("copy t from stdin"), frontend.bind(), frontend.execute(), frontend.sync())
            [server] = servers
            await server.expect("P", "B", "E", "S")
            await server.send(backend.parse_complete(), backend.bind_complete(), backend.copy_in_response())
            await client.expect("1", "2", "G")
            await client.send(frontend.copy_done(), frontend.sync())
            await server.expect("c", "S")
            timeout = backend.error("57014", "canceling statement due to statement timeout")
            await server.send(timeout, backend.ready(), backend.ready())
            await server.expect("S", "C", "S")
            await server.send(backend.ready(), backend.close_complete(), backend.ready())
            assert letters(await client.until("Z")) == "EZ"
            await client.expect("Z")
            await client.send(frontend.query("select 1"))
            await server.expect("Q")
            await server.send(backend.command_complete("SELECT 0"), backend.ready())
            assert letters(await client.until("Z")) == "CZ"
            await server.aclose()


UNASKED = {
    "ready": backend.ready(),
    "row": backend.data_row("whose is this?"),
    "error": backend.error("57P01", "terminating connection due to administrator command", "FATAL"),
    "half a message": backend.data_row("whose is this?")[:8],
}


@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED)
async def test_what_an_idle_server_says_unasked_reaches_no_client(pooler: PoolerFactory, unasked: bytes) -> None:
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:
        servers: list[ScriptedPeer] = []

        async def serve() -> None:
            while True:
                server = await fake.accept(patience_s=60)
                await server.accept_login()
                servers.append(server)
                nursery.start_soon(answer, server)

        async def answer(server: ScriptedPeer) -> None:
            while (came := await server.receive()) is not None:
                if came.type == b"Q":
                    await server.send(backend.data_row("yours"), backend.command_complete("SELECT 1"), backend.ready())
            await server.aclose()

        nursery.start_soon(serve)
        async with logged_in(place) as client:
            assert letters(await client.query("select 1")) == "DCZ"
            await trio.testing.wait_all_tasks_blocked()
            await servers[0].send(unasked)
            for _ in range(5):
                assert values(await client.query("select 1")) == [[b"yours"]]
        assert len(servers) == 2, "a server that speaks unasked is not used again"
        nursery.cancel_scope.cancel()


async def test_a_notice_or_a_report_of_an_idle_server_is_no_reason_to_close_it(pooler: PoolerFactory) -> None:
    async with in_front_of_a_script(pooler) as (place, fake), trio.open_nursery() as nursery:

        async def serve() -> None:
            server = await fake.accept()
            await server.accept_login()
            while (came := await server.receive()) is not None:
                if came.type == b"Q":
                    await server.send(backend.command_complete("SELECT 0"), backend.ready())
                    await server.send(backend.notice("a word"), backend.parameter("application_name", "changed"))

        nursery.start_soon(serve)
        async with logged_in(place) as client:
            await client.query("select 1")
            for _ in range(3):
                assert letters(await client.query("select 1")).endswith("CZ")
        nursery.cancel_scope.cancel()
