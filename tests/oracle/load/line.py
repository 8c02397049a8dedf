"""One client's connection, by the protocol's letters: plain or TLS, TCP or a Unix socket, in a hurry or slow."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import attrs
import trio

from pgpool_core.testing import Message, frontend
from tests.oracle.load.matter import Wrong, cuts

__all__ = ["PATIENCE_S", "Ended", "Gate", "Line"]

PATIENCE_S = 30.0  # for one byte at least; whoever waits longer has been forgotten


class Ended(Exception):
    """The other side has ended the connection."""


@attrs.frozen
class Gate:
    """Where clients come in, and how."""

    host: str
    port: int
    database: str
    folder: Path | None = None  # of its Unix socket
    tls: ssl.SSLContext | None = None
    narrow: bool = False  # the pooler's end has little room
    answers: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)  # of PostgreSQL itself, to long queries

    async def connect(self, rng: random.Random) -> trio.abc.Stream:
        """A connection of one of the kinds that there are; sometimes with little room for what comes."""
        way = rng.random()
        unix = self.folder is not None and way < 0.3
        sock = trio.socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        narrow = rng.random() < 0.4
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rng.choice((4096, 16_384, 40_000)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rng.choice((4096, 40_000)))
        if (narrow or self.narrow) and not unix:  # a window below one segment of the loopback's would wait for timers
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
        await sock.connect(
            str(self.folder / f".s.PGSQL.{self.port}") if unix and self.folder else (self.host, self.port)
        )
        stream = trio.SocketStream(sock)
        if unix or self.tls is None or way < 0.6:
            return stream
        await stream.send_all(bytes(frontend.ssl_request()))
        if await stream.receive_some(1) != b"S":
            raise Wrong("no TLS")
        return trio.SSLStream(stream, self.tls, https_compatible=True)


class Line:
    """A connection and what has come on it. `gulp` is how much is taken at once: a slow reader takes little and lets others work."""

    def __init__(self, gate: Gate, rng: random.Random) -> None:
        self.gate, self.rng = gate, rng
        self.notices: list[Message] = []
        self.notifications: list[Message] = []
        self.key = b""
        self.gulp = rng.choice((65_536, 65_536, 1 << 20, 1000))
        self.names: dict[str, str] = {}
        self._buffer = bytearray()
        self._at = 0
        self._stream: trio.abc.Stream

    async def __aenter__(self) -> Self:
        await self._log_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _log_in(self) -> None:
        try:
            self._stream = await self.gate.connect(self.rng)
        except (OSError, trio.BrokenResourceError) as broken:
            raise Ended(f"while connecting: {broken!r}") from None
        await self.send(bytes(frontend.startup("app", self.gate.database)))
        while (came := await self.message()).type != b"Z":
            if came.type == b"K":
                self.key = came.body
            elif came.type != b"R" or came.body != b"\0\0\0\0":
                raise Wrong(f"at login: {came.type!r} {came.body[:200]!r}")

    async def send(self, *parts: bytes | Message) -> None:
        """Send them in one go, or cut at any place; the others work between the pieces."""
        try:
            for piece in cuts(self.rng, b"".join(map(bytes, parts))):
                for at in range(0, len(piece), 100_000):
                    with trio.fail_after(PATIENCE_S):
                        await self._stream.send_all(piece[at : at + 100_000])
                await trio.lowlevel.checkpoint()
        except trio.BrokenResourceError as broken:
            raise Ended(f"while sending: {broken.__cause__!r}") from None

    async def message(self) -> Message:
        """The next message that is an answer; notices, notifications and parameters are kept aside."""
        while True:
            came = await self._next()
            if came.type == b"N":
                self.notices.append(came)
            elif came.type == b"A":
                self.notifications.append(came)
            elif came.type == b"S":
                if came.body.count(b"\0") != 2 or came.body[-1:] != b"\0":
                    raise Wrong(f"ParameterStatus {came.body[:200]!r}")
            else:
                return came

    async def expect(self, types: bytes) -> Message:
        """One message for each letter; the last."""
        came = Message(b"")
        for wanted in types:
            came = await self.message()
            if came.type[0] != wanted:
                raise Wrong(f"{came.type!r} {came.body[:200]!r} in place of {chr(wanted)} of {types!r}")
        return came

    async def stretch(self, n: int) -> bytes:
        """The next `n` bytes of answers as they come, uncut; what is kept aside may come in front of them only."""
        found = bytearray(bytes(await self.message()))
        found += self._buffer[self._at :]
        self._buffer.clear()
        self._at = 0
        while len(found) < n:
            found += await self._more()
        self._buffer += found[n:]
        return bytes(found[:n])

    async def value(self, sql: str) -> bytes:
        """The only value of the only row of a simple query."""
        await self.send(frontend.query(sql))
        await self.expect(b"T")
        found = (await self.expect(b"D")).values[0]
        await self.expect(b"CZ")
        return found or b""

    async def done(self, sql: str) -> None:
        """A simple query without rows."""
        await self.send(frontend.query(sql))
        await self.expect(b"CZ")

    async def cancel(self) -> None:
        """Ask for the end of what runs."""
        try:
            async with await Gate(self.gate.host, self.gate.port, self.gate.database).connect(self.rng) as stream:
                await stream.send_all(struct.pack("!II", 8 + len(self.key), 80877102) + self.key)
                await stream.receive_some(1)
        except (OSError, trio.BrokenResourceError) as broken:
            raise Ended(f"while cancelling: {broken!r}") from None

    async def _next(self) -> Message:
        while True:
            have = len(self._buffer) - self._at
            if have >= 5:
                (length,) = struct.unpack_from("!I", self._buffer, self._at + 1)
                letter = bytes(self._buffer[self._at : self._at + 1])
                if not 4 <= length < 1 << 27 or letter not in b"RSKZTDCEN1237stnAGHIc" + b"d":
                    raise Wrong(f"no message begins so: {bytes(self._buffer[self._at : self._at + 60])!r}")
                if have > length:
                    start = self._at + 5
                    self._at += length + 1
                    return Message(letter, bytes(self._buffer[start : self._at]))
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            self._buffer += await self._more()

    async def _more(self) -> bytes:
        """What comes next, and a rest for the others where it is little."""
        if self.gulp < 4096:
            await trio.lowlevel.checkpoint()
        try:
            with trio.fail_after(PATIENCE_S):
                data = bytes(await self._stream.receive_some(self.gulp))
        except trio.BrokenResourceError as broken:
            raise Ended(f"while reading: {broken.__cause__!r}, had {bytes(self._buffer[:60])!r}") from None
        if not data:
            raise Ended(f"had {bytes(self._buffer[:60])!r}")
        return data
