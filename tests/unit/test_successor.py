"""The new process's end of a takeover, with a socket for the old one: what it passes on, and what it says of the end."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pgpool_core.errors import ConfigError
from pgpool_core.process import takeover
from pgpool_core.process.exchange import Sender
from pgpool_core.process.takeover import MAX_PASSED_ON, UP_MOVES, YOURS, Door, Sockets, Successor

KEY = b"\1\2\3\4\5\6\7\0"


@asynccontextmanager
async def taking_over(*, yours: bool = True) -> AsyncIterator[tuple[Successor, socket.socket]]:
    """A successor, and the end of the old process, which has said that all is ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
    theirs.settimeout(10)
    with theirs, trio.socket.from_stdlib_socket(ours) as connection:
        successor = Successor(Sockets([], "", []), 1, connection)
        if yours:
            theirs.send(YOURS)
            await successor.come_up()
            assert theirs.recv(100) == UP_MOVES
        yield successor, theirs


async def test_cancel_requests_wait_for_their_turn_and_too_many_are_dropped() -> None:
    """Who waits for its turn to send must not meet another one who does, and answers go the same way."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        await successor.pass_on(KEY)
        asked += 1

    async with taking_over() as (successor, theirs):
        theirs.setblocking(False)
        received = 0
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(1000):
                    nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                assert 1000 - MAX_PASSED_ON <= asked < 1000
                while asked < 1000:
                    with pytest.raises(BlockingIOError):
                        while theirs.recv(100) == KEY:
                            received += 1
                    await trio.testing.wait_all_tasks_blocked()
    assert 0 < received < 1000


async def test_behind_a_path_that_is_too_long_nobody_can_be(tmp_path: Path) -> None:
    assert await Successor.knock(f"{tmp_path}/{'x' * 100}") is None


async def test_where_the_old_process_ends_instead_of_an_answer_nobody_waits_to_pass_on_something() -> None:
    async def take(connection: trio.socket.SocketType, sender: Sender) -> None:
        raise AssertionError

    async with taking_over(yours=False) as (successor, theirs):
        theirs.close()
        await successor.come_up()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(successor.pass_on, KEY)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(10):
                await successor.wait_ended(take)


async def test_an_old_process_that_answers_late_is_taken_over_late(autojump_clock: trio.abc.Clock) -> None:
    taken = 0

    async def take(connection: trio.socket.SocketType, sender: Sender) -> None:
        nonlocal taken
        taken = len(await connection.recv(100))

    async with taking_over(yours=False) as (successor, theirs):
        await successor.come_up()
        theirs.send(YOURS)
        theirs.send(b"a parcel")
        await successor.wait_ended(take)
        assert taken == len(b"a parcel")


async def knocked(nursery: trio.Nursery, folder: Path, listener: socket.socket) -> Successor:
    """A successor whom a door in `nursery` has answered, and which has not come up."""

    async def let_go() -> None:
        raise AssertionError

    path = str(folder / "door")
    nursery.start_soon(Door(path, lambda: Sockets([listener], "", []), let_go).serve)
    await trio.testing.wait_all_tasks_blocked()
    successor = await Successor.knock(path)
    assert successor is not None
    return successor


@pytest.mark.parametrize("goes_on", [True, False])
async def test_an_old_process_that_has_not_waited_for_the_start_goes_on_alone_if_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """Two that listen on the same sockets would not know of each other's clients."""
    monkeypatch.setattr(takeover, "START_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            successor = await knocked(nursery, tmp_path, listener)
            await trio.testing.wait_all_tasks_blocked()
            if goes_on:
                with pytest.raises(ConfigError, match=r"does not hand over any more, it goes on"):
                    await successor.come_up()
            nursery.cancel_scope.cancel()
        if not goes_on:
            await successor.come_up()
        successor.close()


async def test_a_door_opens_again_when_there_is_room_for_who_knocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    accepted, refused = takeover._accepted, [errno.EMFILE, errno.ECONNABORTED]

    class Full:
        """A listener for whose first connections the system has no room."""

        def __init__(self, listener: trio.socket.SocketType) -> None:
            self._listener = listener

        async def accept(self) -> tuple[trio.socket.SocketType, object]:
            if refused:
                raise OSError(refused.pop(), "no room")
            return await self._listener.accept()

    async def through(listener: trio.socket.SocketType) -> trio.socket.SocketType:
        return await accepted(Full(listener))  # type: ignore[arg-type]

    monkeypatch.setattr(takeover, "_accepted", through)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            successor = await knocked(nursery, tmp_path, listener)
            assert not refused
            successor.close()
            nursery.cancel_scope.cancel()
