"""How a client comes in, or is kept out: passwords, names, startup parameters, and bytes that are no login at all."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
from typing import Any

import psycopg
import pytest
import scramp
import trio

from pgpool_core.testing import Message, PeerMismatch, PoolerProcess, PostgresServer, connect_peer, frontend
from pgpool_core.testing.messages import GSSENC_REQUEST, SSL_REQUEST
from tests.conftest import PASSWORDS, PoolerFactory, Target
from tests.peers import letters, logged_in, values


def forced(postgres: PostgresServer) -> dict[str, str]:
    """A database whose server login does not depend on what the client's secret is."""
    return {"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"}


def md5_secret(user: str, password: str) -> str:
    return "md5" + hashlib.md5(password.encode() + user.encode()).hexdigest()


def scram_secret(password: str) -> str:
    salt, stored, server, iterations = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(password, 4096)
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


async def refusal(place: Any, user: str, database: str, password: str, **parameters: str) -> str:
    """What a login is refused with."""
    async with await connect_peer((place.host, place.port)) as peer:
        with pytest.raises(PeerMismatch) as caught:
            await peer.log_in(user, database, password, **parameters)
    return str(caught.value)


# -- passwords ---------------------------------------------------------------------------------------------------------

SECRETS = {
    "plain": "app-secret",
    "md5": md5_secret("app", "app-secret"),
    "scram": scram_secret("app-secret"),
}
METHODS = [
    ("trust", "plain"),
    ("plain", "plain"),
    ("plain", "md5"),
    ("plain", "scram"),
    ("md5", "plain"),
    ("md5", "md5"),
    ("md5", "scram"),
    ("scram-sha-256", "plain"),
    ("scram-sha-256", "scram"),
]
REFUSALS = ("password authentication failed", "SASL authentication failed")


@pytest.mark.parametrize(("auth_type", "secret"), METHODS)
def test_every_kind_of_secret_lets_its_owner_in(
    any_pooler: PoolerFactory, postgres: PostgresServer, auth_type: str, secret: str
) -> None:
    place = any_pooler(auth_type=auth_type, databases=forced(postgres), passwords={"app": SECRETS[secret]})
    if place.kind == "pgbouncer" and secret == "scram" and auth_type != "plain":
        pytest.skip("PgBouncer 1.18 logs in to the server with the client's keys although the database has a password")
    for _ in range(2):  # the second login finds what the first has cached
        with psycopg.connect(place.url("app", "app", password="app-secret")) as connection:
            assert connection.execute("select current_user").fetchone() == ("app",)


@pytest.mark.parametrize(("auth_type", "secret"), METHODS[1:])
async def test_a_wrong_password_is_refused(
    any_pooler: PoolerFactory, postgres: PostgresServer, auth_type: str, secret: str
) -> None:
    place = any_pooler(auth_type=auth_type, databases=forced(postgres), passwords={"app": SECRETS[secret]})
    for wrong in ("no", "app-secret ", "APP-SECRET", "x" * 500):
        told = await refusal(place, "app", "app", wrong)
        assert "FATAL" in told
        assert any(text in told for text in REFUSALS), told
    if place.kind == "pgbouncer" and secret == "scram" and auth_type != "plain":
        return  # 1.18 then logs in to the server with the client's keys although the database has a password
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.log_in("app", "app", "app-secret")
        assert values(await peer.query("select 1")) == [[b"1"]]


def test_with_trust_any_password_will_do(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = any_pooler(auth_type="trust", databases=forced(postgres), passwords={"app": "something"})
    with psycopg.connect(place.url("app", "app", password="else")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_with_any_nobody_is_asked_who_they_are(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = any_pooler(auth_type="any", databases=forced(postgres))
    with psycopg.connect(place.url("who-is-this", "app", password="")) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
async def test_an_unknown_user_is_told_no_more_than_one_with_a_wrong_password(
    pooler: PoolerFactory, postgres: PostgresServer, auth_type: str
) -> None:
    place = pooler(auth_type=auth_type, databases=forced(postgres), passwords={"app": "app-secret"})
    told = {name: await refusal(place, name, "app", "wrong") for name in ("app", "nobody_knows")}
    assert told["app"].replace('"app"', '"X"') == told["nobody_knows"].replace('"nobody_knows"', '"X"')


async def test_a_mock_exchange_looks_the_same_every_time(pooler: PoolerFactory) -> None:
    place = pooler(auth_type="scram-sha-256")
    salts = set()
    for _ in range(3):
        async with await connect_peer((place.host, place.port)) as peer:
            await peer.send(frontend.startup("nobody_knows", "app"))
            assert (await peer.expect("R")).body == struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
            first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"
            await peer.send(Message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
            salts.add((await peer.expect("R")).body.split(b",")[1])
    assert len(salts) == 1  # a salt that changes tells that there is no such user


async def test_an_empty_password_is_never_right(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = any_pooler(auth_type="md5", databases=forced(postgres), passwords={"app": ""})
    assert "failed" in await refusal(place, "app", "app", "")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("user", ["app", "legacy", "plain", "trusted"])
def test_every_kind_of_server_login_works(any_pooler: PoolerFactory, user: str, unix: bool) -> None:
    place = any_pooler(unix=unix)
    with psycopg.connect(place.url(user, "app", unix=unix)) as connection:
        assert connection.execute("select current_user").fetchone() == (user,)


def test_a_server_that_refuses_the_login_is_heard_by_its_clients(
    any_pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = any_pooler(passwords={"app": "not what the server knows"})
    with pytest.raises(psycopg.OperationalError, match=r"password authentication failed|server login"):
        psycopg.connect(place.url("app", "app"))


# -- names -------------------------------------------------------------------------------------------------------------


async def test_an_unknown_database_is_named(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = any_pooler(databases=forced(postgres))
    assert "no such database: elsewhere" in await refusal(place, "app", "elsewhere", "app-secret")


async def test_a_database_that_only_postgres_does_not_know_is_named_too(target: Target) -> None:
    assert 'database "elsewhere" does not exist' in await refusal(target, "app", "elsewhere", "app-secret")


async def test_a_login_without_a_database_means_the_one_of_the_users_name(target: Target) -> None:
    async with await connect_peer((target.host, target.port)) as peer:
        await peer.send(frontend.startup("app"))
        await peer._authenticate("app", "app-secret")
        await peer.until("Z")
        assert values(await peer.query("select current_database()")) == [[b"app"]]


async def test_a_login_without_a_user_is_refused(target: Target) -> None:
    async with await connect_peer((target.host, target.port)) as peer:
        await peer.send(frontend.first_packet(0x00030000, b"database\0app\0\0"))
        told = await peer.expect("E")
        assert told.fields["S"] == "FATAL"
        await peer.expect_end()


# -- what is said at login ---------------------------------------------------------------------------------------------

REPORTED = {
    "application_name",
    "client_encoding",
    "DateStyle",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
}


async def test_a_client_is_told_what_postgres_tells(target: Target, postgres: PostgresServer) -> None:
    async with logged_in(target) as peer:
        assert peer.parameters.keys() >= REPORTED
        assert peer.parameters["server_version"].startswith(postgres.binaries.version)
        assert len(peer.key) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("application_name", "a test"),
        ("client_encoding", "LATIN1"),
        ("TimeZone", "Asia/Tokyo"),
        ("DateStyle", "German, DMY"),
        ("timezone", "Asia/Tokyo"),
        ("datestyle", "German, DMY"),
    ],
)
@pytest.mark.pooler(default_pool_size=1)
async def test_a_tracked_startup_parameter_is_in_force(target: Target, name: str, value: str) -> None:
    async with logged_in(target, **{name: value}) as peer, logged_in(target) as other:
        reported = {known.lower(): said for known, said in peer.parameters.items()}
        assert reported[name.lower()] == value
        for _ in range(2):
            assert values(await peer.query(f"show {name}")) == [[value.encode()]]
            if (target.kind, name) != ("pgbouncer", "application_name"):  # 1.18 leaves it at the last client's
                assert values(await other.query(f"show {name}")) != [[value.encode()]]


async def test_an_unsupported_startup_parameter_is_named(any_pooler: PoolerFactory) -> None:
    place = any_pooler()
    told = await refusal(place, "app", "app", "app-secret", extra_float_digits="3")
    assert "unsupported startup parameter: extra_float_digits" in told


async def test_an_ignored_startup_parameter_is_ignored(any_pooler: PoolerFactory) -> None:
    place = any_pooler(ignore_startup_parameters="extra_float_digits, work_mem")
    async with logged_in(place, extra_float_digits="3", work_mem="77MB") as peer:
        assert values(await peer.query("show work_mem")) != [[b"77MB"]]
    assert "unsupported startup parameter: search_path" in await refusal(
        place, "app", "app", "app-secret", extra_float_digits="3", search_path="public"
    )


# -- the bytes before the startup packet ---------------------------------------------------------------------------------


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
    if target.kind == "pgbouncer":
        pytest.skip("PgBouncer 1.18 wants the first 8 bytes in one piece")
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
    place = any_pooler(auth_type="trust", databases=forced(postgres))
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


async def test_anything_but_a_password_during_login_is_refused(target: Target) -> None:
    for wrong in (frontend.query("select 1"), frontend.sync(), Message(b"p", b""), Message(b"p", b"\xff" * 100)):
        async with await connect_peer((target.host, target.port)) as peer:
            await peer.send(frontend.startup("app", "app"))
            await peer.expect("R")
            await peer.send(wrong)
            told = [came] if (came := await peer.receive()) is not None else []
            if target.kind != "pgbouncer":  # which says nothing, or not always
                assert letters(told) == "E"
                assert told[0].fields["S"] == "FATAL"
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
