"""What of an answer is compared, and what is left out because it differs by nature.

Left out, for every message:

- process ids and cancel keys; where in PostgreSQL's source an error was raised (fields F, L and R), and the context (W),
  which counts lines of functions;
- table oids in RowDescription: the two databases have tables of their own;
- ParameterStatus as messages: a pooler knows changes earlier or later, so the last known values are compared instead,
  behind every answer;
- NotificationResponse in its place among other messages: those of a whole session are compared, in their order.
"""

from __future__ import annotations

import struct

import attrs

from pgpool_core.testing import Message

__all__ = ["Answer", "Line", "said"]

_NOT_COMPARED = "FLRW"
# Told once at login, by the pooler's own knowledge of the server.
_PARAMETERS = (
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "application_name",
    "client_encoding",
    "is_superuser",
    "session_authorization",
    "standard_conforming_strings",
)

Line = str


def said(message: Message) -> Line:
    """A message as it is compared and shown."""
    kind = message.type.decode("latin-1")
    if kind in "EN":
        fields = {key: value for key, value in message.fields.items() if key not in _NOT_COMPARED}
        return f"{kind} {fields}"
    if kind == "D":
        return f"D {message.values}"
    if kind == "T":
        return f"T {_columns(message.body)}"
    if kind == "A":
        return f"A {message.body[4:]!r}"
    return f"{kind} {message.body!r}"


def _columns(body: bytes) -> list[tuple[str, int, int]]:
    (count,) = struct.unpack_from("!H", body)
    at, found = 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        _, _, kind, _, _, form = struct.unpack_from("!IHIhih", body, end + 1)
        found.append((body[at:end].decode("utf-8", "replace"), kind, form))
        at = end + 19
    return found


@attrs.define
class Answer:
    """What one client got for one item."""

    lines: list[Line] = attrs.field(factory=list)
    asynchronous: list[Line] = attrs.field(factory=list, eq=False)
    parameters: dict[str, str] = attrs.field(factory=dict)
    ended: bool = False

    def add(self, message: Message, known: dict[str, str]) -> None:
        """Take `message` in; `known` are the parameters as this client knows them."""
        if message.type == b"S":
            name, value = message.body.decode("utf-8", "replace").split("\0")[:2]
            known[name] = value
        elif message.type == b"A":
            self.asynchronous.append(said(message))
        else:
            self.lines.append(said(message))

    def close(self, known: dict[str, str]) -> None:
        self.parameters = {name: known.get(name, "") for name in _PARAMETERS}
