"""One run of auth_query behind a login, as a state machine of bytes like ConnectQuery: extended protocol, one text parameter.

Source: PostgreSQL docs, "Message Flow", Extended Query; PgBouncer docs, auth_query, and its texts.
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from pgpool_core.control.messages import (
    BE_COMMAND_COMPLETE,
    BE_DATA_ROW,
    BE_EMPTY_QUERY_RESPONSE,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    BE_ROW_DESCRIPTION,
    ErrorFields,
    data_row,
    message,
    ready_status,
)
from pgpool_core.control.talk import Question
from pgpool_core.errors import ServerProtocolError

MAX_MESSAGE_LEN: Final = 256 * 1024  # bytes of one body; a secret has at most 64 KiB
MAX_MESSAGES: Final = 1000  # of one answer; an honest one has about 6
COLUMNS: Final = 2
ROWS: Final = 2  # asked for of auth_query, to see that there is no second one

_PARSE: Final = 0x50  # 'P'
_BIND: Final = 0x42  # 'B'
_DESCRIBE: Final = 0x44  # 'D'
_EXECUTE: Final = 0x45  # 'E'
_SYNC: Final = 0x53  # 'S'
_NO_DATA: Final = 0x6E  # 'n'
_PASSING: Final = frozenset(
    {
        0x31,  # '1' ParseComplete
        0x32,  # '2' BindComplete
        0x73,  # 's' PortalSuspended
        BE_COMMAND_COMPLETE,
        BE_EMPTY_QUERY_RESPONSE,
        BE_NOTICE_RESPONSE,
        BE_NOTIFICATION_RESPONSE,
        BE_PARAMETER_STATUS,
    }
)


@attrs.frozen
class LookupDone:
    """The query is over; `problem` says what is wrong with its result, `error` what the server had against it."""

    rows: tuple[tuple[bytes | None, bytes | None], ...] = attrs.field(repr=False)
    error: ErrorFields | None
    problem: str
    in_transaction: bool
    unread: bytes = attrs.field(repr=False)


class AuthLookup(Question[LookupDone]):
    """Runs `sql` for `user`, for at most `rows` rows; `unread` are bytes that the server sent before."""

    def __init__(self, sql: bytes, user: bytes, unread: bytes = b"", *, rows: int = ROWS) -> None:
        if b"\0" in sql or b"\0" in user:
            raise ValueError("neither a query nor a name can contain a zero byte")
        bind = b"\0\0" + struct.pack("!HHI", 0, 1, len(user)) + user + struct.pack("!H", 0)
        super().__init__(
            message(_PARSE, b"\0" + sql + b"\0\0\0")
            + message(_BIND, bind)
            + message(_DESCRIBE, b"P\0")
            + message(_EXECUTE, b"\0" + struct.pack("!I", rows))
            + message(_SYNC, b""),
            unread,
        )
        self._messages = ROWS - rows
        self._rows: list[tuple[bytes | None, bytes | None]] = []
        self._problem = ""

    def _step(self) -> bool:
        """Take one message; False when it is not whole yet."""
        taken = self._take(MAX_MESSAGE_LEN, "in answer to auth_query")
        if taken is None:
            return False
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            raise ServerProtocolError("the server talks without end in answer to auth_query")
        self._handle(*taken)
        return True

    def _handle(self, code: int, body: bytes) -> None:
        if code == BE_ROW_DESCRIPTION:
            if len(body) < 2:
                raise ServerProtocolError("malformed RowDescription")
            self._count_columns(int.from_bytes(body[:2], "big"))
        elif code == _NO_DATA:
            self._count_columns(0)
        elif code == BE_DATA_ROW:
            columns = data_row(body)
            if len(columns) == COLUMNS:
                self._rows.append((columns[0], columns[1]))
        elif code == BE_ERROR_RESPONSE:
            self._failure = self._failure or ErrorFields.parse(code, body)
        elif code == BE_READY_FOR_QUERY:
            open_transaction = ready_status(body) != 0x49
            rows = () if self._problem or self._failure else tuple(self._rows)
            self._verdict = LookupDone(rows, self._failure, self._problem, open_transaction, bytes(self._in))
        elif code not in _PASSING:
            raise ServerProtocolError(f"message {code:#04x} in answer to auth_query")

    def _count_columns(self, count: int) -> None:
        if count != COLUMNS:
            self._problem = f"expected {COLUMNS} columns from auth_query, not {count}"
