"""A text means what it means where and when it is prepared: no client gets what it has meant to another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, frontend
from tests.conftest import PoolerFactory, Target
from tests.console import Console
from tests.peers import letters, logged_in, values

SAME = pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
ONE_SERVER = pytest.mark.pooler(default_pool_size=1)


async def ask(client: ScriptedPeer, *parts: bytes) -> list[Message]:
    await client.send(*parts, frontend.sync())
    return await client.until("Z")


async def prepared(client: ScriptedPeer, sql: str, *given: str, name: str = "s") -> list[Message]:
    """The answer to a text that is prepared and run at once."""
    return await ask(client, frontend.parse(sql, name), frontend.bind(name, values=given), frontend.execute())


def said(answer: list[Message]) -> bytes | None:
    """The one value in it."""
    [[value]] = values(answer)
    return value


@pytest.fixture
def furniture(postgres: PostgresServer) -> Iterator[None]:
    """Tables `meant` in two schemas, and a role whose name is that of the second."""
    postgres.sql(
        """create role means; grant means to app; create schema means; grant all on schema means to public;
        create table public.meant(n int, x text); create table means.meant(n text, x text);
        insert into public.meant values (7, 'public'); insert into means.meant values ('7', 'means');
        alter table public.meant owner to app; grant all on means.meant to public""",
        database="app",
    )
    yield
    postgres.sql("drop schema means cascade; drop table public.meant; drop role means", database="app")


@SAME
@ONE_SERVER
@pytest.mark.parametrize(
    ("setting", "sql"),
    [
        ("timezone = 'Asia/Tokyo'", "select extract(epoch from '2024-01-01 00:00'::timestamptz)::text"),
        ("datestyle = 'ISO, DMY'", "select to_char('01/02/2024'::date, 'YYYY-MM-DD')"),
        ("intervalstyle = sql_standard", "select extract(epoch from '-1 2:00:00'::interval)::text"),
        ("standard_conforming_strings = off", r"select 'C:\\temp'"),
        ("transform_null_equals = on", "select (null::int = null)::text"),
        ("array_nulls = off", "select coalesce(('{NULL}'::text[])[1], 'is null')"),
    ],
)
async def test_a_text_is_read_under_the_settings_of_who_prepares_it(target: Target, setting: str, sql: str) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        await one.query(f"set {setting}")
        under = said(await prepared(one, sql))
        plain = said(await prepared(two, sql))
        assert under != plain
        assert said(await prepared(three, sql)) == plain
        assert said(await prepared(one, sql, name="t")) == under


@SAME
@ONE_SERVER
@pytest.mark.parametrize("moment", ["'now'::timestamptz", "timestamptz 'Now'", "/* \\ */ timestamptz ' now '"])
async def test_now_is_the_time_of_ones_own_parse(target: Target, moment: str) -> None:
    sql = f"select ({moment})::text"
    async with logged_in(target) as one, logged_in(target) as two:
        first = said(await prepared(one, sql))
        assert said(await prepared(two, sql)) != first
        assert said(await prepared(one, sql, name="t")) != first
        assert said(await ask(one, frontend.bind("s"), frontend.execute())) == first


@SAME
@ONE_SERVER
async def test_who_prepares_after_a_change_of_type_gets_the_new_one(target: Target, furniture: None) -> None:
    sql = "insert into meant(n) values ($1)"
    describe = frontend.parse(sql, "s") + frontend.describe("s")
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        before = await ask(one, describe)
        await two.query("alter table meant alter n type bigint")
        after = await ask(two, describe, frontend.bind("s", values=["3000000000"]), frontend.execute())
        assert letters(after) == "1tn2CZ"
        assert after[1].body != before[1].body
        assert letters(await prepared(three, sql, "3000000000")) == "12CZ"
        assert letters(await ask(one, frontend.bind("s", values=["5"]), frontend.execute())) == "2CZ"


@SAME
@ONE_SERVER
@pytest.mark.parametrize(
    "ddl",
    [
        ["begin", "drop table meant", "create table meant(n text, x text)", "commit"],
        ["do $$begin execute 'alter table meant alter n type text'; end$$"],
        ['ALTER TABLE only public."meant" alter n type text'],
    ],
)
async def test_a_table_may_be_changed_in_many_ways(target: Target, furniture: None, ddl: list[str]) -> None:
    sql = (
        f"select n from meant where n = $1 /* {len(ddl[0])} */"  # other tests' tables are made behind the pooler's back
    )
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        assert letters(await prepared(one, sql, "7")) == "12DCZ"
        for text in ddl:
            await two.query(text)
        for client in (two, three):
            assert letters(await prepared(client, sql, "seven")) == "12CZ"


@SAME
@ONE_SERVER
async def test_a_change_may_have_been_prepared_long_before(target: Target, furniture: None) -> None:
    sql = "select x from meant where n = $1 /* before */"  # another text than that of other tests, whose tables nobody sees made
    async with logged_in(target) as one, logged_in(target) as two:
        await ask(two, frontend.parse("alter table meant alter n type text", "change"))
        assert letters(await prepared(one, sql, "7")) == "12DCZ"
        await two.query("begin")
        await two.query("create table unrelated(x int)")
        assert letters(await ask(two, frontend.bind("change"), frontend.execute())) == "2CZ"
        await two.query("drop table unrelated")
        await two.query("commit")
        assert letters(await prepared(two, sql, "seven")) == "12CZ"


@ONE_SERVER
async def test_a_change_that_nobody_saw_is_found_out_by_its_first_refusal(
    pooler: PoolerFactory, postgres: PostgresServer, furniture: None
) -> None:
    place = pooler(default_pool_size=1)
    sql = "insert into meant(n) values ($1)"
    async with logged_in(place) as one, logged_in(place) as two, logged_in(place) as three:
        await prepared(one, sql, "7")
        postgres.sql("alter table meant alter n type bigint", database="app")
        assert letters(await prepared(two, sql, "3000000000")) == "1EZ"
        assert letters(await prepared(three, sql, "3000000000")) == "12CZ"


@SAME
@ONE_SERVER
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["begin", "set local search_path = means"], ["commit"]),
        (["begin", "set search_path = means"], ["rollback"]),
        (["begin", "select set_config('search_path', 'means', true)"], ["commit"]),
        (["begin", "create temp table meant(n text, x text) on commit drop"], ["commit"]),
        (["create temp table meant(n text, x text)"], ["drop table meant", "select 1"]),
        (["set role means"], ["reset role"]),
        (["begin", "create schema app", "create table app.meant(n text, x text)"], ["rollback"]),
    ],
)
async def test_what_a_name_means_inside_a_transaction_is_nobody_elses(
    target: Target, postgres: PostgresServer, furniture: None, before: list[str], after: list[str]
) -> None:
    postgres.sql("grant create on database app to app", database="app")
    sql = "select x from meant where n = $1"
    described = frontend.parse(sql, "s") + frontend.describe("s")
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        plain = (await ask(two, described))[1]
        for text in before:
            await one.query(text)
        assert (await ask(one, described))[1].body != plain.body
        for text in after:
            await one.query(text)
        assert (await ask(three, described))[1].body == plain.body
        assert said(await ask(three, frontend.bind("s", values=["7"]), frontend.execute())) == b"public"


@ONE_SERVER
async def test_what_is_parsed_for_a_use_inside_a_transaction_is_nobody_elses(
    pooler: PoolerFactory, furniture: None
) -> None:
    place = pooler(default_pool_size=1, max_prepared_statements=1)
    sql = "select x from meant where n = $1"
    async with logged_in(place) as one, logged_in(place) as two:
        await prepared(one, sql, "7")
        await prepared(one, "select 1", name="t")  # the server has nothing else now
        await one.query("begin")
        await one.query("set local search_path = means")
        assert said(await ask(one, frontend.bind("s", values=["7"]), frontend.execute())) == b"means"
        await one.query("commit")
        answer = await ask(two, frontend.parse(sql, "s"), frontend.describe("s"))
        assert answer[1].body[2:] == (23).to_bytes(4, "big")


async def test_what_a_text_leaves_is_known_also_where_its_settings_are_others_by_now(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2)
    sql = "select pg_advisory_lock($1)"
    async with logged_in(place) as one, logged_in(place) as first, logged_in(place) as second:
        await first.query("begin")
        await prepared(one, sql, "5")  # on the other server
        await one.query("select pg_advisory_unlock_all()")
        await one.query("set timezone = 'Asia/Tokyo'")
        await second.query("begin")  # has the server that has the text
        await first.query("commit")
        assert letters(await ask(one, frontend.bind("s", values=["5"]), frontend.execute())) == "2DCZ"
        with Console(place) as console:
            assert [row["reasons"] for row in console.rows("SHOW PINS")] == ["advisory lock"]
        await second.query("commit")


async def test_what_a_text_leaves_is_known_also_behind_a_deallocate_that_nobody_saw(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    deallocates = (
        "create function deallocates() returns void language plpgsql as $$begin execute 'deallocate all'; end$$"
    )
    postgres.sql(deallocates, database="app")
    place = pooler(default_pool_size=1)
    async with logged_in(place) as one:
        await prepared(one, "select 1")
        await one.query("select deallocates()")
        assert letters(await prepared(one, "select pg_advisory_lock($1)", "5")) == "12DCZ"
        await one.query("select pg_advisory_unlock_all()")
        await ask(one, frontend.bind("s", values=["5"]), frontend.execute())
        with Console(place) as console:
            assert [row["reasons"] for row in console.rows("SHOW PINS")] == ["advisory lock"]
    postgres.sql("drop function deallocates", database="app")


@pytest.mark.pooler(default_pool_size=2)
async def test_bytes_are_never_read_in_another_encoding(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2)
    sql = "select length('\u00e9')::text"
    async with (
        logged_in(place, client_encoding="UTF8") as one,
        logged_in(place, client_encoding="UTF8") as two,
        logged_in(place, client_encoding="UTF8") as three,
    ):
        assert said(await prepared(one, sql)) == b"1"
        await three.query("begin")  # has the server that has the text
        await one.query("set client_encoding = latin1")
        answer = await ask(one, frontend.bind("s"), frontend.execute())
        assert letters(answer) == "EZ"
        assert (answer[0].fields["C"], "client_encoding" in answer[0].fields["M"]) == ("26000", True)
        await three.query("commit")
        for number in range(4):
            assert said(await prepared(two, sql, name=f"t{number}")) == b"1"
        await one.query("set client_encoding = utf8")
        assert said(await ask(one, frontend.bind("s"), frontend.execute())) == b"1"


async def test_what_is_about_other_tables_is_shared_as_before(pooler: PoolerFactory, furniture: None) -> None:
    place = pooler(default_pool_size=1)
    sql = "select x from meant where n = $1 and now() > '2024-01-01'"
    async with logged_in(place) as one, logged_in(place) as two:
        await prepared(one, sql, "7")
        for text in ("create table unrelated(x int)", "create index on unrelated(x)", "drop table unrelated"):
            await one.query(text)
        await one.query("begin")
        await one.query("set local app.tenant = '7'")
        await one.query("set local statement_timeout = 0")
        await prepared(one, sql, "7", name="t")
        await one.query("commit")
        await prepared(two, sql, "7")
        for client in (one, two):  # what a text would do when it runs does not matter to itself
            await ask(client, frontend.parse("select set_config($1, $2, true)", "u"))
    with Console(place) as console:
        [stats] = [row for row in console.rows("SHOW STATS") if row["database"] == "app"]
    assert (stats["total_client_parse_count"], stats["total_server_parse_count"]) == (5, 2)
