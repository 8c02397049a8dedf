"""One side of one connection while a transcript is played."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import random
import socket
import struct
import termios
from collections.abc import Callable, Iterator

import scramp
import trio

from tests.protocol.layouts import read_message
from tests.protocol.transcript import Line
from tests.protocol.words import Word, Words, quoted, write_words

__all__ = ["CUTS", "KNOWN_TO_FAIL_S", "PATIENCE_S", "Cut", "Mismatch", "Party", "describe"]

PATIENCE_S = 30.0
KNOWN_TO_FAIL_S = 1.0  # for a transcript that waits in vain
_LOOKS = 200  # at a socket whose bytes are not read: its reader may be waiting for something else first

Cut = Callable[[bytes, random.Random], Iterator[bytes]]


def _randomly(data: bytes, source: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = source.choice((1, 2, 3, 5, 8, 13, 50, 500))
        yield data[at : at + size]
        at += size


CUTS: dict[str, Cut] = {
    "whole": lambda data, _: iter((data,)),
    "bytes": lambda data, _: (data[at : at + 1] for at in range(len(data))),
    "random": _randomly,
}


class Mismatch(AssertionError):
    """What came is not what the transcript says."""


class Party:
    """A client or a server of the transcript, on its socket.

    Args:
        cut: how what is sent is cut into sends; each is read by the other side before the next one where the kernel tells
            (Unix sockets do), so the end of each is the end of a chunk there.
        source: of randomness, for `cut`.
    """

    def __init__(
        self,
        name: str,
        stream: trio.SocketStream,
        *,
        is_server: bool,
        cut: Cut,
        source: random.Random,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name = name
        self.stream = stream
        self.is_server = is_server
        self.patience_s = patience_s
        self.process = 0
        self.key = b""
        self.user = ""
        self.broken = False
        self.ended = False
        self._cut = cut
        self._source = source
        self._buffer = bytearray()
        self._salt = b""
        self._scram: scramp.ScramClient | None = None
        self._is_unix = stream.socket.family == socket.AF_UNIX
        if not self._is_unix:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    # -- sending ---------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send `data` in its chunks. That the other side has gone is noted in `broken`; what it said last is still to be read."""
        with self._patience(f"{self.name} sends {data[:40]!r}"):
            for chunk in self._cut(data, self._source):
                try:
                    await self.stream.send_all(chunk)
                except trio.BrokenResourceError:
                    self.broken = True
                    return
                await self._until_read()

    async def _until_read(self) -> None:
        for _ in range(_LOOKS if self._is_unix else 1):
            (unread,) = struct.unpack("i", fcntl.ioctl(self.stream.socket.fileno(), termios.TIOCOUTQ, bytes(4)))
            if unread == 0:
                return
            await trio.lowlevel.checkpoint()

    async def half_close(self) -> None:
        """Send no more."""
        with contextlib.suppress(trio.BrokenResourceError, OSError):
            await self.stream.send_eof()

    async def close(self) -> None:
        self.ended = True
        await self.stream.aclose()

    async def cut_off(self) -> None:
        """End it without a word, on TCP with a reset."""
        self.ended = True
        if not self._is_unix:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)

    # -- receiving -------------------------------------------------------------------------------------------------

    async def more(self) -> bool:
        """Read something; False at the end, a reset included."""
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        self._buffer += data
        return bool(data)

    async def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        with self._patience(f"{self.name} waits for {what}, has {bytes(self._buffer[:40])!r}"):
            while len(self._buffer) < count:
                if not await self.more():
                    raise Mismatch(
                        f"{self.name} should get {what}; the connection ended, after {bytes(self._buffer)!r}"
                    )
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def message(self, what: str) -> tuple[bytes, bytes]:
        """The next message: its letter and its body."""
        head = await self.take(5, what)
        (length,) = struct.unpack("!I", head[1:])
        if length < 4:
            raise Mismatch(f"{self.name} should get {what}; got the header {head!r}")
        body = await self.take(length - 4, what)
        if not self.is_server:
            self._learn(head[:1], body)
        return head[:1], body

    async def first_packet(self, what: str) -> bytes:
        """The next packet without a letter."""
        head = await self.take(4, what)
        return head + await self.take(struct.unpack("!I", head)[0] - 4, what)

    async def message_or_end(self) -> tuple[bytes, bytes] | None:
        """The next message, None at the end."""
        with self._patience(f"{self.name} waits for a message or the end"):
            return await self.message("a message") if self._buffer or await self.more() else None
        raise AssertionError("patience raises")

    async def at_end(self) -> bytes:
        """Wait for the other side to end the connection; whatever it said before that."""
        with self._patience(f"{self.name} waits for the end, has {bytes(self._buffer[:40])!r}"):
            while not self.ended and await self.more():
                pass
        self.ended = True
        said = bytes(self._buffer)
        self._buffer.clear()
        return said

    def describe(self, data: bytes) -> str:
        """`data` as a transcript would write it."""
        said = []
        while len(data) >= 5 and (length := struct.unpack_from("!I", data, 1)[0]) >= 4 and len(data) > length:
            said.append(describe(data[:1], data[5 : length + 1], from_client=self.is_server))
            data = data[length + 1 :]
        return "; ".join([*said, *([f"Bytes {data.hex()}"] if data else [])])

    async def expect(self, line: Line) -> None:
        """Get what `line` says, or raise Mismatch."""
        if line.name == "Bytes":
            assert line.data is not None
            if (raw := await self.take(len(line.data), line.text)) != line.data:
                raise Mismatch(f"should get {line.text}; got {raw.hex()}")
            return
        letter, body = await self.message(line.text)
        if line.data is not None and letter + struct.pack("!I", len(body) + 4) + body == line.data:
            return
        found = read_message(letter, body, from_client=self.is_server)
        if any(name == line.name and line.words.matches(words) for name, words in found):
            return
        raise Mismatch(f"should get {line.text}; got {describe(letter, body, from_client=self.is_server)}")

    async def greeting(self) -> None:
        """Get what follows AuthenticationOk: ParameterStatus as many as there are, one BackendKeyData, ReadyForQuery."""
        came = b""
        while not came.endswith(b"Z"):
            letter, body = await self.message("the greeting")
            came += letter
            if letter not in b"SKZ" or (letter == b"Z" and body != b"I"):
                raise Mismatch(f"{self.name} should get the greeting; got {describe(letter, body, from_client=False)}")
        if came.strip(b"S") != b"KZ":
            raise Mismatch(f"{self.name} should get the greeting; got the messages {came.decode()}")

    @contextlib.contextmanager
    def _patience(self, what: str) -> Iterator[None]:
        with trio.move_on_after(self.patience_s) as scope:
            yield
        if scope.cancelled_caught:
            raise Mismatch(f"{what}: nothing for {self.patience_s:g} s")

    # -- what is made up while it is played ------------------------------------------------------------------------

    def _learn(self, letter: bytes, body: bytes) -> None:
        if letter == b"K":
            self.process, self.key = struct.unpack_from("!I", body)[0], body[4:]
        elif letter == b"R":
            code, data = struct.unpack_from("!I", body)[0], body[4:]
            if code == 5:
                self._salt = data
            elif code == 11 and self._scram is not None:
                self._scram.set_server_first(data.decode())
            elif code == 12 and self._scram is not None:
                self._scram.set_server_final(data.decode())  # raises where the server does not know the secret

    def answer(self, line: Line) -> bytes:
        """PasswordMessage, SASLInitialResponse or SASLResponse for what was asked last."""
        if line.name == "PasswordMessage":
            return self._password(_md5(line.words.named["md5"].data, self.user, self._salt))
        if line.name == "SASLInitialResponse":
            return self._sasl_initial(line.words.named["password"].data.decode())
        if self._scram is None:
            raise Mismatch(f"{line.text}: no SASLInitialResponse before it")
        return _message(b"p", self._scram.get_client_final().encode())

    def _password(self, answer: bytes) -> bytes:
        return _message(b"p", answer + b"\0")

    def _sasl_initial(self, password: str) -> bytes:
        # libpq leaves the user name out, which scramp refuses to; servers ignore it.
        self._scram = scramp.ScramClient(["SCRAM-SHA-256"], self.user, password)
        first = self._scram.get_client_first().encode()
        return _message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)

    async def log_in(self, startup: bytes, user: str, password: str) -> None:
        """Log in by whatever is asked for, up to ReadyForQuery."""
        self.user = user
        await self.send(startup)
        while True:
            letter, body = await self.message("the end of the login")
            code = struct.unpack_from("!I", body)[0] if letter == b"R" else 0
            if letter == b"Z":
                return
            if letter == b"E":
                raise Mismatch(f"{self.name} cannot log in: {describe(letter, body, from_client=False)}")
            if code == 5:
                await self.send(self._password(_md5(password.encode(), user, self._salt)))
            elif code == 10:
                await self.send(self._sasl_initial(password))
            elif code == 11 and self._scram is not None:
                await self.send(_message(b"p", self._scram.get_client_final().encode()))


def describe(letter: bytes, body: bytes, *, from_client: bool) -> str:
    """A message as a transcript would write it."""
    for name, words in read_message(letter, body, from_client=from_client):
        return f"{name} {write_words(words)}".rstrip()
    return f"{quoted(letter)} {write_words(Words([Word(body[:200])]))}"


def _message(letter: bytes, body: bytes) -> bytes:
    return letter + struct.pack("!I", len(body) + 4) + body


def _md5(password: bytes, user: str, salt: bytes) -> bytes:
    inner = hashlib.md5(password + user.encode()).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode()
