"""What the two processes of a takeover say to each other once the listening sockets have gone over: whole packets, both ways at once.

A process that ends with packets unread resets the connection. What it had said before is still there to be read behind that error, and
counts: which parcels it has taken, and which are sent to it.
Source: unix(7), SOCK_SEQPACKET.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

import trio


class Packet(NamedTuple):
    """One packet; the descriptors are the reader's. Empty: the other side says no more."""

    data: bytes
    fds: list[int]
    cut: bool  # descriptors were lost on the way: this process may have no more


class Sender:
    """One side's way out, for all who send there: one packet after the other."""

    def __init__(self, connection: trio.socket.SocketType) -> None:
        """Send nothing yet; the connection stays the caller's."""
        self._connection = connection
        self._turn = trio.Lock()

    async def send(self, packet: bytes) -> None:
        """Send one packet, when it is its turn.

        Raises:
            OSError, trio.ClosedResourceError: the other side, or the connection, is not there any more.
        """
        async with self._turn:
            await self._connection.send(packet)


async def receive(connection: trio.socket.SocketType, max_len: int, max_fds: int = 0) -> Packet:
    """The next packet.

    Raises:
        OSError, trio.ClosedResourceError: the connection broke.
    """
    numbers = array.array("i")
    space = socket.CMSG_SPACE(max_fds * numbers.itemsize)
    try:
        data, ancillary, flags, _ = await connection.recvmsg(max_len, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        data, ancillary, flags, _ = await connection.recvmsg(max_len, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
    if flags & socket.MSG_CTRUNC:
        for fd in numbers:
            os.close(fd)
        return Packet(data, [], cut=True)
    return Packet(data, list(numbers), cut=False)


async def packets_from(connection: trio.socket.SocketType, max_len: int) -> AsyncIterator[bytes]:
    """What the other side says, until it says no more; closes the connection."""
    with connection, suppress(OSError, trio.ClosedResourceError):
        while data := (await receive(connection, max_len)).data:
            yield data
