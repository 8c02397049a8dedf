"""Tasks that are cancelled: at the n-th checkpoint, for every n until the call completes; nothing is lost and nothing runs on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import pgpool_core
from pgpool_core import Pool
from pgpool_core.client.connection import Connection
from pgpool_core.client.sqlstate import PostgresError
from pgpool_core.testing import PostgresServer

Call = Callable[[Pool], Awaitable[Any]]


@pytest.fixture(params=["own", "lent"])
async def pool(request: pytest.FixtureRequest, postgres: PostgresServer) -> AsyncIterator[Pool]:
    """A pool with connections of its own, then one that borrows those of a proxy."""
    postgres.sql("drop table if exists cancelled; create table cancelled (id int)", database="app")
    postgres.sql("alter table cancelled owner to app", database="app")
    dsn, settings = postgres.dsn("app", "app"), {"application_name": "cancelled"}
    if request.param == "own":
        async with pgpool_core.open_pool(dsn, max_size=2, server_settings=settings, cancel_timeout=20) as pool:
            yield pool
        return
    backend = os.environ.get("PGPOOL_TEST_IO_BACKEND", "auto")
    async with (
        pgpool_core.open_proxy(dsn, default_pool_size=2, io_backend=backend) as proxy,
        proxy.open_pool(server_settings=settings, cancel_timeout=20) as pool,
    ):
        yield pool
        assert proxy._pooler.engine.invariants() == []


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when its task is about to go on for the n-th time."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, number: int) -> None:
        self.task, self.scope, self.left = task, scope, number

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel("the test")


async def fetch(pool: Pool) -> None:
    await pool.fetch("select pg_sleep(0.002), $1::int", 5)


async def fetch_unprepared(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("deallocate all")
        connection.link.statements.forget_closed()
        await connection.fetch("select $1::int, '(1,2)'::point", 5)


async def many_rows(pool: Pool) -> None:
    assert len(await pool.fetch("select repeat('x', 1000) from generate_series(1, 3000)")) == 3000


async def execute_many(pool: Pool) -> None:
    await pool.executemany("insert into cancelled values ($1)", [(n,) for n in range(1200)])


async def transaction(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await connection.execute("insert into cancelled values (1)")
        async with connection.transaction():
            await connection.execute("insert into cancelled values (2)")


async def cursor(pool: Pool) -> None:
    async with pool.cursor("select generate_series(1, 10) as n", prefetch=4) as rows:
        assert [row.n async for row in rows] == list(range(1, 11))


async def copy_in(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.copy_in("copy cancelled from stdin") as sink:
        for n in range(3):
            await sink.send_all(b"%d\n" % n * 10000)


async def copy_records(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.copy_records("cancelled", [(n,) for n in range(20000)])


async def copy_out(pool: Pool) -> None:
    async with (
        pool.acquire() as connection,
        connection.copy_out("copy (select repeat('x', 10000) from generate_series(1, 50)) to stdout") as source,
    ):
        while await source.receive_some():
            pass


async def pipeline(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.pipeline() as pipeline:
        pipeline.execute("insert into cancelled values ($1)", 7)
        pipeline.fetch("select * from cancelled")


async def large_argument(pool: Pool) -> None:
    big = "x" * 20_000_000
    assert await pool.fetchval("select length($1)", big) == len(big)


async def dirty(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("set work_mem = '7MB'")


async def listening(pool: Pool) -> None:
    async with pool.listen("cancelled_news") as notes:
        await pool.execute("notify cancelled_news")
        await notes.receive()


async def two_at_once(pool: Pool) -> None:
    async with pool.acquire() as one, pool.acquire() as two:
        assert await one.fetchval("select 1") == await two.fetchval("select 1")


CALLS = [
    fetch, fetch_unprepared, many_rows, execute_many, transaction, cursor, copy_in, copy_records, copy_out, pipeline, large_argument, dirty,
    listening, two_at_once,
]  # fmt: skip


async def run_until(pool: Pool, call: Call, number: int) -> bool:
    """Whether the call came to its end before the n-th checkpoint."""
    with trio.CancelScope() as scope:
        instrument = CancelAt(trio.lowlevel.current_task(), scope, number)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call(pool)
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancelled_caught


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_may_be_cancelled_at_every_checkpoint(call: Call, pool: Pool, postgres: PostgresServer) -> None:
    busy = (
        "select count(*) from pg_stat_activity where application_name = 'cancelled' and pid <> pg_backend_pid()"
        " and state <> 'idle'"
    )
    number = 1
    with trio.fail_after(100):
        while not await run_until(pool, call, number):
            number += 1
            counted = pool.statistics()
            assert (counted.in_use, counted.waiting) == (0, 0), f"after a cancel at checkpoint {number - 1}"
            assert counted.size <= counted.max_size
            row = await pool.fetchrow(
                f"select current_setting('work_mem') as mem, ({busy}) as busy, txid_current_if_assigned() as xid"
            )
            assert row is not None
            assert row.mem == "4MB"
            assert row.xid is None
            if row.busy:  # of a connection that was closed: the server may not have noticed yet
                while await pool.fetchval(busy):
                    await trio.lowlevel.checkpoint()
            assert number < 500
    assert number > 1
    assert pool.statistics().in_use == 0


async def test_a_cancelled_query_is_cancelled_on_the_server_and_its_connection_goes_on(pool: Pool) -> None:
    async with pool.acquire() as connection:
        pid = connection.backend_pid
        with trio.move_on_after(0.05) as scope:
            await connection.execute("select pg_sleep(60)")
        assert scope.cancelled_caught
        assert await connection.fetchval("select 'still here'") == "still here"
    assert await pool.fetchval("select pg_backend_pid()") == pid
    assert pool.statistics().closed == 0


async def test_a_query_cancelled_inside_a_transaction_can_be_rolled_back_to_a_savepoint(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await connection.execute("insert into cancelled values (1)")
        with trio.move_on_after(0.05):
            async with connection.transaction():
                await connection.execute("select pg_sleep(60)")
        await connection.execute("insert into cancelled values (2)")
    assert await pool.fetch("select id from cancelled order by id") == [(1,), (2,)]


async def begin(connection: Connection) -> None:
    async with connection.transaction():
        raise AssertionError("it was to be cancelled")


async def begin_for_many(connection: Connection) -> None:
    await connection.executemany("insert into cancelled values ($1)", [(1,), (2,)])


async def begin_for_a_cursor(connection: Connection) -> None:
    async with connection.cursor("select 1"):
        raise AssertionError("it was to be cancelled")


async def cancelled(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Cancel a call where it waits first: what it has sent is at the server."""
    with trio.CancelScope() as scope:
        scope.cancel("the test")
        await call(*args)
    assert scope.cancelled_caught


@pytest.mark.parametrize("call", [begin, begin_for_many, begin_for_a_cursor])
async def test_a_transaction_that_was_cancelled_at_its_begin_is_not_open(
    call: Callable[[Connection], Awaitable[None]], pool: Pool
) -> None:
    async with pool.acquire() as connection:
        await cancelled(call, connection)
        assert not connection.in_transaction
        await connection.execute("insert into cancelled values (3)")
    assert await pool.fetch("select id from cancelled") == [(3,)]


async def test_a_savepoint_that_was_cancelled_at_its_begin_is_not_there(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await connection.execute("insert into cancelled values (1)")
        await cancelled(begin, connection)
        with pytest.raises(PostgresError, match="pgpool_1"):
            async with connection.transaction():
                await connection.execute("release pgpool_1")
        await connection.execute("insert into cancelled values (2)")
    assert await pool.fetch("select id from cancelled order by id") == [(1,), (2,)]


async def test_a_statement_that_was_cancelled_while_it_was_prepared_is_not_kept(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for n in range(3):
            await cancelled(connection.fetch, f"select {n}")
        named = "select count(*) from pg_prepared_statements where statement like 'select _'"
        assert await connection.fetchval(named) == 0


@pytest.mark.parametrize("command", ["deallocate all", "discard all", "deallocate all; select pg_sleep(60)"])
async def test_statements_that_a_cancelled_command_has_had_forgotten_are_prepared_anew(
    command: str, pool: Pool
) -> None:
    async with pool.acquire() as connection:
        await connection.fetch("select 1")
        await cancelled(connection.execute, command)
        async with connection.transaction():
            assert await connection.fetchval("select 1") == 1


async def test_a_cursor_whose_rows_were_lost_says_so(pool: Pool) -> None:
    async with pool.cursor("select generate_series(1, 10)", prefetch=5) as rows:
        assert [await rows.receive() for _ in range(5)] == [(n,) for n in range(1, 6)]
        await cancelled(rows.receive)
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="lost"), trio.testing.assert_checkpoints():
                await rows.receive()


async def test_what_a_copy_had_still_to_send_is_not_waited_for(pool: Pool) -> None:
    slow = "select repeat('x', 10000) union all select pg_sleep(60)::text"  # some of the first row fills the server's buffer
    async with pool.acquire() as connection:
        async with connection.copy_out(f"copy ({slow}) to stdout") as source:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.receive_some)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel("the test")
            for _ in range(2):
                with pytest.raises(trio.BrokenResourceError, match="cancelled"), trio.testing.assert_checkpoints():
                    await source.receive_some()
        assert await connection.fetchval("select 1") == 1


async def test_a_server_that_does_not_cancel_costs_its_connection_and_no_more_than_the_deadline(
    own_postgres: PostgresServer,
) -> None:
    async with pgpool_core.open_pool(own_postgres.dsn("app", "app"), max_size=1, cancel_timeout=0.2) as pool:
        async with pool.acquire() as connection:
            await trio.to_thread.run_sync(own_postgres.pause)
            try:
                with trio.fail_after(20), trio.move_on_after(0.05):
                    await connection.fetch("select 1")
            finally:
                await trio.to_thread.run_sync(own_postgres.resume)
        assert pool.statistics().closed == 1
        assert await pool.fetchval("select 1") == 1


async def test_those_who_wait_and_are_cancelled_take_nothing_with_them(pool: Pool) -> None:
    async def wait_a_little(connection: Connection | None = None) -> None:
        with trio.move_on_after(0.001):
            await pool.fetch("select 1")

    async with pool.acquire(), pool.acquire(), trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(wait_a_little)
    with trio.fail_after(20):
        while (counted := pool.statistics()).idle < 2:
            await trio.lowlevel.checkpoint()
    assert (counted.in_use, counted.waiting, counted.idle) == (0, 0, 2)


# -- opening and ending --------------------------------------------------------------------------------------------------------


async def talk(connection: Connection) -> None:
    await connection.execute("select 'a hook'")


async def with_hooks(dsn: str) -> None:
    async def password() -> str:
        await trio.lowlevel.checkpoint()
        return "app-secret"

    async with pgpool_core.open_pool(
        dsn.replace("app-secret", "wrong"), min_size=2, max_size=2, password=password, cancel_timeout=20,
        on_connect=talk, on_acquire=talk, on_release=talk,
    ) as pool:  # fmt: skip
        await pool.execute("set work_mem = '7MB'")
        await pool.drain()
        await pool.fetchval("select 1")


async def with_a_proxy(dsn: str) -> None:
    async with (
        pgpool_core.open_proxy(dsn, default_pool_size=1) as proxy,
        proxy.open_pool(on_acquire=talk, on_release=talk, cancel_timeout=20) as pool,
    ):
        await pool.fetchval("select 1")
        await proxy.pause()
        await proxy.resume()
        await proxy.reload(proxy.config)
        await proxy.snapshot()
        await pool.fetchval("select 1")
        await proxy.shutdown()


async def tried_again(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, max_size=1, cancel_timeout=20) as pool:
        tries: list[int] = []

        async def work(connection: Connection) -> None:
            tries.append(1)
            if len(tries) < 3:
                await connection.execute("do $$ begin raise sqlstate '40001'; end $$")

        await pool.transaction(isolation="serializable", retries=5).run(work)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("program", [with_hooks, with_a_proxy, tried_again])
async def test_a_pool_or_proxy_may_be_cancelled_from_its_beginning_to_its_end(
    program: Callable[[str], Awaitable[None]], postgres: PostgresServer
) -> None:
    dsn = f"{postgres.dsn('app', 'app')}?application_name=opened"
    left = "select count(*) from pg_stat_activity where application_name = 'opened'"
    async with pgpool_core.open_pool(postgres.dsn("app", "app"), max_size=1) as watch:
        assert await watch.fetchval(left) == 0
        before, number, over = descriptors(), 0, False
        with trio.fail_after(100):
            while not over:
                number += 1
                with trio.CancelScope() as scope:
                    instrument = CancelAt(trio.lowlevel.current_task(), scope, number)
                    trio.lowlevel.add_instrument(instrument)
                    try:
                        await program(dsn)
                    finally:
                        trio.lowlevel.remove_instrument(instrument)
                over = not scope.cancelled_caught
                assert descriptors() == before, f"after a cancel at checkpoint {number}"
            while await watch.fetchval(left):
                await trio.lowlevel.checkpoint()
        assert number > 5
