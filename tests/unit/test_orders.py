"""Orders on a fake engine: what waits, what is taken back, and what a lost letter changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pgpool_core.config.model import DatabaseConfig
from pgpool_core.control.orders import Orders
from pgpool_core.errors import CommandRefused
from tests.unit.console_model import link
from tests.unit.fake_engine import FakeEngine
from tests.unit.test_pooler import USERS, Harness, running, sql_error

LATER = DatabaseConfig(host="127.0.0.1", user="app", password="x")


@asynccontextmanager
async def ordered(folder: Path, **settings: Any) -> AsyncIterator[tuple[Harness, Orders, FakeEngine]]:
    async with running(folder, **settings) as it:
        yield it, it.pooler.orders, it.engine


def row(client: int, **values: Any) -> dict[str, Any]:
    """A client of the console."""
    return link(client, -2, "active", **({"user": "admin", "database": "pgbouncer", "addr": "unix"} | values))


async def test_pause_returns_when_the_last_server_has_gone(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    async with ordered(tmp_path) as (it, orders, engine), trio.open_nursery() as nursery:
        engine.want(0, 1)
        await wait_all_tasks_blocked()
        (pool,) = engine.pool_list
        done = trio.Event()

        async def pause() -> None:
            await orders.pause()
            done.set()

        nursery.start_soon(pause)
        await wait_all_tasks_blocked()
        assert pool.paused
        assert not done.is_set()
        pool.adopted.clear()
        await done.wait()
        with pytest.raises(CommandRefused, match="already"):
            await orders.pause()
        await it.pooler.apply(attrs.evolve(it.pooler.config, databases={"app": LATER, "new": LATER}), USERS)
        assert [pool.paused for pool in engine.pool_list] == [True, True]
        await orders.resume()
        assert [pool.paused for pool in engine.pool_list] == [False, False]


async def test_a_cancelled_pause_is_taken_back(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    async with ordered(tmp_path) as (_, orders, engine):
        engine.want(0, 1)
        await wait_all_tasks_blocked()
        with trio.move_on_after(5) as scope:
            await orders.pause("app")
        assert scope.cancelled_caught
        assert not engine.pool_list[0].paused
        with pytest.raises(CommandRefused, match="database app is not paused"):
            await orders.resume("app")


async def test_a_database_paused_by_name_stays_so_when_all_are_resumed(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    async with ordered(tmp_path) as (_, orders, engine):
        await orders.pause("app")
        await orders.pause()
        await orders.resume()
        assert engine.pool_list[0].paused
        await orders.resume("app")
        assert not engine.pool_list[0].paused


async def test_suspend_asks_until_everybody_is_at_rest_and_then_drops(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    async with ordered(tmp_path, workers=2, suspend_timeout=3) as (_, orders, engine):
        engine.unsettled = 5
        await orders.suspend()
        assert engine.suspended
        await orders.resume()
        assert not engine.suspended
        began = trio.current_time()
        engine.restless = True
        await orders.suspend()
        assert engine.dropped
        assert trio.current_time() - began >= 3


async def test_a_suspension_ends_with_its_console_even_when_the_letter_about_it_is_lost(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    async with ordered(tmp_path) as (_, orders, engine):
        engine.client_rows = {0: [row(77)]}
        engine.post("console", 5, 77, b"Q", b"SUSPEND\0", True)
        await engine.until(lambda: 5 in engine.replies)
        assert b"SUSPEND" in engine.replies[5]
        engine.post("consoles_missed")
        await wait_all_tasks_blocked()
        assert engine.suspended, "it is still there"
        engine.client_rows = {}
        engine.post("consoles_missed")
        await engine.until(lambda: not engine.suspended)
        await orders.suspend(78)
        engine.post("console_gone", 78)
        await engine.until(lambda: not engine.suspended)


async def test_a_cancel_request_ends_what_the_console_waits_for(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    async with ordered(tmp_path) as (_, _, engine):
        engine.want(0, 1)
        await wait_all_tasks_blocked()
        engine.post("console", 5, 77, b"Q", b"PAUSE\0", True)
        await engine.until(lambda: engine.pool_list[0].paused)
        engine.post("console_cancel", 77)
        await engine.until(lambda: 5 in engine.replies)
        assert b"C57014" in engine.replies[5]
        assert not engine.pool_list[0].paused
        engine.post("console_cancel", 77)  # nothing runs
        engine.post("console", 6, 77, b"Q", b"SHOW VERSION\0", True)
        await engine.until(lambda: 6 in engine.replies)


async def test_a_disabled_database_refuses_logins_after_the_password(tmp_path: Path) -> None:
    async with ordered(tmp_path) as (_, orders, engine):
        orders.disable("app")
        engine.post("policy", 1, b"app", b"alice", True, 0, "unix", 6432, {})
        await engine.until(lambda: 1 in engine.verdicts)
        verdict, error = engine.verdicts[1]
        assert verdict == 5
        assert sql_error(error).message == 'database "app" is disabled'
        assert not engine.routes


async def test_shutdown_for_servers_turns_everybody_away(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    async with ordered(tmp_path) as (_, orders, engine):
        engine.want(0, 1)
        await wait_all_tasks_blocked()
        orders.shutdown("WAIT_FOR_SERVERS")
        with pytest.raises(CommandRefused, match="already shutting down"):
            orders.shutdown("WAIT_FOR_CLIENTS")
        with pytest.raises(CommandRefused, match="pooler is shutting down"):
            await orders.resume()
        await wait_all_tasks_blocked()
        told = engine.pool_list[0].ended_with
        assert told is not None
        assert (sql_error(told).sqlstate, sql_error(told).message) == ("57P01", "server shutting down")
        assert engine.state == "running"
        engine.post("policy", 1, b"app", b"alice", True, 0, "unix", 6432, {})
        await engine.until(lambda: 1 in engine.verdicts)
        assert sql_error(engine.verdicts[1][1]).message == "pooler is shutting down"
        engine.pool_list[0].adopted.clear()
        await engine.until(lambda: engine.state == "stopped")


async def test_shutdown_for_clients_ends_with_the_last(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    async with ordered(tmp_path) as (_, orders, engine):
        engine.connected = 2
        orders.shutdown("WAIT_FOR_CLIENTS")
        await wait_all_tasks_blocked()
        assert engine.state == "running"
        engine.connected = 0
        await engine.until(lambda: engine.state == "stopped")


async def test_what_cannot_be_set_changes_nothing(tmp_path: Path) -> None:
    async with ordered(tmp_path) as (it, _, engine):
        await it.pooler.change_setting("server_idle_timeout", "7")
        assert it.pooler.config.server_idle_timeout == 7
        assert engine.pool_list[0].settings["server_idle_timeout_us"] == 7_000_000
        for key, value in (("listen_port", "1"), ("nothing", "1"), ("server_idle_timeout", "soon")):
            with pytest.raises(Exception, match=key):
                await it.pooler.change_setting(key, value)
        assert it.pooler.config.server_idle_timeout == 7
        await it.pooler.change_setting("server_idle_timeout", "8")
