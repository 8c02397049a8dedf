"""What a client gives up goes back to what it began with, inside a transaction block too."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgpool_core.testing import PostgresServer, frontend
from tests.conftest import Target
from tests.crowd import turns
from tests.peers import letters, logged_in, values

pytestmark = pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
ONE_SERVER = pytest.mark.pooler(default_pool_size=1)
BEGAN = {"TimeZone": "Asia/Tokyo", "work_mem": "9MB", "search_path": '"S 2", public', "app.a": "start"}
SHOWN = {"TimeZone": "Asia/Tokyo", "work_mem": "9MB", "search_path": '"S 2", public', "app.a": "start"}


@pytest.mark.parametrize("name", BEGAN)
@pytest.mark.parametrize("how", ["reset {}", "set {} to default", "reset all"])
@ONE_SERVER
async def test_in_a_transaction_block(target: Target, name: str, how: str) -> None:
    async with logged_in(target, parameters=BEGAN) as client, logged_in(target) as other:
        for end in ("commit", "rollback"):
            await client.query("begin")
            await client.query(
                f"set {name} to '{'UTC' if name == 'TimeZone' else '1MB' if name == 'work_mem' else 'x'}'"
            )
            assert letters(await client.query(how.format(name))).replace("S", "") == "CZ"
            assert values(await client.query(f"show {name}")) == [[SHOWN[name].encode()]]
            await client.query("savepoint a")
            await client.query("select 1/0")
            await client.query("rollback to a")
            assert values(await client.query(f"show {name}")) == [[SHOWN[name].encode()]]
            await client.query(end)
            await other.query("select 1")
            assert values(await client.query(f"show {name}")) == [[SHOWN[name].encode()]]


@ONE_SERVER
async def test_discard_all_gives_back_the_role_that_it_began_with(target: Target, postgres: PostgresServer) -> None:
    postgres.sql("create role limited nologin; grant limited to app", database="app")
    asked = "select current_user"
    async with logged_in(target, options="-c role=limited") as client:
        for text in ("set role none", "reset all", "begin; discard all", "rollback"):
            await client.query(text)
        await client.send(frontend.parse("discard all", "d"), frontend.sync())  # which it does not do yet
        assert letters(await client.until("Z")) == "1Z"
        assert values(await client.query(asked)) == [[b"app"]]
        await client.send(frontend.bind("d"), frontend.execute(), frontend.sync())
        assert letters(await client.until("Z")).replace("S", "") == "2CZ"
        assert values(await client.query(asked)) == [[b"limited"]]
    postgres.sql("revoke limited from app; drop role limited", database="app")


@ONE_SERVER
async def test_in_a_group_of_its_own(target: Target) -> None:
    async with logged_in(target, parameters=BEGAN) as client:
        await client.query("begin; set work_mem to '1MB'; set timezone to 'UTC'")
        await client.send(frontend.parse("reset work_mem"), frontend.bind(), frontend.execute(), frontend.sync())
        assert letters(await client.until("Z")) == "12CZ"
        assert values(await client.query("show work_mem")) == [[b"9MB"]]
        await client.send(frontend.query("reset timezone"), frontend.query("show timezone"), frontend.query("commit"))
        answers = [await client.until("Z") for _ in range(3)]
        assert values(answers[1]) == [[b"Asia/Tokyo"]]
        told = [message.body for answer in answers for message in answer if message.type == b"S"]
        assert told[-1] == b"TimeZone\0Asia/Tokyo\0"


@ONE_SERVER
async def test_in_a_failed_transaction_nothing_is_set(target: Target) -> None:
    async with logged_in(target, parameters=BEGAN) as client:
        await client.query("begin; set work_mem to '1MB'; select 1/0")
        await client.query("rollback")
        await client.query("set work_mem to '1MB'")
        await client.query("begin")
        await client.query("select 1/0")
        assert letters(await client.query("reset work_mem")) == "EZ"
        await client.query("rollback")
        assert values(await client.query("show work_mem")) == [[b"1MB"]]


@pytest.fixture
def role(postgres: PostgresServer) -> Iterator[str]:
    postgres.sql("create role stage; grant stage to app")
    yield "stage"
    postgres.sql("drop role stage")


@pytest.mark.pooler(default_pool_size=2)
def test_set_role_none_is_not_reset_role(target: Target, role: str) -> None:
    began = psycopg.connect(target.url("app", "app"), autocommit=True, options=f"-c role={role}")
    with turns(target.url("app", "app")) as turn, began as client:

        def is_now(name: str) -> None:
            for _ in range(2):
                turn()
                assert client.execute("show role").fetchone() == (name,)

        is_now(role)
        client.execute("set role none")
        is_now("none")
        client.execute("reset work_mem")
        is_now("none")
        client.execute("reset role")
        is_now(role)
        with client.transaction():
            client.execute("set role none")
            assert client.execute("show role").fetchone() == ("none",)
            client.execute("reset role")
            assert client.execute("show role").fetchone() == (role,)
            client.execute("set role none")
        is_now("none")


@pytest.mark.pooler(default_pool_size=2)
@pytest.mark.parametrize("text", ["discard sequences", "reset standard_conforming_strings", "set app.b to 'default'"])
def test_a_custom_setting_that_is_empty_stays_so(target: Target, text: str) -> None:
    """What gives up something else has not given this one up."""
    began = psycopg.connect(target.url("app", "app"), autocommit=True, options="-c app.a=start")
    with turns(target.url("app", "app")) as turn, began as client:
        client.execute("set app.a to ''")
        client.execute(text)
        turn()
        assert client.execute("show app.a").fetchone() == ("",)
        client.execute("reset app.a")
        turn()
        assert client.execute("show app.a").fetchone() == ("start",)


@pytest.mark.pooler(default_pool_size=2)
@pytest.mark.parametrize("ends", ["commit", "/* so */ rollback", "named", "second"])
async def test_what_is_sent_behind_commit_does_not_run_where_the_settings_are_refused(
    target: Target, ends: str
) -> None:
    if target.is_direct:
        pytest.skip("nobody replays settings")
    async with logged_in(target) as client, logged_in(target) as other, logged_in(target) as third:
        await other.query("create table if not exists unwanted(n int); truncate unwanted")
        await other.query("create text search configuration passing (copy = simple)")
        await client.query("set default_text_search_config to 'passing'")
        await client.send(frontend.parse("commit", "c"), frontend.sync())
        await client.until("Z")
        await other.query("begin")
        await third.query("begin")  # both servers stand otherwise now
        await third.query("drop text search configuration passing")
        await third.query("commit")
        await other.query("commit")
        insert = frontend.query("insert into unwanted values (1)")
        if ends == "named":
            await client.send(frontend.bind("c"), frontend.execute(), frontend.sync(), insert)
        elif ends == "second":
            await client.send(frontend.query("select 1"), frontend.query("commit"), insert)
        else:
            await client.send(frontend.query(ends), insert)
        said = await client.until("E")
        while said[-1].fields["S"] != "FATAL":
            said = await client.until("E")
        assert said[-1].fields["C"] == "22023"
        await client.expect_end()
        try:
            assert values(await other.query("select * from unwanted")) == []
        finally:
            await other.query("drop table unwanted")


@pytest.mark.pooler(default_pool_size=1)
def test_a_role_without_the_right_to_set_something_has_no_part_in_setting_it(target: Target) -> None:
    if target.is_direct:
        pytest.skip("nobody replays settings")
    url = target.url("boss", "app")
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as two:
        one.execute("set log_min_messages to error")
        for client in (one, two):
            client.execute("set role legacy")
        for _ in range(2):
            assert one.execute("select current_user, current_setting('log_min_messages')").fetchone() == (
                "legacy",
                "error",
            )
            assert two.execute("select current_user, current_setting('log_min_messages')").fetchone() == (
                "legacy",
                "warning",
            )
