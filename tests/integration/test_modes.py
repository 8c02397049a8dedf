"""When a server changes hands: session, transaction and statement mode."""

from __future__ import annotations

import psycopg
import pytest

from pgpool_core.testing import PostgresServer, frontend
from tests.conftest import PoolerFactory, Target
from tests.console import Console
from tests.peers import letters, logged_in, values
from tests.watching import until_async

PID = "select pg_backend_pid()"


async def test_in_transaction_mode_two_clients_take_turns_on_one_server(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="transaction", default_pool_size=1)
    async with logged_in(place) as one, logged_in(place) as two:
        pids = {values(await client.query(PID))[0][0] for client in (one, two, one, two)}
    assert len(pids) == 1


@pytest.mark.pooler(default_pool_size=1)
async def test_a_transaction_keeps_its_server_to_its_end(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("begin")
        before = values(await one.query(PID))
        await two.send(frontend.query(PID))
        assert values(await one.query(PID)) == before
        if not target.is_direct:
            await two.expect_silence()
        await one.query("commit")
        assert (values(await two.until("Z")) == before) is not target.is_direct


async def test_a_failed_transaction_keeps_its_server_too(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="transaction", default_pool_size=1)
    async with logged_in(place) as one, logged_in(place) as two:
        await one.query("begin; select 1/0")
        await two.send(frontend.query("select 2"))
        assert letters(await one.query("select 1")) == "EZ"
        await two.expect_silence()
        await one.query("rollback")
        assert values(await two.until("Z")) == [[b"2"]]


async def test_a_session_keeps_its_server_until_it_leaves(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="session", default_pool_size=1)
    async with logged_in(place) as two:
        async with logged_in(place) as one:
            before = values(await one.query(PID))
            await two.send(frontend.query(PID))
            assert values(await one.query(PID)) == before
            await two.expect_silence()
            await one.send(frontend.terminate())
        assert values(await two.until("Z")) == before


async def test_a_session_is_reset_for_the_next_client(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="session", default_pool_size=1)
    async with logged_in(place) as one:
        await one.query("set work_mem = '77MB'; create temp table mine(x int); listen news")
        await one.send(frontend.parse("select 1", "kept"), frontend.sync())
        await one.until("Z")
        pid = values(await one.query(PID))
    async with logged_in(place) as two:
        assert values(await two.query(PID)) == pid
        assert values(await two.query("show work_mem")) != [[b"77MB"]]
        assert letters(await two.query("select * from mine")) == "EZ"
        assert values(await two.query("select count(*) from pg_listening_channels()")) == [[b"0"]]
        assert values(await two.query("select count(*) from pg_prepared_statements")) == [[b"0"]]


async def test_the_reset_query_is_the_one_that_was_set(any_pooler: PoolerFactory) -> None:
    place = any_pooler(
        pool_mode="session", default_pool_size=1, server_reset_query="select set_config('app.reset', 'done', false)"
    )
    async with logged_in(place) as one:
        await one.query("set work_mem = '77MB'")
    async with logged_in(place) as two:
        assert values(await two.query("show app.reset")) == [[b"done"]]
        assert values(await two.query("show work_mem")) == [[b"77MB"]]


async def test_without_a_reset_query_a_session_leaves_what_it_set(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="session", default_pool_size=1, server_reset_query="")
    async with logged_in(place) as one:
        await one.query("set work_mem = '77MB'")
    async with logged_in(place) as two:
        assert values(await two.query("show work_mem")) == [[b"77MB"]]


async def test_the_reset_query_may_be_asked_for_in_transaction_mode(
    any_pooler: PoolerFactory, pgbouncers_way: dict[str, str]
) -> None:
    for always, expected in ((False, b"77MB"), (True, b"4MB")):
        place = any_pooler(
            **pgbouncers_way,
            pool_mode="transaction",
            default_pool_size=1,
            server_reset_query="reset work_mem",
            server_reset_query_always=always,
        )
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query("set work_mem = '77MB'")
            assert values(await two.query("show work_mem")) == [[expected]]


async def test_a_reset_query_that_fails_does_not_hand_the_server_over_dirty(pooler: PoolerFactory) -> None:
    place = pooler(pool_mode="session", default_pool_size=1, server_reset_query="select 1/0")
    async with logged_in(place) as one:
        pid = values(await one.query(PID))
    async with logged_in(place) as two:
        assert values(await two.query(PID)) != pid


async def test_a_session_that_leaves_in_a_transaction_leaves_no_transaction(any_pooler: PoolerFactory) -> None:
    place = any_pooler(pool_mode="session", default_pool_size=1)
    async with logged_in(place) as one:
        await one.query("begin; set work_mem = '77MB'")
    async with logged_in(place) as two:
        answer = await two.query("show work_mem")
    assert answer[-1].body == b"I"
    assert values(answer) != [[b"77MB"]]


async def test_the_mode_of_a_database_or_user_goes_before_the_general_one(
    any_pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = any_pooler(
        databases={"app": at, "long": f"{at} dbname=app pool_mode=session"},
        users={"legacy": "pool_mode=statement"},
        pool_mode="transaction",
    )
    with Console(place) as console:
        async with logged_in(place) as short, logged_in(place, database="long") as long:
            await short.query("select 1")
            await long.query("select 1")
            assert (console.pool()["sv_active"], console.pool(database="long")["sv_active"]) == (0, 1)
        async with logged_in(place, "legacy") as peer:
            await peer.send(frontend.query("begin"))
            while (came := await peer.receive()) is not None and came.type != b"E":
                pass
            assert came is not None
            assert "statement pooling mode" in came.fields["M"]


STATEMENT = pytest.mark.pooler(pool_mode="statement", default_pool_size=1)


@STATEMENT
async def test_in_statement_mode_single_statements_pass(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        assert values(await one.query("select 1")) == [[b"1"]]
        assert values(await two.query("select 2")) == [[b"2"]]
        assert letters(await one.query("select 1; select 2")) == "TDCTDCZ"
        assert letters(await one.query("select 1/0")) == "EZ"
        assert values(await two.query("select 3")) == [[b"3"]]


@pytest.mark.parametrize(
    "opening",
    [
        frontend.query("begin"),
        frontend.query("select 1; begin"),
        frontend.parse("begin") + frontend.bind() + frontend.execute() + frontend.sync(),
        frontend.query("begin; select 1/0"),
    ],
    ids=["simple", "second", "extended", "failed"],
)
async def test_in_statement_mode_a_transaction_block_is_refused(any_pooler: PoolerFactory, opening: bytes) -> None:
    place = any_pooler(pool_mode="statement", default_pool_size=1)
    async with logged_in(place) as peer:
        await peer.send(opening)
        errors = []
        while (came := await peer.receive()) is not None:
            errors += [came.fields] if came.type == b"E" else []
            assert came.type != b"Z", "the error belongs to this answer"
    assert errors[-1]["S"] == "FATAL"
    assert errors[-1]["M"] == "transaction blocks not allowed in statement pooling mode"
    async with logged_in(place) as next_one:
        assert (await next_one.query("select 1"))[-1].body == b"I"


@pytest.mark.parametrize("begins", ["begin", "start transaction", "begin; select 1"])
def test_libpq_is_told_why_a_transaction_block_is_refused(any_pooler: PoolerFactory, begins: str) -> None:
    """It takes one answer to a BEGIN, and calls two of them an error of its own."""
    place = any_pooler(pool_mode="statement", default_pool_size=1)
    with psycopg.connect(place.url("app", "app"), autocommit=True) as connection:
        connection.pgconn.send_query(begins.encode())
        results = psycopg.generators.execute(connection.pgconn)
        said = psycopg.waiting.wait(results, connection.fileno())
    assert b"transaction blocks not allowed in statement pooling mode" in said[-1].error_message
    assert len(said) == 1 or begins.endswith("1")
    with (
        pytest.raises(psycopg.errors.ProtocolViolation, match="not allowed in statement pooling mode"),
        psycopg.connect(place.url("app", "app")) as connection,
    ):
        connection.execute("select 1")  # behind the driver's own BEGIN


async def test_a_refused_transaction_block_is_not_left_open(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = pooler(pool_mode="statement", default_pool_size=1)
    async with logged_in(place) as peer:
        await peer.send(frontend.query("begin"))
        while await peer.receive() is not None:
            pass
    open_ones = "select count(*) from pg_stat_activity where usename = 'app' and state like 'idle in transaction%'"
    await until_async(lambda: postgres.sql(open_ones) == "0")


def test_an_idle_client_holds_a_server_only_in_session_mode(any_pooler: PoolerFactory) -> None:
    for mode, active in (("session", 1), ("transaction", 0), ("statement", 0)):
        place = any_pooler(pool_mode=mode)
        with psycopg.connect(place.url("app", "app"), autocommit=True) as connection, Console(place) as console:
            connection.execute("select 1")
            pool = console.pool()
            assert (pool["pool_mode"], pool["sv_active"], pool["sv_idle"]) == (mode, active, 1 - active)
