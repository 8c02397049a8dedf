"""What a program and the process of its proxy say to each other: one value a message, a length and then a pickle.

Both ends are this library, run by the same user: a socketpair that the process inherits, and a socket in a folder that only this user may
enter. Nobody else can say anything, so unpickling is as safe as importing.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

import attrs
import trio

from pgpool_core.embedded.address import ProxyAddress
from pgpool_core.embedded.source import Source
from pgpool_core.errors import InternalError

_LENGTH: Final = struct.Struct("!Q")


@attrs.frozen(kw_only=True)
class Start:
    """The first message: what to open."""

    source: Source = attrs.field(repr=False)
    listen: str | None
    settings: Mapping[str, object] = attrs.field(repr=False)
    log_level: int


@attrs.frozen(kw_only=True)
class Started:
    """The answer to it when clients can connect."""

    address: ProxyAddress
    folder: str
    """Where the socket for questions is; goes with the process."""


@attrs.frozen
class Question:
    """A method of `Proxy` by name, and its arguments."""

    name: str
    words: tuple[object, ...] = attrs.field(repr=False)


@attrs.frozen
class Failed:
    """The answer where an exception came of it."""

    error: Exception


def pack(message: object) -> bytes:
    """A message as it travels; what cannot be pickled is told of as an InternalError."""
    try:
        body = pickle.dumps(message)
        if isinstance(message, Failed):
            pickle.loads(body)  # some exceptions can only be written
    except Exception as problem:
        what = message.error if isinstance(message, Failed) else problem
        body = pickle.dumps(Failed(InternalError(f"{type(what).__name__}: {what}")))
    return _LENGTH.pack(len(body)) + body


def receive(sock: socket.socket) -> Any:
    """The next message.

    Raises:
        EOFError: the other side has gone.
    """
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size))
    return pickle.loads(_exactly(sock, length))


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if not (part := sock.recv(min(count - len(parts), 1 << 20))):
            raise EOFError("the other side has gone")
        parts += part
    return bytes(parts)


async def receive_async(stream: trio.abc.ReceiveStream) -> Any:
    """As `receive`."""
    (length,) = _LENGTH.unpack(await _exactly_async(stream, _LENGTH.size))
    return pickle.loads(await _exactly_async(stream, length))


async def _exactly_async(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if not (part := await stream.receive_some(min(count - len(parts), 1 << 20))):
            raise EOFError("the other side has gone")
        parts += part
    return bytes(parts)
