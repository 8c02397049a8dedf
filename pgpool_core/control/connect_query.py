"""connect_query: one simple Query behind a login, its rows thrown away; a state machine of bytes like ServerLogin.

Results may be of any size and are never collected: only errors, ParameterStatus and ReadyForQuery are read.
Source: PostgreSQL docs, "Message Flow", Simple Query; PgBouncer docs, connect_query.
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from pgpool_core.control.messages import (
    BE_COMMAND_COMPLETE,
    BE_COPY_DATA,
    BE_COPY_DONE,
    BE_COPY_IN_RESPONSE,
    BE_COPY_OUT_RESPONSE,
    BE_DATA_ROW,
    BE_EMPTY_QUERY_RESPONSE,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    BE_ROW_DESCRIPTION,
    FE_COPY_FAIL,
    FE_QUERY,
    HEADER_LEN,
    ErrorFields,
    message,
    parameter_status,
    ready_status,
)
from pgpool_core.control.server_login import MAX_LOGIN_BYTES, MAX_MESSAGE_LEN
from pgpool_core.control.talk import Question
from pgpool_core.errors import ServerProtocolError

MAX_SKIPPED_LEN: Final = 0x7FFFFFFF - 4  # bytes of a body that is thrown away; what a signed length word can say

_SKIPPED: Final = frozenset(
    {
        BE_COMMAND_COMPLETE,
        BE_COPY_DATA,
        BE_COPY_DONE,
        BE_COPY_OUT_RESPONSE,
        BE_DATA_ROW,
        BE_EMPTY_QUERY_RESPONSE,
        BE_NOTICE_RESPONSE,
        BE_NOTIFICATION_RESPONSE,
        BE_ROW_DESCRIPTION,
    }
)
_READ: Final = frozenset({BE_COPY_IN_RESPONSE, BE_ERROR_RESPONSE, BE_PARAMETER_STATUS, BE_READY_FOR_QUERY})


@attrs.frozen
class QueryDone:
    """ReadyForQuery came; with a transaction left open (`in_transaction`) the server is not fit for a pool yet."""

    in_transaction: bool
    error: ErrorFields | None  # the first one
    parameters: tuple[tuple[bytes, bytes], ...]  # what the query changed, as ParameterStatus said it
    unread: bytes = attrs.field(repr=False)  # what came behind ReadyForQuery


class ConnectQuery(Question[QueryDone]):
    """Runs `sql`; `unread` are bytes that the server sent before (behind the ReadyForQuery of the login)."""

    def __init__(self, sql: bytes, unread: bytes = b"") -> None:
        if b"\0" in sql:
            raise ValueError("a query cannot contain a zero byte")
        super().__init__(message(FE_QUERY, sql + b"\0"), unread)
        self._skip = 0
        self._parameters: dict[bytes, bytes] = {}
        self._parameter_bytes = 0

    def _step(self) -> bool:
        """Go one message, or one piece of a skipped one, further; False when more bytes are needed."""
        if self._skip:
            dropped = min(self._skip, len(self._in))
            del self._in[:dropped]
            self._skip -= dropped
            return dropped > 0
        if len(self._in) < HEADER_LEN:
            return False
        code, length = struct.unpack_from("!BI", self._in)
        limit = MAX_SKIPPED_LEN if code in _SKIPPED else MAX_MESSAGE_LEN
        if code not in _SKIPPED | _READ or length < 4 or length - 4 > limit:
            raise ServerProtocolError(f"message {code:#04x} with length {length} in answer to connect_query")
        end = length + 1
        if code in _SKIPPED:
            self._skip = end
            return True
        if len(self._in) < end:
            return False
        body = bytes(self._in[HEADER_LEN:end])
        del self._in[:end]
        self._handle(code, body)
        return True

    def _handle(self, code: int, body: bytes) -> None:
        if code == BE_COPY_IN_RESPONSE:
            self._out += message(FE_COPY_FAIL, b"connect_query has no data to copy\0")
        elif code == BE_ERROR_RESPONSE:
            self._failure = self._failure or ErrorFields.parse(code, body)
        elif code == BE_PARAMETER_STATUS:
            name, value = parameter_status(body)
            self._parameters[name] = value
            self._parameter_bytes += len(body)
            if self._parameter_bytes > MAX_LOGIN_BYTES:
                raise ServerProtocolError("the server reports parameters without end")
        else:
            open_transaction = ready_status(body) != 0x49
            changed = tuple(self._parameters.items())
            self._verdict = QueryDone(open_transaction, self._failure, changed, bytes(self._in))
