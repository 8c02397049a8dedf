"""Plays a script: each client alone on PostgreSQL, and all of them in turn through a pooler."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence

import attrs
import trio

from pgpool_core.testing import PeerMismatch, ScriptedPeer, connect_peer
from tests.oracle.compare import Answer, Line
from tests.oracle.script import Again, Beginning, Item, Script, Talk
from tests.oracle.stage import Address

__all__ = ["Difference", "compare", "play_in_turn", "play_straight"]

PATIENCE_S = 30.0


class Difference(AssertionError):
    """A client got another answer through the pooler than from PostgreSQL."""


class Client:
    """One client on one side, through all its lives."""

    def __init__(self, address: Address, beginning: Beginning) -> None:
        self._address = address
        self._beginning = beginning
        self._peer: ScriptedPeer | None = None
        self.in_transaction = False
        self.keeps = False
        self.ended = False
        self.answers: list[Answer] = []

    async def play(self, item: Item) -> None:
        """Do it, and keep what came back."""
        answer = Answer()
        self.answers.append(answer)
        if isinstance(item, Talk):
            await self._talk(item, answer)
        else:
            if self._peer is not None and not self.ended:
                await self._leave(item)
            self._peer = None
            self._beginning = item.beginning
            self.in_transaction = self.keeps = self.ended = False

    async def end(self) -> None:
        if self._peer is not None:
            if not self.ended:
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._peer.send(b"X\0\0\0\4")
            await self._peer.aclose()

    async def _talk(self, item: Talk, answer: Answer) -> None:
        if self._peer is None:
            self._peer = await self._come()
        peer = self._peer
        if not self.ended:
            self.keeps = self.keeps or item.keeps
            await peer.send(item.data)
            ready = 0
            while ready < item.ready:
                message = await peer.receive()
                if message is None:
                    self.ended = True
                    break
                answer.add(message, peer.parameters)
                if message.type == b"Z":
                    ready += 1
                    self.in_transaction = message.body != b"I"
        answer.ended = self.ended
        if not item.told_later:
            answer.close(peer.parameters)

    async def _come(self) -> ScriptedPeer:
        peer = await connect_peer((self._address.host, self._address.port), patience_s=PATIENCE_S)
        await peer.log_in(self._beginning.user, self._address.database, **self._beginning.parameters)
        self.in_transaction = self.keeps = self.ended = False
        return peer

    async def _leave(self, item: Again) -> None:
        assert self._peer is not None
        if item.data:
            await self._peer.send(item.data)
        if item.how == "cut":
            await self._peer.cut()
        else:
            await self._peer.send(b"X\0\0\0\4")
            await self._peer.aclose()


async def play_straight(script: Script, address: Address) -> list[list[Answer]]:
    """Each client by itself, on a connection of its own."""
    found = []
    for who, beginning in enumerate(script.clients):
        client = Client(address, beginning)
        try:
            for item in script.of(who):
                await client.play(item)
        finally:
            await client.end()
        found.append(client.answers)
    return found


@attrs.define
class _Seat:
    """A client at work in a task of its own: `todo` is taken in order, `busy` counts what is not done yet."""

    client: Client
    todo: trio.MemorySendChannel[Item]
    busy: int = 0
    quiet: trio.Event = attrs.field(factory=trio.Event)


async def play_in_turn(script: Script, address: Address) -> list[list[Answer]]:
    """All clients through the pooler. One that may have to wait for a server is not waited for: the next turn comes."""
    seats: list[_Seat] = []
    async with trio.open_nursery() as nursery:
        for beginning in script.clients:
            todo, items = trio.open_memory_channel[Item](len(script.turns) + 1)
            seats.append(_Seat(Client(address, beginning), todo))
            nursery.start_soon(_work, seats[-1], items)
        for who, item in script.turns:
            seat = seats[who]
            seat.busy += 1
            seat.quiet = trio.Event()
            seat.todo.send_nowait(item)
            if _holds(seat) or _free(seats, seat) < script.servers:
                await seat.quiet.wait()
        for seat in seats:
            seat.todo.close()
    return [seat.client.answers for seat in seats]


def _holds(seat: _Seat) -> bool:
    """Whether its client surely has a server."""
    return seat.client.in_transaction and seat.busy == 1


def _free(seats: Sequence[_Seat], asking: _Seat) -> int:
    """How many servers others may hold or wait for."""
    return sum(
        1 for seat in seats if seat is not asking and (seat.busy or seat.client.in_transaction or seat.client.keeps)
    )


async def _work(seat: _Seat, items: trio.MemoryReceiveChannel[Item]) -> None:
    try:
        async for item in items:
            await seat.client.play(item)
            seat.busy -= 1
            if seat.busy == 0:
                seat.quiet.set()
    finally:
        with trio.CancelScope(shield=True):
            await seat.client.end()


async def compare(script: Script, straight: Address, pooled: Address) -> None:
    """Play `script` at both places.

    Raises:
        Difference: with what was said first at both.
    """
    wanted = await play_straight(script, straight)
    try:
        got = await play_in_turn(script, pooled)
    except* (PeerMismatch, trio.BrokenResourceError) as group:
        raise Difference(f"through the pooler: {_innermost(group)}") from None
    for who in range(len(script.clients)):
        for item, right, was in zip(script.of(who), wanted[who], got[who], strict=True):
            if right != was:
                raise Difference(f"C{who}: {_text(item)}\n{_both(right, was)}")
        asked, came = ([line for answer in side[who] for line in answer.asynchronous] for side in (wanted, got))
        if asked != came:
            raise Difference(f"C{who} was notified of {came}, not of {asked}")


def _innermost(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _text(item: Item) -> str:
    return item.text if isinstance(item, Talk) else item.how


def _both(right: Answer, was: Answer) -> str:
    shown: list[Line] = []
    for place, answer, other in (("PostgreSQL", right, was), ("pooler", was, right)):
        only = Counter(answer.lines) - Counter(other.lines)
        shown.append(f"  {place}:")
        shown += [f"    {_short(line)}" for line in answer.lines if line in only][:12]
        changed = {key: value for key, value in answer.parameters.items() if other.parameters.get(key) != value}
        if changed:
            shown.append(f"    parameters: {changed}")
        if answer.ended and not other.ended:
            shown.append("    end of the connection")
    return "\n".join(shown)


def _short(line: Line) -> Line:
    return line if len(line) < 400 else line[:400] + "..."
