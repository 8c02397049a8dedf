"""Names of hosts: one look-up for all, held for its time, looked up again while in use, and what has gone is told."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control.hosts import Address
from pgpool_core.control.names import Moved, Names, is_name
from pgpool_core.control.pools import PoolRegistry
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
    assert await names.refresh() == []
    assert [each.host for each in await names.addresses("db", PORT)] == ["10.0.0.1"]


async def test_what_has_gone_is_told_once(mock_clock: trio.testing.MockClock) -> None:
    resolver = Resolver("10.0.0.1", "10.0.0.2")
    names = Names(5, look_up=resolver)
    await names.addresses("db", PORT)
    assert await names.refresh() == []
    assert resolver.asked == ["db"]
    mock_clock.jump(6)
    resolver.hosts = ("10.0.0.2", "10.0.0.3")
    assert await names.refresh() == [Moved("db", PORT, frozenset({"10.0.0.1"}))]
    mock_clock.jump(6)
    assert await names.refresh() == []


async def test_a_name_that_nobody_wants_is_forgotten(mock_clock: trio.testing.MockClock) -> None:
    names = Names(1, look_up=Resolver("10.0.0.1"))
    await names.addresses("db", PORT)
    mock_clock.jump(30)
    await names.refresh()
    assert len(names) == 0


async def test_servers_at_an_address_that_has_gone_are_retired(mock_clock: trio.testing.MockClock) -> None:
    engine = FakeEngine()
    databases = {
        "app": DatabaseConfig(host="db,other", port=PORT),
        "else": DatabaseConfig(host="elsewhere", port=PORT),
        "port": DatabaseConfig(host="db", port=PORT + 1),
    }
    pools = PoolRegistry(engine.typed(), Config(databases=databases), Userlist({}))
    for name, entry in databases.items():
        pools.add_login(name.encode(), b"u", ToPool(PoolKey(name, "u"), entry, auto=False))
    pools.moved([Moved("db", PORT, frozenset({"10.0.0.2", "10.0.0.1"}))])
    by_name = {record.key.database: engine.pool_list[record.id].retired_hosts for record in pools}
    assert by_name == {"app": [b"10.0.0.1", b"10.0.0.2"], "else": [], "port": []}
