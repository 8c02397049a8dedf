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
from pgpool_core.errors import ConfigError, InternalError

_LENGTH: Final = struct.Struct("!Q")
_NOT_FOR_ANOTHER: Final = "this configuration cannot be given to another process"


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


def ask(message: Start | Question) -> bytes:
    """A message for the process, as it travels.

    Raises:
        ConfigError: something in it, such as a function that is nobody's by name, cannot be given to another process.
    """
    try:
        return _framed(message)
    except Exception as problem:
        raise ConfigError(f"{_NOT_FOR_ANOTHER}: {problem}") from None


def answer(message: object) -> bytes:
    """A message for the program, as it travels; an exception that cannot be pickled is told of as an InternalError."""
    try:
        if isinstance(message, Failed):
            pickle.loads(pickle.dumps(message))  # some can only be written
        return _framed(message)
    except Exception as problem:
        what = message.error if isinstance(message, Failed) else problem
        return _framed(Failed(InternalError(f"{type(what).__name__}: {what}")))


def receive_start(sock: socket.socket) -> Start | Failed:
    """The first message, in the process; Failed where what it needs is not there.

    Raises:
        EOFError: the other side has gone.
    """
    try:
        start: Start = receive(sock)
    except (OSError, EOFError):
        raise
    except Exception as problem:  # such as a function of the program's main module
        return Failed(ConfigError(f"{_NOT_FOR_ANOTHER}: {problem}"))
    return start


def _framed(message: object) -> bytes:
    body = pickle.dumps(message)
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
