"""What every state machine of bytes in control has: bytes for the server, bytes from it, and what has come of the question."""

from __future__ import annotations

import abc
import enum
import struct
from typing import Final, Generic, TypeVar

import attrs

from pgpool_core.control.messages import HEADER_LEN, ErrorFields
from pgpool_core.errors import ServerProtocolError

__all__ = ["NEED_DATA", "AnswerCut", "NeedData", "Question", "Talk"]


class NeedData(enum.Enum):
    """The type of NEED_DATA, so that type checkers can tell it from the events."""

    NEED_DATA = enum.auto()


NEED_DATA: Final = NeedData.NEED_DATA
"""Not an event: call `receive_data` when more bytes have come."""


@attrs.frozen
class AnswerCut:
    """The server closed the connection; `error` is what it said before, if anything."""

    error: ErrorFields | None


Done = TypeVar("Done")


class Talk:
    """Begins by saying `out`; `unread` are bytes that the server sent before."""

    def __init__(self, out: bytes, unread: bytes = b"") -> None:
        self._out = bytearray(out)
        self._in = bytearray(unread)
        self._eof = False
        self._error: ServerProtocolError | None = None

    def data_to_send(self) -> bytes:
        """Bytes for the server, each given once; b"" when there are none."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take bytes from the server; b"" is the end of its stream."""
        if not data:
            self._eof = True
        self._in += data

    def _take(self, most: int, where: str) -> tuple[int, bytes] | None:
        """The next message, type and body; None until it is whole.

        Raises:
            ServerProtocolError: its body has more than `most` bytes, or a length that no message has; says `where`.
        """
        if len(self._in) < HEADER_LEN:
            return None
        code, length = struct.unpack_from("!BI", self._in)
        if length < 4 or length - 4 > most:
            raise ServerProtocolError(f"message {code:#04x} with length {length} {where}")
        if len(self._in) < length + 1:
            return None
        body = bytes(self._in[HEADER_LEN : length + 1])
        del self._in[: length + 1]
        return code, body


class Question(Talk, abc.ABC, Generic[Done]):
    """A talk that ends with one verdict of type `Done`, or with the server's leaving."""

    def __init__(self, out: bytes, unread: bytes = b"") -> None:
        super().__init__(out, unread)
        self._failure: ErrorFields | None = None
        self._verdict: Done | AnswerCut | None = None

    def next_event(self) -> NeedData | Done | AnswerCut:
        """The verdict, or NEED_DATA until more bytes have come.

        Raises:
            ServerProtocolError: the server broke the protocol; raised again by every later call.
        """
        if self._error is not None:
            raise self._error
        try:
            while self._verdict is None and self._step():
                pass
        except ServerProtocolError as error:
            self._error = error
            raise
        if self._verdict is None and self._eof:
            self._verdict = AnswerCut(self._failure)
        return NEED_DATA if self._verdict is None else self._verdict

    @abc.abstractmethod
    def _step(self) -> bool:
        """Take a message, or a piece of one; False when more bytes are needed."""
