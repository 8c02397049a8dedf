"""A host's name that loses an address: its servers go, those at other addresses stay, and so do those who have a server of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import pgpool_core
from pgpool_core.control import names as names_room
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.hosts import Address, resolve
from pgpool_core.control.pools import PoolRecord
from pgpool_core.testing import PostgresServer, ScriptedPeer, frontend
from tests.in_process import Place, config
from tests.peers import letters, logged_in, values
from tests.watching import until_async

NAME = "db.example"


@attrs.define
class Elsewhere:
    """A resolver of the test's: `now` is what the name leads to."""

    now: list[str]
    asked: int = 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        return [each for address in self.now for each in await resolve(address, port)]


@asynccontextmanager
async def proxy_by_name(
    postgres: PostgresServer, **settings: Any
) -> AsyncGenerator[tuple[pgpool_core.Proxy, Elsewhere]]:
    """A pooler that knows its server by a name, which leads there."""
    by_address = config(postgres, **settings)
    databases = {name: attrs.evolve(entry, host=NAME) for name, entry in by_address.databases.items()}
    async with pgpool_core.open_proxy(attrs.evolve(by_address, databases=databases)) as proxy:
        there = Elsewhere([postgres.host])
        proxy._pooler._pools.names._look_up = there
        yield proxy, there


async def backend(client: ScriptedPeer) -> bytes | None:
    return values(await client.query("select pg_backend_pid()"))[0][0]


def open_at(proxy: pgpool_core.Proxy) -> list[str]:
    """Where servers are."""
    return [row["host"] for row in proxy._pooler.engine.servers() if row["host"]]


async def test_servers_at_an_address_that_has_gone_are_closed(postgres: PostgresServer) -> None:
    async with proxy_by_name(postgres, dns_max_ttl=0) as (proxy, there), logged_in(Place(proxy)) as client:
        first = await backend(client)
        there.now = [postgres.host, "127.0.0.77"]
        before = there.asked
        await until_async(lambda: there.asked >= before + 2)
        assert await backend(client) == first
        there.now = ["127.0.0.77"]
        await until_async(lambda: open_at(proxy) == [])
        there.now = [postgres.host]
        assert await backend(client) != first


async def test_a_name_is_looked_at_for_as_long_as_there_are_servers_from_it(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no further one has been opened for long."""
    monkeypatch.setattr(names_room, "UNUSED_TTLS", 1)
    async with proxy_by_name(postgres, dns_max_ttl=0) as (proxy, there), logged_in(Place(proxy)) as client:
        await backend(client)
        looked = there.asked
        await until_async(lambda: there.asked >= looked + 3)
        there.now = ["127.0.0.77"]
        await until_async(lambda: open_at(proxy) == [])


async def test_who_opens_a_server_may_be_the_first_to_see_that_the_name_has_moved(postgres: PostgresServer) -> None:
    async with (
        proxy_by_name(postgres, default_pool_size=2) as (proxy, there),
        logged_in(Place(proxy)) as one,
        logged_in(Place(proxy)) as other,
    ):
        await one.query("begin")
        there.now = ["::1"]  # where nobody listens, or the same server
        for name in proxy._pooler._pools.names:
            name.expires = 0.0
        await other.send(frontend.query("select 1"))
        await until_async(lambda: there.asked == 2)
        await one.query("commit")
        assert letters(await other.until("Z")) == "TDCZ"
        await until_async(lambda: postgres.host not in open_at(proxy))


async def test_a_name_may_move_while_a_server_is_opened(postgres: PostgresServer) -> None:
    async with proxy_by_name(postgres) as (proxy, there):
        pooler = proxy._pooler
        prepared = pooler._opener.before_first_use

        async def moves(record: PoolRecord, target: ServerTarget, opened: LoggedInServer) -> None:
            there.now = ["127.0.0.77"]
            for name in pooler._pools.names:
                name.expires = 0.0
            await pooler._pools.names.refresh()
            await trio.testing.wait_all_tasks_blocked()
            if pooler._pools.names.take_news():
                pooler._pools.follow_names()
            await prepared(record, target, opened)

        pooler._opener.before_first_use = moves
        async with logged_in(Place(proxy)):
            await until_async(lambda: not open_at(proxy))


async def test_a_client_with_a_server_of_its_own_keeps_it(postgres: PostgresServer) -> None:
    postgres.sql("alter role app replication")
    try:
        async with (
            proxy_by_name(postgres, dns_max_ttl=0, default_pool_size=2) as (proxy, there),
            logged_in(Place(proxy), replication="database") as follower,
            logged_in(Place(proxy)) as client,
        ):
            await backend(client)
            there.now = ["127.0.0.77"]
            await until_async(lambda: len(open_at(proxy)) == 1)
            assert values(await follower.query("select 1")) == [[b"1"]]
    finally:
        postgres.sql("alter role app noreplication")


async def test_show_hosts_forgets_where_a_name_was(postgres: PostgresServer) -> None:
    async with proxy_by_name(postgres, dns_max_ttl=0) as (proxy, there), logged_in(Place(proxy)) as client:
        await backend(client)
        assert [row.addresses for row in proxy.statistics().hosts] == [(postgres.host,)]
        there.now = ["127.0.0.77"]
        await until_async(lambda: [row.addresses for row in trio.from_thread.run_sync(proxy.statistics).hosts] == [()])


async def test_who_listens_hears_from_where_the_name_leads(postgres: PostgresServer) -> None:
    async with (
        proxy_by_name(postgres, dns_max_ttl=0) as (proxy, there),
        logged_in(Place(proxy)) as listener,
        logged_in(Place(proxy)) as client,
    ):
        await listener.query("listen moves")
        there.now = ["127.0.0.77"]
        await until_async(lambda: not open_at(proxy))
        there.now = [postgres.host]
        assert (await listener.expect("N")).fields["C"] == "01000"
        await client.query("notify moves")
        assert (await listener.expect("A")).type == b"A"
