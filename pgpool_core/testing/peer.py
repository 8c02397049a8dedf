"""A scripted peer: the PostgreSQL server that misbehaves, or the client that does, on real sockets."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Self

import scramp
import trio

from pgpool_core.testing.messages import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    Message,
    Messages,
    Startup,
    backend,
    frontend,
    parse_startup,
)

__all__ = ["PeerMismatch", "ScriptedPeer", "ScriptedServer", "connect_peer", "open_scripted_server"]

_RECEIVE_BYTES = 65536
_DEFAULT_PARAMETERS = {
    "server_version": "15.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
}


class PeerMismatch(AssertionError):
    """The other side said something else than the script expects; the text shows both."""


class ScriptedPeer:
    """One connection, driven message by message from either end.

    Every wait ends after `patience_s` seconds with `PeerMismatch`, so a script fails where it got stuck. To stall, do nothing:
    what is not asked for is not read, and `narrow` makes the kernel's buffers small enough for the other side to notice.

    Args:
        stream: the connection; becomes ours.
        patience_s: the longest wait for one message.
    """

    def __init__(self, stream: trio.SocketStream, *, patience_s: float = 10.0) -> None:
        self.stream = stream
        self.patience_s = patience_s
        self.pid = 0
        self.key = b""
        self.parameters: dict[str, str] = {}
        self._raw = bytearray()
        self._cutter = Messages()
        self._waiting: deque[Message] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- sending ---------------------------------------------------------------------------------------------------

    async def send(self, *parts: bytes | Message) -> None:
        """Send `parts` in one go."""
        with self._patience(f"sending {len(parts)} part(s)"):
            await self.stream.send_all(b"".join(bytes(part) for part in parts))

    async def send_bytewise(self, data: bytes) -> None:
        """Send `data` one byte at a time, each in a packet of its own."""
        if self._is_tcp():
            self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        for at in range(len(data)):
            await self.send(data[at : at + 1])

    # -- receiving -------------------------------------------------------------------------------------------------

    async def receive(self) -> Message | None:
        """The next message, or None when the other side has ended the connection (an abrupt end counts)."""
        while not self._waiting:
            data = await self._more("a message")
            if not data:
                if self._cutter.rest:
                    raise PeerMismatch(f"the connection ended inside a message: {self._cutter.rest[:64]!r}")
                return None
            self._waiting.extend(self._cutter.feed(data))
        return self._waiting.popleft()

    async def expect(self, *types: str) -> Message:
        """Receive one message for each letter of `types`, in this order and nothing between; the last one.

        Raises:
            PeerMismatch: something else came.
        """
        message = Message(b"")
        for wanted in "".join(types):
            came = await self.receive()
            if came is None or came.type != wanted.encode():
                raise PeerMismatch(f"expected {wanted!r} of {''.join(types)!r}, got {_describe(came)}")
            message = came
        return message

    async def until(self, letter: str) -> list[Message]:
        """Every message up to and with the first of type `letter`."""
        found: list[Message] = []
        while not found or found[-1].type != letter.encode():
            came = await self.receive()
            if came is None:
                raise PeerMismatch(f"the connection ended before {letter!r}, after {[_describe(one) for one in found]}")
            found.append(came)
        return found

    async def expect_error(self, sqlstate: str) -> Message:
        """Receive one ErrorResponse with this SQLSTATE, past any notices."""
        came = await self.receive()
        while came is not None and came.type == b"N":
            came = await self.receive()
        if came is None or came.type != b"E" or came.fields.get("C") != sqlstate:
            raise PeerMismatch(f"expected ErrorResponse {sqlstate}, got {_describe(came)}")
        return came

    async def expect_end(self) -> None:
        """Wait for the other side to end the connection, with nothing said before."""
        came = await self.receive()
        if came is not None:
            raise PeerMismatch(f"expected the end of the connection, got {_describe(came)}")

    async def expect_silence(self) -> None:
        """Assert that nothing has come so far. It looks once and does not wait: first cause something that answers later."""
        with trio.move_on_after(0):
            data = await self._more("nothing")
            self._waiting.extend(self._cutter.feed(data))
            if not data:
                raise PeerMismatch("expected silence, the connection ended")
        if self._waiting:
            raise PeerMismatch(f"expected silence, got {_describe(self._waiting[0])}")

    async def receive_startup(self) -> Startup:
        """Server side: the first packet of the client, whatever it is."""
        while len(self._raw) < 4 or len(self._raw) < struct.unpack_from("!I", self._raw)[0]:
            data = await self._more("a startup packet")
            if not data:
                raise PeerMismatch(f"the connection ended before a startup packet, after {bytes(self._raw)!r}")
            self._raw += data
        (length,) = struct.unpack_from("!I", self._raw)
        packet = bytes(self._raw[4:length])
        del self._raw[:length]
        if self._raw:
            self._waiting.extend(self._cutter.feed(bytes(self._raw)))
            self._raw.clear()
        return parse_startup(packet)

    # -- conversations that every script starts with --------------------------------------------------------------

    async def accept_login(
        self, *, pid: int = 4711, key: bytes = b"\0\0\0\1", parameters: Mapping[str, str] = _DEFAULT_PARAMETERS
    ) -> Startup:
        """Server side: refuse encryption, take the startup packet, let the user in without a password."""
        while (startup := await self.receive_startup()).code in (SSL_REQUEST, GSSENC_REQUEST):
            await self.send(b"N")
        status = [backend.parameter(name, value) for name, value in parameters.items()]
        await self.send(backend.authentication_ok(), *status, backend.key_data(pid, key), backend.ready())
        return startup

    async def log_in(self, user: str, database: str, password: str = "", **parameters: str) -> None:
        """Client side: log in by whatever method is asked for, up to the first ReadyForQuery.

        `pid`, `key` and `parameters` then hold what the server told.

        Raises:
            PeerMismatch: refused; the text holds the error.
        """
        await self.send(frontend.startup(user, database, **parameters))
        await self._authenticate(user, password)
        while (came := await self._next("BackendKeyData")).type != b"Z":
            if came.type == b"S":
                name, value = came.body.decode().split("\0")[:2]
                self.parameters[name] = value
            elif came.type == b"K":
                (self.pid,), self.key = struct.unpack_from("!I", came.body), came.body[4:]
            elif came.type not in (b"N", b"v"):
                raise PeerMismatch(f"during login: {_describe(came)}")

    async def query(self, sql: str) -> list[Message]:
        """Client side: one simple query; every message up to ReadyForQuery."""
        await self.send(frontend.query(sql))
        return await self.until("Z")

    # -- breaking things -------------------------------------------------------------------------------------------

    async def cut(self) -> None:
        """End the connection with a reset: the other side sees ECONNRESET. Unix sockets just close."""
        if self._is_tcp():
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)

    async def half_close(self) -> None:
        """Send no more, but go on reading."""
        await self.stream.send_eof()

    def narrow(self, size: int = 4096) -> None:
        """Make this end's kernel buffers `size` bytes (at least what the kernel allows), so that stalls are felt early."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    async def aclose(self) -> None:
        """Close politely."""
        await self.stream.aclose()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _is_tcp(self) -> bool:
        return self.stream.socket.family != socket.AF_UNIX

    @contextlib.contextmanager
    def _patience(self, what: str) -> Iterator[None]:
        with trio.move_on_after(self.patience_s) as scope:
            yield
        if scope.cancelled_caught:
            raise PeerMismatch(f"{what}: nothing for {self.patience_s:g} s; had {self._cutter.rest[:64]!r}")

    async def _more(self, what: str) -> bytes:
        """Some bytes, or b"" at the end of the stream, a reset included."""
        with self._patience(f"waiting for {what}"):
            try:
                return bytes(await self.stream.receive_some(_RECEIVE_BYTES))
            except trio.BrokenResourceError as broken:
                cause = broken.__cause__
                if isinstance(cause, OSError) and cause.errno in (errno.ECONNRESET, errno.EPIPE):
                    return b""
                raise
        raise AssertionError("unreachable: patience raises")

    async def _next(self, what: str) -> Message:
        came = await self.receive()
        if came is None:
            raise PeerMismatch(f"the connection ended before {what}")
        return came

    async def _authenticate(self, user: str, password: str) -> None:
        """Answer AuthenticationXXX messages until AuthenticationOk."""
        client: scramp.ScramClient | None = None
        while (code := struct.unpack_from("!I", (came := await self._authentication()).body)[0]) != 0:
            data = came.body[4:]
            if code == 3:
                await self.send(frontend.password(password))
            elif code == 5:
                inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
                await self.send(frontend.password("md5" + hashlib.md5(inner.encode() + data).hexdigest()))
            elif code == 10:
                client = scramp.ScramClient(["SCRAM-SHA-256"], user, password)
                first = client.get_client_first().encode()
                await self.send(Message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
            elif code == 11 and client is not None:
                client.set_server_first(data.decode())
                await self.send(Message(b"p", client.get_client_final().encode()))
            elif code == 12 and client is not None:
                client.set_server_final(data.decode())
            else:
                raise PeerMismatch(f"asked for authentication {code}, which this peer does not know")

    async def _authentication(self) -> Message:
        came = await self._next("AuthenticationOk")
        while came.type in (b"N", b"v"):
            came = await self._next("AuthenticationOk")
        if came.type != b"R":
            raise PeerMismatch(f"during authentication: {_describe(came)}")
        return came


class ScriptedServer:
    """A listening socket whose connections are `ScriptedPeer`s, taken in order with `accept`.

    Attributes:
        accepted: all that were taken; whoever wants them closed with the script closes them.
    """

    def __init__(self, listener: trio.SocketListener, path: Path | None) -> None:
        self._listener = listener
        self.path = path
        self.host = "127.0.0.1"
        self.port: int = 0 if path else listener.socket.getsockname()[1]
        self.accepted: list[ScriptedPeer] = []

    async def accept(self, *, patience_s: float = 10.0) -> ScriptedPeer:
        """The next connection.

        Raises:
            PeerMismatch: nobody connects for `patience_s` seconds.
        """
        with trio.move_on_after(patience_s):
            self.accepted.append(ScriptedPeer(await self._listener.accept(), patience_s=patience_s))
            return self.accepted[-1]
        raise PeerMismatch(f"nobody connected for {patience_s:g} s")

    async def stop_listening(self) -> None:
        """Refuse connections from now on; the accepted ones live."""
        await self._listener.aclose()


@contextlib.asynccontextmanager
async def open_scripted_server(path: Path | None = None, *, backlog: int = 128) -> AsyncGenerator[ScriptedServer]:
    """A `ScriptedServer` on a free loopback port, or on the Unix socket `path`, until the block ends."""
    sock = trio.socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
    await sock.bind(str(path) if path else ("127.0.0.1", 0))
    sock.listen(backlog)
    listener = trio.SocketListener(sock)
    try:
        yield ScriptedServer(listener, path)
    finally:
        await listener.aclose()


async def connect_peer(address: tuple[str, int] | Path, *, patience_s: float = 10.0) -> ScriptedPeer:
    """A client `ScriptedPeer` connected to (host, port), or to a Unix socket's path; nothing has been sent yet."""
    with trio.fail_after(patience_s):
        if isinstance(address, Path):
            sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            await sock.connect(str(address))
            return ScriptedPeer(trio.SocketStream(sock), patience_s=patience_s)
        return ScriptedPeer(await trio.open_tcp_stream(*address), patience_s=patience_s)


def _describe(message: Message | None) -> str:
    if message is None:
        return "the end of the connection"
    if message.type in (b"E", b"N") and message.body:
        return f"{message.type.decode()} {message.fields}"
    return f"{message.type.decode('latin-1')!r} {message.body[:80]!r}"
