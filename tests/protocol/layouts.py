"""Every message of protocol 3 as transcripts write it: names as in the PostgreSQL docs, fields in the order of the wire.

Made from the documentation ("Message Formats"), not from the pooler, so that the same mistake cannot be in both.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import attrs

from tests.protocol.fields import (
    Body,
    Choice,
    Columns,
    CopyFormat,
    ErrorFields,
    Fixed,
    Given,
    Hex,
    Mechanisms,
    Names,
    Number,
    Oids,
    Part,
    Rest,
    Result,
    Text,
    Undecodable,
    Values,
)
from tests.protocol.words import TranscriptError, Word, Words

__all__ = ["BACKEND", "FIRST_PACKETS", "FRONTEND", "Layout", "layout_of", "read_message", "startup_message"]


@attrs.frozen
class Layout:
    """One message: its letter, and its fields in order."""

    letter: bytes
    parts: Sequence[Part] = ()

    def body(self, words: Words) -> bytes:
        """Raises TranscriptError for a field that is missing, unknown or impossible."""
        given = Given(words)
        body = b"".join(part.pack(given) for part in self.parts)
        left = [*map(str, given.values), *(f"{key}=" for key in given.named)]
        if left:
            raise TranscriptError(f"unknown field {left[0]}")
        return body

    def check(self, words: Words) -> None:
        """The same for a line that is only compared; what a final `...` stands for need not be there."""
        if words.values and words.values[-1].kind == "rest":
            given = Given(Words(words.values[:-1], words.named))
            given.values += [Word(kind="any")] * 32
            for part in self.parts:
                part.pack(given)
            return
        self.body(words)

    def words(self, body: bytes) -> Words:
        """Raises Undecodable."""
        reading = Body(body)
        for part in self.parts:
            part.unpack(reading)
        if reading.data:
            raise Undecodable
        return Words(reading.values, reading.named)


def _authentication(code: int, *parts: Part) -> Layout:
    return Layout(b"R", (Fixed(struct.pack("!I", code)), *parts))


_OBJECT = {"statement": b"S", "portal": b"P"}
_STATUS = {"I": b"I", "T": b"T", "E": b"E"}
_TEXT_FORMATS = Fixed(b"\0\0")

FRONTEND: Mapping[str, Layout] = {
    "Bind": Layout(b"B", (Text("portal", b""), Text("statement", b""), _TEXT_FORMATS, Values(), _TEXT_FORMATS)),
    "Close": Layout(b"C", (Choice("kind", _OBJECT), Text("name"))),
    "CopyData": Layout(b"d", (Rest("data"),)),
    "CopyDone": Layout(b"c"),
    "CopyFail": Layout(b"f", (Text("reason"),)),
    "Describe": Layout(b"D", (Choice("kind", _OBJECT), Text("name"))),
    "Execute": Layout(b"E", (Text("portal", b""), Number("max_rows", default=0))),
    "Flush": Layout(b"H"),
    "FunctionCall": Layout(b"F", (Number("function"), _TEXT_FORMATS, Values(), _TEXT_FORMATS)),
    "Parse": Layout(b"P", (Text("name", b""), Text("query"), Oids("types"))),
    "PasswordMessage": Layout(b"p", (Text("password"),)),
    "Query": Layout(b"Q", (Text("query"),)),
    "SASLInitialResponse": Layout(b"p", (Text("mechanism"), Result())),
    "SASLResponse": Layout(b"p", (Rest("data"),)),
    "Sync": Layout(b"S"),
    "Terminate": Layout(b"X"),
}

BACKEND: Mapping[str, Layout] = {
    "AuthenticationOk": _authentication(0),
    "AuthenticationCleartextPassword": _authentication(3),
    "AuthenticationMD5Password": _authentication(5, Hex("salt")),
    "AuthenticationSASL": _authentication(10, Mechanisms()),
    "AuthenticationSASLContinue": _authentication(11, Rest("data")),
    "AuthenticationSASLFinal": _authentication(12, Rest("data")),
    "BackendKeyData": Layout(b"K", (Number("process"), Hex("key"))),
    "BindComplete": Layout(b"2"),
    "CloseComplete": Layout(b"3"),
    "CommandComplete": Layout(b"C", (Text("tag"),)),
    "CopyBothResponse": Layout(b"W", (CopyFormat(),)),
    "CopyData": Layout(b"d", (Rest("data"),)),
    "CopyDone": Layout(b"c"),
    "CopyInResponse": Layout(b"G", (CopyFormat(),)),
    "CopyOutResponse": Layout(b"H", (CopyFormat(),)),
    "DataRow": Layout(b"D", (Values(),)),
    "EmptyQueryResponse": Layout(b"I"),
    "ErrorResponse": Layout(b"E", (ErrorFields(),)),
    "FunctionCallResponse": Layout(b"V", (Result(),)),
    "NegotiateProtocolVersion": Layout(b"v", (Number("version"), Names())),
    "NoData": Layout(b"n"),
    "NoticeResponse": Layout(b"N", (ErrorFields(),)),
    "NotificationResponse": Layout(b"A", (Number("process"), Text("channel"), Text("payload"))),
    "ParameterDescription": Layout(b"t", (Oids(),)),
    "ParameterStatus": Layout(b"S", (Text("name"), Text("value"))),
    "ParseComplete": Layout(b"1"),
    "PortalSuspended": Layout(b"s"),
    "ReadyForQuery": Layout(b"Z", (Choice("status", _STATUS),)),
    "RowDescription": Layout(b"T", (Columns(),)),
}

FIRST_PACKETS: Mapping[str, int] = {"SSLRequest": 80877103, "GSSENCRequest": 80877104}


def startup_message(words: Words) -> bytes:
    """`StartupMessage 3.0 user=app database=app`: a version, and parameters by whatever name."""
    if len(words.values) != 1 or not words.named:
        raise TranscriptError("StartupMessage takes a version, such as 3.0, and parameters")
    major, _, minor = words.values[0].data.partition(b".")
    try:
        version = struct.pack("!HH", int(major), int(minor))
    except (ValueError, struct.error) as error:
        raise TranscriptError(f"{words.values[0]} is no version") from error
    named = words.named.items()
    body = version + b"".join(key.encode() + b"\0" + word.data + b"\0" for key, word in named) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def layout_of(name: str, *, from_client: bool) -> Layout:
    """Raises TranscriptError for a name that this side does not send."""
    table = FRONTEND if from_client else BACKEND
    if name not in table:
        side = "clients" if from_client else "servers"
        raise TranscriptError(f"unknown message {name!r}: {side} send {', '.join(table)}")
    return table[name]


def read_message(kind: bytes, body: bytes, *, from_client: bool) -> list[tuple[str, Words]]:
    """How a transcript could write this message; several ways where messages share a letter, none for what has no layout."""
    found = []
    for name, layout in (FRONTEND if from_client else BACKEND).items():
        if layout.letter == kind:
            try:
                found.append((name, layout.words(body)))
            except (Undecodable, struct.error):
                continue
    return found
