"""What a console says in the simple protocol, and the rows of its SHOW FDS with their descriptors: bytes in, rows out, no socket.

Source: PostgreSQL docs, "Message Formats"; what PgBouncer 1.18 and 1.24 send each other at -R.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from pgpool_core.control.messages import (
    BE_AUTHENTICATION,
    BE_BACKEND_KEY_DATA,
    BE_COMMAND_COMPLETE,
    BE_DATA_ROW,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    BE_ROW_DESCRIPTION,
    HEADER_LEN,
    ErrorFields,
    data_row,
)
from pgpool_core.errors import ServerProtocolError

MAX_BODY_LEN: Final = 64 * 1024
MAX_ROWS: Final = 200_000

_PASSING: Final = frozenset({BE_BACKEND_KEY_DATA, BE_COMMAND_COMPLETE, BE_NOTICE_RESPONSE, BE_PARAMETER_STATUS})

Row = Mapping[str, str]  # what is NULL is not there


@attrs.define
class Answer:
    """Rows by their columns' names, each with its descriptor (-1: none); the descriptors are the reader's."""

    rows: list[tuple[Row, int]] = attrs.field(factory=list)
    error: ErrorFields | None = None
    asks_password: bool = False


class Reader:
    """Reads one answer after the other, each up to its ReadyForQuery.

    A descriptor belongs to the message in which the stretch of bytes ends that it has come with: the kernel joins
    what was sent without one with what is sent behind it, and never goes on beyond a descriptor.
    """

    def __init__(self, close: Callable[[int], None]) -> None:
        """`close` ends descriptors that no row has come for."""
        self._close = close
        self._in = bytearray()
        self._taken = 0  # bytes of the stream in front of `_in`
        self._fds: list[tuple[int, int]] = []  # the last byte that each came with, and it
        self._columns: list[str] = []
        self._answer = Answer()
        self._done = False

    def receive(self, data: bytes, fds: list[int]) -> None:
        """Take what one recvmsg has brought; the descriptors are ours from here on."""
        self._in += data
        self._fds += [(self._taken + len(self._in) - 1, fd) for fd in fds]

    def answer(self) -> Answer | None:
        """The next answer, when it is whole, or asks for a password.

        Raises:
            ServerProtocolError: no console talks like this.
        """
        while not self._done:
            if len(self._in) < HEADER_LEN:
                return None
            code, length = struct.unpack_from("!BI", self._in)
            if length < 4 or length - 4 > MAX_BODY_LEN:
                raise ServerProtocolError(f"message {code:#04x} with length {length}")
            if len(self._in) < length + 1:
                return None
            body = bytes(self._in[HEADER_LEN : length + 1])
            del self._in[: length + 1]
            self._taken += length + 1
            fds = [fd for at, fd in self._fds if at < self._taken]
            self._fds = self._fds[len(fds) :]
            self._message(code, body, fds)
        answer, self._answer, self._done = self._answer, Answer(), False
        return answer

    def close(self) -> None:
        """Close the descriptors that nobody has been given."""
        for fd in [fd for _, fd in self._fds] + [fd for _, fd in self._answer.rows if fd >= 0]:
            self._close(fd)
        self._fds.clear()
        self._answer = Answer()

    def _message(self, code: int, body: bytes, fds: list[int]) -> None:
        if code == BE_DATA_ROW and len(fds) <= 1 and len(self._answer.rows) < MAX_ROWS:
            try:
                row = self._row(body)
            except ServerProtocolError:
                for fd in fds:
                    self._close(fd)
                raise
            self._answer.rows.append((row, fds[0] if fds else -1))
            return
        for fd in fds:
            self._close(fd)
        if fds or code == BE_DATA_ROW:
            raise ServerProtocolError("descriptors without a row")
        if code == BE_ROW_DESCRIPTION:
            self._columns = _columns(body)
        elif code == BE_ERROR_RESPONSE:
            self._answer.error = ErrorFields.parse(code, body)
        elif code == BE_AUTHENTICATION:
            if body != b"\0\0\0\0":
                self._answer.asks_password = self._done = True
        elif code == BE_READY_FOR_QUERY:
            self._done = True
        elif code not in _PASSING:
            raise ServerProtocolError(f"message {code:#04x}")

    def _row(self, body: bytes) -> Row:
        values = data_row(body)
        if len(values) != len(self._columns):
            raise ServerProtocolError("a row with another number of columns")
        return {
            column: value.decode("utf-8", "surrogateescape")
            for column, value in zip(self._columns, values, strict=True)
            if value is not None
        }


def _columns(body: bytes) -> list[str]:
    if len(body) < 2:
        raise ServerProtocolError("malformed RowDescription")
    names: list[str] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.find(b"\0", at)
        if end < 0 or end + 19 > len(body):
            raise ServerProtocolError("malformed RowDescription")
        names.append(body[at:end].decode("utf-8", "surrogateescape"))
        at = end + 19
    return names
