"""The two ends of a takeover after the listening sockets have gone over: the old process gives, the new one takes.

The old one keeps its own copy of every descriptor until the new one has said that it has the parcel. When the new one has ended, and all
that it had said is read, what it has not answered comes back, and goes on as if nothing had been. When the old one is told to stop, it
is the other way round: the new one has whatever was sent to it.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import OrderedDict
from contextlib import suppress
from typing import Final

import trio

from pgpool_core import logs
from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.control.succession import Succession
from pgpool_core.process.exchange import Sender, receive
from pgpool_core.process.packets import (
    MAX_PACKET,
    KeyTold,
    ParcelTold,
    PoolTold,
    Reader,
    answer,
    answered,
    key_packet,
    parcel_packets,
    pool_packet,
    refusal,
)

UNDER_WAY: Final = 64  # parcels that have not been answered; as many descriptors, or twice that, are in flight
CROWDED_S: Final = 0.01  # before another try, where the system has too many descriptors in flight


class Giver:
    """The old process's end."""

    def __init__(self, connection: trio.socket.SocketType, succession: Succession) -> None:
        """Begin to give when `run` runs; the connection stays the caller's."""
        self._connection = connection
        self._succession = succession
        self._told: dict[int, PoolFacts] = {}
        self._keys: set[bytes] = set()
        self._unanswered: OrderedDict[int, Parcel] = OrderedDict()
        self._last = 0
        self._offered = 0  # and neither answered nor ours again: not sent yet, on the way, or under way
        self._over = trio.Event()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._send, self._waiting = trio.open_memory_channel[Parcel](65536)

    def begin(self) -> None:
        """From now on whatever comes to rest is to go; `run` sees to it."""
        self._succession.given = self.wait_given
        self._succession.give_to(self._offer)

    async def run(self) -> None:
        """Give what has come to rest, until the other process has ended; then what it has not taken is ours again.

        Cancelled, because this process stops: what has been sent belongs to the other one.
        """
        try:
            try:
                with suppress(OSError, trio.ClosedResourceError):
                    await self._give_all()
            finally:
                self._succession.give_to(None)
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)  # where it lives: it gets no more, and says so by its end
            await self._over.wait()
        except trio.Cancelled:
            self._leave()
            raise
        logs.LOGGER.warning("the new process takes no more: who is still here stays")
        self._take_back()

    async def _give_all(self) -> None:
        async for parcel in self._waiting:
            while len(self._unanswered) >= UNDER_WAY and not self._over.is_set():
                self._room = trio.Event()
                await self._room.wait()
            await self._give(parcel)

    async def wait_given(self) -> None:
        """Wait until all that was offered has been answered."""
        while self._offered:
            await self._idle.wait()

    def received(self, packet: bytes) -> bool:
        """A packet of the new process; False: it is not about parcels."""
        said = answered(packet)
        if said is None:
            return False
        number, taken = said
        if (parcel := self._unanswered.pop(number, None)) is not None:
            self._offered -= 1
            if taken:
                _drop(parcel)
            else:
                self._refused(parcel)
        self._room.set()
        if not self._offered:
            self._idle.set()
        return True

    def ended(self) -> None:
        """The other process is not there any more, and all that it had said is received."""
        self._over.set()
        self._room.set()
        self._send.close()

    def _refused(self, parcel: Parcel) -> None:
        if self._succession.gives:
            logs.LOGGER.warning("the new process has no more file descriptors (ulimit -n): who is still here stays")
            self._succession.give_to(None)
        self._succession.take_back(parcel)

    def _offer(self, parcel: Parcel) -> None:
        try:
            self._send.send_nowait(parcel)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._succession.take_back(parcel)
            return
        self._offered += 1
        if self._idle.is_set():
            self._idle = trio.Event()  # else somebody may be waiting for the one that there is

    async def _give(self, parcel: Parcel) -> None:
        self._last = number = self._last + 1
        self._unanswered[number] = parcel
        facts = self._succession.pool_facts(parcel.pool)
        if facts is not None and self._told.get(parcel.pool) != facts:
            self._told[parcel.pool] = facts
            await self._connection.send(pool_packet(parcel.pool, facts))
        for key in self._succession.client_keys() - self._keys:
            self._keys.add(key)
            await self._connection.send(key_packet(key))
        fds = [fd for fd in (parcel.client_fd, parcel.server_fd) if fd >= 0]
        for packet in parcel_packets(number, parcel):
            await self._send_packet(packet, fds)
            fds = []

    async def _send_packet(self, packet: bytes, fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            try:
                await self._connection.sendmsg([packet], rights)
                return
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
            await trio.sleep(CROWDED_S)

    def _take_back(self) -> None:
        left = [*self._unanswered.values(), *self._unsent()]
        self._unanswered.clear()
        self._offered = 0
        for parcel in left:
            self._succession.take_back(parcel)
        self._idle.set()

    def _leave(self) -> None:
        for parcel in self._unanswered.values():
            _drop(parcel)
        self._unanswered.clear()
        for parcel in self._unsent():
            self._succession.take_back(parcel)

    def _unsent(self) -> list[Parcel]:
        left: list[Parcel] = []
        with suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            while True:
                left.append(self._waiting.receive_nowait())
        self._waiting.close()
        return left


async def take_all(connection: trio.socket.SocketType, sender: Sender, succession: Succession) -> None:
    """The new process's end, until the old one sends no more. What has come whole is taken, whether it can still be told so or not.

    Raises:
        OSError: the connection broke.
        ValueError: the old process sends what it should not.
    """
    reader, pools = Reader(), dict[int, PoolFacts]()
    try:
        while True:
            packet, fds, cut = await receive(connection, MAX_PACKET, 2)
            if not packet:
                return
            try:
                said = reader.read(packet, fds, cut=cut)
            except ValueError:
                for fd in fds:
                    os.close(fd)
                raise
            match said:
                case PoolTold(number, facts):
                    pools[number] = facts
                case KeyTold(key):
                    succession.learn_key(key)
                case ParcelTold(number, parcel):
                    await _take(number, parcel, pools.get(parcel.pool), sender, succession)
    finally:
        if (left := reader.left()) is not None:
            _drop(left)


async def _take(number: int, parcel: Parcel, facts: PoolFacts | None, sender: Sender, succession: Succession) -> None:
    if parcel.client_fd < 0 and parcel.server_fd < 0:
        succession.learn_texts(parcel)  # later ones may name them
        with suppress(OSError, trio.ClosedResourceError):
            await sender.send(refusal(number))
        return
    try:
        with suppress(OSError, trio.ClosedResourceError):
            await sender.send(answer(number))
    except trio.Cancelled:
        _drop(parcel)
        raise
    if facts is not None:
        succession.take(facts, parcel)
    else:
        parcel.close()


def _drop(parcel: Parcel) -> None:
    """Close our copies: the other process has its own, so nothing is said."""
    for fd in (parcel.client_fd, parcel.server_fd):
        if fd >= 0:
            os.close(fd)
