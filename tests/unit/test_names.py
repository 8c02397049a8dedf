"""Names of hosts: one look-up for all, held for its time, looked up again while in use, and what has gone is told."""

from __future__ import annotations

import socket
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control.hosts import Address, HostTold, is_name
from pgpool_core.control.names import Names
from pgpool_core.control.pools import PoolRecord, PoolRegistry
from pgpool_core.control.routing import PoolKey, ToPool
from pgpool_core.policy.userlist import Userlist
from tests.unit.fake_engine import FakeEngine

PORT = 5432


def address(host: str) -> Address:
    return Address(socket.AF_INET, (host, PORT), host)


class Resolver:
    """Answers as it is told, counts, and holds every look-up while `held`."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.held: trio.Event | None = None
        self.error: OSError | None = None

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        if self.held is not None:
            await self.held.wait()
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return [address(each) for each in self.hosts]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("db.example", True), ("localhost", True), ("10.0.0.1", False), ("::1", False), ("/run/x", False), ("@x", False)],
)
def test_what_a_name_is(host: str, expected: bool) -> None:
    assert is_name(host) is expected


async def test_an_answer_holds_for_its_time(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1", "10.0.0.2")
    names = Names(15, 3, look_up=resolver)
    for _ in range(3):
        assert [each.host for each in await names.addresses("db", PORT)] == ["10.0.0.1", "10.0.0.2"]
    assert resolver.asked == ["db"]
    mock_clock.jump(16)
    await names.addresses("db", PORT)
    assert resolver.asked == ["db", "db"]


async def test_addresses_are_not_remembered(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1")
    names = Names(look_up=resolver)
    await names.addresses("10.0.0.1", PORT)
    await names.addresses("/run/postgresql", PORT)
    assert len(names) == 0


async def test_many_who_ask_at_once_make_one_look_up(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1")
    resolver.held = trio.Event()
    names = Names(look_up=resolver)
    found: list[str] = []

    async def ask() -> None:
        found.extend(each.host for each in await names.addresses("db", PORT))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert names.under_way == 1
        resolver.held.set()
    assert found == ["10.0.0.1"] * 10
    assert resolver.asked == ["db"]


async def test_who_waits_goes_on_when_the_one_who_looks_is_cancelled(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1")
    resolver.held = trio.Event()
    names = Names(look_up=resolver)
    found: list[str] = []

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            found.extend(each.host for each in await names.addresses("db", PORT))

    async with trio.open_nursery() as nursery:
        first, second = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(ask, first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, second)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        resolver.held.set()
    assert found == ["10.0.0.1"]


async def test_a_failure_is_remembered_for_its_own_time(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names = Names(15, 3, look_up=resolver)
    for _ in range(3):
        with pytest.raises(socket.gaierror, match="Name or service not known"):
            await names.addresses("db", PORT)
    assert resolver.asked == ["db"]
    mock_clock.jump(4)
    resolver.error, resolver.hosts = None, ("10.0.0.1",)
    assert [each.host for each in await names.addresses("db", PORT)] == ["10.0.0.1"]


async def test_a_name_that_fails_keeps_the_addresses_it_had(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1")
    names = Names(1, 1, look_up=resolver)
    await names.addresses("db", PORT)
    mock_clock.jump(2)
    resolver.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    await names.refresh()
    assert [each.host for each in await names.addresses("db", PORT)] == ["10.0.0.1"]


async def test_a_resolver_that_falls_silent_does_not_hold_up_who_knows_addresses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    resolver = Resolver("10.0.0.1")
    names = Names(15, 3, look_up=resolver)
    await names.addresses("db", PORT)
    resolver.held = trio.Event()
    autojump_clock.jump(16)
    for asked in (2, 2, 3):  # who looks gives up, whom it has cost time is the last for a while
        with trio.fail_after(2):
            assert [each.host for each in await names.addresses("db", PORT)] == ["10.0.0.1"]
        assert len(resolver.asked) == asked
        autojump_clock.jump(0.6)
    resolver.held.set()
    resolver.hosts = ("10.0.0.2",)
    autojump_clock.jump(2)
    assert [each.host for each in await names.addresses("db", PORT)] == ["10.0.0.2"]


async def test_a_system_that_has_no_thread_for_a_look_up_fails_that_look_up(
    mock_clock: trio.testing.MockClock,
) -> None:
    async def none(host: str, port: int) -> list[Address]:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    names = Names(look_up=none)
    names.want("db", PORT)
    await names.refresh()
    with pytest.raises(OSError, match="can't start new thread"):
        await names.addresses("db", PORT)


async def test_there_are_news_when_an_answer_changes_whoever_has_asked(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1", "10.0.0.2")
    names = Names(5, look_up=resolver)
    await names.addresses("db", PORT)
    assert names.take_news()
    await names.refresh()
    assert (resolver.asked, names.take_news()) == (["db"], False)
    for ask in (names.refresh, partial(names.addresses, "db", PORT)):
        mock_clock.jump(6)
        await ask()
        assert not names.take_news()
    for number, ask in enumerate((names.refresh, partial(names.addresses, "db", PORT))):
        mock_clock.jump(6)
        resolver.hosts = ("10.0.0.2", f"10.0.1.{number}")
        await ask()
        assert names.take_news()
        assert not names.has("db", PORT, "10.0.0.1")
        assert names.has("db", PORT, "10.0.0.2")


async def test_what_has_not_been_found_may_be_anywhere(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver()
    names = Names(look_up=resolver)
    with pytest.raises(socket.gaierror):
        await names.addresses("db", PORT)
    for host in ("db", "other", "10.0.0.1", "/run/postgresql"):
        assert names.has(host, PORT, "10.0.0.2")
    assert not names.take_news()


async def test_a_name_that_nobody_wants_is_forgotten(mock_clock: trio.testing.MockClock) -> None:
    names = Names(1, look_up=Resolver("10.0.0.1"))
    await names.addresses("db", PORT)
    mock_clock.jump(30)
    await names.refresh()
    assert len(names) == 0


async def test_a_name_that_servers_have_come_from_is_not_forgotten(mock_clock: trio.testing.MockClock) -> None:
    """Nor one that has come with servers of another process."""
    pools, by_name = registry({"app": DatabaseConfig(host="db,10.0.0.9", port=PORT)})
    order = by_name["app"].target.host_order
    order.learn(HostTold("db", True, 1, 1, "", 1, 0, ("10.0.0.1",)))
    order.opened("10.0.0.9", "10.0.0.9")
    for _ in range(3):
        pools.want_names()
        assert pools.names.are_due
        await pools.names.refresh()
        assert [name.host for name in pools.names] == ["db"]
        mock_clock.jump(1000)


async def test_servers_at_an_address_that_has_gone_are_retired(mock_clock: trio.testing.MockClock) -> None:
    pools, by_name = registry(
        {
            "app": DatabaseConfig(host="db,other", port=PORT),
            "else": DatabaseConfig(host="other", port=PORT),
            "port": DatabaseConfig(host="db", port=PORT + 1),
            "both": DatabaseConfig(host="db,10.0.0.2", port=PORT),
        }
    )
    resolver = Resolver("10.0.0.1", "10.0.0.2", "10.0.0.3")
    pools.names._look_up = resolver
    for record in by_name.values():
        for host in record.target.hosts:
            for found in await pools.names.addresses(host, record.target.port) if is_name(host) else [address(host)]:
                record.target.host_order.opened(host, found.host)
    mock_clock.jump(16)
    resolver.hosts = ("10.0.0.3", "10.0.0.4")
    await pools.names.addresses("db", PORT)
    pools.follow_names()
    pools.follow_names()
    assert retired(pools) == {"app": [], "else": [], "port": [], "both": [b"10.0.0.1"]}
    await pools.names.addresses("other", PORT)
    pools.follow_names()
    gone = [b"10.0.0.1", b"10.0.0.2"]
    assert retired(pools) == {"app": gone, "else": gone, "port": [], "both": [b"10.0.0.1"]}
    assert by_name["app"].target.host_order.states["db"].addresses == {"10.0.0.3"}


def registry(databases: dict[str, DatabaseConfig]) -> tuple[PoolRegistry, dict[str, PoolRecord]]:
    pools = PoolRegistry(FakeEngine().typed(), Config(databases=databases), Userlist({}))
    pools.names._look_up = Resolver("10.0.0.1")
    for name, entry in databases.items():
        pools.add_login(name.encode(), b"u", ToPool(PoolKey(name, "u"), entry, auto=False))
    return pools, {record.key.database: record for record in pools}


def retired(pools: PoolRegistry) -> dict[str, list[bytes | None]]:
    """Addresses, by database."""
    engine = cast(FakeEngine, pools._engine)
    return {record.key.database: engine.pool_list[record.id].retired_hosts for record in pools}
