"""What a connection that listens says: notifications, and the end of each of our own queries. Bytes in, events out.

Source: PostgreSQL docs, "Message Flow", Asynchronous Operations; "Message Formats", NotificationResponse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import attrs

from pgpool_core.control.messages import (
    BE_COMMAND_COMPLETE,
    BE_EMPTY_QUERY_RESPONSE,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    FE_QUERY,
    HEADER_LEN,
    ErrorFields,
    message,
    ready_status,
)
from pgpool_core.errors import ServerProtocolError

MAX_LEN: Final = 1 << 20  # bytes of one message; a notification has at most 8 KiB, an error a little more

_PASSING: Final = frozenset((BE_COMMAND_COMPLETE, BE_EMPTY_QUERY_RESPONSE, BE_NOTICE_RESPONSE, BE_PARAMETER_STATUS))


@attrs.frozen
class Notified:
    """Whole NotificationResponses, one behind the other, as they came."""

    messages: bytes = attrs.field(repr=False)
    count: int


@attrs.frozen
class Answered:
    """The query sent last is over; `error` is why it has failed."""

    error: ErrorFields | None


@attrs.frozen
class Ending:
    """The server has said why it is about to close the connection."""

    error: ErrorFields


Event = Notified | Answered | Ending


def query(add: Iterable[bytes], drop: Iterable[bytes]) -> bytes:
    """One Query that listens to the channels `add` and no more to `drop`; with neither, one that only asks for an answer."""
    statements = [b"LISTEN " + quoted(name) for name in add] + [b"UNLISTEN " + quoted(name) for name in drop]
    return message(FE_QUERY, b";".join(statements) + b"\0")


def quoted(name: bytes) -> bytes:
    """A name that PostgreSQL takes as it stands; a client's name cannot hold a zero byte."""
    return b'"' + name.replace(b'"', b'""') + b'"'


class ListeningWire:
    """Cuts a server's stream into events; `unread` are bytes that came behind the login."""

    def __init__(self, unread: bytes = b"") -> None:
        self._in = bytearray(unread)
        self._error: ErrorFields | None = None

    def receive(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order.

        Raises:
            ServerProtocolError: the server broke the protocol.
        """
        self._in += data
        events: list[Event] = []
        notified, count, at = bytearray(), 0, 0
        while len(self._in) - at >= HEADER_LEN:
            code, length = struct.unpack_from("!BI", self._in, at)
            if length < 4 or length > MAX_LEN:
                raise ServerProtocolError(f"message {code:#04x} with length {length} on a listening connection")
            if len(self._in) - at < length + 1:
                break
            body = bytes(self._in[at + HEADER_LEN : at + length + 1])
            if code == BE_NOTIFICATION_RESPONSE:
                if len(body) < 6 or body.count(0, 4) != 2 or body[-1] != 0:
                    raise ServerProtocolError("malformed NotificationResponse")
                notified += self._in[at : at + length + 1]
                count += 1
            else:
                if count:
                    events.append(Notified(bytes(notified), count))
                    notified, count = bytearray(), 0
                self._take(code, body, events)
            at += length + 1
        del self._in[:at]
        if count:
            events.append(Notified(bytes(notified), count))
        return events

    def _take(self, code: int, body: bytes, events: list[Event]) -> None:
        if code == BE_ERROR_RESPONSE:
            error = ErrorFields.parse(code, body)
            if error.severity in ("FATAL", "PANIC"):
                events.append(Ending(error))
            self._error = self._error or error
        elif code == BE_READY_FOR_QUERY:
            ready_status(body)
            events.append(Answered(self._error))
            self._error = None
        elif code not in _PASSING:
            raise ServerProtocolError(f"message {code:#04x} on a listening connection")
