"""Messages that the console sends, as bytes: values in text format, in the extended protocol also in binary.

Source: PostgreSQL docs, "Message Formats". The field values of RowDescription are those that PgBouncer sends: no table,
no column number, type modifier -1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack

import attrs

INT4, INT8, NUMERIC, TEXT, BYTEA = 23, 20, 1700, 25, 17
"""Type OIDs, from PostgreSQL's `pg_type.dat`."""
_TYPE_LENGTH = {INT4: 4, INT8: 8, NUMERIC: -1, TEXT: -1, BYTEA: -1}
_INT_BINARY = {INT4: "!Ii", INT8: "!Iq"}
_NULL = b"\xff\xff\xff\xff"

PROTOCOL_VIOLATION = "08P01"
"""PgBouncer's SQLSTATE for whatever the console refuses; tools expect it."""
CONFIG_FILE_ERROR = "F0000"

PGBOUNCER_VERSION = "1.26.1"
"""The release whose console this one is compatible with, for tools that decide by version."""


def version_text(version: str) -> str:
    """Return what SHOW VERSION tells of this `version` of pgpool_core."""
    return f"PgBouncer {PGBOUNCER_VERSION} (pgpool_core {version})"


GREETING_PARAMETERS: tuple[tuple[bytes, bytes], ...] = (
    (b"pgbouncer.version", PGBOUNCER_VERSION.encode()),
    (b"server_version", f"{PGBOUNCER_VERSION}/bouncer".encode()),
    (b"client_encoding", b"UTF8"),
    (b"server_encoding", b"UTF8"),
    (b"DateStyle", b"ISO"),
    (b"TimeZone", b"GMT"),
    (b"standard_conforming_strings", b"on"),
    (b"is_superuser", b"on"),
)
"""What a console client is told at login, in PgBouncer's order."""

Cell = str | int | bytes | None
Cells = Sequence[Cell]


@attrs.frozen
class Column:
    """A column of a console table; `oid` is its type on the wire, one of INT4, INT8, NUMERIC, TEXT, BYTEA."""

    name: str
    oid: int


def columns(oid: int, names: str) -> tuple[Column, ...]:
    """Return one column of type `oid` for each of the blank-separated `names`."""
    return tuple(Column(name, oid) for name in names.split())


def encode_text(text: str) -> bytes:
    """Return `text` as the wire takes it: no zero byte; surrogates from undecodable input become those bytes again."""
    clean = text.replace("\0", "\ufffd")
    try:
        return clean.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return clean.encode("utf-8", "replace")


def message(code: bytes, body: bytes) -> bytes:
    """Return one message with its header; the length word counts itself but not the code."""
    return code + pack("!I", len(body) + 4) + body


READY_FOR_QUERY = message(b"Z", b"I")
EMPTY_QUERY_RESPONSE = message(b"I", b"")
PARSE_COMPLETE = message(b"1", b"")
BIND_COMPLETE = message(b"2", b"")
CLOSE_COMPLETE = message(b"3", b"")
NO_DATA = message(b"n", b"")
PORTAL_SUSPENDED = message(b"s", b"")


def ready_for_query(status: str) -> bytes:
    """Return ReadyForQuery; `status` is I, T or E."""
    return message(b"Z", status.encode())


def parameter_description(oids: Sequence[int]) -> bytes:
    """Return ParameterDescription."""
    return message(b"t", pack(f"!H{len(oids)}I", len(oids), *oids))


def row_description(table: Sequence[Column], formats: Sequence[int] = ()) -> bytes:
    """Return RowDescription for `table`; `formats` are those of its columns, 0 for text and 1 for binary, none for all text."""
    body = bytearray(pack("!H", len(table)))
    for number, column in enumerate(table):
        body += encode_text(column.name) + b"\0"
        text_or_binary = formats[number] if formats else 0
        body += pack("!IHIhiH", 0, 0, column.oid, _TYPE_LENGTH[column.oid], -1, text_or_binary)
    return message(b"T", bytes(body))


def data_row(cells: Cells) -> bytes:
    """Return DataRow in text format; None is NULL."""
    body = bytearray(pack("!H", len(cells)))
    for cell in cells:
        if cell is None:
            body += _NULL
        else:
            value = text_of(cell)
            body += pack("!I", len(value)) + value
    return message(b"D", bytes(body))


def text_of(cell: str | int | bytes) -> bytes:
    """Return a value in text format."""
    if isinstance(cell, str):
        return encode_text(cell)
    return b"\\x" + cell.hex().encode() if isinstance(cell, bytes) else b"%d" % cell


def mixed_row(cells: Cells, table: Sequence[Column], formats: Sequence[int]) -> bytes:
    """Return DataRow with each value in the format of its column."""
    body = bytearray(pack("!H", len(cells)))
    for cell, column, text_or_binary in zip(cells, table, formats, strict=True):
        if cell is None:
            body += _NULL
        elif text_or_binary and column.oid in _INT_BINARY and isinstance(cell, int):
            low, high = -(1 << 8 * _TYPE_LENGTH[column.oid] - 1), (1 << 8 * _TYPE_LENGTH[column.oid] - 1) - 1
            body += pack(_INT_BINARY[column.oid], _TYPE_LENGTH[column.oid], min(max(cell, low), high))
        else:
            value = text_of(cell)
            if text_or_binary and isinstance(cell, int):
                value = _numeric(cell)
            elif text_or_binary and isinstance(cell, bytes):
                value = cell
            body += pack("!I", len(value)) + value
    return message(b"D", bytes(body))


def _numeric(number: int) -> bytes:
    """Return a whole number as PostgreSQL's binary numeric: digits to the base 10000, the highest first."""
    digits, left = list[int](), abs(number)
    while left:
        left, digit = divmod(left, 10_000)
        digits.append(digit)
    weight = len(digits) - 1 if digits else 0
    while digits and digits[0] == 0:
        del digits[0]
    sign = 0x4000 if number < 0 else 0
    return pack(f"!HhHH{len(digits)}H", len(digits), weight, sign, 0, *reversed(digits))


def command_complete(tag: str) -> bytes:
    """Return CommandComplete with `tag`."""
    return message(b"C", encode_text(tag) + b"\0")


def parameter_status(name: bytes, value: bytes) -> bytes:
    """Return ParameterStatus."""
    return message(b"S", name + b"\0" + value + b"\0")


def error_response(text: str, *, sqlstate: str = PROTOCOL_VIOLATION, detail: str | None = None) -> bytes:
    """Return ErrorResponse of severity ERROR."""
    return message(b"E", _fields("ERROR", sqlstate, text, detail))


def notice_response(text: str, *, detail: str | None = None) -> bytes:
    """Return NoticeResponse of severity NOTICE."""
    return message(b"N", _fields("NOTICE", "00000", text, detail))


def _fields(severity: str, sqlstate: str, text: str, detail: str | None) -> bytes:
    fields: Iterable[tuple[bytes, str | None]] = ((b"S", severity), (b"C", sqlstate), (b"M", text), (b"D", detail))
    return b"".join(name + encode_text(value) + b"\0" for name, value in fields if value is not None) + b"\0"
