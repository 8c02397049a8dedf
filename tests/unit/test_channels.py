"""The connection that listens for clients, with a server that says what the test wants and an engine that takes notes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import attrs
import pytest
import trio
import trio.testing

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control.channels import MISSED, SLOT_NEVER, SLOT_TAKEN, Channels
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.listening import Answered, Ending, ListeningWire, Notified, query
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.routing import PoolKey, ToPool
from pgpool_core.errors import ServerProtocolError, ServerUnavailable
from pgpool_core.policy.userlist import Userlist
from pgpool_core.testing import Messages, backend, frontend
from tests.unit.fake_engine import FakeEngine

ENTRY = DatabaseConfig(host="127.0.0.1", port=5432, user="app", password="x")


def test_notifications_are_cut_out_whole_and_in_order() -> None:
    first, second = backend.notification(7, "a", "1"), backend.notification(8, "b")
    stream = first + second + backend.command_complete("LISTEN") + backend.ready() + first
    expected = [Notified(first + second, 2), Answered(None), Notified(first, 1)]
    assert ListeningWire().receive(stream) == expected
    wire = ListeningWire(stream[:3])
    found = [event for at in range(3, len(stream)) for event in wire.receive(stream[at : at + 1])]
    assert found == [Notified(first, 1), Notified(second, 1), Answered(None), Notified(first, 1)]


def test_an_error_ends_the_query_and_a_fatal_one_the_connection() -> None:
    refused, answered = backend.error("25006", "no"), backend.ready()
    (event,) = ListeningWire().receive(refused + answered)
    assert isinstance(event, Answered)
    assert event.error is not None
    assert event.error.sqlstate == "25006"
    (event,) = ListeningWire().receive(backend.error("57P01", "going", severity="FATAL"))
    assert isinstance(event, Ending)
    assert event.error.sqlstate == "57P01"


@pytest.mark.parametrize(
    "data",
    [
        b"A\0\0\0\x03",
        b"A\x7f\0\0\0",
        b"A\0\0\0\x08\0\0\0\1",
        b"A\0\0\0\x0b\0\0\0\1a\0b",
        b"T\0\0\0\x06\0\0",
        b"Z\0\0\0\5x",
    ],
)
def test_what_no_server_says_is_refused(data: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        ListeningWire().receive(data)


def test_names_are_quoted() -> None:
    assert query([b"a", b'b"c'], [b"d"]) == frontend.query('LISTEN "a";LISTEN "b""c";UNLISTEN "d"')
    assert query([], []) == frontend.query("")


@attrs.define(eq=False)
class Server:
    """One end of a socket pair that stands for PostgreSQL; the other end is what `open_server` gives."""

    stream: trio.SocketStream
    cutter: Messages = attrs.field(factory=Messages)

    async def query(self) -> str:
        """The next query's text; Terminate is "", the end of the stream None."""
        found = self.cutter.feed(b"")
        while not found:
            data = await self.stream.receive_some()
            assert data, "the connection has ended"
            found = self.cutter.feed(data)
        assert len(found) == 1
        return found[0].text

    async def answer(self, text: str) -> None:
        assert await self.query() == text
        await self.stream.send_all(backend.command_complete("LISTEN") + backend.ready())


@attrs.define(eq=False)
class Bench:
    engine: FakeEngine
    channels: Channels
    pool: int
    servers: trio.MemoryReceiveChannel[Server]
    fail: list[Exception]
    gates: list[trio.Event]  # each opening waits for the last one

    async def server(self) -> Server:
        with trio.fail_after(10):
            return await self.servers.receive()


@asynccontextmanager
async def bench(workers: int = 1) -> AsyncIterator[Bench]:
    engine = FakeEngine(workers)
    opened, servers = trio.open_memory_channel[Server](100)
    fail: list[Exception] = []
    gates: list[trio.Event] = []
    ends: list[Server] = []

    async def open_server(target: ServerTarget, *, timeout_s: float) -> LoggedInServer:
        await trio.lowlevel.checkpoint()
        if gates:
            await gates[-1].wait()
        if fail:
            raise fail[0]
        ours, theirs = trio.socket.socketpair()
        server = Server(trio.SocketStream(theirs))
        ends.append(server)
        opened.send_nowait(server)
        return LoggedInServer(
            host="127.0.0.1",
            port=5432,
            is_unix=False,
            backend_pid=4711,
            backend_key=b"\0\0\0\1",
            parameters=[],
            unread=b"",
            pipe=SocketPipe(ours),
        )

    pools = PoolRegistry(engine.typed(), Config(databases={"app": ENTRY}), Userlist({}))
    record = pools.add_login(b"app", b"app", ToPool(PoolKey("app", "app"), ENTRY, auto=False))
    channels = Channels(engine.typed(), pools, open_server=open_server)
    async with trio.open_nursery() as nursery:
        channels.nursery = nursery
        try:
            yield Bench(engine, channels, record.id, servers, fail, gates)
        finally:
            nursery.cancel_scope.cancel()
            for server in ends:
                server.stream.socket.close()
            os.close(engine.wakeup_fd)


async def test_workers_are_told_when_the_connection_listens() -> None:
    async with bench(workers=2) as it:
        it.channels.asked(it.pool, 0, 1, b"a")
        it.channels.asked(it.pool, 1, 1, b"a")
        it.channels.asked(it.pool, 1, 2, b"b")
        server = await it.server()
        assert await server.query() == 'LISTEN "a";LISTEN "b"'
        assert it.engine.told == []
        await server.stream.send_all(backend.command_complete("LISTEN") + backend.ready())
        await it.engine.until(lambda: len(it.engine.told) == 3)
        assert it.engine.told == [
            ("listening", 0, 1, b"a"),
            ("listening", 1, 1, b"a"),
            ("listening", 1, 2, b"b"),
        ]
        message = backend.notification(9, "a", "x")
        await server.stream.send_all(message)
        await it.engine.until(lambda: len(it.engine.told) == 5)
        assert it.engine.told[3:] == [("notify", 0, message), ("notify", 1, message)]
        it.channels.asked(it.pool, 0, 0, b"a")
        it.channels.asked(it.pool, 1, 0, b"b")
        await server.answer('UNLISTEN "b"')


async def test_a_full_ring_is_tried_again() -> None:
    async with bench() as it:
        it.engine.full = 3
        it.channels.asked(it.pool, 0, 1, b"a")
        await (await it.server()).answer('LISTEN "a"')
        await it.engine.until(lambda: it.engine.told)
        assert it.engine.told == [("listening", 0, 1, b"a")]
        assert it.engine.full == 0


async def test_a_lost_connection_is_replaced_and_workers_hear_of_it() -> None:
    async with bench() as it:
        it.channels.asked(it.pool, 0, 1, b"a")
        server = await it.server()
        await server.answer('LISTEN "a"')
        await it.engine.until(lambda: it.engine.told)
        await server.stream.aclose()
        it.channels.asked(it.pool, 0, 2, b"b")
        await (await it.server()).answer('LISTEN "a";LISTEN "b"')
        await it.engine.until(lambda: len(it.engine.told) == 4)
        assert it.engine.told[1:] == [("lost", 0), ("back", 0, MISSED), ("listening", 0, 2, b"b")]
        (status,) = it.channels.status().values()
        assert (status.state, status.backend_pid, status.reconnects) == ("listening", 4711, 1)


async def test_a_connection_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpool_core.control.channels.PING_S", 0.01)
    monkeypatch.setattr("pgpool_core.control.channels.ANSWER_S", 0.2)
    async with bench() as it:
        it.channels.asked(it.pool, 0, 1, b"a")
        server = await it.server()
        await server.answer('LISTEN "a"')
        assert await server.query() == ""  # a sign of life is asked for, and does not come
        await (await it.server()).answer('LISTEN "a"')
        await it.engine.until(lambda: len(it.engine.told) >= 3)
        assert [what for what, *_ in it.engine.told[:3]] == ["listening", "lost", "back"]


async def test_a_connection_that_is_given_up_while_it_is_opened_is_replaced() -> None:
    """RECONNECT, or a reload that leads elsewhere."""
    async with bench() as it:
        it.gates.append(trio.Event())
        it.channels.asked(it.pool, 0, 1, b"a")
        await trio.testing.wait_all_tasks_blocked()
        it.channels.interrupt({it.pool})
        it.gates[-1].set()
        old, new = await it.server(), await it.server()
        assert await old.query() == "", "Terminate, and nothing before it"
        await new.answer('LISTEN "a"')
        await it.engine.until(lambda: it.engine.told)
        assert it.engine.told == [("listening", 0, 1, b"a")]
        assert it.engine.listeners_open == 1


async def test_who_waits_hears_why_and_it_is_tried_again() -> None:
    async with bench() as it:
        it.fail.append(ServerUnavailable("nobody there"))
        it.channels.asked(it.pool, 0, 1, b"a")
        await it.engine.until(lambda: it.engine.told)
        what, worker, error = it.engine.told[0]
        assert (what, worker) == ("failed", 0)
        assert b"nobody there" in cast("bytes", error)
        it.fail.clear()
        await (await it.server()).answer('LISTEN "a"')
        await it.engine.until(lambda: it.engine.listeners_open == 1)


async def test_a_refused_listen_is_an_error_for_those_who_wait() -> None:
    async with bench() as it:
        it.channels.asked(it.pool, 0, 1, b"a")
        server = await it.server()
        assert await server.query() == 'LISTEN "a"'
        await server.stream.send_all(backend.error("25006", "cannot execute LISTEN during recovery") + backend.ready())
        await it.engine.until(lambda: it.engine.told)
        what, _, error = it.engine.told[0]
        assert what == "failed"
        assert b"C25006" in cast("bytes", error)
        it.channels.asked(it.pool, 0, 0, b"a")
        await it.engine.until(lambda: it.engine.listeners_open == 0)


async def test_a_connection_that_nobody_needs_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpool_core.control.channels.IDLE_CLOSE_S", 0.05)
    async with bench() as it:
        it.channels.asked(it.pool, 0, 1, b"a")
        server = await it.server()
        await server.answer('LISTEN "a"')
        it.channels.asked(it.pool, 0, 0, b"a")
        await server.answer('UNLISTEN "a"')
        await it.engine.until(lambda: it.engine.listeners_open == 0)
        assert await server.query() == ""
        assert it.channels.status() == {}


async def test_room_is_waited_for() -> None:
    async with bench() as it:
        it.engine.room = [1, 1, SLOT_TAKEN]
        it.channels.asked(it.pool, 0, 1, b"a")
        await (await it.server()).answer('LISTEN "a"')
        assert it.engine.room == []


async def test_where_there_never_is_room_listen_fails() -> None:
    async with bench() as it:
        it.engine.room = [SLOT_NEVER]
        it.channels.asked(it.pool, 0, 1, b"a")
        await it.engine.until(lambda: it.engine.told)
        what, _, error = it.engine.told[0]
        assert what == "failed"
        assert b"C53300" in cast("bytes", error)
