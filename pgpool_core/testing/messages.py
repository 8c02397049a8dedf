"""Protocol messages as tests write and read them: readable, strict, and free of any hurry.

Names and layouts: PostgreSQL docs, "Message Formats". Nothing here is used by the pooler itself, so a mistake in its own framing
cannot hide behind the same mistake in the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import attrs

__all__ = ["Message", "Messages", "Startup", "backend", "frontend", "parse_startup"]

PROTOCOL_3_0 = 0x00030000
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104


@attrs.frozen
class Message:
    """One message after start-up: a letter and its body (without the length)."""

    type: bytes
    body: bytes = b""

    def __bytes__(self) -> bytes:
        return self.type + struct.pack("!I", len(self.body) + 4) + self.body

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse: its fields by letter ("C" is the SQLSTATE, "M" the message)."""
        parts = [part.decode("utf-8", "replace") for part in self.body.split(b"\0") if part]
        return {part[0]: part[1:] for part in parts}

    @property
    def values(self) -> list[bytes | None]:
        """Of a DataRow: its columns, None for NULL."""
        (count,) = struct.unpack_from("!H", self.body)
        at, found = 2, list[bytes | None]()
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            found.append(None if length < 0 else self.body[at : at + length])
            at += max(length, 0)
        return found

    @property
    def text(self) -> str:
        """Of a message that is one string, such as CommandComplete or Query: that string."""
        return self.body.rstrip(b"\0").decode("utf-8", "replace")


@attrs.frozen
class Startup:
    """The first packet of a connection: its code (a version or a request) and, of a StartupMessage, the parameters."""

    code: int
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


class Messages:
    """Cuts a stream of bytes into messages; `feed` it anything, in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 5:
            (length,) = struct.unpack_from("!I", self._buffer, 1)
            if length < 4:
                raise ValueError(f"length word {length} in {bytes(self._buffer[:16])!r}")
            if len(self._buffer) < length + 1:
                break
            found.append(Message(bytes(self._buffer[:1]), bytes(self._buffer[5 : length + 1])))
            del self._buffer[: length + 1]
        return found

    @property
    def rest(self) -> bytes:
        """Bytes of a message that is not complete yet."""
        return bytes(self._buffer)


def parse_startup(body: bytes) -> Startup:
    """Read a first packet whose length word has been taken off."""
    (code,) = struct.unpack_from("!I", body)
    if code >> 16 != 3:
        return Startup(code, body=body)
    words = [word.decode("utf-8", "replace") for word in body[4:].rstrip(b"\0").split(b"\0")]
    return Startup(code, dict(zip(words[::2], words[1::2], strict=False)), body)


def _strings(*texts: str | bytes) -> bytes:
    return b"".join((text.encode() if isinstance(text, str) else text) + b"\0" for text in texts)


def _columns(values: Sequence[bytes | str | None]) -> bytes:
    parts = [struct.pack("!H", len(values))]
    for value in values:
        data = value.encode() if isinstance(value, str) else value
        parts.append(struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data)
    return b"".join(parts)


class frontend:
    """What a client sends."""

    @staticmethod
    def first_packet(code: int, body: bytes = b"") -> bytes:
        return struct.pack("!II", len(body) + 8, code) + body

    @classmethod
    def startup(
        cls, user: str, database: str | None = None, version: int = PROTOCOL_3_0, /, **parameters: str
    ) -> bytes:
        given = {"user": user, **({} if database is None else {"database": database}), **parameters}
        return cls.first_packet(version, _strings(*(word for pair in given.items() for word in pair)) + b"\0")

    @classmethod
    def cancel(cls, pid: int, key: bytes | int) -> bytes:
        secret = struct.pack("!I", key) if isinstance(key, int) else key
        return cls.first_packet(CANCEL_REQUEST, struct.pack("!I", pid) + secret)

    @classmethod
    def ssl_request(cls) -> bytes:
        return cls.first_packet(SSL_REQUEST)

    @staticmethod
    def query(sql: str) -> bytes:
        return bytes(Message(b"Q", _strings(sql)))

    @staticmethod
    def parse(sql: str, name: str = "", types: Sequence[int] = ()) -> bytes:
        return bytes(Message(b"P", _strings(name, sql) + struct.pack(f"!H{len(types)}I", len(types), *types)))

    @staticmethod
    def bind(statement: str = "", portal: str = "", values: Sequence[bytes | str | None] = ()) -> bytes:
        return bytes(Message(b"B", _strings(portal, statement) + b"\0\0" + _columns(values) + b"\0\0"))

    @staticmethod
    def describe(name: str = "", kind: bytes = b"S") -> bytes:
        return bytes(Message(b"D", kind + _strings(name)))

    @staticmethod
    def execute(portal: str = "", max_rows: int = 0) -> bytes:
        return bytes(Message(b"E", _strings(portal) + struct.pack("!I", max_rows)))

    @staticmethod
    def close(name: str = "", kind: bytes = b"S") -> bytes:
        return bytes(Message(b"C", kind + _strings(name)))

    @staticmethod
    def sync() -> bytes:
        return bytes(Message(b"S"))

    @staticmethod
    def flush() -> bytes:
        return bytes(Message(b"H"))

    @staticmethod
    def terminate() -> bytes:
        return bytes(Message(b"X"))

    @staticmethod
    def password(text: str | bytes) -> bytes:
        return bytes(Message(b"p", _strings(text)))

    @staticmethod
    def copy_data(data: bytes) -> bytes:
        return bytes(Message(b"d", data))

    @staticmethod
    def copy_done() -> bytes:
        return bytes(Message(b"c"))

    @staticmethod
    def copy_fail(why: str) -> bytes:
        return bytes(Message(b"f", _strings(why)))


class backend:
    """What a server sends."""

    @staticmethod
    def authentication(code: int, data: bytes = b"") -> bytes:
        return bytes(Message(b"R", struct.pack("!I", code) + data))

    @classmethod
    def authentication_ok(cls) -> bytes:
        return cls.authentication(0)

    @staticmethod
    def parameter(name: str, value: str) -> bytes:
        return bytes(Message(b"S", _strings(name, value)))

    @staticmethod
    def key_data(pid: int, key: bytes = b"\0\0\0\1") -> bytes:
        return bytes(Message(b"K", struct.pack("!I", pid) + key))

    @staticmethod
    def ready(status: bytes = b"I") -> bytes:
        return bytes(Message(b"Z", status))

    @staticmethod
    def row_description(*names: str, type_oid: int = 25) -> bytes:
        columns = b"".join(_strings(name) + struct.pack("!IHIhih", 0, 0, type_oid, -1, -1, 0) for name in names)
        return bytes(Message(b"T", struct.pack("!H", len(names)) + columns))

    @staticmethod
    def data_row(*values: bytes | str | None) -> bytes:
        return bytes(Message(b"D", _columns(values)))

    @staticmethod
    def command_complete(tag: str) -> bytes:
        return bytes(Message(b"C", _strings(tag)))

    @staticmethod
    def _fields(kind: bytes, severity: str, code: str, text: str, more: Mapping[str, str]) -> bytes:
        given = {"S": severity, "V": severity, "C": code, "M": text, **more}
        return bytes(Message(kind, _strings(*(letter + value for letter, value in given.items())) + b"\0"))

    @classmethod
    def error(cls, code: str, text: str, severity: str = "ERROR", **more: str) -> bytes:
        return cls._fields(b"E", severity, code, text, more)

    @classmethod
    def notice(cls, text: str, code: str = "00000", severity: str = "NOTICE", **more: str) -> bytes:
        return cls._fields(b"N", severity, code, text, more)

    @staticmethod
    def notification(pid: int, channel: str, payload: str = "") -> bytes:
        return bytes(Message(b"A", struct.pack("!I", pid) + _strings(channel, payload)))

    @staticmethod
    def parse_complete() -> bytes:
        return bytes(Message(b"1"))

    @staticmethod
    def bind_complete() -> bytes:
        return bytes(Message(b"2"))

    @staticmethod
    def close_complete() -> bytes:
        return bytes(Message(b"3"))

    @staticmethod
    def no_data() -> bytes:
        return bytes(Message(b"n"))

    @staticmethod
    def empty_query() -> bytes:
        return bytes(Message(b"I"))

    @staticmethod
    def copy_in_response(columns: int = 1) -> bytes:
        return bytes(Message(b"G", struct.pack("!bH", 0, columns) + b"\0\0" * columns))

    @staticmethod
    def copy_out_response(columns: int = 1) -> bytes:
        return bytes(Message(b"H", struct.pack("!bH", 0, columns) + b"\0\0" * columns))
