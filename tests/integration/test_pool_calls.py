"""Every call of a pool and of a connection, against a real server."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import pgpool_core
from pgpool_core import ConfigError, EncodeError, Notification, Pool, PoolClosed, PoolError, PoolTimeout
from pgpool_core.client import links, prepared, sqlstate
from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.connection import Connection
from pgpool_core.client.link import Link
from pgpool_core.client.transaction import TransactionFailed
from pgpool_core.errors import ConnectionLost, ServerLoginRefused, ServerProtocolError, ServerUnavailable
from pgpool_core.rows.statement import Statement
from pgpool_core.testing import PostgresServer
from pgpool_core.testing.ports import free_port
from tests.in_process import own_or_lent
from tests.watching import until_async


@pytest.fixture
def dsn(postgres: PostgresServer) -> str:
    postgres.sql("drop table if exists calls; create table calls (id int primary key, name text)", database="app")
    postgres.sql("alter table calls owner to app", database="app")
    return postgres.dsn("app", "app")


@pytest.fixture
async def own_pool(dsn: str) -> AsyncIterator[Pool]:
    async with pgpool_core.open_pool(dsn, max_size=3, acquire_timeout=20) as pool:
        yield pool


@pytest.fixture(params=["own", "lent"])
async def pool(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Pool]:
    """A pool with connections of its own, then one that borrows those of a proxy."""
    async with own_or_lent(request.param, dsn, 3) as pool:
        yield pool


# -- queries -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["pool", "connection"])
async def test_queries_on_pool_and_connection(on: str, pool: Pool) -> None:
    async with pool.acquire() as connection:
        it: Any = pool if on == "pool" else connection
        tag = await it.execute("insert into calls values ($1, $2)", 1, "one")
        assert (tag, tag.command, tag.rows) == ("INSERT 0 1", "INSERT", 1)
        assert await it.executemany("insert into calls values ($1, $2)", [(n, str(n)) for n in range(2, 1300)]) == 1298
        rows = await it.fetch("select * from calls where id < $1 order by id", 3)
        assert rows == [(1, "one"), (2, "2")]
        assert (await it.fetchrow("select * from calls where id = $1", 1)).name == "one"
        assert await it.fetchrow("select * from calls where id = $1", -1) is None
        assert await it.fetchval("select id, name from calls where id = 1", column="name") == "one"
        assert await it.fetchval("select id, name from calls where id = 1", column=1) == "one"
        assert await it.fetchval("select 1 where false") is None
        assert await it.fetch("delete from calls where id > 1") == []
        assert await it.execute("select 1; select 2; update calls set id = 9") == "UPDATE 1"
        assert await it.execute("") == ""


async def test_executemany_takes_rows_as_they_come_and_all_or_none(pool: Pool) -> None:
    async def rows() -> AsyncIterator[tuple[int, str]]:
        for n in range(1001):
            await trio.lowlevel.checkpoint()
            yield n, str(n)

    assert await pool.executemany("insert into calls values ($1, $2)", rows()) == 1001
    with pytest.raises(sqlstate.UniqueViolation) as caught:
        await pool.executemany("insert into calls values ($1, $2)", [(5000, "new"), (5, "old")])
    assert (caught.value.constraint_name, caught.value.table_name) == ("calls_pkey", "calls")
    with pytest.raises(EncodeError):
        await pool.executemany("insert into calls values ($1, $2)", [(5000, "new"), ("x", "no number")])
    assert await pool.fetchval("select count(*) from calls") == 1001


@pytest.mark.parametrize("size", [0, 1, 100])
async def test_what_gives_rows_to_executemany_may_run_queries_meanwhile(size: int, dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, statement_cache_size=size) as pool, pool.acquire() as connection:

        async def rows() -> AsyncIterator[tuple[int]]:
            for n in range(501):
                yield (await connection.fetchval("select $1::int + 1", n),)

        assert await connection.executemany("insert into calls (id) values ($1)", rows()) == 501
        assert await connection.fetchval("select count(*) from calls") == 501
        assert await connection.fetchval("select count(*) from pg_prepared_statements") <= size


@pytest.mark.parametrize("count", [0, 1, 500])
async def test_executemany_does_not_end_well_where_its_rows_have_been_rolled_back(count: int, pool: Pool) -> None:
    async with pool.acquire() as connection:

        async def rows() -> AsyncIterator[tuple[int]]:
            for n in range(count):
                yield (n,)
            with contextlib.suppress(sqlstate.DataError):
                await connection.fetch("select 1 / 0")

        with pytest.raises((TransactionFailed, sqlstate.InvalidTransactionState)):
            await connection.executemany("insert into calls (id) values ($1)", rows())
        assert not connection.in_transaction
        assert await connection.fetch("select * from calls") == []


async def test_executemany_collects_no_more_than_a_megabyte(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    many = Link.many

    async def counted(link: Link, statement: Statement, batch: list[tuple[Any, ...]], before: int) -> int:
        sizes.append(len(batch))
        return await many(link, statement, batch, before)

    monkeypatch.setattr(Link, "many", counted)
    big = "x" * 400_000
    assert await pool.executemany("insert into calls values ($1, $2)", [(n, big) for n in range(7)]) == 7
    assert sizes == [3, 3, 1]
    assert await pool.fetchval("select sum(length(name)) from calls") == 7 * len(big)


async def test_an_error_has_its_class_and_every_field(pool: Pool) -> None:
    with pytest.raises(sqlstate.SyntaxOrAccessError) as caught:
        await pool.fetch("select 1 frm")
        await pool.fetch("select nothing from calls")
    assert caught.value.sqlstate == "42703"
    assert caught.value.position == 8
    with pytest.raises(sqlstate.PlpgsqlError) as raised:
        await pool.execute("do $$ begin raise exception 'no' using detail = 'd', hint = 'h'; end $$")
    assert (raised.value.message, raised.value.detail, raised.value.hint) == ("no", "d", "h")
    assert "PL/pgSQL" in str(raised.value.context)
    with pytest.raises(sqlstate.UndefinedTable):
        await pool.fetch("select * from not_there")
    assert await pool.fetchval("select 1") == 1


async def test_statements_are_prepared_once_and_forgotten_when_there_are_too_many(dsn: str) -> None:
    count = "select count(*) from pg_prepared_statements"
    async with pgpool_core.open_pool(dsn, max_size=1, statement_cache_size=3) as pool:
        for _ in range(3):
            for n in range(5):
                assert await pool.fetchval(f"select {n}") == n
        assert await pool.fetchval(count) == 3
    async with pgpool_core.open_pool(dsn, max_size=1, statement_cache_size=0) as pool:
        assert [await pool.fetchval("select $1::text", text) for text in "ab"] == ["a", "b"]
        assert await pool.fetchval(count) == 0


async def test_the_statement_that_was_used_least_recently_is_forgotten_first(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=1, statement_cache_size=3) as pool:
        for n in (1, 2, 3, 1, 4, 1, 5):
            await pool.fetch(f"select {n}")
        left = await pool.fetch("select statement from pg_prepared_statements")
        assert {row.statement for row in left} >= {"select 1", "select 5"}


async def with_executemany(connection: Connection) -> object:
    return await connection.executemany("insert into calls (id) values ($1) returning *", [(1,), (2,)])


async def with_a_cursor(connection: Connection) -> object:
    async with connection.cursor("select * from calls order by id", prefetch=1) as rows:
        return [row.id async for row in rows]


async def with_a_pipeline(connection: Connection) -> object:
    async with connection.pipeline() as pipeline:
        one = pipeline.execute("insert into calls (id) values ($1)", 1)
        all_of_them = pipeline.fetch("select * from calls order by id")
    return one.result(), len(all_of_them.result())


async def with_copy_records(connection: Connection) -> object:
    return await connection.copy_records("calls", [(1,), (2,)], columns=["id"])


@pytest.mark.parametrize("call", [with_executemany, with_a_cursor, with_a_pipeline, with_copy_records])
async def test_every_call_survives_a_change_of_its_table_and_deallocate_all(
    call: Callable[[Connection], Awaitable[object]], pool: Pool
) -> None:
    async with pool.acquire() as connection:
        at_first = await call(connection)
        for change in (
            "alter table calls add more int",
            "alter table calls alter id type bigint",
            "deallocate all",
            "do $$ begin deallocate all; end $$",
        ):
            await connection.execute(change)
            await connection.execute("delete from calls")
            assert await call(connection) == at_first, change
            assert not connection.in_transaction


@pytest.mark.parametrize("size", [0, 100])
async def test_a_type_that_was_dropped_and_made_anew_is_found_by_every_call(dsn: str, size: int) -> None:
    async with (
        pgpool_core.open_pool(dsn, max_size=1, statement_cache_size=size) as pool,
        pool.acquire() as connection,
    ):
        for value in ("old", "new"):
            await connection.execute(
                f"drop type if exists call_mood cascade; create type call_mood as enum ('{value}')"
            )
            assert await connection.fetchval("select $1::call_mood", value) == value
            assert await connection.fetchval("select $1::call_mood[]", [value]) == [value]
            assert await connection.executemany("select $1::call_mood, 'many'", [(value,)]) == 1
            async with connection.cursor("select $1::call_mood, 'cursor'", value) as rows:
                assert await rows.receive() == (value, "cursor")
            async with connection.pipeline() as pipeline:
                one, two = pipeline.fetchval("select 1"), pipeline.fetchval("select $1::call_mood, 'line'", value)
            assert (one.result(), two.result()) == (1, value)


async def test_in_a_transaction_a_change_is_told_once_and_not_twice(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for call in (with_a_cursor, with_a_pipeline):
            await call(connection)
            await connection.execute(f"delete from calls; alter table calls add {call.__name__} int")
            with pytest.raises(sqlstate.FeatureNotSupported, match="cached plan"):
                async with connection.transaction():
                    await call(connection)
            async with connection.transaction():
                await call(connection)
            await connection.execute("delete from calls")


async def test_an_error_among_many_says_at_which_it_was(pool: Pool) -> None:
    insert = "insert into calls (id) values ($1)"
    rows: list[tuple[Any, ...]] = [(n,) for n in range(700)]
    async with pool.acquire() as connection:
        for more, error in (((3,), sqlstate.UniqueViolation), (("x",), EncodeError)):
            with pytest.raises(error) as found:
                await connection.executemany(insert, [*rows, more])
            assert found.value.__notes__ == ["row 701"]
        with pytest.raises(EncodeError, match=r"column 1 cannot be sent as int4") as found:
            await connection.copy_records("calls", [(1, "a"), ("x", "b")])
        assert found.value.__notes__ == ["row 2"]
        for text in ("select 1/0", "selec"):
            with pytest.raises(sqlstate.PostgresError) as told:
                async with connection.pipeline() as pipeline:
                    pipeline.fetch("select 1")
                    pipeline.fetch(text)
            assert told.value.__notes__ == ["query 2 of the pipeline"]
        assert await connection.fetchval("select count(*) from calls") == 0


async def test_a_statement_survives_a_change_of_its_table_and_deallocate_all(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert await connection.fetch("select * from calls") == []
        await connection.execute("alter table calls add extra int default 7")
        await connection.execute("insert into calls values (1, 'x')")
        assert await connection.fetch("select * from calls") == [(1, "x", 7)]
        await connection.execute("deallocate all")
        assert await connection.fetch("select * from calls") == [(1, "x", 7)]


async def test_large_answers_and_large_arguments(pool: Pool) -> None:
    big = "x" * 20_000_000
    assert await pool.fetchval("select $1::text", big) == big
    rows = await pool.fetch("select n, repeat('y', 100) as t from generate_series(1, 50000) n")
    assert (len(rows), rows[-1]) == (50000, (50000, "y" * 100))


async def test_a_pipeline_larger_than_every_buffer_does_not_get_stuck(pool: Pool) -> None:
    big = "x" * 1_000_000
    async with pool.acquire() as connection, connection.pipeline() as pipeline:
        answers = [pipeline.fetchval("select $1::text", big) for _ in range(20)]
    assert all(answer.result() == big for answer in answers)


async def test_a_pipeline_is_all_or_nothing(pool: Pool) -> None:
    async with pool.acquire() as connection:
        async with connection.pipeline() as pipeline:
            one = pipeline.execute("insert into calls values ($1, 'a')", 1)
            two = pipeline.fetchrow("select * from calls")
            three = pipeline.fetch("select 1 where false")
            with pytest.raises(PoolError, match="behind the block"):
                one.result()
        assert (one.result(), two.result(), three.result()) == ("INSERT 0 1", (1, "a"), [])
        with pytest.raises(sqlstate.UniqueViolation):
            async with connection.pipeline() as pipeline:
                pipeline.execute("insert into calls values (2, 'b')")
                pipeline.execute("insert into calls values (1, 'c')")
        assert await connection.fetchval("select count(*) from calls") == 1


async def test_a_pipeline_of_more_statements_than_are_kept(dsn: str) -> None:
    for size in (0, 2):
        async with (
            pgpool_core.open_pool(dsn, max_size=1, statement_cache_size=size) as pool,
            pool.acquire() as connection,
        ):
            async with connection.pipeline() as pipeline:
                answers = [pipeline.fetchval(f"select {n}") for n in range(5)]
            assert [answer.result() for answer in answers] == list(range(5))
            assert await connection.fetchval("select count(*) from pg_prepared_statements") == size


# -- transactions --------------------------------------------------------------------------------------------------------------


async def test_a_transaction_commits_or_rolls_back(pool: Pool) -> None:
    async with pool.transaction() as connection:
        assert connection.in_transaction
        await connection.execute("insert into calls values (1, 'kept')")
    with pytest.raises(KeyError):
        async with pool.transaction() as connection:
            await connection.execute("insert into calls values (2, 'lost')")
            raise KeyError
    assert await pool.fetch("select * from calls") == [(1, "kept")]
    assert pool.statistics().opened == 1


async def test_a_transaction_inside_another_is_a_savepoint(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await connection.execute("insert into calls values (1, 'a')")
        with pytest.raises(sqlstate.UniqueViolation):
            async with connection.transaction():
                await connection.execute("insert into calls values (2, 'b')")
                await connection.execute("insert into calls values (1, 'c')")
        async with connection.transaction():
            await connection.execute("insert into calls values (3, 'd')")
        with pytest.raises(ValueError, match="outermost"):
            async with connection.transaction(isolation="serializable"):
                pass
    assert await pool.fetch("select id from calls order by id") == [(1,), (3,)]


async def test_a_savepoint_that_failed_inside_its_block_is_told_and_the_transaction_goes_on(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await connection.execute("insert into calls values (1, 'a')")
        with pytest.raises(TransactionFailed, match="savepoint"):
            async with connection.transaction():
                await connection.execute("insert into calls values (2, 'b')")
                with pytest.raises(sqlstate.UniqueViolation):
                    await connection.execute("insert into calls values (1, 'c')")
        await connection.execute("insert into calls values (3, 'd')")
    assert await pool.fetch("select id from calls order by id") == [(1,), (3,)]


async def test_how_a_transaction_begins(pool: Pool) -> None:
    show = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')"
    async with pool.transaction(isolation="serializable", read_only=True, deferrable=True) as connection:
        assert await connection.fetchrow(show) == ("serializable", "on", "on")
    async with pool.transaction() as connection:
        assert await connection.fetchrow(show) == ("read committed", "off", "off")
    with pytest.raises(ValueError, match="isolation"):
        pool.transaction(isolation="snapshot")  # type: ignore[arg-type]


async def test_a_transaction_that_failed_inside_its_block_is_not_taken_for_committed(pool: Pool) -> None:
    with pytest.raises(TransactionFailed):
        async with pool.transaction() as connection:
            await connection.execute("insert into calls values (1, 'a')")
            with pytest.raises(sqlstate.DataError):
                await connection.fetch("select 1/0")
    assert await pool.fetch("select * from calls") == []


async def test_a_transaction_is_tried_again_where_postgresql_asks_for_it(pool: Pool) -> None:
    await pool.execute("insert into calls values (1, '0')")
    tries = []
    both_have_read = trio.Event()

    async def add_one(connection: Connection, wait: bool) -> int:
        tries.append(wait)
        value = int(await connection.fetchval("select name from calls where id = 1"))
        if wait and len(tries) < 3:
            await both_have_read.wait()
        await connection.execute("update calls set name = $1 where id = 1", str(value + 1))
        return value

    async def slow() -> None:
        await pool.transaction(isolation="serializable", retries=2).run(add_one, True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        while not tries or pool.statistics().in_use == 0:
            await trio.lowlevel.checkpoint()
        await pool.transaction(isolation="serializable").run(add_one, False)
        both_have_read.set()
    assert await pool.fetchval("select name from calls where id = 1") == "2"
    with pytest.raises(TypeError, match="cannot run twice"):
        async with pool.transaction(retries=1):
            pass


async def test_a_transaction_is_tried_again_where_a_nursery_of_it_was_asked_to(pool: Pool) -> None:
    tries = 0

    async def fails_once(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await connection.execute("insert into calls values ($1, 'a')", tries)
            if tries == 1:
                await connection.execute("do $$ begin raise exception using errcode = '40001'; end $$")
            nursery.cancel_scope.cancel()

    await pool.transaction(retries=1).run(fails_once)
    assert await pool.fetch("select id from calls") == [(2,)]

    async def fails_otherwise(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        async with trio.open_nursery():
            raise LookupError

    with pytest.raises(ExceptionGroup):
        await pool.transaction(retries=5).run(fails_otherwise)
    assert tries == 3


async def test_retries_come_to_an_end(pool: Pool) -> None:
    calls = []

    async def fails(connection: Connection) -> None:
        calls.append(1)
        await connection.execute("do $$ begin raise serialization_failure; end $$")

    with pytest.raises(sqlstate.SerializationFailure):
        await pool.transaction(retries=2).run(fails)
    assert len(calls) == 3


# -- cursors and COPY ----------------------------------------------------------------------------------------------------------


async def test_a_cursor_gives_rows_as_they_are_wanted(pool: Pool) -> None:
    async with pool.cursor("select n from generate_series(1, $1::int) n", 10, prefetch=3) as rows:
        assert [row.n async for row in rows] == list(range(1, 11))
        with pytest.raises(trio.EndOfChannel):
            await rows.receive()
    async with pool.acquire() as connection, connection.transaction():
        async with connection.cursor("select generate_series(1, 1000000000000) as n", prefetch=2) as rows:
            assert await rows.receive() == (1,)
            assert await connection.fetchval("select 'beside'") == "beside"
            assert [await rows.receive(), await rows.receive()] == [(2,), (3,)]
        with pytest.raises(trio.ClosedResourceError):
            await rows.receive()
        assert await connection.fetchval("select count(*) from pg_cursors where name <> ''") == 0


async def test_a_cursor_can_fail_midway(pool: Pool) -> None:
    with pytest.raises(sqlstate.DataError, match="division by zero"):
        async with pool.cursor("select 1 / (n - 5) from generate_series(1, 10) n", prefetch=1) as rows:
            async for _ in rows:
                pass
    with pytest.raises(ValueError, match="prefetch"):
        async with pool.cursor("select 1", prefetch=0):
            pass


async def test_copy_in_takes_any_pieces(pool: Pool) -> None:
    async with pool.acquire() as connection:
        async with connection.copy_in("copy calls from stdin") as sink:
            for piece in (b"1\to", b"ne\n2", bytearray(b"\ttwo\n"), memoryview(b"3\t\\N\n")):
                await sink.wait_send_all_might_not_block()
                await sink.send_all(piece)
        assert sink.tag == "COPY 3"
        with pytest.raises(trio.ClosedResourceError):
            await sink.send_all(b"x")
        assert await connection.fetch("select * from calls order by id") == [(1, "one"), (2, "two"), (3, None)]


async def test_copy_in_that_ends_with_an_error_leaves_nothing(pool: Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(KeyError):
            async with connection.copy_in("copy calls from stdin") as sink:
                await sink.send_all(b"1\tone\n")
                raise KeyError
        with pytest.raises(sqlstate.DataError):
            async with connection.copy_in("copy calls from stdin") as sink:
                await sink.send_all(b"x\ty\n")
        with pytest.raises(sqlstate.DataError):
            async with connection.copy_in("copy calls from stdin") as sink:
                while True:
                    await sink.send_all(b"x\ty\n" * 10000)
        with pytest.raises(PoolError, match="no COPY"):
            async with connection.copy_in("select 1"):
                pass
        with trio.fail_after(20), pytest.raises(sqlstate.QueryCanceled, match="use copy_in"):
            async with connection.copy_in("copy calls from stdin; copy calls from stdin") as sink:
                await sink.send_all(b"1\tone\n")
        with pytest.raises(sqlstate.UndefinedTable):
            async with connection.copy_in("copy not_there from stdin"):
                pass
        assert await connection.fetch("select * from calls") == []


async def test_records_go_in_by_a_binary_copy(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert await connection.copy_records("calls", ((n, f"name {n}") for n in range(20000))) == 20000
        assert await connection.fetchval("select sum(id) from calls where name = 'name ' || id") == sum(range(20000))
        assert await connection.copy_records("calls", [(-1,)], columns=["id"], schema="public") == 1
        with pytest.raises(EncodeError, match="2 columns"):
            await connection.copy_records("calls", [(-2,)])
        with pytest.raises(EncodeError, match="column 1 cannot be sent as int4"):
            await connection.copy_records("calls", [("x", "y")])
        assert await connection.fetchval("select count(*) from calls") == 20001


async def test_records_need_no_values_for_generated_columns(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            'create temp table "cal""ls" (id int, twice int generated always as (id * 2) stored, "a ""name" text)'
        )
        assert await connection.copy_records('cal"ls', [(1, "one"), (2, None)]) == 2
        assert await connection.fetch('select * from "cal""ls"') == [(1, 2, "one"), (2, 4, None)]
        await connection.execute("create temp table nothing ()")
        assert await connection.copy_records("nothing", [(), ()], schema="pg_temp") == 2
        with pytest.raises(sqlstate.UndefinedTable, match="nowhere"):
            await connection.copy_records("nowhere", [(1,)])


async def test_copy_out_is_a_stream(pool: Pool) -> None:
    async with pool.acquire() as connection:
        async with connection.copy_out("copy (select n from generate_series(1, 30000) n) to stdout") as source:
            data = b"".join([chunk async for chunk in source])
        assert data == b"".join(b"%d\n" % n for n in range(1, 30001))
        async with connection.copy_out("copy (select 'abcdef') to stdout") as source:
            assert [await source.receive_some(4), await source.receive_some(4), await source.receive_some(4)] == [
                b"abcd",
                b"ef\n",
                b"",
            ]
        async with connection.copy_out("copy (select generate_series(1, 1000000000)) to stdout") as source:
            assert await source.receive_some() == b"1\n"
        assert await connection.fetchval("select 1") == 1, "what nobody wants is cancelled"
        with pytest.raises(PoolError, match="no COPY"):
            async with connection.copy_out("select 1"):
                pass
        with pytest.raises(sqlstate.QueryCanceled, match="use copy_in"):
            async with connection.copy_out("copy calls from stdin"):
                pass
        with trio.fail_after(20), pytest.raises(sqlstate.QueryCanceled, match="use copy_in"):
            async with connection.copy_out("copy calls to stdout; copy calls from stdin") as source:
                await source.receive_some()
        assert await connection.fetchval("select 2") == 2


@pytest.mark.parametrize("call", ["execute", "fetch"])
@pytest.mark.parametrize("sql", ["copy calls from stdin", "copy calls to stdout"])
async def test_a_copy_without_a_stream_harms_nothing(call: str, sql: str, pool: Pool) -> None:
    async with pool.acquire() as connection:
        error, cure = (sqlstate.QueryCanceled, "use copy_in") if "from" in sql else (PoolError, "use copy_out")
        with pytest.raises(error, match=cure):
            await getattr(connection, call)(sql)
        assert await connection.fetchval("select 1") == 1


# -- listen --------------------------------------------------------------------------------------------------------------------


async def test_listen_hears_its_channels(pool: Pool) -> None:
    async with pool.listen("jobs", 'Odd "name"') as notes:
        await pool.execute("select pg_notify('jobs', 'a'), pg_notify('Odd \"name\"', ''), pg_notify('other', 'x')")
        first, second = await notes.receive(), await notes.receive()
        assert isinstance(first, Notification)
        assert isinstance(second, Notification)
        assert {(first.channel, first.payload), (second.channel, second.payload)} == {("jobs", "a"), ('Odd "name"', "")}
        assert first.pid > 0
    with pytest.raises(ValueError, match="channel"):
        async with pool.listen():
            pass


async def test_listen_waits_where_nobody_takes_and_loses_nothing(pool: Pool) -> None:
    async with pool.listen("jobs", max_buffer=2) as notes:
        for n in range(50):
            await pool.execute(f"notify jobs, '{n}'")
        heard = [await notes.receive() for _ in range(50)]
    assert [note.payload for note in heard if isinstance(note, Notification)] == [str(n) for n in range(50)]


# -- borrowing -----------------------------------------------------------------------------------------------------------------


async def test_who_begins_to_listen_when_the_pool_is_closed_is_told_so(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_server, closed = links.open_server, trio.Event()

    async def open_when_closed(*args: Any, **words: Any) -> Any:
        await closed.wait()
        return await open_server(*args, **words)

    async def hear(pool: Pool) -> None:
        with pytest.raises(PoolClosed):
            async with pool.listen("closing"):
                raise AssertionError("nobody will say anything here")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            async with pgpool_core.open_pool(dsn) as pool:
                monkeypatch.setattr(links, "open_server", open_when_closed)
                nursery.start_soon(hear, pool)
                await trio.testing.wait_all_tasks_blocked()
            closed.set()


async def test_a_listener_that_has_lost_its_connection_ends_with_its_pool(
    dsn: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_server, listening, tried = links.open_server, trio.Event(), trio.Event()

    async def refuse(*_: Any, **__: Any) -> None:
        tried.set()
        await trio.lowlevel.checkpoint()
        raise ServerUnavailable("the test")

    async def hear(pool: Pool) -> None:
        async with pool.listen("losing") as news:
            listening.set()
            assert [each async for each in news] == []

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            async with pgpool_core.open_pool(dsn) as pool:
                nursery.start_soon(hear, pool)
                await listening.wait()
                monkeypatch.setattr(links, "open_server", refuse)
                postgres.sql("select pg_terminate_backend(pid) from pg_stat_activity where query = 'LISTEN \"losing\"'")
                await tried.wait()
            monkeypatch.setattr(links, "open_server", open_server)


async def test_a_connection_that_was_given_back_is_of_no_use(pool: Pool) -> None:
    async with pool.acquire() as connection:
        pid = connection.backend_pid
        assert connection.server_settings["client_encoding"] == "UTF8"
    with pytest.raises(PoolError, match="given back"):
        await connection.fetch("select 1")
    async with pool.acquire() as connection:
        assert connection.backend_pid == pid == await connection.fetchval("select pg_backend_pid()")


async def test_what_was_made_of_a_connection_that_was_given_back_is_of_no_use(pool: Pool) -> None:
    async with pool.acquire() as connection:
        blocks = [
            connection.pipeline(),
            connection.copy_in("copy calls from stdin"),
            connection.copy_out("copy calls to stdout"),
            connection.cursor("select 1"),
            connection.transaction(),
        ]
    async with pool.acquire() as other, other.transaction():
        for block in blocks:
            with pytest.raises(PoolError, match="given back"):
                await block.__aenter__()
        assert await other.fetchval("select 1") == 1


async def test_one_acquire_is_for_one_task_at_a_time(pool: Pool) -> None:
    block = pool.acquire()
    told: list[RuntimeError] = []

    async def borrow() -> None:
        try:
            async with block as connection:
                assert await connection.fetchval("select 1") == 1
        except RuntimeError as error:
            told.append(error)

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(borrow)
            nursery.start_soon(borrow)
    assert ["acquire() is in use" in str(error) for error in told] == [True, True]
    assert pool.statistics().in_use == 0


@pytest.mark.parametrize("command", ["deallocate all", "discard all"])
async def test_statements_that_the_server_has_forgotten_are_prepared_anew(command: str, pool: Pool) -> None:
    async def by_fetch(connection: Connection) -> None:
        await connection.fetch(command)

    async def by_pipeline(connection: Connection) -> None:
        async with connection.pipeline() as pipeline:
            pipeline.execute(command)

    for call in [by_fetch] if command == "discard all" else [by_fetch, by_pipeline]:
        async with pool.acquire() as connection:
            await connection.fetch("select 1")
            await call(connection)
            async with connection.transaction():
                assert await connection.fetchval("select 1") == 1


async def test_an_answer_about_types_that_makes_no_sense_costs_the_connection(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.execute("drop type if exists calls_odd; create type calls_odd as enum ('a')")
    for query in ("select $1::oid[]", "select $1::oid[] as oid, '(1,2)'::point"):
        monkeypatch.setattr(prepared, "TYPES_QUERY", query)
        async with pool.acquire() as connection:
            with pytest.raises(ServerProtocolError, match="about types makes no sense"):
                await connection.fetch("select 'a'::calls_odd")
            with pytest.raises(ConnectionLost):
                await connection.fetch("select 1")


@pytest.mark.parametrize("size", [0, 100])
async def test_types_may_be_forgotten_while_another_task_looks_some_up(
    size: int, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Catalogue.learn

    def forget_and_learn(catalogue: Catalogue, *args: Any) -> None:
        monkeypatch.setattr(Catalogue, "learn", learn)
        pool.forget_types()
        catalogue.learn(*args)

    async with pgpool_core.open_pool(dsn, max_size=1, statement_cache_size=size) as pool:
        for name in ("calls_old", "calls_new"):
            await pool.execute(f"drop type if exists {name}; create type {name} as enum ('a')")
        await pool.fetch("select 'a'::calls_old")
        monkeypatch.setattr(Catalogue, "learn", forget_and_learn)
        assert await pool.fetch("select 'a'::calls_old, 'a'::calls_new, $1::int", 1) == [("a", "a", 1)]
        await pool.execute("drop type calls_old; drop type calls_new")


async def test_two_tasks_cannot_use_one_connection_at_once(pool: Pool) -> None:
    async with pool.acquire() as connection, trio.open_nursery() as nursery:
        nursery.start_soon(connection.fetch, "select pg_sleep(0.1)")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await connection.fetch("select 1")


async def test_the_first_who_waits_is_served_first(dsn: str) -> None:
    order: list[int] = []
    async with pgpool_core.open_pool(dsn, max_size=1) as pool, trio.open_nursery() as nursery, pool.acquire():

        async def wait(number: int) -> None:
            async with pool.acquire():
                order.append(number)

        for number in range(6):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics().waiting == 6
        nursery.start_soon(wait, 6)
    assert order == list(range(7))
    assert pool.statistics().waits == 7


async def test_the_connection_that_was_used_last_is_lent_first(pool: Pool) -> None:
    async with pool.acquire() as one, pool.acquire() as two:
        pids = one.backend_pid, two.backend_pid
    for _ in range(3):
        async with pool.acquire() as connection:
            assert connection.backend_pid == pids[0], "the outer block ended last"


async def test_waiting_for_a_connection_ends_with_the_whole_story(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=1, acquire_timeout=0.05, max_waiting=1) as pool, pool.acquire():
        with pytest.raises(PoolTimeout) as caught:
            await pool.fetch("select 1")
        for word in ("within 0.05 s", "size 1 of 1", "in use 1", "waiting 0", "longest in use for", "acquire_timeout"):
            assert word in str(caught.value)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:

                async def wait() -> None:
                    with pytest.raises(PoolTimeout):
                        await pool.fetch("select 1")

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(PoolTimeout, match=r"1 wait for a connection already.*max_waiting"):
                    await pool.fetch("select 1")
            assert not scope.cancelled_caught
        counted = pool.statistics()
        assert (counted.timeouts, counted.refused, counted.waiting) == (2, 1, 0)


async def test_what_another_task_still_runs_on_a_connection_that_is_given_back_is_cancelled(
    pool: Pool, postgres: PostgresServer
) -> None:
    running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'"

    def runs() -> bool:
        return postgres.sql(running, database="app").strip() == "1"

    async def ask(connection: Connection) -> None:
        with pytest.raises(ConnectionLost, match="closed the connection"):
            await connection.execute("select pg_sleep(600) /* runs on */")

    async with trio.open_nursery() as nursery, pool.acquire() as connection:
        nursery.start_soon(ask, connection)
        await until_async(runs)
    await until_async(lambda: not runs())


@pytest.mark.parametrize("max_waiting", [0, 1])
async def test_who_can_have_a_connection_opened_does_not_wait_in_vain(dsn: str, max_waiting: int) -> None:
    max_size = 3
    async with pgpool_core.open_pool(dsn, max_size=max_size, max_waiting=max_waiting) as pool:
        enough = trio.Event()
        refused: list[PoolTimeout] = []

        async def borrow() -> None:
            try:
                async with pool.acquire():
                    await enough.wait()
            except PoolTimeout as error:
                refused.append(error)
                enough.set()

        async with trio.open_nursery() as nursery:
            for _ in range(max_size + max_waiting + 1):
                nursery.start_soon(borrow)
        assert [str(error).partition(":")[0] for error in refused] == [f"{max_waiting} wait for a connection already"]


async def test_while_a_pool_is_suspended_all_who_wait_count(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=3, max_waiting=0) as pool:
        pool.suspend()
        with pytest.raises(PoolTimeout, match=r"suspended.*max_waiting"):
            await pool.fetch("select 1")


async def test_what_a_borrower_leaves_in_the_session_does_not_reach_the_next(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=1, server_settings={"work_mem": "5MB"}) as pool:
        pid = await pool.fetchval("select pg_backend_pid()")
        async with pool.acquire() as connection:
            await connection.execute("set work_mem = '9MB'; create temp table left_behind ()")
            await connection.execute("begin")
        assert await pool.fetchval("select current_setting('work_mem')") == "5MB"
        assert await pool.fetchval("select to_regclass('left_behind')::text") is None
        assert await pool.fetchval("select pg_backend_pid()") == pid


async def test_a_clean_connection_goes_back_without_a_round_trip(dsn: str, postgres: PostgresServer) -> None:
    async with pgpool_core.open_pool(dsn, max_size=1, server_settings={"application_name": "clean"}) as pool:
        await pool.fetchval("select 'the last that was asked'")
    async with pgpool_core.open_pool(dsn, max_size=2) as pool, pool.acquire() as watching:
        async with pool.acquire() as connection:
            await connection.fetchval("select 'asked last'")
            pid = connection.backend_pid
        said = await watching.fetchval("select query from pg_stat_activity where pid = $1", pid)
        assert said == "select 'asked last'"


async def test_hooks_are_called_at_their_time(dsn: str) -> None:
    told: list[Any] = []

    async def on_connect(connection: Connection) -> None:
        await connection.execute("set application_name = 'hooked'")
        told.append("connect")

    async def on_acquire(connection: Connection) -> None:
        told.append(("acquire", await connection.fetchval("select current_setting('application_name')")))

    async def on_release(connection: Connection) -> None:
        told.append(("release", await connection.fetchval("select 1")))

    async with pgpool_core.open_pool(
        dsn,
        max_size=1,
        on_connect=on_connect,
        on_acquire=on_acquire,
        on_release=on_release,
        on_close=lambda pid, why: told.append(why),
    ) as pool:
        async with pool.acquire() as connection:
            await connection.execute("set application_name = 'mine'")
        assert await pool.fetchval("select 5") == 5
    hooked = [("acquire", "hooked"), ("release", 1)]
    assert told == ["connect", hooked[0], "connect", hooked[1], *hooked, "closed by the pool"]


async def test_hooks_that_fail(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(connection: Connection) -> None:
        raise LookupError("the hook's own words")

    with pytest.raises(LookupError):
        async with pgpool_core.open_pool(dsn, on_connect=fails):
            pass
    async with pgpool_core.open_pool(dsn, on_acquire=fails) as pool:
        with pytest.raises(LookupError):
            async with pool.acquire():
                pass
        assert pool.statistics().in_use == 0
    async with pgpool_core.open_pool(dsn, on_release=fails) as pool:
        await pool.fetch("select 1")
        assert (pool.statistics().size, pool.statistics().closed) == (0, 1)
    assert "on_release failed: LookupError" in caplog.text


@pytest.mark.parametrize("kind", ["text", "function", "async"])
async def test_passwords_may_come_from_a_function(kind: str, postgres: PostgresServer) -> None:
    asked: list[int] = []

    def function() -> str:
        asked.append(1)
        return "app-secret"

    async def async_function() -> str:
        await trio.lowlevel.checkpoint()
        return function()

    password: Any = {"text": "app-secret", "function": function, "async": async_function}[kind]
    dsn = f"postgresql://app:wrong@{postgres.host}:{postgres.port}/app"
    async with pgpool_core.open_pool(dsn, password=password) as pool:
        await pool.drain()
        assert await pool.fetchval("select current_user::text") == "app"
    assert len(asked) == (0 if kind == "text" else 2)


async def test_the_first_connection_must_come_about(postgres: PostgresServer) -> None:
    with pytest.raises(ServerLoginRefused):
        async with pgpool_core.open_pool(f"postgresql://app:wrong@{postgres.host}:{postgres.port}/app"):
            pass
    with pytest.raises(ServerUnavailable):
        async with pgpool_core.open_pool(f"postgresql://app@127.0.0.1:{free_port()}/app"):
            pass


async def test_drain_replaces_idle_connections_now_and_others_later(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=2) as pool:
        async with pool.acquire() as lent:
            old = lent.backend_pid, await pool.fetchval("select pg_backend_pid()")
            await pool.drain()
            assert pool.statistics().idle == 0
            assert await lent.fetchval("select 1") == 1
        assert pool.statistics().size == 0
        assert await pool.fetchval("select pg_backend_pid()") not in old


async def test_resize(own_pool: Pool) -> None:
    own_pool.resize(min_size=2, max_size=2)
    async with own_pool.acquire(), own_pool.acquire():
        own_pool.resize(min_size=0, max_size=1)
        assert own_pool.statistics().size == 2
    assert own_pool.statistics().size == 1
    with pytest.raises(ConfigError):
        own_pool.resize(max_size=0)


async def test_suspend_and_resume(pool: Pool) -> None:
    pool.suspend()
    results: list[Any] = []

    async def ask() -> None:
        results.append(await pool.fetchval("select 1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert (pool.statistics().waiting, pool.statistics().suspended, results) == (1, True, [])
        pool.resume()
    assert results == [1]


async def test_min_size_is_kept_and_old_and_idle_connections_go(dsn: str) -> None:
    closed: list[str] = []
    async with pgpool_core.open_pool(
        dsn, min_size=2, max_size=4, max_idle=0.05, on_close=lambda pid, why: closed.append(why)
    ) as pool:
        assert pool.statistics().size == 2
        async with pool.acquire(), pool.acquire(), pool.acquire():
            assert pool.statistics().size == 3
        with trio.fail_after(20):
            while pool.statistics().size > 2:
                await trio.testing.wait_all_tasks_blocked()
        assert "max_idle" in closed[0]
    async with pgpool_core.open_pool(dsn, max_size=1, max_lifetime=1e-9) as pool:
        pids = [await pool.fetchval("select pg_backend_pid()") for _ in range(3)]
        assert len(set(pids)) == 3, "however short its life, each was lent once"


async def test_who_keeps_a_connection_is_told_of_with_a_stack(dsn: str) -> None:
    told, texts = trio.Event(), list[str]()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())
            told.set()

    async def the_one_who_keeps_it(pool: Pool) -> None:
        async with pool.acquire():
            with trio.fail_after(20):
                await told.wait()

    handler = Handler(logging.WARNING)
    logging.getLogger("pgpool_core").addHandler(handler)
    try:
        async with pgpool_core.open_pool(dsn, leak_after=0.02) as pool:
            await the_one_who_keeps_it(pool)
    finally:
        logging.getLogger("pgpool_core").removeHandler(handler)
    assert "leak_after" in texts[0]
    assert "the_one_who_keeps_it < " in texts[0]
    assert len(texts) == 1


async def test_a_connection_that_was_idle_for_long_has_to_answer_first(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=1, check_after_idle=0.0) as pool:
        pid = await pool.fetchval("select pg_backend_pid()")
        assert await pool.fetchval("select pg_backend_pid()") == pid
        assert pool.statistics().waits >= 1, "it went the slow way"


# -- where a pool lives --------------------------------------------------------------------------------------------------------


async def test_after_its_block_a_pool_is_closed_and_so_are_its_connections(dsn: str, postgres: PostgresServer) -> None:
    async with pgpool_core.open_pool(dsn, min_size=3, server_settings={"application_name": "gone soon"}) as pool:
        assert "size 3" in repr(pool)
    assert pool.closed
    with pytest.raises(PoolClosed):
        await pool.fetch("select 1")
    gone = "select count(*) from pg_stat_activity where application_name = 'gone soon'"
    with trio.fail_after(20):
        while postgres.sql(gone).strip() != "0":
            await trio.lowlevel.checkpoint()
    gc.collect()


async def test_the_end_of_the_block_ends_queries_and_those_who_wait(dsn: str) -> None:
    errors: list[BaseException] = []

    async def work(pool: Pool) -> None:
        try:
            await pool.fetch("select pg_sleep(30)")
        except pgpool_core.PgPoolError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery, pgpool_core.open_pool(dsn, max_size=1) as pool:
        nursery.start_soon(work, pool)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(work, pool)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert sorted(type(error).__name__ for error in errors) == ["ConnectionLost", "PoolClosed"]


@pytest.mark.parametrize("kind", ["own", "lent"])
async def test_who_is_handed_a_connection_when_the_block_ends_hears_that_it_is_closed(kind: str, dsn: str) -> None:
    errors: list[PoolClosed] = []

    async def wait(pool: Pool) -> None:
        with pytest.raises(PoolClosed) as caught:
            await pool.fetch("select 1")
        errors.append(caught.value)

    async with trio.open_nursery() as nursery, own_or_lent(kind, dsn, 1) as pool, pool.acquire():
        nursery.start_soon(wait, pool)
        await trio.testing.wait_all_tasks_blocked()
    assert len(errors) == 1
    assert pool.statistics().closed == (1 if kind == "own" else 0)


async def test_who_waits_for_an_idle_connection_to_answer_hears_that_the_pool_is_closed(
    dsn: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    script = Link.script
    monkeypatch.setattr(Link, "script", lambda link, text: script(link, text or "select pg_sleep(299)"))
    asked = "select count(*) from pg_stat_activity where query = 'select pg_sleep(299)' and state = 'active'"

    async def wait(pool: Pool) -> None:
        with pytest.raises(PoolClosed):
            await pool.fetch("select 1")

    async with (
        trio.open_nursery() as nursery,
        pgpool_core.open_pool(dsn, check_after_idle=0, on_close=lambda _, why: reasons.append(why)) as pool,
    ):
        nursery.start_soon(wait, pool)
        await until_async(lambda: postgres.sql(asked).strip() == "1")
    assert reasons == ["closed by the pool"]


@pytest.mark.parametrize("kind", ["own", "lent"])
async def test_the_end_of_the_block_is_told_to_who_is_busy_with_what_has_come(kind: str, dsn: str) -> None:
    began, closed = trio.Event(), trio.Event()

    async def copy(pool: Pool) -> None:
        with pytest.raises(ConnectionLost, match="pool"):
            async with pool.acquire() as connection, connection.copy_out(f"copy ({endless}) to stdout") as source:
                await source.receive_some()
                began.set()
                await closed.wait()
                while await source.receive_some():
                    pass

    endless = "select generate_series(1, 1000000000)"
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with own_or_lent(kind, dsn, 1) as pool:
                nursery.start_soon(copy, pool)
                await began.wait()
            closed.set()


@pytest.mark.parametrize("kind", ["own", "lent"])
async def test_a_listener_that_waits_to_be_heard_ends_with_its_pool(kind: str, dsn: str) -> None:
    heard, closed = trio.Event(), trio.Event()
    notes: list[str] = []

    async def hear(pool: Pool) -> None:
        async with pool.listen("waiting", max_buffer=0) as news:
            await pool.execute("notify waiting, 'a'")
            await until_async(lambda: news.statistics().tasks_waiting_send == 1)
            heard.set()
            await closed.wait()
            notes.extend([note.payload async for note in news if isinstance(note, Notification)])

    async with trio.open_nursery() as nursery:
        async with own_or_lent(kind, dsn, 2) as pool:
            nursery.start_soon(hear, pool)
            await heard.wait()
        closed.set()
    assert notes == ["a"]


async def test_the_end_of_the_block_cancels_what_runs_on_the_server(dsn: str, postgres: PostgresServer) -> None:
    running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(300)' and state = 'active'"

    async def sleep(pool: Pool) -> None:
        with pytest.raises(ConnectionLost):
            await pool.fetch("select pg_sleep(300)")

    async with trio.open_nursery() as nursery, pgpool_core.open_pool(dsn) as pool:
        nursery.start_soon(sleep, pool)
        await until_async(lambda: postgres.sql(running).strip() == "1")
    await until_async(lambda: postgres.sql(running).strip() == "0")


async def test_an_error_in_the_block_is_itself_and_no_group(dsn: str) -> None:
    with pytest.raises(KeyError):
        async with pgpool_core.open_pool(dsn) as pool, pool.acquire(), pool.listen("x"):
            raise KeyError


async def test_a_pool_belongs_to_one_run(pool: Pool) -> None:
    def elsewhere() -> None:
        with pytest.raises(PoolError, match="another one here"):
            trio.run(pool.fetch, "select 1")

    await trio.to_thread.run_sync(elsewhere)
    with pytest.raises(PoolError, match=r"inside trio\.run"):
        await trio.to_thread.run_sync(lambda: pool.resize(max_size=3))


async def test_a_forked_child_has_no_pool_and_does_not_disturb_the_parents(pool: Pool) -> None:
    assert await pool.fetchval("select 1") == 1
    pid = os.fork()
    if pid == 0:
        try:
            pool.resume()
        except PoolClosed as error:
            os._exit(7 if "forked child" in str(error) else 8)
        os._exit(9)
    status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status[1]) == 7
    assert await pool.fetchval("select 2") == 2
    assert pool.statistics().opened == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"max_size": 0}, "max_size"),
        ({"min_size": 11}, "min_size"),
        ({"acquire_timeout": 0}, "acquire_timeout"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"statement_cache_size": -1}, "statement_cache_size"),
        ({"server_settings": {"client_encoding": "LATIN1"}}, "client_encoding"),
        ({"server_settings": {"User": "other"}}, "User is not for it to set"),
        ({"server_settings": {"work_mem": "5\0MB"}}, "'work_mem' and its value must be without zero bytes"),
        ({"dsn": "postgresql://h/d?pool_size=3"}, "pool_size is a setting of the proxy"),
        ({"dsn": "postgresql://h/d?sslmode=sometimes"}, "sslmode"),
    ],
)
async def test_arguments_that_cannot_be_used(arguments: dict[str, Any], what: str, dsn: str) -> None:
    with pytest.raises(ConfigError, match=what):
        async with pgpool_core.open_pool(arguments.pop("dsn", dsn), **arguments):
            pass


async def test_without_a_connection_string_the_environment_says_where(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGHOST": postgres.host,
        "PGPORT": postgres.port,
        "PGDATABASE": "app",
        "PGUSER": "app",
        "PGPASSWORD": "app-secret",
    }.items():
        monkeypatch.setenv(name, str(value))
    async with pgpool_core.open_pool() as pool:
        assert await pool.fetchval("select current_database()::text") == "app"


async def test_every_call_is_a_checkpoint(pool: Pool) -> None:
    async with pool.acquire() as connection:
        calls = [
            lambda: pool.fetch("select 1"),
            lambda: connection.fetch("select 1"),
            lambda: connection.execute("select 1"),
            lambda: connection.executemany("select $1::int", [(1,)]),
            lambda: connection.executemany("select $1::int", []),
            pool.drain,
        ]
        for call in calls:
            for _ in range(2):  # not prepared, and prepared
                with trio.testing.assert_checkpoints():
                    await call()
    with trio.testing.assert_checkpoints():
        async with pool.acquire():
            pass
