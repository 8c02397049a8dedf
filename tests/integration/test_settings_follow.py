"""The settings that PostgreSQL reports follow their client from server to server, and never reach another client."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from pgpool_core.testing import Message, PeerMismatch, PostgresServer, frontend
from tests.conftest import PoolerFactory, Target
from tests.integration.test_session_state import codes
from tests.peers import letters, logged_in, values
from tests.programs import pgbouncer_before

ONE_SERVER = pytest.mark.pooler(default_pool_size=1)
SETTINGS = {
    "application_name": ("one's", "two\\"),
    "TimeZone": ("Asia/Tokyo", "America/Lima"),
    "DateStyle": ("German, DMY", "SQL, MDY"),
    "client_encoding": ("LATIN1", "UTF8"),
    "standard_conforming_strings": ("off", "on"),
}


@ONE_SERVER
@pytest.mark.parametrize("name", SETTINGS)
async def test_each_client_keeps_what_it_logged_in_with(target: Target, name: str) -> None:
    if target.is_direct and name == "standard_conforming_strings":
        pytest.skip("every server accepts it; what follows is about poolers")
    first, second = SETTINGS[name]
    one_has, two_has = {name: first}, {name: second}
    async with logged_in(target, parameters=one_has) as one, logged_in(target, parameters=two_has) as two:
        for _ in range(3):
            assert values(await one.query(f"show {name}")) == [[first.encode()]]
            assert values(await two.query(f"show {name}")) == [[second.encode()]]


@ONE_SERVER
@pytest.mark.parametrize("name", SETTINGS)
async def test_each_client_keeps_what_it_has_set(target: Target, name: str) -> None:
    first, second = SETTINGS[name]
    async with logged_in(target) as one, logged_in(target) as two:
        for client, value in ((one, first), (two, second)):
            await client.query(
                f"select set_config('{name}', E'{value!s}', false)".replace("\\", "\\\\").replace("e's", "e''s")
            )
        for _ in range(3):
            assert values(await one.query(f"show {name}")) == [[first.encode()]]
            assert values(await two.query(f"show {name}")) == [[second.encode()]]


@ONE_SERVER
async def test_settings_follow_in_the_extended_protocol_and_in_pipelines(target: Target) -> None:
    ask = frontend.parse("show TimeZone") + frontend.bind() + frontend.execute() + frontend.sync()
    async with logged_in(target, TimeZone="Asia/Tokyo") as one, logged_in(target, TimeZone="America/Lima") as two:
        for client, zone in ((one, b"Asia/Tokyo"), (two, b"America/Lima"), (one, b"Asia/Tokyo")):
            await client.send(ask * 3)
            for _ in range(3):
                answer = await client.until("Z")
                assert letters(answer) == "12DCZ"  # and nothing of the settings that were replayed before it
                assert values(answer) == [[zone]]


@ONE_SERVER
async def test_the_answer_of_a_replay_is_never_seen(target: Target) -> None:
    async with logged_in(target, TimeZone="Asia/Tokyo") as one, logged_in(target, TimeZone="America/Lima") as two:
        for _ in range(3):
            assert letters(await one.query("select 1")) == "TDCZ"
            assert letters(await two.query("select 1/0")) in ("EZ", "TEZ")
            assert letters(await two.query("")) == "IZ"


@ONE_SERVER
async def test_a_rolled_back_setting_does_not_follow(target: Target) -> None:
    async with logged_in(target, TimeZone="Asia/Tokyo") as one, logged_in(target, TimeZone="America/Lima") as two:
        await one.query("begin; set TimeZone = 'Europe/Paris'")
        await one.query("rollback")
        assert values(await two.query("show TimeZone")) == [[b"America/Lima"]]
        assert values(await one.query("show TimeZone")) == [[b"Asia/Tokyo"]]


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_client_that_begins_with_a_role_is_told_whether_it_is_a_superusers(
    pooler: PoolerFactory, mode: str
) -> None:
    def told(answer: Sequence[Message]) -> list[str]:
        reports = (each.body.split(b"\0") for each in answer if each.type == b"S")
        return [value.decode() for name, value, _ in reports if name == b"is_superuser"]

    place = pooler(pool_mode=mode, default_pool_size=1)
    for opening in ({"role": "app"}, {"options": "-c role=app"}, {"options": "-c role=app"}):
        async with logged_in(place, "boss", parameters=opening) as one:
            assert told(await one.query("select 1")) == ["off"]
            assert told(await one.query("select 1")) == []
            if mode == "transaction":
                assert told(await one.query("reset role")) == ["on"]
                assert told(await one.query("select current_user")) == ["off"]  # back at what it began with
            assert told(await one.query("set role boss")) == ["on"]
            assert told(await one.query("select 1")) == []
    async with logged_in(place, "boss") as plain:
        assert told(await plain.query("select 1")) == []
        assert told(await plain.query("set role app")) == ["off"]
        if mode == "transaction":
            async with logged_in(place, "boss") as other:
                assert told(await other.query("select 1")) == []
        assert told(await plain.query("select 1")) == []
        assert told(await plain.query("reset role")) == ["on"]


@ONE_SERVER
async def test_a_local_setting_ends_with_its_transaction(target: Target) -> None:
    async with logged_in(target, TimeZone="Asia/Tokyo") as one, logged_in(target) as two:
        await one.query("begin; set local TimeZone = 'Europe/Paris'")
        assert values(await one.query("show TimeZone")) == [[b"Europe/Paris"]]
        await one.query("commit")
        await two.query("select 1")
        assert values(await one.query("show TimeZone")) == [[b"Asia/Tokyo"]]


@ONE_SERVER
async def test_a_committed_setting_follows(target: Target) -> None:
    async with logged_in(target, TimeZone="Asia/Tokyo") as one, logged_in(target, TimeZone="America/Lima") as two:
        await one.query("begin; set TimeZone = 'Europe/Paris'")
        await one.query("commit")
        assert values(await two.query("show TimeZone")) == [[b"America/Lima"]]
        assert values(await one.query("show TimeZone")) == [[b"Europe/Paris"]]


async def test_a_bad_value_is_refused_and_harms_nobody_else(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as other:
        try:
            async with logged_in(place, TimeZone="Nowhere/AtAll") as bad:
                await bad.send(frontend.query("select 1"))
                while (came := await bad.receive()) is not None:
                    if came.type == b"E":
                        assert "TimeZone" in came.fields["M"] or "parameter" in came.fields["M"]
                        break
                else:
                    raise AssertionError("ended without a word")
        except PeerMismatch as refused:
            assert "TimeZone" in str(refused)
        for _ in range(3):
            assert letters(await other.query("select 1")) == "TDCZ"


@ONE_SERVER
@pytest.mark.parametrize(
    "value", ["a 'quoted' \"name\"", "back\\slash", "semi;colon -- comment", "x" * 63, "", "'; select 1/0; --"]
)
async def test_a_value_is_never_taken_for_sql(target: Target, value: str) -> None:
    if target.kind == "pgbouncer" and value == "" and pgbouncer_before(1, 24):
        pytest.skip("PgBouncer 1.18 leaves an empty application_name at the last client's")
    async with logged_in(target, application_name=value) as one, logged_in(target, application_name="two") as two:
        for _ in range(2):
            assert values(await one.query("show application_name")) == [[value.encode()]]
            assert values(await two.query("show application_name")) == [[b"two"]]


def test_postgres_sees_the_application_that_asks(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=1)
    ask = "select application_name from pg_stat_activity where pid = pg_backend_pid()"
    with (
        psycopg.connect(place.url("app", "app"), autocommit=True, application_name="billing") as one,
        psycopg.connect(place.url("app", "app"), autocommit=True, application_name="search") as two,
    ):
        for connection, name in ((one, "billing"), (two, "search"), (one, "billing")):
            assert connection.execute(ask).fetchone() == (name,)


def test_text_arrives_in_the_encoding_of_its_client(target: Target) -> None:
    with (
        psycopg.connect(target.url("app", "app"), autocommit=True, client_encoding="LATIN1") as one,
        psycopg.connect(target.url("app", "app"), autocommit=True, client_encoding="UTF8") as two,
    ):
        for connection in (one, two, one):
            assert connection.execute("select 'é' || %s", ("ü",)).fetchone() == ("éü",)


@pytest.mark.pooler(default_pool_size=1, pool_mode="session")
async def test_settings_of_the_login_hold_in_session_mode_after_another_session(target: Target) -> None:
    async with logged_in(target, TimeZone="Asia/Tokyo") as one:
        await one.query("set TimeZone = 'Europe/Paris'")
        await one.send(frontend.terminate())
    async with logged_in(target, TimeZone="America/Lima") as two:
        assert values(await two.query("show TimeZone")) == [[b"America/Lima"]]
    async with logged_in(target) as three:
        assert values(await three.query("show TimeZone")) not in ([[b"America/Lima"]], [[b"Europe/Paris"]])


async def test_a_server_that_cannot_be_made_as_it_was_ends_one_client_and_no_other(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """A function with its owner's rights sets what the login may neither set nor reset."""
    postgres.sql(
        "create function sets_more() returns void language plpgsql security definer as"
        " 'begin set log_statement = ''all''; end'",
        database="app",
    )
    try:
        place = pooler(default_pool_size=1)
        async with logged_in(place) as other, logged_in(place) as late:
            await other.query("select 1")
            async with logged_in(place) as one:
                assert not codes(await one.query("select sets_more()"))
                await one.query("select 1")
                await other.send(frontend.query("select 1"))
                refusal = await other.receive()
                assert refusal is not None and codes([refusal]) == ["22023"]
            for _ in range(2):
                assert not codes(await late.query("select 1"))
    finally:
        postgres.sql("drop function sets_more()", database="app")
