"""What PgBouncer was hurt by: lengths that wrap around, a server's long nonce, an error without an SQLSTATE. Each costs one login."""

from __future__ import annotations

import contextlib
import socket
import struct
from base64 import b64encode
from collections.abc import AsyncGenerator

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
