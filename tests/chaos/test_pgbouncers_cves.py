"""What PgBouncer was hurt by, up to 1.26.1: lengths that wrap around, a server's long nonce and many rounds, an error without an SQLSTATE,
a startup packet too many, a SCRAM message without a nonce, an option without a name. Each costs one login."""

from __future__ import annotations

import contextlib
import socket
import struct
from base64 import b64encode
from collections.abc import AsyncGenerator

import pytest
import trio

from pgpool_core.testing import (
    Message,
    PoolerProcess,
    PostgresServer,
    ScriptedPeer,
    ScriptedServer,
    backend,
    connect_peer,
    frontend,
    open_scripted_server,
)
from tests.conftest import PASSWORDS, PoolerFactory
from tests.peers import letters, logged_in, values

LENGTHS = (0, 3, 0x7FFFFFFB, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFB, 0xFFFFFFFF)
NAMELESS = bytes(Message(b"E", b"SFATAL\0Msomething without a code\0\0"))
SASL = backend.authentication(10, b"SCRAM-SHA-256\0\0")


@contextlib.asynccontextmanager
async def beside_a_script(
    pooler: PoolerFactory, postgres: PostgresServer
) -> AsyncGenerator[tuple[PoolerProcess, ScriptedServer]]:
    """A pooler where databases evil0 to evil19 are a script, and `app` a real server that shows that all is well."""
    async with open_scripted_server() as fake:
        script = f"host={fake.host} port={fake.port} user=app password=secret"
        databases = {
            **{f"evil{number}": script for number in range(20)},
            "app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}",
        }
        settings = {"default_pool_size": 1, "function_check_period": 0, "server_tls_sslmode": "disable"}
        yield pooler(auth_type="trust", databases=databases, server_login_retry=0, **settings), fake


async def is_well(place: PoolerProcess) -> bool:
    async with logged_in(place) as client:
        return values(await client.query("select 1")) == [[b"1"]]


async def told_at_login(place: PoolerProcess, fake: ScriptedServer, database: str, *answers: bytes) -> dict[str, str]:
    """What a client hears whose server begins its login and says this."""
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async with await fake.accept() as server:
                await server.receive_startup()
                for answer in answers[:-1]:
                    await server.send(answer)
                    await server.expect("p")
                with contextlib.suppress(trio.BrokenResourceError):
                    await server.send(answers[-1])
                await until_it_ends(server)

        nursery.start_soon(serve)
        async with await connect_peer((place.host, place.port)) as client:
            await client.send(frontend.startup("app", database))
            fields = (await client.until("E"))[-1].fields
        nursery.cancel_scope.cancel()
    return fields


async def ends_with_an_error(peer: ScriptedPeer) -> str:
    """The SQLSTATE that it ends with, before anything else is said."""
    code = (await peer.expect("E")).fields["C"]
    await peer.expect_end()
    return code


async def until_it_ends(peer: ScriptedPeer) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while await peer.stream.receive_some(4096):
            pass


async def test_a_servers_long_nonce(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    async with beside_a_script(pooler, postgres) as (place, fake):
        for number, size in enumerate((5000, 65536, 10_000_000)):
            async with trio.open_nursery() as nursery:

                async def serve(size: int = size) -> None:
                    async with await fake.accept() as server:
                        await server.receive_startup()
                        await server.send(SASL)
                        nonce = (await server.expect("p")).body.rpartition(b"r=")[2] + b"x" * size
                        first = b"r=" + nonce + b",s=" + b64encode(b"salt") + b",i=4096"
                        with contextlib.suppress(trio.BrokenResourceError):
                            await server.send(backend.authentication(11, first))
                            if await server.receive() is not None:  # it is taken, and a proof comes
                                await server.send(backend.error("28P01", "wrong", "FATAL"))
                        await until_it_ends(server)

                nursery.start_soon(serve)
                async with await connect_peer((place.host, place.port)) as client:
                    await client.send(frontend.startup("app", f"evil{number}"))
                    fields = (await client.until("E"))[-1].fields
                nursery.cancel_scope.cancel()
            assert fields["C"] in ("08P01", "08001", "08006", "28000", "28P01"), fields
        assert await is_well(place)


async def test_an_error_without_an_sqlstate_at_login(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    async with beside_a_script(pooler, postgres) as (place, fake):
        cases = ((NAMELESS,), (SASL, NAMELESS), (bytes(Message(b"E", b"\0")),), (bytes(Message(b"E", b"")),))
        for number, answers in enumerate(cases):
            fields = await told_at_login(place, fake, f"evil{number}", *answers)
            assert set(fields) <= set("SVCMDH"), fields  # as it came, or ours
        assert await is_well(place)


async def test_an_error_without_an_sqlstate_in_answer_to_a_query(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    async with beside_a_script(pooler, postgres) as (place, fake), trio.open_nursery() as nursery:

        async def serve() -> None:
            async with await fake.accept() as server:
                await server.accept_login()
                for answer in (NAMELESS, bytes(Message(b"E", b"\0"))):
                    await server.expect("Q")
                    await server.send(answer, backend.ready())
                await until_it_ends(server)

        nursery.start_soon(serve)
        async with logged_in(place, database="evil0") as client:
            for _ in range(2):
                await client.send(frontend.query("select 1"))
                assert letters(await client.until("Z")) == "EZ"
        assert await is_well(place)
        nursery.cancel_scope.cancel()


async def test_a_servers_length_that_wraps_around(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    """At login, and in answer to a query."""
    async with beside_a_script(pooler, postgres) as (place, fake):
        for number, length in enumerate(LENGTHS):
            bad = struct.pack("!I", length) + b"\0\0\0\0"
            fields = await told_at_login(place, fake, f"evil{number}", b"R" + bad)
            assert fields["C"].startswith("08"), (length, fields)
            async with trio.open_nursery() as nursery:

                async def serve(bad: bytes = bad) -> None:
                    async with await fake.accept() as server:
                        await server.accept_login()
                        await server.expect("Q")
                        with contextlib.suppress(trio.BrokenResourceError):
                            await server.send(b"T" + bad)

                nursery.start_soon(serve)
                async with logged_in(place, database=f"evil{number + 10}") as client:
                    await client.send(frontend.query("select 1"))
                    await until_it_ends(client)
        assert await is_well(place)


async def test_a_clients_length_that_wraps_around(pooler: PoolerFactory) -> None:
    """In its first packet, and in its password message."""
    place = pooler(auth_type="md5")
    for length in LENGTHS:
        with socket.create_connection((place.host, place.port), timeout=20) as raw:
            raw.sendall(struct.pack("!II", length, 3 << 16) + b"user\0app\0\0")
            while raw.recv(4096):
                pass
        async with await connect_peer((place.host, place.port)) as client:
            await client.send(frontend.startup("app", "app"))
            await client.expect("R")
            await client.send(b"p" + struct.pack("!I", length) + b"x\0")
            assert (await client.until("E"))[-1].fields["C"] == "08P01"
            await client.expect_end()
    assert await is_well(place)


# -- a client in the middle of its login ---------------------------------------------------------------------------------

SCRAM_FIRST = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"
SCRAM_INITIAL = Message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(SCRAM_FIRST)) + SCRAM_FIRST)
PROOF = b"p=" + b64encode(bytes(32))


@contextlib.asynccontextmanager
async def in_scram(place: PoolerProcess, user: str, database: str) -> AsyncGenerator[ScriptedPeer]:
    """A client that is to prove that it knows the password."""
    async with await connect_peer((place.host, place.port)) as client:
        await client.send(frontend.startup(user, database))
        await client.expect("R")
        await client.send(SCRAM_INITIAL)
        await client.expect("R")
        yield client


@pytest.mark.parametrize(("user", "database"), [("app", "app"), ("stats", "pgbouncer"), ("app", "nowhere")])
async def test_a_second_startup_packet_changes_nobody_into_another(
    pooler: PoolerFactory, user: str, database: str
) -> None:
    """CVE-2026-107350: before the first message of SCRAM, and in its middle."""
    place = pooler(databases={"app": "host=127.0.0.1 port=1"})
    again = frontend.startup("admin", "pgbouncer")
    async with await connect_peer((place.host, place.port)) as client:
        await client.send(frontend.startup(user, database))
        await client.expect("R")
        await client.send(again)
        assert await ends_with_an_error(client) == "08P01"
    async with await connect_peer((place.host, place.port)) as client:  # in one piece
        await client.send(frontend.startup(user, database) + again)
        await client.expect("R")
        assert await ends_with_an_error(client) == "08P01"
    async with in_scram(place, user, database) as client:
        await client.send(again)
        assert await ends_with_an_error(client) == "08P01"
    async with in_scram(place, user, database) as client:
        await client.send(again + bytes(SCRAM_INITIAL))
        assert await ends_with_an_error(client) == "08P01"


async def test_a_startup_packet_behind_the_proof_is_no_message(pooler: PoolerFactory) -> None:
    place = pooler()
    async with logged_in(place) as client:
        await client.send(frontend.startup("admin", "pgbouncer"))
        assert await ends_with_an_error(client) == "08P01"
    assert await is_well(place)


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"c=biws",
        b"c=biws," + PROOF,
        b"c=biws,r=," + PROOF,
        b"c=biws,r," + PROOF,
        b"c=biws,," + PROOF,
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO," + PROOF,
        PROOF,
    ],
)
async def test_a_scram_message_without_our_nonce_ends_one_login(pooler: PoolerFactory, final: bytes) -> None:
    """CVE-2026-19888; who does not exist goes through the same, and so does who names a database that does not."""
    place = pooler()
    for user, database in (("app", "app"), ("nobody_knows", "app"), ("nobody_knows", "nowhere")):
        async with in_scram(place, user, database) as client:
            await client.send(Message(b"p", final))
            assert await ends_with_an_error(client) == "08P01"
    assert await is_well(place)


@pytest.mark.parametrize("ignored", ["", "extra_float_digits", "options"])
@pytest.mark.parametrize("session_state", ["auto", "off"])
async def test_an_option_without_a_name_ends_one_login_or_is_ignored(
    pooler: PoolerFactory, postgres: PostgresServer, ignored: str, session_state: str
) -> None:
    """CVE-2026-107349."""
    place = pooler(auth_type="trust", ignore_startup_parameters=ignored, session_state=session_state)
    for options in ("-c=", "-c =", "--=", "-c=x", "-c a=b -c=", "-c\\ =", "--", "-c", "=", "-c -c"):
        async with await connect_peer((place.host, place.port)) as client:
            await client.send(frontend.startup("trusted", "app", options=options))
            if ignored == "options":
                await client.until("Z")
            else:
                assert (await client.until("E"))[-1].fields["C"] == "08P01"
    assert await is_well(place)


async def test_lengths_beyond_the_longest_packet_that_may_be_let_through(pooler: PoolerFactory) -> None:
    """CVE-2026-107348 and 2026-6668: in the first packet, in the answer to a request for a password, and in a query."""
    place = pooler(max_packet_size=2147483647)
    for length in (0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF):
        head = struct.pack("!I", length)
        with socket.create_connection((place.host, place.port), timeout=20) as raw:
            raw.sendall(head + struct.pack("!I", 3 << 16) + b"user\0app\0\0")
            assert raw.recv(1) == b"E"
        async with await connect_peer((place.host, place.port)) as client:
            await client.send(frontend.startup("app", "app"))
            await client.expect("R")
            await client.send(b"p" + head + b"x" * 5000)
            with contextlib.suppress(trio.BrokenResourceError):
                assert (await client.until("E"))[-1].fields["C"] == "08P01"
        for letter in (b"Q", b"P", b"d", b"X", b"F"):
            async with logged_in(place) as client:
                await client.send(letter + head + b"x" * 70_000)  # its end, if it is awaited, never comes
                assert await is_well(place)


async def test_a_server_cannot_have_us_compute_for_long(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    """CVE-2026-6669."""
    async with beside_a_script(pooler, postgres) as (place, fake):
        for number, rounds in enumerate((b"1000001", b"10000000", b"2147483647", b"99999999999999999999")):
            async with trio.open_nursery() as nursery:

                async def serve(rounds: bytes = rounds) -> None:
                    async with await fake.accept() as server:
                        await server.receive_startup()
                        await server.send(SASL)
                        nonce = (await server.expect("p")).body.rpartition(b"r=")[2] + b"more"
                        first = b"r=" + nonce + b",s=" + b64encode(b"salt") + b",i=" + rounds
                        await server.send(backend.authentication(11, first))
                        assert await server.receive() is None  # no proof

                nursery.start_soon(serve)
                async with await connect_peer((place.host, place.port)) as client:
                    await client.send(frontend.startup("app", f"evil{number}"))
                    assert (await client.until("E"))[-1].fields["C"] == "08P01"
        assert await is_well(place)
