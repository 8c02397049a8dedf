"""Tasks of the program and clients of its proxy share one pool: servers, queue, limits, numbers, orders, and nothing of each other's state."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import pgpool_core
from pgpool_core import (
    ConfigError,
    ConnectionLost,
    Notification,
    Pool,
    PoolClosed,
    PoolError,
    PoolTimeout,
    Proxy,
    ServerUnavailable,
    TooManyClients,
)
from pgpool_core.client import sqlstate
from pgpool_core.client.connection import Connection
from pgpool_core.config.model import UserConfig
from pgpool_core.metrics.snapshot import ClientRow, PoolRow
from pgpool_core.testing import PostgresServer
from pgpool_core.testing.ports import free_port
from tests.watching import until_async

BACKEND = os.environ.get("PGPOOL_TEST_IO_BACKEND", "auto")
OURS = "select count(*) from pg_stat_activity where application_name = 'one pool'"


def source(postgres: PostgresServer) -> str:
    """The server, whose connections can be told from those of other tests."""
    return postgres.dsn("app", "app") + "?application_name=one%20pool"


@attrs.frozen
class Both:
    """A proxy, a pool that borrows from it, and a pool whose connections are clients of it."""

    proxy: Proxy
    pool: Pool
    clients: Pool

    def row(self) -> PoolRow:
        (row,) = self.proxy.statistics().pools
        return row

    async def rows(self) -> tuple[ClientRow, ...]:
        return (await self.proxy.snapshot()).clients

    async def until(self, look: Callable[[PoolRow], bool]) -> None:
        with trio.fail_after(20):
            while not look(self.row()):
                await trio.lowlevel.checkpoint()

    async def at_rest(self) -> None:
        """Everything has been given back; the books are in order."""
        await self.until(lambda row: row.sv_active + row.sv_tested + row.sv_being_canceled + row.sv_login == 0)
        await self.until(lambda row: row.cl_waiting == 0)
        assert self.proxy._pooler.engine.invariants() == []


@asynccontextmanager
async def both(postgres: PostgresServer, **settings: Any) -> AsyncIterator[Both]:
    of_pool = {name: settings.pop(name) for name in list(settings) if name in ("server_settings", "max_waiting", "acquire_timeout", "statement_cache_size", "on_release")}  # fmt: skip
    async with (
        pgpool_core.open_proxy(source(postgres), io_backend=BACKEND, **settings) as proxy,
        proxy.open_pool(**of_pool) as pool,
        pgpool_core.open_pool(proxy.url, max_size=20) as clients,
    ):
        it = Both(proxy, pool, clients)
        yield it
        if not proxy.closed:
            await it.at_rest()


# -- one set of limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        {"default_pool_size": 2},
        {"default_pool_size": 8, "max_db_connections": 2},
        {"default_pool_size": 8, "max_user_connections": 2},
        {"default_pool_size": 2, "workers": 3},
    ],
)
async def test_limits_count_both_as_postgresql_does(limits: dict[str, int], postgres: PostgresServer) -> None:
    seen: list[int] = []
    async with both(postgres, **limits) as it:

        async def ask(pool: Pool) -> None:
            for _ in range(10):
                async with pool.transaction() as connection:
                    seen.append(await connection.fetchval(OURS))
                    await connection.execute("select pg_sleep(0.001)")

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask, it.pool)
                nursery.start_soon(ask, it.clients)
        assert len(seen) == 120
        assert max(seen) == 2
        assert it.pool.statistics().in_use == 0


async def test_who_comes_first_is_served_first_whoever_it_is(postgres: PostgresServer) -> None:
    now = "select extract(epoch from clock_timestamp())"
    served: dict[int, Any] = {}  # when, as PostgreSQL has it: answers may be read in another order
    async with both(postgres, default_pool_size=1) as it:
        for _ in range(8):  # connections to the proxy are there already, and it is prepared, so that all ask at once
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(it.clients.fetchval, now)

        async def ask(pool: Pool, number: int) -> None:
            served[number] = await pool.fetchval(now)

        async with trio.open_nursery() as nursery, it.pool.acquire() as connection:
            await connection.execute("select 1")
            for number in range(6):
                nursery.start_soon(ask, it.pool if number % 2 else it.clients, number)
                await it.until(lambda row, n=number: row.cl_waiting == n + 1)  # type: ignore[misc]
        assert sorted(served, key=served.__getitem__) == list(range(6))


async def test_the_reserve_and_min_pool_size_hold(postgres: PostgresServer) -> None:
    async with both(
        postgres, default_pool_size=1, reserve_pool_size=1, reserve_pool_timeout=0.01, min_pool_size=1
    ) as it:
        await it.until(lambda row: row.servers_total == 1)
        async with it.clients.transaction() as connection:
            await connection.execute("select 1")
            assert await it.pool.fetchval("select 1") == 1
            assert it.row().servers_total == 2


async def test_borrowers_count_among_clients(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=5, max_client_conn=2) as it:
        async with it.pool.acquire():
            with pytest.raises(TooManyClients, match="max_client_conn"):
                await it.pool.fetch("select 1")
        await it.pool.fetch("select 1")
    async with both(postgres, default_pool_size=5, max_user_client_connections=2) as it, it.pool.acquire():
        with pytest.raises(TooManyClients, match="max_user_client_connections"):
            await it.pool.fetch("select 1")


async def test_who_waits_too_long_hears_who_has_what(postgres: PostgresServer) -> None:
    async with (
        both(postgres, default_pool_size=1, query_wait_timeout=1, acquire_timeout=20, max_waiting=1) as it,
        it.pool.acquire(),
    ):
        with pytest.raises(PoolTimeout, match="query_wait_timeout"):
            await it.pool.fetch("select 1")
    async with (
        both(postgres, default_pool_size=1, acquire_timeout=0.05, max_waiting=1) as it,
        it.pool.acquire(),
        trio.open_nursery() as nursery,
    ):
        with pytest.raises(
            PoolTimeout, match=r"has 1 of 1, in use here 1, waiting here 0.*longest .* task .*acquire_timeout"
        ):
            await it.pool.fetch("select 1")
        await it.until(lambda row: row.cl_waiting == 0)

        async def wait() -> None:
            with pytest.raises(PoolTimeout, match="acquire_timeout"):
                await it.pool.fetch("select 1")

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PoolTimeout, match="max_waiting"):
            await it.pool.fetch("select 1")


# -- one place to look ---------------------------------------------------------------------------------------------------------


async def test_the_console_shows_borrowers_like_clients(postgres: PostgresServer) -> None:
    async with (
        both(postgres, default_pool_size=1, server_settings={"application_name": "a borrower"}) as it,
        it.pool.acquire() as connection,
        trio.open_nursery() as nursery,
    ):
        await connection.execute("select 1")
        nursery.start_soon(it.pool.fetch, "select 1")
        await it.until(lambda row: row.cl_waiting == 1)
        row = it.row()
        assert (row.cl_active, row.cl_waiting, row.sv_active, row.sv_idle) == (2, 1, 1, 0)  # with the open client
        snapshot = await it.proxy.snapshot()
        (server,) = snapshot.servers
        active, waiting = (
            [row for row in snapshot.clients if row.fd == -1 and row.state == state] for state in ("active", "waiting")
        )
        assert [row.link for row in active] == [server.id]
        assert server.link == active[0].id
        assert (server.state, server.remote_pid) == ("active", connection.backend_pid)
        assert [(row.user, row.database, row.application_name, row.addr, row.remote_pid) for row in waiting] == [
            ("app", "app", "a borrower", "unix", os.getpid())
        ]
        await connection.fetchval("select 1")
        nursery.cancel_scope.cancel("the test")


async def test_what_borrowers_do_is_counted(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it:
        before = it.proxy.statistics().overall.totals
        async with it.pool.transaction() as connection:
            await connection.execute("select pg_sleep(0.01)")
        await it.at_rest()
        after = it.proxy.statistics().overall.totals
        assert after.xacts - before.xacts == 1
        assert after.queries - before.queries == 3
        assert after.server_assignments - before.server_assignments == 1
        assert after.query_us - before.query_us >= 10_000
        assert after.xact_us - before.xact_us >= after.query_us - before.query_us
        assert after.received > before.received
        assert after.sent > before.sent


# -- no state of each other's --------------------------------------------------------------------------------------------------

LEFT = {
    "a setting": ("set work_mem = '7MB'", "select current_setting('work_mem')"),
    "a reported setting": ("set timezone = 'Asia/Tokyo'", "select current_setting('timezone')"),
    "a role": ("set role pg_monitor", "select current_user::text"),
    "a custom setting": ("select set_config('one.pool', 'mine', false)", "select coalesce(current_setting('one.pool', true), '')"),
    "a temporary table": ("create temp table left_here (a int)", "select count(*) from pg_class where relname = 'left_here'"),
    "a lock": ("select pg_advisory_lock(815)", "select count(*) from pg_locks where locktype = 'advisory' and objid = 815"),
    "a channel": ("listen left_here", "select count(*) from pg_listening_channels()"),
    "a prepared statement": ("prepare left_here as select 1", "select count(*) from pg_prepared_statements where from_sql"),
    "a cursor": ("declare left_here cursor with hold for select 1", "select count(*) from pg_cursors where name = 'left_here'"),
    "what a block does": ("do $$begin perform set_config('work_mem', '9MB', false); end$$", "select current_setting('work_mem')"),
    "what a function does": ("select one_pool_sets()", "select current_setting('work_mem')"),
    "a transaction": ("begin", "select now() = statement_timestamp()"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEFT)
async def test_nothing_is_left_for_the_next_one(kind: str, postgres: PostgresServer) -> None:
    leave, look = LEFT[kind]
    postgres.sql(
        "create or replace function one_pool_sets() returns text language sql"
        " as $$select set_config('work_mem', '8MB', false)$$; grant pg_monitor to app",
        database="app",
    )
    try:
        async with both(postgres, default_pool_size=1) as it:
            fresh = await it.clients.fetchval(look)
            assert await it.pool.fetchval(look) == fresh
            async with it.pool.acquire() as connection:
                await connection.execute(leave)
            assert await it.clients.fetchval(look) == fresh
            assert await it.pool.fetchval(look) == fresh
            async with it.clients.acquire() as connection:
                await connection.execute(leave)
                if kind not in ("a transaction", "a channel"):  # which is kept from the server
                    assert await connection.fetchval(look) != fresh
            assert await it.pool.fetchval(look) == fresh
    finally:
        postgres.sql("drop function one_pool_sets; revoke pg_monitor from app", database="app")


async def test_a_client_keeps_its_settings_on_a_server_that_was_lent(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it, it.clients.acquire() as client:
        await client.execute("set timezone = 'Asia/Tokyo'; set work_mem = '7MB'")
        for leave in (
            "set timezone = 'UTC'",
            "set timezone = default",
            "reset all",
            "set work_mem = '9MB'",
            "discard all",
        ):
            await it.pool.execute(leave)
            assert (
                await client.fetchval("select current_setting('timezone') || current_setting('work_mem')")
                == "Asia/Tokyo7MB"
            )
        assert it.row().servers_total == 1


async def test_settings_of_the_pool_hold_for_every_borrower_and_nobody_else(postgres: PostgresServer) -> None:
    mine = {"work_mem": "5MB", "TimeZone": "Asia/Tokyo", "statement_timeout": "77s"}
    look = "select current_setting('work_mem'), current_setting('timezone'), current_setting('statement_timeout')"
    async with both(postgres, default_pool_size=1, server_settings=mine) as it:
        for _ in range(3):
            theirs = await it.clients.fetchrow(look)
            assert await it.pool.fetchrow(look) == ("5MB", "Asia/Tokyo", "77s")
            async with it.pool.acquire() as connection:
                assert connection.server_settings["TimeZone"] == "Asia/Tokyo"
                await connection.execute("set work_mem = '6MB'")
            assert theirs == ("4MB", theirs[1], "0")
        with pytest.raises(pgpool_core.PostgresError) as refused:
            async with it.proxy.open_pool(server_settings={"work_mem": "no number"}) as other:
                await other.fetch("select 1")
        assert refused.value.sqlstate == "22023"
        assert await it.pool.fetchrow(look) == ("5MB", "Asia/Tokyo", "77s")


async def test_a_function_that_comes_to_leave_something_is_noticed(postgres: PostgresServer) -> None:
    look = "select current_setting('work_mem')"
    try:
        async with both(postgres, default_pool_size=1) as it:
            await it.pool.execute("create function one_pool_turns() returns text language sql as $$select 'x'$$")
            assert await it.pool.fetchval("select one_pool_turns()") == "x"
            await it.pool.execute(
                "create or replace function one_pool_turns() returns text language sql"
                " as $$select set_config('work_mem', '8MB', false)$$"
            )
            assert await it.pool.fetchval("select one_pool_turns()") == "8MB"
            assert await it.clients.fetchval(look) == "4MB"
            assert await it.pool.fetchval(look) == "4MB"
    finally:
        postgres.sql("drop function one_pool_turns", database="app")


async def test_in_session_mode_the_reset_query_comes_in_between(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1, pool_mode="session", server_reset_query="reset work_mem") as it:
        await it.clients.drain()
        await it.pool.execute("select set_config('work_mem', '8MB', false)")
        assert await it.pool.fetchval("select current_setting('work_mem')") == "4MB"


async def test_statements_stay_prepared_from_one_loan_to_the_next(postgres: PostgresServer) -> None:
    count = "select count(*) from pg_prepared_statements where name like 'pgpool\\_lent\\_%'"
    async with both(postgres, default_pool_size=1) as it:
        for n in range(3):
            assert await it.pool.fetchval("select $1::int + 1", n) == n + 1
        assert await it.clients.fetchval(count) == 1
        await it.clients.execute("discard all")
        assert await it.pool.fetchval("select $1::int + 1", 7) == 8
        async with it.proxy.open_pool() as other:
            assert await other.fetchval("select $1::int + 1", 7) == 8
            assert await it.clients.fetchval(count) == 2
        assert await it.pool.fetchval("select $1::int + 1", 7) == 8
        assert await it.clients.fetchval(count) == 1, "what a pool had prepared goes after its end"
    async with both(postgres, default_pool_size=1, max_prepared_statements=0) as it:
        assert await it.pool.fetchval("select $1::int + 1", 7) == 8
        assert await it.clients.fetchval(count) == 0


async def test_leak_check_has_nothing_to_say(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1, leak_check=1) as it:
        await it.pool.execute("set work_mem = '7MB'")
        await it.pool.fetchval("select $1::int", 1)
        await it.clients.fetchval("select $1::int", 1)
        await it.at_rest()
        totals = it.proxy.statistics().overall.totals
        assert (totals.leak_checks > 0, totals.leaks) == (True, 0)


# -- orders and losses ---------------------------------------------------------------------------------------------------------


async def test_a_server_that_dies_while_it_is_lent_costs_its_borrower(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it:
        async with it.pool.acquire() as connection:
            await connection.fetchval("select 1")
            postgres.sql(f"select pg_terminate_backend({connection.backend_pid})")
            with pytest.raises((ConnectionLost, sqlstate.PostgresError)):
                await connection.fetchval("select pg_sleep(20)")
        assert await it.pool.fetchval("select 1") == 1
        assert await it.clients.fetchval("select 1") == 1
        await it.at_rest()
        pid = await it.pool.fetchval("select pg_backend_pid()")
        postgres.sql(f"select pg_terminate_backend({pid})")  # while it is idle
        await it.until(lambda row: row.servers_total == 0)
        assert await it.pool.fetchval("select 1") == 1


@contextmanager
def stopped(pid: int) -> Iterator[Callable[[], bool]]:
    """The backend does not run: what it is sent has not begun. Yields: whether it has been told to cancel what it runs."""

    def told() -> bool:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        [pending] = [int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:")]
        return bool(pending >> signal.SIGINT - 1 & 1)

    os.kill(pid, signal.SIGSTOP)
    try:
        yield told
    finally:
        os.kill(pid, signal.SIGCONT)


SLEEPERS = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may stop a backend that is another user's")
@pytest.mark.parametrize("how", ["killed", "cancelled"])
async def test_what_had_not_begun_when_it_was_to_be_cancelled_is_cancelled_later(
    postgres: PostgresServer, how: str
) -> None:
    async with both(postgres, default_pool_size=1) as it:
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery, it.pool.acquire() as connection:
            with stopped(await connection.fetchval("select pg_backend_pid()")) as told:

                async def sleep() -> None:
                    with scope, pytest.raises((ConnectionLost, PoolClosed)):
                        await connection.execute("select pg_sleep(600)")

                nursery.start_soon(sleep)
                await trio.testing.wait_all_tasks_blocked()
                if how == "killed":
                    nursery.start_soon(it.proxy.orders.kill)
                else:
                    scope.cancel()
                await until_async(told)
            await until_async(lambda: postgres.sql(SLEEPERS) == "0")
        if how == "killed":
            await it.proxy.resume()


async def test_kill_takes_servers_away_from_borrowers(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=2) as it, trio.open_nursery() as nursery:
        ended: list[str] = []

        async def sleep() -> None:
            with pytest.raises((ConnectionLost, PoolClosed)) as lost:
                await it.pool.fetch("select pg_sleep(60)")
            ended.append(str(lost.value))

        async def wait() -> None:
            with pytest.raises(PoolClosed) as closed:
                await it.pool.fetch("select 1")
            ended.append(str(closed.value))

        async with it.pool.acquire() as connection:
            nursery.start_soon(sleep)
            await it.until(lambda row: row.sv_active == 2)
            nursery.start_soon(wait)
            await it.until(lambda row: row.cl_waiting == 1)
            with trio.fail_after(20):
                await it.proxy.orders.kill()
            with pytest.raises(ConnectionLost, match="database removed"):
                await connection.fetch("select 1")
        with trio.fail_after(20):
            while len(ended) < 2:
                await trio.lowlevel.checkpoint()
        assert all("database removed" in text for text in ended)
        await it.proxy.resume()
        assert await it.pool.fetchval("select 1") == 1
        assert postgres.sql("select count(*) from pg_stat_activity where query like 'select pg_sleep(60)%'") in (
            "0",
            "0\n",
        )


async def test_kill_client_takes_one_away(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=2) as it, it.pool.acquire() as first, it.pool.acquire() as second:
        pid = first.backend_pid
        snapshot = await it.proxy.snapshot()
        (link,) = [row.link for row in snapshot.servers if row.remote_pid == pid]
        await it.proxy.orders.kill_client(str(link))
        with (
            trio.fail_after(20),
            pytest.raises(ConnectionLost, match="taken the connection back: admin forced disconnect"),
        ):
            while True:
                await first.fetchval("select 1")
        assert await second.fetchval("select 2") == 2


async def test_pause_waits_for_borrowers_and_borrowers_wait_for_resume(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it, trio.open_nursery() as nursery:
        paused, done = trio.Event(), trio.Event()

        async def pause() -> None:
            await it.proxy.pause()
            paused.set()

        async def ask() -> None:
            assert await it.pool.fetchval("select 1") == 1
            done.set()

        async with it.pool.acquire() as connection:
            nursery.start_soon(pause)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not paused.is_set()
            assert await connection.fetchval("select 1") == 1
        with trio.fail_after(20):
            await paused.wait()
            assert it.row().servers_total == 0
            nursery.start_soon(ask)
            await it.until(lambda row: row.cl_waiting == 1)
            assert not done.is_set()
            await it.proxy.resume()
            await done.wait()


async def test_suspend_waits_for_borrowers_and_who_comes_then_waits(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=2, suspend_timeout=20) as it, trio.open_nursery() as nursery:
        still, done = trio.Event(), trio.Event()

        async def suspend() -> None:
            await it.proxy.orders.suspend()
            still.set()

        async def ask() -> None:
            assert await it.pool.fetchval("select 1") == 1
            done.set()

        async with it.pool.acquire() as connection:
            nursery.start_soon(suspend)
            with trio.fail_after(20):
                while not (await it.proxy.snapshot()).state.suspended:
                    await trio.lowlevel.checkpoint()
            nursery.start_soon(ask)
            assert await connection.fetchval("select 1") == 1
            assert not still.is_set()
        with trio.fail_after(20):
            await still.wait()
            assert not done.is_set()
            await it.proxy.resume()
            await done.wait()


async def test_who_keeps_a_server_through_suspend_timeout_loses_it(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=2, suspend_timeout=0.05) as it, it.pool.acquire() as connection:
        await connection.fetchval("select 1")
        with trio.fail_after(20):
            await it.proxy.orders.suspend()
            await it.proxy.resume()
            with pytest.raises(ConnectionLost, match="suspend_timeout"):
                while True:
                    await connection.fetchval("select 1")


async def test_disable_refuses_borrowers(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it:
        it.proxy.orders.disable("app")
        with pytest.raises(PoolClosed, match="disabled"):
            await it.pool.fetch("select 1")
        it.proxy.orders.enable("app")
        assert await it.pool.fetchval("select 1") == 1


async def test_reload_retires_a_lent_server_when_it_comes_back(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it:
        async with it.pool.acquire() as connection:
            pid = connection.backend_pid
            databases = {
                name: attrs.evolve(entry, timezone="Asia/Tokyo") for name, entry in it.proxy.config.databases.items()
            }
            await it.proxy.reload(attrs.evolve(it.proxy.config, databases=databases))
            assert await connection.fetchval("select pg_backend_pid()") == pid
        assert await it.pool.fetchval("select pg_backend_pid()") != pid
        async with it.pool.acquire() as connection:
            assert await connection.fetchval("show timezone") == "Asia/Tokyo"
        before = await it.pool.fetchval("select pg_backend_pid()")
        await it.pool.drain()
        assert await it.pool.fetchval("select pg_backend_pid()") != before


async def test_a_database_that_goes_sends_its_borrowers_away(postgres: PostgresServer) -> None:
    async with pgpool_core.open_proxy(source(postgres), io_backend=BACKEND) as proxy, proxy.open_pool() as pool:
        async with pool.acquire() as connection:
            await connection.fetch("select 1")
            entry = proxy.config.databases["app"]
            await proxy.reload(attrs.evolve(proxy.config, databases={"other": entry}))
            with trio.fail_after(20), pytest.raises(ConnectionLost, match="database removed"):
                while True:
                    await connection.fetch("select 1")
        with pytest.raises(ConfigError, match="no such database"):
            await pool.fetch("select 1")
        async with proxy.open_pool("other") as other:
            assert await other.fetchval("select current_database()") == "app"


async def test_server_lifetime_holds(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1, server_lifetime=0) as it:
        pids = [await it.pool.fetchval("select pg_backend_pid()") for _ in range(3)]
        assert len(set(pids)) == 3


async def test_shutdown_ends_every_loan(postgres: PostgresServer) -> None:
    ended: list[BaseException] = []
    async with both(postgres, default_pool_size=1) as it, trio.open_nursery() as nursery:

        async def ask(sql: str) -> None:
            try:
                await it.pool.fetch(sql)
            except PoolError as error:
                ended.append(error)
            except ConnectionLost as error:
                ended.append(error)

        nursery.start_soon(ask, "select pg_sleep(60)")
        await it.until(lambda row: row.sv_active == 1)
        nursery.start_soon(ask, "select 1")
        await it.until(lambda row: row.cl_waiting == 1)
        with trio.fail_after(20):
            await it.proxy.shutdown()
            while len(ended) < 2:
                await trio.lowlevel.checkpoint()
        with pytest.raises(PoolClosed):
            await it.pool.fetch("select 1")
    assert {type(error) for error in ended} == {ConnectionLost, PoolClosed}


async def test_a_proxy_may_end_around_a_pool_in_use(postgres: PostgresServer) -> None:
    async with pgpool_core.open_proxy(source(postgres), io_backend=BACKEND) as proxy:
        manager = proxy.open_pool()
        pool = await manager.__aenter__()
        acquired = pool.acquire()
        connection = await acquired.__aenter__()
        await connection.execute("begin")
    with pytest.raises(ConnectionLost, match=r"stopped|shutting down"):
        await connection.fetch("select 1")
    await acquired.__aexit__(None, None, None)
    await manager.__aexit__(None, None, None)


async def test_the_end_of_the_block_takes_everything_back(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it:
        async with it.proxy.open_pool() as other, trio.open_nursery() as nursery:
            acquired = other.acquire()
            connection = await acquired.__aenter__()
            await connection.execute("select 1")
            assert it.row().sv_active == 1
            nursery.cancel_scope.cancel("the test")
        with pytest.raises(ConnectionLost, match="the pool is closed"):
            await connection.fetch("select 1")
        with pytest.raises(PoolClosed):
            await other.fetch("select 1")
        assert await it.clients.fetchval("select 1") == 1


async def test_a_fork_leaves_the_loans_of_the_parent_alone(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1) as it, it.pool.acquire() as connection:
        await connection.execute("select 1")
        pid = os.fork()
        if pid == 0:
            try:
                it.pool.resume()
            except PoolClosed as error:
                os._exit(7 if "forked child" in str(error) else 8)
            os._exit(9)
        status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status[1]) == 7
        assert await connection.fetchval("select 2") == 2


async def closed(connection: Connection) -> None:
    with trio.fail_after(20):
        while not connection.link.closed:
            await trio.lowlevel.checkpoint()


async def test_query_timeout_ends_borrowers_too(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1, query_timeout=0.5) as it:
        with trio.fail_after(20), pytest.raises(sqlstate.QueryCanceled) as told:
            await it.pool.fetch("select pg_sleep(61)")
        assert (told.value.severity, told.value.sqlstate, told.value.message) == ("FATAL", "57014", "query timeout")
        with trio.fail_after(20), pytest.raises(sqlstate.QueryCanceled):
            async with it.pool.transaction() as connection:
                await connection.fetch("select pg_sleep(61)")
        await it.proxy.reload(attrs.evolve(it.proxy.config, query_timeout=0.0))
        running = "select count(*) from pg_stat_activity where query like 'select pg_sleep(61)%'"
        with trio.fail_after(20):
            while await it.pool.fetchval(running):
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("transaction_timeout", "transaction timeout"),
        ("idle_transaction_timeout", "idle transaction timeout"),
        ("client_idle_timeout", "client_idle_timeout"),
    ],
)
async def test_pauses_may_be_too_long_for_borrowers_too(setting: str, text: str, postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=2, **{setting: 0.5}) as it, it.pool.listen("pauses") as news:
        with pytest.raises(ConnectionLost, match=f"taken the connection back: {text}"):
            async with it.pool.acquire() as connection:
                await connection.fetchval("select 1")
                if setting != "client_idle_timeout":
                    await connection.execute("begin")
                await closed(connection)
                await connection.fetchval("select 2")
        await it.pool.execute("notify pauses")
        with trio.fail_after(20):
            assert isinstance(await news.receive(), Notification)  # who listens need not say anything


async def test_a_user_may_have_a_timeout_of_its_own(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=1, query_timeout=600) as it:
        await it.proxy.reload(attrs.evolve(it.proxy.config, users={"app": UserConfig(query_timeout=0.5)}))
        with trio.fail_after(20), pytest.raises(sqlstate.QueryCanceled):
            await it.pool.fetch("select pg_sleep(62)")
        await it.proxy.reload(attrs.evolve(it.proxy.config, users={"app": UserConfig(query_timeout=0)}))
        assert it.proxy._pooler.loans.patience(next(iter(it.proxy._pooler.loans._pools)), "app").query_us == 0
        assert await it.pool.fetchval("select 1") == 1


async def test_a_server_that_cannot_be_reached_is_said_to_be_so() -> None:
    async with (
        pgpool_core.open_proxy(f"postgresql://app:x@127.0.0.1:{free_port()}/app", server_login_retry=0.1) as proxy,
        proxy.open_pool() as pool,
    ):
        with trio.fail_after(20), pytest.raises(ServerUnavailable):
            await pool.fetch("select 1")


async def test_notifications_come_over_a_borrowed_server(postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=2) as it:
        async with it.pool.listen("one_pool_news") as news:
            assert it.row().sv_active == 1
            await it.clients.execute("notify one_pool_news, 'hello'")
            with trio.fail_after(20):
                item = await news.receive()
            assert isinstance(item, Notification)
            assert item.payload == "hello"
        await it.at_rest()
        assert await it.clients.fetchval("select count(*) from pg_listening_channels()") == 0


async def test_a_borrower_can_drop_a_database_that_the_proxy_has_servers_of(postgres: PostgresServer) -> None:
    postgres.sql("drop database if exists one_pool_goes")
    postgres.sql("create database one_pool_goes owner app")
    async with (
        pgpool_core.open_proxy(source(postgres), io_backend=BACKEND) as proxy,
        proxy.open_pool() as pool,
        proxy.open_pool("one_pool_goes") as other,
    ):
        assert await other.fetchval("select current_database()") == "one_pool_goes"
        await pool.execute("drop database one_pool_goes")
        assert await pool.fetchval("select count(*) from pg_database where datname = 'one_pool_goes'") == 0


async def test_what_cannot_be_had_is_refused(postgres: PostgresServer) -> None:
    async with pgpool_core.open_proxy(source(postgres), pool_mode="statement") as proxy:
        with pytest.raises(ConfigError, match="pool_mode"):
            async with proxy.open_pool():
                pass
    async with pgpool_core.open_proxy(source(postgres)) as proxy:
        for settings in ({"client_encoding": "LATIN1"}, {"a\0b": "c"}, {"": "x"}):
            with pytest.raises(ConfigError):
                async with proxy.open_pool(server_settings=settings):
                    pass
        with pytest.raises(ConfigError, match="max_waiting = 0 would lend nothing over a proxy"):
            async with proxy.open_pool(max_waiting=0) as pool:
                await pool.fetch("select 1")

        async def open_there() -> None:
            async with proxy.open_pool():
                pass

        def elsewhere() -> None:
            with pytest.raises(PoolError, match="that runs the proxy"):
                trio.run(open_there)

        await trio.to_thread.run_sync(elsewhere)
    with pytest.raises(PoolClosed):
        proxy.open_pool()


@pytest.mark.parametrize("workers", [1, 3])
async def test_many_of_both_kinds_at_once(workers: int, postgres: PostgresServer) -> None:
    async with both(postgres, default_pool_size=4, workers=workers) as it:

        async def work(pool: Pool, number: int) -> None:
            for turn in range(10):
                with trio.move_on_after(0.001 if (number + turn) % 4 == 0 else 20) as scope:
                    async with pool.transaction() as connection:
                        if turn % 3 == 0:
                            await connection.execute("set work_mem = '7MB'")
                        assert await connection.fetchval("select $1::int", turn) == turn
                if not scope.cancelled_caught:
                    assert await pool.fetchval("select current_setting('work_mem')") in ("4MB", "7MB")

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(16):
                    nursery.start_soon(work, it.pool if number % 2 else it.clients, number)
        await it.at_rest()
        assert await it.pool.fetchval("select current_setting('work_mem')") == "4MB"
