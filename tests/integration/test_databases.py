"""Statements that need a database without connections: idle servers and the listening connection do not stand in the way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import pytest

from pgpool_core.testing import PostgresServer, ScriptedPeer, frontend
from tests.conftest import PASSWORDS, USERS, PoolerFactory
from tests.peers import letters, logged_in, values
from tests.watching import until_async


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


async def test_servers_of_several_workers_and_a_listener_are_let_go(
    pooler: PoolerFactory, empty: PostgresServer
) -> None:
    empty.sql("drop database if exists spare")
    empty.sql("create database spare owner app")
    place = pooler(server=empty, default_pool_size=4, min_pool_size=4, workers=3)
    async with logged_in(place, "boss") as boss, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(logged_in(place, database="spare")) for _ in range(4)]
        for client in clients:
            await client.query("begin")
        for client in clients:
            await client.query("commit")
        assert letters(await clients[0].query("listen news")) == "CZ"
        assert letters(await boss.query("drop database spare")) == "CZ"
        await clients[1].send(frontend.query("select 1"))
        assert (await clients[1].expect_error("3D000")).fields["S"] == "FATAL"


async def test_what_auth_query_has_kept_is_let_go(pooler: PoolerFactory, empty: PostgresServer) -> None:
    empty.sql("drop database if exists spare")
    empty.sql("create database spare owner app")
    place = pooler(server=empty, passwords={"boss": PASSWORDS["boss"]}, auth_user="boss", auth_type="scram-sha-256")
    async with logged_in(place, "boss") as boss:
        async with logged_in(place, database="spare") as one:
            await one.query("select 1")
        mine = "select count(*) from pg_stat_activity where datname = 'spare' and usename = 'boss'"
        assert await one_value(boss, mine) == b"1"
        assert letters(await boss.query("drop database spare")) == "CZ"


async def test_who_waits_for_a_database_that_is_dropped_hears_of_it(
    pooler: PoolerFactory, empty: PostgresServer
) -> None:
    """The statement waits in PostgreSQL for a client that is in a transaction there; nobody else gets in meanwhile."""
    empty.sql("drop database if exists spare")
    empty.sql("create database spare owner app")
    place = pooler(server=empty, default_pool_size=3)
    dropping = "select count(*) from pg_stat_activity where state = 'active' and query = 'drop database spare'"
    spare = partial(logged_in, place, database="spare")
    async with logged_in(place, "boss") as boss, spare() as one, spare() as two:
        await one.query("begin")
        await two.query("select 1")
        await boss.send(frontend.query("drop database spare"))
        await until_async(lambda: empty.sql(dropping) == "1")
        await two.send(frontend.query("select 2"))
        assert letters(await one.query("commit")) == "CZ"
        assert letters(await boss.until("Z")) == "CZ"
        assert (await two.expect_error("3D000")).fields["S"] == "FATAL"
