"""A pool whose user's functions fail, now and then or for good, and what it does with a new connection before anybody gets it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import pgpool_core
from pgpool_core import ConfigError, Connection, Notification, Pool, PoolError, Reconnected
from pgpool_core.errors import PasswordUnavailable, ServerUnavailable
from pgpool_core.testing import PostgresServer
from tests.watching import until_async


@pytest.fixture
def dsn(postgres: PostgresServer) -> str:
    return postgres.dsn("app", "app")


class Vault:
    """Gives the password, but for some of the times that it is asked."""

    def __init__(self, *fails_at: int) -> None:
        self.asked = 0
        self._fails_at = fails_at

    def __call__(self) -> str:
        self.asked += 1
        if self.asked in self._fails_at:
            raise LookupError("the vault's own words")
        return "app-secret"


async def hear_again(pool: Pool) -> AsyncIterator[Notification | Reconnected]:
    """What `listen` gives when its connection has been ended."""
    async with pool.listen("functions") as news:
        listeners = "select pid from pg_stat_activity where query = 'LISTEN \"functions\"'"
        for row in await pool.fetch(listeners):
            await pool.fetch("select pg_terminate_backend($1)", row.pid)
        yield await news.receive()
        await pool.execute("notify functions, 'after'")
        yield await news.receive()


async def test_listening_goes_on_where_the_password_cannot_be_had_for_a_while(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    vault = Vault(3, 4)
    async with pgpool_core.open_pool(dsn, password=vault) as pool:
        with trio.fail_after(30):
            heard = [item async for item in hear_again(pool)]
    assert [type(item) for item in heard] == [Reconnected, Notification]
    assert vault.asked == 5
    assert "a connection that listens cannot be opened: LookupError" in caplog.text
    assert "own words" not in caplog.text


async def test_listening_goes_on_where_on_connect_fails_for_a_while(dsn: str) -> None:
    connected: list[int] = []

    async def on_connect(connection: Connection) -> None:
        connected.append(connection.backend_pid)
        if len(connected) == 3:
            raise LookupError("once")

    async with pgpool_core.open_pool(dsn, on_connect=on_connect) as pool:
        with trio.fail_after(30):
            assert [type(item) async for item in hear_again(pool)] == [Reconnected, Notification]


async def test_listening_over_a_proxy_ends_with_it(dsn: str) -> None:
    async with pgpool_core.open_proxy(dsn) as proxy, proxy.open_pool() as pool, pool.listen("functions") as news:
        await proxy.shutdown()
        with trio.fail_after(30):
            assert [item async for item in news] == []


async def test_who_waits_gets_the_error_of_the_password_and_the_next_one_a_connection(dsn: str) -> None:
    async with pgpool_core.open_pool(dsn, password=Vault(2)) as pool, pool.acquire():
        with pytest.raises(LookupError):
            await pool.fetch("select 1")
        assert await pool.fetchval("select 1") == 1


async def test_a_connection_that_nobody_waits_for_is_tried_again_and_told_of_once(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pgpool_core")
    async with pgpool_core.open_pool(dsn, password=Vault(2, 3), name="shop") as pool:
        for size in (2, 2, 2):  # which tries at once
            tried = pool.statistics().failed + pool.statistics().opened
            pool.resize(min_size=size)
            await until_async(lambda: pool.statistics().failed + pool.statistics().opened > tried)  # noqa: B023
        assert (pool.statistics().failed, pool.statistics().opened) == (2, 2)
    assert caplog.text.count("a connection of shop cannot be opened, trying again: LookupError") == 1


@pytest.mark.parametrize("password", [b"app-secret", 5, lambda: None, lambda: b"app-secret"])
async def test_a_password_that_is_no_text_is_told(password: Any, dsn: str) -> None:
    with pytest.raises(ConfigError, match=r"password must be text, or a function that gives it, not (bytes|int|None)"):
        async with pgpool_core.open_pool(dsn, password=password):
            pass


async def test_a_password_that_does_not_come_is_not_waited_for_for_ever(dsn: str) -> None:
    with trio.fail_after(30), pytest.raises(PasswordUnavailable, match=r"none within 0.05 s \(connect_timeout\)"):
        async with pgpool_core.open_pool(dsn, password=trio.sleep_forever, connect_timeout=0.05):  # type: ignore[arg-type]
            pass


async def test_on_connect_may_not_leave_a_transaction(dsn: str) -> None:
    async def begins(connection: Connection) -> None:
        await connection.execute("begin")

    with pytest.raises(PoolError, match="on_connect has begun a transaction"):
        async with pgpool_core.open_pool(dsn, on_connect=begins):
            pass


async def test_a_connection_is_as_new_after_somebody_has_changed_its_session(dsn: str) -> None:
    async def on_connect(connection: Connection) -> None:
        await connection.execute("set lock_timeout to '7s'")

    settings = (
        "select current_setting('work_mem'), current_setting('lock_timeout'), current_setting('statement_timeout')"
    )
    query = dsn + "?connect_query=set%20work_mem%20to%20'7MB'"
    async with pgpool_core.open_pool(
        query, max_size=1, on_connect=on_connect, server_settings={"statement_timeout": "7s"}
    ) as pool:
        before = await pool.fetchrow("select pg_backend_pid()")
        assert await pool.fetchrow(settings) == ("7MB", "7s", "7s")
        await pool.execute("set work_mem to '1MB'; set lock_timeout to '1s'; set statement_timeout to '1s'")
        assert await pool.fetchrow(settings) == ("7MB", "7s", "7s")
        assert await pool.fetchrow("select pg_backend_pid()") == before


async def test_libpqs_variables_hold_where_there_is_no_connection_string(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGPOOL")]:
        monkeypatch.delenv(name)
    where = {"PGHOST": postgres.host, "PGPORT": str(postgres.port), "PGDATABASE": "app", "PGUSER": "app"}
    said = {"PGPASSWORD": "app-secret", "PGAPPNAME": "var", "PGTZ": "Asia/Tokyo", "PGOPTIONS": "-c work_mem=7MB"}
    for name, value in {**where, **said}.items():
        monkeypatch.setenv(name, value)
    names = ("application_name", "timezone", "work_mem")
    async with pgpool_core.open_pool() as pool:
        found = [await pool.fetchval("select current_setting($1)", name) for name in names]
    assert found == ["var", "Asia/Tokyo", "7MB"]
    refused: list[tuple[str, str, type[Exception], str]] = [
        ("PGSSLMODE", "require", ServerUnavailable, "the server has no TLS, which sslmode = require"),
        ("PGSERVICE", "shop", ConfigError, "service is not supported"),
        ("PGTARGETSESSIONATTRS", "read-write", ConfigError, "target_session_attrs is not supported"),
    ]
    for name, value, error, text in refused:
        with monkeypatch.context() as patch, pytest.raises(error, match=text):
            patch.setenv(name, value)
            async with pgpool_core.open_pool():
                pass


async def test_a_server_that_does_not_answer_is_told_with_the_pools_own_argument() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/app"
        with trio.fail_after(30), pytest.raises(ServerUnavailable, match=r"within 0.1 s \(connect_timeout\)"):
            async with pgpool_core.open_pool(dsn, connect_timeout=0.1):
                pass
