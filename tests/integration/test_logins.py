"""How a client comes in, or is kept out: passwords, names, startup parameters, and bytes that are no login at all."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

import psycopg
import pytest
import scramp

from pgpool_core.control.host_key import host_key
from pgpool_core.testing import Message, PeerMismatch, PostgresServer, connect_peer, frontend
from tests.conftest import PASSWORDS, PoolerFactory, Target
from tests.peers import logged_in, values
from tests.programs import pgbouncer_before


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
    if place.kind == "pgbouncer" and secret == "scram" and auth_type != "plain" and pgbouncer_before(1, 26):
        pytest.skip(
            "PgBouncer logs in to the server with the client's keys although the database has a password, up to 1.25"
        )
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
    if place.kind == "pgbouncer" and secret == "scram" and auth_type != "plain" and pgbouncer_before(1, 26):
        return  # up to 1.25 it then logs in to the server with the client's keys although the database has a password
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


async def scram_asks(place: Any, user: str) -> list[bytes]:
    """Salt and iteration count, as a client reads them."""
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup(user, "app"))
        assert (await peer.expect("R")).body == struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
        first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"
        await peer.send(Message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        return (await peer.expect("R")).body.split(b",")[1:]


async def test_a_mock_exchange_looks_the_same_every_time(pooler: PoolerFactory) -> None:
    place = pooler(auth_type="scram-sha-256")
    salts = {tuple(await scram_asks(place, "nobody_knows")) for _ in range(3)}
    assert len(salts) == 1  # a salt that changes tells that there is no such user


async def test_a_mock_exchange_looks_the_same_after_a_restart_and_in_every_process(pooler: PoolerFactory) -> None:
    if host_key() != host_key():
        pytest.skip("this machine has no /etc/machine-id")
    place, neighbour = pooler(auth_type="scram-sha-256"), pooler(auth_type="scram-sha-256", workers=2)
    asked = await scram_asks(place, "nobody_knows")
    assert await scram_asks(neighbour, "nobody_knows") == asked
    place.stop()
    place.start()
    assert await scram_asks(place, "nobody_knows") == asked
    assert (await scram_asks(place, "nobody_else"))[0] != asked[0]


async def test_who_has_a_plain_password_is_asked_with_the_salt_of_one_who_does_not_exist(pooler: PoolerFactory) -> None:
    """A salt that changes where that of others does not tells that there is such a user."""
    place, neighbour = (
        pooler(auth_type="scram-sha-256", passwords={"app": "app-secret"}),
        pooler(auth_type="scram-sha-256", passwords={"legacy": "x"}),
    )
    if host_key() != host_key():
        pytest.skip("this machine has no /etc/machine-id")
    assert await scram_asks(place, "app") == await scram_asks(neighbour, "app")
    assert await scram_asks(place, "legacy") == await scram_asks(neighbour, "legacy")


async def test_who_has_no_scram_secret_is_asked_like_one_who_does_not_exist(pooler: PoolerFactory) -> None:
    secrets = {"app": md5_secret("app", "app-secret")}
    place = pooler(auth_type="scram-sha-256", scram_iterations=5000, passwords=secrets)
    told = [await scram_asks(place, user) for user in ("app", "nobody_knows")]
    assert [asked[1] for asked in told] == [b"i=5000", b"i=5000"]


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
    async with logged_in(target, parameters={name: value}) as peer, logged_in(target) as other:
        reported = {known.lower(): said for known, said in peer.parameters.items()}
        assert reported[name.lower()] == value
        for _ in range(2):
            assert values(await peer.query(f"show {name}")) == [[value.encode()]]
            if (target.kind, name) != ("pgbouncer", "application_name") or not pgbouncer_before(1, 24):
                assert values(await other.query(f"show {name}")) != [[value.encode()]]


async def test_a_client_is_told_its_own_values_however_many_it_begins_with(target: Target) -> None:
    if target.kind == "pgbouncer":
        pytest.skip("PgBouncer takes no other startup parameters")
    own = {f"app.setting_{number:02}": str(number) for number in range(30)}
    own |= {"application_name": "told", "client_encoding": "LATIN1", "TimeZone": "Asia/Tokyo"}
    async with logged_in(target, parameters=own) as peer:
        assert own.items() & peer.parameters.items() == {name: own[name] for name in own if "." not in name}.items()
        assert values(await peer.query("show app.setting_29")) == [[b"29"]]


async def test_an_unsupported_startup_parameter_is_named(
    any_pooler: PoolerFactory, pgbouncers_way: dict[str, str]
) -> None:
    place = any_pooler(**pgbouncers_way)
    told = await refusal(place, "app", "app", "app-secret", extra_float_digits="3")
    assert "unsupported startup parameter: extra_float_digits" in told


async def test_startup_parameters_are_ten_thousand_bytes_at_most(pooler: PoolerFactory) -> None:
    """PostgreSQL takes no longer startup packet; each of them is a copy of all before it."""
    place = pooler()
    async with logged_in(place, parameters={f"my.setting{n}": "x" * 50 for n in range(100)}) as peer:
        assert values(await peer.query("show my.setting99")) == [[b"x" * 50]]
    async with await connect_peer((place.host, place.port)) as peer:
        with pytest.raises(PeerMismatch, match="the startup parameters are too long"):
            await peer.log_in("app", "app", "app-secret", **{f"my.setting{n}": "x" * 50 for n in range(200)})


async def test_an_ignored_startup_parameter_is_ignored(
    any_pooler: PoolerFactory, pgbouncers_way: dict[str, str]
) -> None:
    place = any_pooler(**pgbouncers_way, ignore_startup_parameters="extra_float_digits, work_mem")
    async with logged_in(place, extra_float_digits="3", work_mem="77MB") as peer:
        assert values(await peer.query("show work_mem")) != [[b"77MB"]]
    assert "unsupported startup parameter: statement_timeout" in await refusal(
        place, "app", "app", "app-secret", extra_float_digits="3", statement_timeout="5s"
    )


async def test_a_setting_that_would_follow_is_ignored_where_that_is_asked_for(
    any_pooler: PoolerFactory, pgbouncers_way: dict[str, str]
) -> None:
    place = any_pooler(**pgbouncers_way, ignore_startup_parameters="search_path, default_transaction_read_only")
    async with logged_in(place, search_path="private", default_transaction_read_only="on") as peer:
        assert values(await peer.query("show search_path")) != [[b"private"]]
        assert values(await peer.query("show default_transaction_read_only")) == [[b"off"]]
