"""Connections that break, at every step of every call: the caller hears of it, the pool goes on."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import pgpool_core
from pgpool_core import ConnectionLost, Pool, PostgresError, Reconnected
from pgpool_core.control.groups import sole_errors
from pgpool_core.errors import PgPoolError
from pgpool_core.testing import PostgresServer
from tests.chaos.test_pool_cancelled import CALLS

Call = Callable[[Pool], Awaitable[Any]]


class CutAfter:
    """A way to the server that is cut when so many bytes have come from it."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.left: int | None = None
        self.cuts = 0

    async def serve(self, task_status: trio.TaskStatus[int]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._carry, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _carry(self, client: trio.SocketStream) -> None:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = await trio.open_tcp_stream(*self._server)
        async with client, server, trio.open_nursery() as nursery:

            async def up() -> None:
                try:
                    async for data in client:
                        await server.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel("the client has gone")

            nursery.start_soon(up)
            try:
                async for data in server:
                    if self.left is None:
                        await client.send_all(data)
                        continue
                    part = bytes(data[: self.left])
                    self.left -= len(part)
                    over = self.left <= 0
                    if over:
                        self.left = None
                        self.cuts += 1
                    await client.send_all(part)
                    if over:
                        break
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            nursery.cancel_scope.cancel("the server has gone")


@pytest.fixture
async def way(postgres: PostgresServer, nursery: trio.Nursery) -> AsyncIterator[tuple[CutAfter, str]]:
    postgres.sql("drop table if exists cancelled; create table cancelled (id int)", database="app")
    postgres.sql("alter table cancelled owner to app", database="app")
    cut = CutAfter(postgres.host, postgres.port)
    port: int = await nursery.start(cut.serve)
    yield cut, f"postgresql://app:app-secret@127.0.0.1:{port}/app"


STEPS = [1, 2, 5, 6, 11, 24, 40, 60, 90, 130, 200, 300, 500, 1000, 3000, 20000]


@asynccontextmanager
async def lent_pool(dsn: str) -> AsyncIterator[Pool]:
    """A pool that borrows the connections of a proxy."""
    backend = os.environ.get("PGPOOL_TEST_IO_BACKEND", "auto")
    async with (
        pgpool_core.open_proxy(dsn, default_pool_size=2, server_login_retry=0.05, io_backend=backend) as proxy,
        proxy.open_pool(cancel_timeout=20) as pool,
    ):
        yield pool
        with trio.fail_after(20):
            while any(row.sv_active + row.sv_tested for row in proxy.statistics().pools):
                await trio.lowlevel.checkpoint()
        assert proxy._pooler.engine.invariants() == []


@pytest.mark.parametrize("kind", ["own", "lent"])
@pytest.mark.parametrize("call", [call for call in CALLS if call.__name__ not in ("listening", "large_argument")])
async def test_a_connection_may_break_at_any_byte(call: Call, kind: str, way: tuple[CutAfter, str]) -> None:
    cut, dsn = way
    async with lent_pool(dsn) if kind == "lent" else pgpool_core.open_pool(dsn, max_size=2, cancel_timeout=20) as pool:
        for step in STEPS:
            await pool.drain()
            await pool.fetchval("select 1")
            cut.left = step
            before = cut.cuts
            with trio.fail_after(20):
                try:
                    await call(pool)
                except PgPoolError as error:
                    assert cut.cuts > before, f"{error!r} after {step} bytes"
                    assert error.sqlstate.startswith(("57", "08"))
            cut.left = None
            assert pool.statistics().in_use == 0
            await comes_back(pool)
        assert cut.cuts > 0


async def comes_back(pool: Pool) -> None:
    """It works again, at the latest when the last broken connection has been noticed."""
    with trio.fail_after(20):
        while True:
            try:
                assert await pool.fetchval("select 2") == 2
            except ConnectionLost:
                continue
            return


async def test_a_server_that_says_good_bye_is_heard(postgres: PostgresServer) -> None:
    dsn = postgres.dsn("app", "app")
    async with pgpool_core.open_pool(dsn, max_size=2) as pool, pool.acquire() as other:
        async with pool.acquire() as connection:
            pid = connection.backend_pid
            with pytest.raises(PostgresError) as caught:
                async with sole_errors(), trio.open_nursery() as nursery:
                    nursery.start_soon(_terminate, other, pid)
                    await connection.execute("select pg_sleep(60)")
            assert caught.value.sqlstate == "57P01"
            with pytest.raises(ConnectionLost):
                await connection.fetch("select 1")
        assert await pool.fetchval("select 1") == 1


async def _terminate(connection: Any, pid: int) -> None:
    asleep = "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"
    while not await connection.fetchval(asleep, pid):
        pass
    await connection.execute(f"select pg_terminate_backend({pid})")


async def test_an_idle_connection_that_the_server_has_closed_is_not_lent(own_postgres: PostgresServer) -> None:
    async with pgpool_core.open_pool(own_postgres.dsn("app", "app"), min_size=2) as pool:
        await trio.to_thread.run_sync(own_postgres.restart)
        await trio.testing.wait_all_tasks_blocked(0.06)
        assert await pool.fetchval("select 1") == 1


async def test_while_no_server_can_be_reached_borrowers_hear_why_and_later_all_is_well(
    own_postgres: PostgresServer,
) -> None:
    async with pgpool_core.open_pool(own_postgres.dsn("app", "app"), max_size=2) as pool:
        await trio.to_thread.run_sync(own_postgres.stop)
        with pytest.raises(PgPoolError):
            while True:
                await pool.fetch("select 1")
        await pool.drain()
        with pytest.raises(pgpool_core.ServerUnavailable):
            await pool.fetch("select 1")
        await trio.to_thread.run_sync(own_postgres.start)
        assert await pool.fetchval("select 1") == 1
        assert pool.statistics().failed >= 1


async def test_listening_survives_a_restart_and_says_so(own_postgres: PostgresServer) -> None:
    async with pgpool_core.open_pool(own_postgres.dsn("app", "app")) as pool, pool.listen("jobs") as notes:
        await trio.to_thread.run_sync(own_postgres.restart)
        with trio.fail_after(60):
            news = await notes.receive()
            assert isinstance(news, Reconnected)
            assert news.reason
            await pool.drain()
            await pool.execute("notify jobs, 'after'")
            assert (await notes.receive()).payload == "after"  # type: ignore[union-attr]
