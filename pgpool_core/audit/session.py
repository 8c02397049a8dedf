"""A client as the audit needs it: it logs in like any other, says what it is told, and keeps all that it is answered.

Source: PostgreSQL docs, "Message Flow" and "Message Formats".
"""

from __future__ import annotations

import struct
from types import TracebackType
from typing import Final, Self

import attrs
import trio

from pgpool_core.control.connect import open_server
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.messages import (
    BE_COMMAND_COMPLETE,
    BE_DATA_ROW,
    BE_ERROR_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_READY_FOR_QUERY,
    FE_QUERY,
    HEADER_LEN,
    TERMINATE,
    ErrorFields,
    message,
)
from pgpool_core.control.names import Names
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.routing import PoolKey, as_bytes, server_target
from pgpool_core.embedded.source import prepare
from pgpool_core.errors import ServerProtocolError

FE_BIND: Final = 0x42  # 'B'
FE_CLOSE: Final = 0x43  # 'C'
FE_EXECUTE: Final = 0x45  # 'E'
FE_PARSE: Final = 0x50  # 'P'
FE_SYNC: Final = 0x53  # 'S'
APPLICATION_NAME: Final = "pgpool-core audit"
MAX_MESSAGE: Final = 1 << 20  # bytes; nothing that is asked here has a longer answer

Row = tuple[str | None, ...]


@attrs.define
class Answer:
    """What came up to ReadyForQuery."""

    rows: list[Row] = attrs.field(factory=list)
    tags: list[str] = attrs.field(factory=list)
    error: ErrorFields | None = None  # the first one
    status: str = ""  # I, T or E

    @property
    def value(self) -> str | None:
        """The first column of the last row; None where there is none."""
        return self.rows[-1][0] if self.rows and self.rows[-1] else None


class Gone(Exception):
    """The other side has closed the connection."""


class Session:
    """One logged-in client. After a time-out in the middle of an answer it is of no more use but to be closed."""

    def __init__(self, pipe: SocketPipe, unread: bytes) -> None:
        self._pipe = pipe
        self._in = bytearray(unread)
        self.notified: list[str] = []  # channels of the NotificationResponses, in the order in which they came

    @classmethod
    async def open(cls, url: str, *, timeout_s: float) -> Self:
        """Log in at `url`.

        Args:
            timeout_s: for the connection and the login together, in seconds.
        Raises:
            ConfigError: the connection string cannot be used.
            PgPoolError: no login.
        """
        prepared = prepare(url, None, {})
        entry = attrs.evolve(prepared.config.databases[prepared.database], application_name=APPLICATION_NAME)
        key = PoolKey(prepared.database, prepared.user)
        target = server_target(prepared.config, key, entry, lambda user: None, HostOrder(), Names())
        server = await open_server(target, timeout_s=timeout_s)
        pipe = server.give()
        return cls(pipe, server.unread)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def query(self, sql: str) -> Answer:
        """The answer to a simple Query; `value` is that of its last statement with rows."""
        return await self.ask(message(FE_QUERY, as_bytes(sql) + b"\0"))

    async def group(self, *parts: bytes) -> Answer:
        """The answer to messages of the extended protocol and the Sync behind them."""
        return await self.ask(b"".join(parts) + message(FE_SYNC, b""))

    async def ask(self, data: bytes) -> Answer:
        """Send `data`, which has one end; read up to its ReadyForQuery.

        Raises:
            Gone: the other side has closed.
        """
        await self._pipe.send_all(data)
        answer = Answer()
        while not answer.status:
            self._note(answer, *await self._next())
        return answer

    async def notification(self, channel: str) -> None:
        """Wait until a notification for `channel` has come."""
        ignored = Answer()
        while channel not in self.notified:
            self._note(ignored, *await self._next())

    async def close(self) -> None:
        """Say Terminate and close; also after a time-out."""
        with trio.move_on_after(1, shield=True):
            await self._pipe.send_all(TERMINATE)
        self._pipe.socket.close()

    def cut(self) -> None:
        """Close without a word, as a client that is killed."""
        self._pipe.socket.close()

    async def _next(self) -> tuple[int, bytes]:
        while True:
            if len(self._in) >= HEADER_LEN:
                kind, length = struct.unpack_from("!BI", self._in)
                if not 4 <= length <= MAX_MESSAGE:
                    raise ServerProtocolError(f"message {kind:#04x} with length {length}")
                if len(self._in) > length:
                    body = bytes(self._in[HEADER_LEN : length + 1])
                    del self._in[: length + 1]
                    return kind, body
            try:
                data = await self._pipe.receive_some()
            except OSError as error:
                raise Gone(str(error)) from error
            if not data:
                raise Gone("closed")
            self._in += data

    def _note(self, answer: Answer, kind: int, body: bytes) -> None:
        if kind == BE_DATA_ROW:
            answer.rows.append(_row(body))
        elif kind == BE_COMMAND_COMPLETE:
            answer.tags.append(body.rstrip(b"\0").decode(errors="replace"))
        elif kind == BE_ERROR_RESPONSE:
            answer.error = answer.error or ErrorFields.parse(kind, body)
        elif kind == BE_NOTIFICATION_RESPONSE:
            self.notified.append(body[4:].split(b"\0")[0].decode(errors="replace"))
        elif kind == BE_READY_FOR_QUERY:
            answer.status = body.decode(errors="replace")


def run_of(sql: str, name: str = "") -> bytes:
    """Parse, Bind and Execute; a named statement is closed again."""
    parts = parse(sql, name) + bind(name) + message(FE_EXECUTE, b"\0\0\0\0\0")
    return parts + message(FE_CLOSE, b"S" + as_bytes(name) + b"\0") if name else parts


def parse(sql: str, name: str = "") -> bytes:
    """Parse without parameter types."""
    return message(FE_PARSE, as_bytes(name) + b"\0" + as_bytes(sql) + b"\0\0\0")


def bind(name: str = "") -> bytes:
    """Bind without parameters, to the unnamed portal; results as text."""
    return message(FE_BIND, b"\0" + as_bytes(name) + b"\0\0\0\0\0\0\0")


def call(name: str = "") -> bytes:
    """Bind and Execute of a statement that is there, or not."""
    return bind(name) + message(FE_EXECUTE, b"\0\0\0\0\0")


def _row(body: bytes) -> Row:
    (count,) = struct.unpack_from("!H", body)
    at, found = 2, list[str | None]()
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length < 0:
            found.append(None)
            continue
        found.append(body[at : at + length].decode(errors="replace"))
        at += length
    return tuple(found)
