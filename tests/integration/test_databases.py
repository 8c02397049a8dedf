"""Statements that need a database without connections: idle servers and the listening connection do not stand in the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgpool_core.testing import PostgresServer, ScriptedPeer, frontend
from tests.conftest import USERS, PoolerFactory
from tests.peers import letters, logged_in, values


@pytest.fixture(scope="module")
def empty() -> Iterator[PostgresServer]:
    """A server whose databases come and go."""
    with PostgresServer(users=USERS, databases=("app",), owner="boss") as server:
        yield server


async def one_value(client: ScriptedPeer, sql: str) -> bytes | None:
    return values(await client.query(sql))[0][0]


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize(
    "text",
    [
        "drop database spare",
        'DROP DATABASE IF EXISTS "spare"',
        "alter database spare rename to other",
        "create database copied template spare",
    ],
)
async def test_idle_servers_are_let_go_first(
    pooler: PoolerFactory, empty: PostgresServer, mode: str, text: str
) -> None:
    for name in ("spare", "other", "copied"):
        empty.sql(f"drop database if exists {name}")
    empty.sql("create database spare owner app")
    place = pooler(server=empty, pool_mode=mode, default_pool_size=3, min_pool_size=2)
    async with logged_in(place, "boss") as boss:
        async with logged_in(place, database="spare") as one, logged_in(place, database="spare") as two:
            await one.query("begin")
            await two.query("begin")
            for client in (one, two):
                assert letters(await client.query("commit")) == "CZ"
        assert letters(await boss.query(text)) == "CZ"


@pytest.mark.parametrize("way", ["comment", "extended", "prepared"])
async def test_a_statement_that_is_not_a_plain_query(pooler: PoolerFactory, empty: PostgresServer, way: str) -> None:
    empty.sql("drop database if exists spare")
    empty.sql("create database spare owner app")
    place = pooler(server=empty, default_pool_size=3)
    async with logged_in(place, "boss") as boss, logged_in(place, database="spare") as one:
        assert letters(await one.query("select 1")) == "TDCZ"
        text = "/* tidy /* up */ */ -- now\n drop /* it */ database spare"
        if way == "comment":
            assert letters(await boss.query(text)) == "CZ"
            return
        name = "s" if way == "prepared" else ""
        await boss.send(frontend.parse(text, name))
        if way == "prepared":
            await boss.send(frontend.sync())
            assert letters(await boss.until("Z")) == "1Z"
        await boss.send(frontend.bind(name), frontend.execute(), frontend.sync())
        assert letters(await boss.until("Z"))[-3:] == "2CZ"


async def test_other_clients_wait_until_it_is_over_and_then_go_on(pooler: PoolerFactory, empty: PostgresServer) -> None:
    empty.sql("drop database if exists copied")
    empty.sql("drop database if exists spare")
    empty.sql("create database spare owner app")
    place = pooler(server=empty, default_pool_size=2)
    async with logged_in(place, "boss") as boss, logged_in(place, database="spare") as one:
        assert letters(await one.query("listen news")) == "CZ"
        pid = await one_value(one, "select pg_backend_pid()")
        assert letters(await boss.query("create database copied template spare")) == "CZ"
        assert await one_value(one, "select pg_backend_pid()") != pid
        await one.query("notify news, 'after'")
        assert await one_value(one, "select datname from pg_stat_activity where pid = pg_backend_pid()") == b"spare"


async def test_a_client_in_a_transaction_is_not_disturbed(pooler: PoolerFactory, empty: PostgresServer) -> None:
    place = pooler(server=empty, default_pool_size=2)
    async with logged_in(place, "boss") as boss, logged_in(place, "boss") as one:
        await one.query("begin")
        pid = await one_value(one, "select pg_backend_pid()")
        assert letters(await boss.query("alter database app rename to app2")) == "EZ"
        assert await one_value(one, "select pg_backend_pid()") == pid
        assert letters(await one.query("commit")) == "CZ"
        assert await one_value(boss, "select 1") == b"1"
