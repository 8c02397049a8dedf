"""The few messages that control exchanges with a server while it logs in; bytes in, bytes out, no sockets.

Everything else on the wire belongs to the compiled `wire` room. Source: PostgreSQL docs, "Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import attrs

from pgpool_core.errors import ServerProtocolError, error_response

PROTOCOL_3_0: Final = 3 << 16
CANCEL_REQUEST_CODE: Final = 80877102

FE_PASSWORD: Final = 0x70  # 'p' PasswordMessage, SASLInitialResponse, SASLResponse
FE_QUERY: Final = 0x51  # 'Q'
FE_COPY_FAIL: Final = 0x66  # 'f'
FE_TERMINATE: Final = 0x58  # 'X'

BE_AUTHENTICATION: Final = 0x52  # 'R'
BE_BACKEND_KEY_DATA: Final = 0x4B  # 'K'
BE_COMMAND_COMPLETE: Final = 0x43  # 'C'
BE_COPY_DATA: Final = 0x64  # 'd'
BE_COPY_DONE: Final = 0x63  # 'c'
BE_COPY_IN_RESPONSE: Final = 0x47  # 'G'
BE_COPY_OUT_RESPONSE: Final = 0x48  # 'H'
BE_DATA_ROW: Final = 0x44  # 'D'
BE_EMPTY_QUERY_RESPONSE: Final = 0x49  # 'I'
BE_ERROR_RESPONSE: Final = 0x45  # 'E'
BE_NOTICE_RESPONSE: Final = 0x4E  # 'N'
BE_NOTIFICATION_RESPONSE: Final = 0x41  # 'A'
BE_PARAMETER_STATUS: Final = 0x53  # 'S'
BE_READY_FOR_QUERY: Final = 0x5A  # 'Z'
BE_ROW_DESCRIPTION: Final = 0x54  # 'T'

HEADER_LEN: Final = 5  # Byte1 and Int32
TERMINATE: Final = bytes((FE_TERMINATE, 0, 0, 0, 4))


def message(code: int, body: bytes) -> bytes:
    """One typed message: the length word counts itself and the body."""
    return struct.pack("!BI", code, len(body) + 4) + body


def startup_message(parameters: Iterable[tuple[bytes, bytes]]) -> bytes:
    """StartupMessage of protocol 3.0.

    Raises:
        ValueError: an empty name, or a zero byte inside a name or value, which would smuggle in another parameter.
    """
    body = bytearray(struct.pack("!I", PROTOCOL_3_0))
    for name, value in parameters:
        if not name or b"\0" in name or b"\0" in value:
            raise ValueError("a startup parameter needs a name and cannot contain a zero byte")
        body += name + b"\0" + value + b"\0"
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def cancel_request(backend_pid: int, backend_key: bytes) -> bytes:
    """CancelRequest; the key is what BackendKeyData held, 4 bytes in protocol 3.0 and up to 256 since 3.2."""
    body = struct.pack("!II", CANCEL_REQUEST_CODE, backend_pid & 0xFFFFFFFF) + backend_key
    return struct.pack("!I", len(body) + 4) + body


@attrs.frozen
class ErrorFields:
    """What an ErrorResponse or NoticeResponse says; `raw` is the whole message as it came, header included."""

    severity: str
    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""
    raw: bytes = attrs.field(default=b"", repr=False)

    @classmethod
    def of(cls, severity: str, sqlstate: str, text: str, hint: str = "") -> ErrorFields:
        """An error of our own making, with the ErrorResponse that says it (S, V, C, M, and H for a hint)."""
        raw = error_response({"S": severity, "C": sqlstate, "M": text, "H": hint})
        return cls(severity, sqlstate, text, hint=hint, raw=raw)

    @classmethod
    def parse(cls, code: int, body: bytes) -> ErrorFields:
        """Read the body of an ErrorResponse ('E') or NoticeResponse ('N').

        Fields we do not know are skipped; texts are decoded with replacement characters, since their encoding is not
        known before the login is over.

        Raises:
            ServerProtocolError: a field or the list has no end.
        """
        fields: dict[int, str] = {}
        at = 0
        while at < len(body) and body[at] != 0:
            end = body.find(0, at + 1)
            if end < 0:
                raise ServerProtocolError("an ErrorResponse field has no end")
            fields[body[at]] = body[at + 1 : end].decode(errors="replace")
            at = end + 1
        if at != len(body) - 1:
            raise ServerProtocolError("an ErrorResponse does not end with a zero byte")
        sqlstate = fields.get(0x43, "")
        severity = fields.get(0x56) or fields.get(0x53) or "FATAL"  # 'V' is never translated, 'S' is
        return cls(
            severity=severity,
            sqlstate=sqlstate if len(sqlstate) == 5 and sqlstate.isascii() and sqlstate.isalnum() else "XX000",
            message=fields.get(0x4D, ""),
            detail=fields.get(0x44, ""),
            hint=fields.get(0x48, ""),
            raw=message(code, body),
        )


def parameter_status(body: bytes) -> tuple[bytes, bytes]:
    """Name and value of a ParameterStatus body.

    Raises:
        ServerProtocolError: not exactly two strings, or no name.
    """
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2] or not parts[0]:
        raise ServerProtocolError("malformed ParameterStatus")
    return parts[0], parts[1]


def data_row(body: bytes) -> list[bytes | None]:
    """The values in a DataRow body; None is NULL.

    Raises:
        ServerProtocolError: a value reaches past the end, or bytes are left over.
    """
    if len(body) < 2:
        raise ServerProtocolError("malformed DataRow")
    values: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        if len(body) - at < 4:
            raise ServerProtocolError("malformed DataRow")
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length < -1 or length > len(body) - at:
            raise ServerProtocolError("malformed DataRow")
        values.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    if at != len(body):
        raise ServerProtocolError("malformed DataRow")
    return values


def ready_status(body: bytes) -> int:
    """Transaction status of a ReadyForQuery body: 'I', 'T' or 'E' as a byte value.

    Raises:
        ServerProtocolError: anything else.
    """
    if body not in (b"I", b"T", b"E"):
        raise ServerProtocolError("malformed ReadyForQuery")
    return body[0]
