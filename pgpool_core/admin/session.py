"""One console client: its messages in, the answers out, in the simple and in the extended protocol.

Values go out as text, or in binary where Bind asks for that. Parameters are taken where a SHOW is filtered. Transactions are only
told apart in ReadyForQuery, so that drivers that begin one keep their bearings.
Source: PostgreSQL docs, "Message Flow", "Extended Query"; "Message Formats".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from struct import Struct, unpack
from typing import Final, TypeVar

import attrs
import trio

from pgpool_core.admin import reply
from pgpool_core.admin.commands import Console, Result, Statement, columns_of, parameters_of, understand
from pgpool_core.admin.grammar import EmptyQuery
from pgpool_core.admin.reply import INT4, INT8, Column
from pgpool_core.admin.sqlwords import split
from pgpool_core.errors import CommandRefused, PgPoolError

ROWS_PER_TURN: Final = 500
"""Rows that are written before other tasks of the control loop get their turn."""
MAX_KEPT: Final = 1000
"""Named statements, and portals, of one client."""

CANCELED: Final = CommandRefused("canceling statement due to user request", sqlstate="57014")
_INT2: Final = 21
_BINARY_INTS: Final = {_INT2: Struct("!h"), INT4: Struct("!i"), INT8: Struct("!q")}
_BINARY_TEXTS: Final = frozenset(
    (0, 18, 19, 25, 705, 1042, 1043)
)  # unknown, "char", name, text, unknown, bpchar, varchar
_UINT16: Final = Struct("!H")


@attrs.frozen
class Prepared:
    """A statement that Parse has understood."""

    statement: Statement
    columns: tuple[Column, ...] | None
    types: tuple[int, ...]


@attrs.define
class Portal:
    """A statement with its parameters; executed at the first Execute."""

    prepared: Prepared
    parameters: Sequence[str | None]
    formats: Sequence[int]
    result: Result | None = None
    sent: int = 0


class Body:
    """Reads the body of a message; too short a one is the client's fault."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def text(self) -> bytes:
        """Up to the next zero byte."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise CommandRefused("invalid string in message")
        found, self._at = self._data[self._at : end], end + 1
        return found

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes."""
        found = self._data[self._at : self._at + count]
        if count < 0 or len(found) != count:
            raise CommandRefused("insufficient data left in message")
        self._at += count
        return found

    def number(self) -> int:
        """An Int16 without sign."""
        return int(_UINT16.unpack(self.bytes(2))[0])

    def length(self) -> int:
        """An Int32."""
        return int(unpack("!i", self.bytes(4))[0])

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise CommandRefused("invalid message format")


class ConsoleSession:
    """What is kept for a console client, and how each of its messages is answered."""

    def __init__(self, console: Console, *, client: int, is_admin: bool) -> None:
        """Begin outside any transaction."""
        self._console = console
        self._client = client
        self._is_admin = is_admin
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Portal] = {}
        self._out = bytearray()
        self._skipping = False  # until Sync, after an error in the extended protocol
        self._status = "I"

    async def answer(self, kind: bytes, body: bytes) -> bytes:
        """Return what is to be sent now; in the extended protocol answers are kept until Sync, Flush or an error.

        Cancelled, or after an exception: call `broken_off` for the answer.
        """
        if self._skipping and kind != b"S":
            return b""
        if kind == b"Q":
            await self._query(body)
        elif kind == b"S":
            self._skipping = False
            self._ready()
        elif kind == b"F":
            self._failed(CommandRefused("function calls are not supported by the console", sqlstate="0A000"))
            self._ready()
        elif kind in _EXTENDED:
            try:
                await _EXTENDED[kind](self, body)
            except PgPoolError as error:
                self._failed(error)
                self._skipping = True
                return self._flushed()
        return self._flushed() if kind in b"QSFH" else b""

    def broken_off(self, kind: bytes, error: PgPoolError = CANCELED) -> bytes:
        """Return the answer to a message whose handling has not come to its end."""
        self._failed(error)
        if kind in b"QFS":
            self._ready()
        else:
            self._skipping = True
        return self._flushed()

    def _flushed(self) -> bytes:
        answer, self._out = bytes(self._out), bytearray()
        return answer

    def _ready(self) -> None:
        if self._status == "I":
            self._portals.clear()
        self._out += reply.ready_for_query(self._status)

    def _failed(self, error: PgPoolError) -> None:
        self._out += reply.error_response(str(error), sqlstate=error.sqlstate, detail=error.detail)
        if self._status == "T":
            self._status = "E"

    # -- simple ----------------------------------------------------------------------------------------------------

    async def _query(self, body: bytes) -> None:
        self._statements.pop(b"", None)
        self._portals.pop(b"", None)
        texts = _split(body.removesuffix(b"\0"))
        if not texts:
            self._out += reply.EMPTY_QUERY_RESPONSE
        try:
            for text in texts:
                result = await self._execute(understand(text))
                if result.columns is not None:
                    self._out += reply.row_description(result.columns)
                    await self._rows(result, 0, len(result.rows), ())
                self._completed(result)
        except PgPoolError as error:
            self._failed(error)
        self._ready()

    async def _execute(self, statement: Statement, parameters: Sequence[str | None] = ()) -> Result:
        wanted = parameters_of(statement)
        if len(wanted) > len(parameters):
            raise CommandRefused(f"there is no parameter ${len(wanted)}", sqlstate="42P02")
        return await self._console.execute(
            statement, client=self._client, is_admin=self._is_admin, parameters=parameters
        )

    async def _rows(self, result: Result, first: int, end: int, formats: Sequence[int]) -> None:
        columns = result.columns or ()
        for number in range(first, end):
            row = result.rows[number]
            self._out += reply.mixed_row(row, columns, formats) if any(formats) else reply.data_row(row)
            if number % ROWS_PER_TURN == ROWS_PER_TURN - 1:
                await trio.lowlevel.checkpoint()

    def _completed(self, result: Result) -> None:
        tag = result.tag
        if result.said is not None:
            if result.said.transaction == "begins":
                self._status = "T"
            elif result.said.transaction == "ends":
                tag = "ROLLBACK" if self._status == "E" else tag
                self._status = "I"
            if result.said.forgets == "*":
                self._statements.clear()
            elif result.said.forgets is not None:
                self._statements.pop(result.said.forgets.encode("utf-8", "surrogateescape"), None)
        self._out += result.notice + reply.command_complete(tag)

    # -- extended --------------------------------------------------------------------------------------------------

    async def _parse(self, data: bytes) -> None:
        body = Body(data)
        name, text = body.text(), body.text()
        declared = [int.from_bytes(body.bytes(4), "big") for _ in range(body.number())]
        body.end()
        if name and name in self._statements:
            raise CommandRefused(f'prepared statement "{_shown(name)}" already exists', sqlstate="42P05")
        texts = _split(text)
        if len(texts) > 1:
            raise CommandRefused("cannot insert multiple commands into a prepared statement", sqlstate="42601")
        statement = understand(texts[0]) if texts else EmptyQuery()
        inferred = parameters_of(statement)
        if len(declared) > len(inferred):
            raise CommandRefused(f"could not determine data type of parameter ${len(inferred) + 1}", sqlstate="42P18")
        types = tuple(own or found for own, found in zip([*declared, *[0] * len(inferred)], inferred, strict=False))
        _keep(self._statements, name, Prepared(statement, columns_of(statement), types))
        self._out += reply.PARSE_COMPLETE

    async def _bind(self, data: bytes) -> None:
        body = Body(data)
        portal, name = body.text(), body.text()
        prepared = self._statement(name)
        formats = [body.number() for _ in range(body.number())]
        count = body.number()
        raw = [None if (length := body.length()) == -1 else body.bytes(length) for _ in range(count)]
        results = [body.number() for _ in range(body.number())]
        body.end()
        if count != len(prepared.types):
            text = f'bind message supplies {count} parameters, but prepared statement "{_shown(name)}" requires'
            raise CommandRefused(f"{text} {len(prepared.types)}")
        columns = prepared.columns or ()
        values = [
            _value(value, oid, code)
            for value, oid, code in zip(raw, prepared.types, _spread(formats, count), strict=True)
        ]
        if portal and portal in self._portals:
            raise CommandRefused(f'cursor "{_shown(portal)}" already exists', sqlstate="42P03")
        _keep(self._portals, portal, Portal(prepared, values, _spread(results, len(columns))))
        self._out += reply.BIND_COMPLETE

    async def _describe(self, data: bytes) -> None:
        body = Body(data)
        kind, name = body.bytes(1), body.text()
        body.end()
        formats: Sequence[int] = ()
        if kind == b"S":
            prepared = self._statement(name)
            self._out += reply.parameter_description(prepared.types)
        elif kind == b"P":
            prepared, formats = self._portal(name).prepared, self._portal(name).formats
        else:
            raise CommandRefused("invalid DESCRIBE message")
        self._out += reply.NO_DATA if prepared.columns is None else reply.row_description(prepared.columns, formats)

    async def _run(self, data: bytes) -> None:
        body = Body(data)
        portal, most = self._portal(body.text()), body.length()
        body.end()
        if isinstance(portal.prepared.statement, EmptyQuery):
            self._out += reply.EMPTY_QUERY_RESPONSE
            return
        if portal.result is None:
            portal.result = await self._execute(portal.prepared.statement, portal.parameters)
        result, left = portal.result, len(portal.result.rows) - portal.sent
        count = min(left, most) if most > 0 else left
        await self._rows(result, portal.sent, portal.sent + count, portal.formats)
        portal.sent += count
        if most > 0 and count == most:
            self._out += reply.PORTAL_SUSPENDED
        else:
            self._completed(result)

    async def _close(self, data: bytes) -> None:
        body = Body(data)
        kind, name = body.bytes(1), body.text()
        body.end()
        if kind == b"S":
            self._statements.pop(name, None)
        elif kind == b"P":
            self._portals.pop(name, None)
        else:
            raise CommandRefused("invalid CLOSE message")
        self._out += reply.CLOSE_COMPLETE

    def _statement(self, name: bytes) -> Prepared:
        if name not in self._statements:
            raise CommandRefused(f'prepared statement "{_shown(name)}" does not exist', sqlstate="26000")
        return self._statements[name]

    def _portal(self, name: bytes) -> Portal:
        if name not in self._portals:
            raise CommandRefused(f'portal "{_shown(name)}" does not exist', sqlstate="34000")
        return self._portals[name]


_EXTENDED: Final[Mapping[bytes, Callable[[ConsoleSession, bytes], Awaitable[None]]]] = {
    b"P": ConsoleSession._parse,
    b"B": ConsoleSession._bind,
    b"D": ConsoleSession._describe,
    b"E": ConsoleSession._run,
    b"C": ConsoleSession._close,
}


def _split(text: bytes) -> list[bytes]:
    return [part.encode("utf-8", "surrogateescape") for part in split(text.decode("utf-8", "surrogateescape"))]


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:63]


Kept = TypeVar("Kept")


def _keep(kept: dict[bytes, Kept], name: bytes, value: Kept) -> None:
    if name not in kept and len(kept) >= MAX_KEPT:
        raise CommandRefused(f"at most {MAX_KEPT} prepared statements or portals on the console", sqlstate="54000")
    kept[name] = value


def _spread(formats: Sequence[int], count: int) -> Sequence[int]:
    """One format code for each of `count` values: none given is all text, one is for all."""
    if len(formats) not in (0, 1, count):
        raise CommandRefused(f"message has {len(formats)} formats but {count} values")
    if any(code not in (0, 1) for code in formats):
        raise CommandRefused("unsupported format code", sqlstate="22023")
    if len(formats) == count:
        return formats
    return [formats[0] if formats else 0] * count


def _value(raw: bytes | None, oid: int, code: int) -> str | None:
    """A parameter as text."""
    if raw is None:
        return None
    if code == 0 or oid in _BINARY_TEXTS:
        return raw.decode("utf-8", "surrogateescape")
    if oid in _BINARY_INTS and len(raw) == _BINARY_INTS[oid].size:
        return str(_BINARY_INTS[oid].unpack(raw)[0])
    raise CommandRefused(f"binary parameters of type {oid} are not supported by the console", sqlstate="0A000")
