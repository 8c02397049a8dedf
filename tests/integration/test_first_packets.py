"""The first bytes of a connection: requests for encryption, startup packets in pieces, and what is no login at all."""

from __future__ import annotations

import socket
import struct

import psycopg
import pytest
import trio

from pgpool_core.testing import Message, PoolerProcess, PostgresServer, connect_peer, frontend
from pgpool_core.testing.messages import GSSENC_REQUEST, SSL_REQUEST
from tests.conftest import PASSWORDS, PoolerFactory, Target
from tests.peers import letters, logged_in, values
from tests.programs import pgbouncer_before


async def test_encryption_is_declined_and_the_login_goes_on(target: Target) -> None:
    codes = (SSL_REQUEST,) if target.is_direct else (GSSENC_REQUEST, SSL_REQUEST)  # Debian's server can do GSSAPI
    async with await connect_peer((target.host, target.port)) as peer:
        for code in codes:
            await peer.send(frontend.first_packet(code))
            assert await peer.stream.receive_some(1) == b"N"
        await peer.log_in("app", "app", "app-secret")
        assert values(await peer.query("select 1")) == [[b"1"]]


def test_a_driver_that_requires_encryption_is_told_there_is_none(target: Target) -> None:
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        psycopg.connect(target.url("app", "app") + "?sslmode=require")


async def test_a_startup_packet_may_come_byte_by_byte(target: Target) -> None:
    if target.kind == "pgbouncer" and pgbouncer_before(1, 23):
        pytest.skip("PgBouncer wants the first 8 bytes in one piece, up to 1.22")
    async with await connect_peer((target.host, target.port)) as peer:
        await peer.send_bytewise(frontend.ssl_request())
        assert await peer.stream.receive_some(1) == b"N"
        await peer.send_bytewise(frontend.startup("app", "app", application_name="slow"))
        await peer._authenticate("app", "app-secret")
        await peer.until("Z")
        assert values(await peer.query("show application_name")) == [[b"slow"]]


async def test_a_query_may_follow_the_startup_packet_at_once(
    any_pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = any_pooler(
        auth_type="trust",
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
    )
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup("app", "app"), frontend.query("select 1"), frontend.query("select 2"))
        await peer.until("Z")
        assert values(await peer.until("Z")) == [[b"1"]]
        assert values(await peer.until("Z")) == [[b"2"]]


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "too short": struct.pack("!II", 7, 196608),
    "only a header": struct.pack("!II", 8, 196608),
    "no terminator": frontend.first_packet(196608, b"user\0app\0database\0app"),
    "odd words": frontend.first_packet(196608, b"user\0app\0database\0\0"),
    "too long": struct.pack("!II", 1_000_000, 196608) + b"user\0app\0\0",
    "version 2": frontend.first_packet(0x00020000, b"app\0\0"),
    "version 4": frontend.first_packet(0x00040000, b"user\0app\0\0"),
    "tls": bytes.fromhex("160301 00c8 010000c4 0303") + bytes(200),
    "query": frontend.query("select 1"),
    "ssl twice with more": frontend.ssl_request() + frontend.startup("app", "app"),
    "cancel with no key": frontend.first_packet(80877102, b""),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_instead_of_a_login_ends_in_silence_or_an_error(target: Target, garbage: bytes) -> None:
    async with logged_in(target) as other:
        async with await connect_peer((target.host, target.port)) as peer:
            await peer.send(garbage)
            await peer.half_close()
            said = b""
            with trio.fail_after(10):
                try:
                    while data := await peer.stream.receive_some(65536):
                        said += data
                except trio.BrokenResourceError:
                    pass
        assert said[:1] in (b"", b"E", b"N", b"R"), said
        assert values(await other.query("select 1")) == [[b"1"]]


@pytest.mark.parametrize("version", [0x00040000, 0x04D21632], ids=["4.0", "1234.5682"])
async def test_a_protocol_that_nobody_knows_is_refused_in_postgresqls_words(target: Target, version: int) -> None:
    if target.kind == "pgbouncer":
        pytest.skip("PgBouncer calls it a bad packet header")
    async with await connect_peer((target.host, target.port)) as peer:
        await peer.send(frontend.first_packet(version, b"user\0app\0\0"))
        told = (await peer.expect("E")).fields
        asked = f"{version >> 16}.{version & 0xFFFF}"
        assert (told["S"], told["C"]) == ("FATAL", "0A000")
        assert told["M"] == f"unsupported frontend protocol {asked}: server supports 3.0 to 3.0"
        await peer.expect_end()


async def test_anything_but_a_password_during_login_is_refused(target: Target) -> None:
    if target.kind == "pgbouncer":
        pytest.skip("PgBouncer closes without a word, or waits for client_login_timeout")
    for wrong in (frontend.query("select 1"), frontend.sync(), Message(b"p", b""), Message(b"p", b"\xff" * 100)):
        async with await connect_peer((target.host, target.port)) as peer:
            await peer.send(frontend.startup("app", "app"))
            await peer.expect("R")
            await peer.send(wrong)
            assert (await peer.expect("E")).fields["S"] == "FATAL"
            await peer.expect_end()


async def test_a_password_of_a_megabyte_is_refused(target: Target) -> None:
    async with await connect_peer((target.host, target.port)) as peer:
        await peer.send(frontend.startup("app", "app"))
        await peer.expect("R")
        try:
            await peer.send(frontend.password("x" * 1_000_000))
            while (came := await peer.receive()) is not None:
                assert came.type == b"E"
        except trio.BrokenResourceError:
            pass  # it closed while we were still writing
    async with logged_in(target) as other:
        assert letters(await other.query("select 1")) == "TDCZ"


async def test_who_never_logs_in_is_sent_away(any_pooler: PoolerFactory) -> None:
    place = any_pooler(client_login_timeout=1)
    for opening in (b"", b"\0\0\0", frontend.startup("app", "app")):
        async with await connect_peer((place.host, place.port)) as peer:
            if opening:
                await peer.send(opening)
            told = []
            while (came := await peer.receive()) is not None:
                told += [came.fields["M"]] if came.type == b"E" else []
            assert told in ([], ["client_login_timeout"])


def test_the_socket_answers_while_others_are_in_the_middle_of_their_login(pooler: PoolerFactory) -> None:
    place: PoolerProcess = pooler()
    stuck = []
    for _ in range(50):
        stuck.append(socket.create_connection((place.host, place.port)))
        stuck[-1].sendall(frontend.startup("app", "app"))
    with psycopg.connect(place.url("app", "app")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    for each in stuck:
        each.close()
