"""Named prepared statements in transaction mode: the same answers as from PostgreSQL itself, whatever server answers."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, frontend
from tests.conftest import PoolerFactory, Target
from tests.peers import letters, logged_in, values
from tests.watching import until_async

SAME = pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
ONE_SERVER = pytest.mark.pooler(default_pool_size=1)
PID = "select pg_backend_pid()"


def codes(messages: Sequence[Message]) -> list[str]:
    """The SQLSTATE of every ErrorResponse."""
    return [message.fields["C"] for message in messages if message.type == b"E"]


def use(name: str, *given: str) -> bytes:
    return frontend.bind(name, values=given) + frontend.execute()


async def ask(client: ScriptedPeer, *parts: bytes) -> list[Message]:
    """Send a group, and receive its answer."""
    await client.send(*parts, frontend.sync())
    return await client.until("Z")


@SAME
@ONE_SERVER
async def test_two_clients_use_one_name_for_different_statements(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for client, text in ((one, "select 'one' || $1"), (two, "select 'two' || $1")):
            assert letters(await ask(client, frontend.parse(text, "s"))) == "1Z"
        for _ in range(3):
            for client, said in ((one, b"one"), (two, b"two")):
                answer = await ask(client, use("s", "!"))
                assert (letters(answer), values(answer)) == ("2DCZ", [[said + b"!"]])


@SAME
@ONE_SERVER
async def test_the_same_statement_of_two_clients_is_described_and_closed_by_each(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for client in (one, two):
            assert (
                letters(await ask(client, frontend.parse("select $1::int + 1", "s"), frontend.describe("s"))) == "1tTZ"
            )
        assert letters(await ask(one, frontend.close("s"))) == "3Z"
        assert codes(await ask(one, use("s", "1"))) == ["26000"]
        assert values(await ask(two, use("s", "1"))) == [[b"2"]]
        assert letters(await ask(one, frontend.close("never"))) == "3Z"


@SAME
@ONE_SERVER
async def test_errors_have_postgresqls_words_and_the_clients_names(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await ask(two, frontend.parse("select 2", "mine"))
        await ask(one, frontend.parse("select 1", "mine"))
        again = await ask(one, frontend.parse("select 3", "mine"), use("mine"))
        assert letters(again) == "EZ"
        assert again[0].fields["M"] == 'prepared statement "mine" already exists'
        missing = await ask(one, use("other's"), use("mine"))
        assert letters(missing) == "EZ"
        assert missing[0].fields["M"] == 'prepared statement "other\'s" does not exist'
        assert values(await ask(one, use("mine"))) == [[b"1"]]
        assert codes(await ask(one, frontend.parse("selec 1", "bad"))) == ["42601"]
        assert codes(await ask(one, use("bad"))) == ["26000"]
        assert letters(await ask(one, frontend.parse("select 5", "bad"), use("bad"))) == "12DCZ"


@SAME
@ONE_SERVER
async def test_an_error_in_a_pipeline_undoes_what_was_skipped(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await two.query("select 1")
        answer = await ask(one, frontend.parse("select 1/0", "a"), use("a"), frontend.parse("select 2", "b"))
        assert (letters(answer), codes(answer)) == ("1EZ", ["22012"])
        assert codes(await ask(one, use("b"))) == ["26000"]
        assert letters(await ask(one, frontend.parse("select 2", "b"), use("b"))) == "12DCZ"
        assert codes(await ask(one, use("a"))) == ["22012"]
        await one.send(
            *(frontend.parse(f"select {i}", f"n{i}") + use(f"n{i}") + frontend.sync() for i in range(20)),
            *(use(f"n{i}") + frontend.close(f"n{i}") + frontend.sync() for i in range(20)),
        )
        for i in range(20):
            assert values(await one.until("Z")) == [[str(i).encode()]]
        for i in range(20):
            answer = await one.until("Z")
            assert (letters(answer), values(answer)) == ("2DC3Z", [[str(i).encode()]])


@SAME
@ONE_SERVER
@pytest.mark.parametrize("text", ["deallocate all", "discard all"])
async def test_deallocate_all_ends_the_statements_of_this_client_only(target: Target, text: str) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for client in (one, two):
            await ask(client, frontend.parse("select 7", "s"))
        assert not codes(await one.query(text))
        assert codes(await ask(one, use("s"))) == ["26000"]
        assert values(await ask(two, use("s"))) == [[b"7"]]
        assert values(await ask(one, frontend.parse("select 8", "s"), use("s"))) == [[b"8"]]


@SAME
@ONE_SERVER
@pytest.mark.parametrize("text", ["deallocate all", "discard all"])
async def test_deallocate_all_lets_the_rest_of_its_group_prepare_again(target: Target, text: str) -> None:
    async with logged_in(target) as client:
        await ask(client, frontend.parse("select 42", "before"))
        for name in ("before", "another"):
            answer = await ask(client, frontend.parse(text), use(""), frontend.parse("select 42", name), use(name))
            assert (letters(answer), values(answer)) == ("12C12DCZ", [[b"42"]])
        await ask(client, frontend.parse(text, "all"))
        answer = await ask(client, use("all"), frontend.parse("select 42", "before"), use("before"))
        assert (letters(answer), values(answer)) == ("2C12DCZ", [[b"42"]])


@SAME
@pytest.mark.pooler(default_pool_size=1, max_prepared_statements=2)
async def test_deallocate_all_that_is_prepared_ends_what_is_used_behind_it(target: Target) -> None:
    """Also where its server has no room for that, and would have it prepared anew."""
    async with logged_in(target) as client:
        for name in ("all", "one", "two"):
            await ask(client, frontend.parse("deallocate all" if name == "all" else f"select '{name}'", name))
        ends = use("all") + frontend.parse("select 3", "three") + frontend.sync()
        await client.send(ends + use("one") + frontend.sync() + use("all") + frontend.sync())
        assert letters(await client.until("Z")) == "2C1Z"
        for _ in range(2):
            assert codes(await client.until("Z")) == ["26000"]


@SAME
@ONE_SERVER
async def test_deallocate_by_sql_ends_a_statement_of_the_protocol(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for client in (one, two):
            await ask(client, frontend.parse("select 7", "The s"))
        answer = await one.query('DEALLOCATE "The s"')
        assert (letters(answer), answer[0].text) == ("CZ", "DEALLOCATE")
        assert codes(await one.query('deallocate prepare "The s"')) == ["26000"]
        assert codes(await ask(one, use("The s"))) == ["26000"]
        assert values(await ask(two, use("The s"))) == [[b"7"]]


@SAME
@ONE_SERVER
@pytest.mark.parametrize("sends", ["whole", "in pieces"])
async def test_deallocate_by_messages_ends_a_statement_of_the_protocol(target: Target, sends: str) -> None:
    async def run(client: ScriptedPeer, text: str) -> list[Message]:
        group = frontend.parse(text) + frontend.bind() + frontend.describe(kind=b"P") + frontend.execute()
        for part in [group] if sends == "whole" else [group[:30], group[30:50], group[50:]]:
            await client.send(part)
        return await ask(client)

    async with logged_in(target) as one, logged_in(target) as two:
        for client in (one, two):
            await ask(client, frontend.parse("select 7", "s"))
        answer = await run(one, "DEALLOCATE s")
        assert (letters(answer), answer[3].text) == ("12nCZ", "DEALLOCATE")
        assert codes(await run(one, "deallocate s")) == ["26000"]
        assert codes(await ask(one, use("s"))) == ["26000"]
        assert values(await ask(two, use("s"))) == [[b"7"]]
        assert codes(await ask(one, frontend.parse("select 8", "s"))) == []
        await two.query("begin")
        await two.query("selec")
        assert codes(await run(two, "deallocate s")) == ["25P02"]
        await two.query("rollback")
        assert values(await ask(two, use("s"))) == [[b"7"]]
        assert letters(await run(one, "deallocate all")) == "12nCZ"
        assert codes(await ask(one, use("s"))) == ["26000"]


@SAME
@ONE_SERVER
async def test_a_deallocate_that_was_not_reached_leaves_the_statement(target: Target) -> None:
    async with logged_in(target) as one:
        await ask(one, frontend.parse("select 7", "s"))
        await one.send(
            frontend.query("begin; select 1/0") + frontend.query("deallocate s") + frontend.query("rollback")
        )
        for code in ("22012", "25P02", None):
            assert codes(await one.until("Z")) == ([code] if code else [])
        assert values(await ask(one, use("s"))) == [[b"7"]]


@SAME
@ONE_SERVER
async def test_errors_about_parameters_have_the_clients_name(target: Target) -> None:
    async with logged_in(target) as one:
        await ask(one, frontend.parse("select $1::int", "mine"))
        answer = await ask(one, use("mine"))
        said = 'bind message supplies 0 parameters, but prepared statement "mine" requires 1'
        assert (codes(answer), answer[0].fields["M"]) == (["08P01"], said)


@SAME
@ONE_SERVER
async def test_a_changed_table_is_healed_by_preparing_again(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await two.query("drop table if exists healed; create table healed (a int); insert into healed values (1)")
        try:
            assert letters(await ask(one, frontend.parse("select * from healed", "s"), use("s"))) == "12DCZ"
            await two.query("alter table healed add b int default 2")
            assert codes(await ask(one, use("s"))) == ["0A000"]
            await ask(one, frontend.close("s"))
            assert values(await ask(one, frontend.parse("select * from healed", "s"), use("s"))) == [[b"1", b"2"]]
        finally:
            await two.query("drop table healed")


@SAME
@ONE_SERVER
async def test_an_unnamed_statement_lives_until_it_is_used_or_replaced(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        assert letters(await ask(one, frontend.parse("select 'mine'"), frontend.describe())) == "1tTZ"
        if target.is_direct:
            assert values(await two.query("select 1")) == [[b"1"]]
        assert values(await ask(one, use(""))) == [[b"mine"]]
        assert values(await ask(two, frontend.parse("select 'hers'"), use(""))) == [[b"hers"]]


async def test_a_pooler_stops_in_order_while_named_statements_are_under_way(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """Servers outlive the clients whose names they know."""
    place = pooler(default_pool_size=2)
    group = frontend.parse("select pg_sleep(61)", "mine") + frontend.bind("mine") + frontend.execute() + frontend.sync()
    async with logged_in(place) as one, logged_in(place) as other:
        await one.send(group + frontend.parse("select 1", "next") + frontend.sync())
        await other.send(group)
        asleep = "select count(*) from pg_stat_activity where query = 'select pg_sleep(61)' and state = 'active'"
        await until_async(lambda: postgres.sql(asleep) == "2")
        assert place.stop() == 0


async def test_an_unnamed_statement_of_another_client_is_never_used(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as one, logged_in(place) as two:
        assert values(await ask(one, frontend.parse("select 'mine'"), use(""))) == [[b"mine"]]
        missing = await ask(two, use(""))
        assert (codes(missing), missing[0].fields["M"]) == (["26000"], "unnamed prepared statement does not exist")
        assert codes(await ask(two, frontend.describe())) == ["26000"]


async def test_the_server_keeps_no_more_than_it_may(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, max_prepared_statements=3)
    async with logged_in(place) as one, logged_in(place) as two:
        for i in range(10):
            assert letters(await ask(one, frontend.parse(f"select {i}", f"n{i}"))) == "1Z"
        assert int(values(await two.query("select count(*) from pg_prepared_statements"))[0][0] or 0) <= 3
        for i in range(10):
            assert values(await ask(one, use(f"n{i}"))) == [[str(i).encode()]]
        assert int(values(await two.query("select count(*) from pg_prepared_statements"))[0][0] or 0) <= 3


async def test_switched_off_they_go_to_the_server_as_they_are(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, max_prepared_statements=0, session_state="off")
    async with logged_in(place) as one, logged_in(place) as two:
        await ask(one, frontend.parse("select 7", "s"))
        assert values(await two.query("select name from pg_prepared_statements")) == [[b"s"]]


@SAME
@ONE_SERVER
async def test_long_texts_and_names(target: Target) -> None:
    long = "select '" + "x" * 300_000 + "'"
    longer = "select '" + "y" * 1_500_000 + "'"
    async with logged_in(target) as one, logged_in(target) as two:
        await ask(two, frontend.parse("select 2", "s"))
        assert letters(await ask(one, frontend.parse(long, "s"))) == "1Z"
        assert values(await ask(two, use("s"))) == [[b"2"]]
        assert values(await ask(one, use("s"))) == [[b"x" * 300_000]]
        assert letters(await ask(two, frontend.parse(longer, "l" * 60))) == "1Z"
        assert values(await ask(two, use("l" * 60))) == [[b"y" * 1_500_000]]


@SAME
@pytest.mark.pooler(default_pool_size=2)
async def test_prepared_set_config_follows_every_execution(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        await ask(one, frontend.parse("select set_config($1, $2, false)", "set"))
        for round_ in range(4):
            await ask(one, use("set", "app.tenant", str(round_)))
            for other in (two, three):
                assert values(await other.query("select current_setting('app.tenant', true)")) in ([[None]], [[b""]])
            assert values(await one.query("select current_setting('app.tenant')")) == [[str(round_).encode()]]


async def test_a_client_that_vanishes_in_a_pipeline_leaves_the_server_knowing_what_it_has(
    pooler: PoolerFactory,
) -> None:
    place = pooler(default_pool_size=1)
    for _ in range(5):
        async with logged_in(place) as one:
            await one.send(
                frontend.parse("select 1", "a"), frontend.parse("select pg_sleep(20)", "b"), use("b"), frontend.sync()
            )
            await one.cut()
        async with logged_in(place) as two:
            answer = await ask(
                two, frontend.parse("select 1", "x"), use("x"), frontend.parse("select pg_sleep(0)", "y"), use("y")
            )
            assert letters(answer) == "12DC12DCZ"


@SAME
def test_psycopg_prepares_by_itself(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), prepare_threshold=0, autocommit=True) as one:
        one.prepared_max = 3
        for i in range(30):
            assert one.execute(f"select {i % 7} + %s", (i,)).fetchone() == (i % 7 + i,)
        with one.transaction(), one.pipeline():
            cursors = [one.execute("select %s::text", (str(i),)) for i in range(30)]
            assert [cursor.fetchone() for cursor in cursors] == [(str(i),) for i in range(30)]
