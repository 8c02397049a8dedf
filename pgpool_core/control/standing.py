"""Asking an open server how it stands: DISCARD ALL, then what it would report at a login. A state machine of bytes like ConnectQuery.

Source: PostgreSQL docs, "Message Flow", Simple Query; "Asynchronous Operations" for what is reported.
"""

from __future__ import annotations

from typing import Final

import attrs

from pgpool_core.control.messages import (
    BE_COMMAND_COMPLETE,
    BE_DATA_ROW,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    BE_ROW_DESCRIPTION,
    FE_QUERY,
    ErrorFields,
    data_row,
    message,
    ready_status,
)
from pgpool_core.control.talk import Question
from pgpool_core.errors import ServerProtocolError

MAX_BODY_LEN: Final = 64 * 1024
MAX_MESSAGES: Final = 200

REPORTED: Final = (
    *("application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby"),
    *("integer_datetimes", "IntervalStyle", "is_superuser", "scram_iterations", "search_path", "server_encoding"),
    *("server_version", "session_authorization", "standard_conforming_strings", "TimeZone"),
)
"""What PostgreSQL reports at a login. search_path is since 18; older ones are not asked."""
SINCE: Final = {"search_path": 180000, "scram_iterations": 160000, "in_hot_standby": 140000}

_TIDY: Final = b"DISCARD ALL"
_DATABASE: Final = "?database"
_PID: Final = "?pid"
_ASKED: Final = (
    "select '?database', current_database()::text union all select '?pid', pg_backend_pid()::text"
    " union all select name, current_setting(name, true) from (values "
    + ", ".join(f"('{name}', {SINCE.get(name, 0)})" for name in REPORTED)
    + ") as asked (name, since) where current_setting('server_version_num')::int >= since"
).encode()
_PASSING: Final = frozenset(
    {BE_COMMAND_COMPLETE, BE_NOTICE_RESPONSE, BE_NOTIFICATION_RESPONSE, BE_PARAMETER_STATUS, BE_ROW_DESCRIPTION}
)


@attrs.frozen
class Standing:
    """How a server stands after DISCARD ALL; `error` where it would not say."""

    parameters: tuple[tuple[bytes, bytes], ...]
    database: bytes
    backend_pid: int
    error: ErrorFields | None
    unread: bytes = attrs.field(repr=False)


class Ask(Question[Standing]):
    """Begins at a server that is idle and owes nothing."""

    def __init__(self) -> None:
        super().__init__(message(FE_QUERY, _TIDY + b"\0") + message(FE_QUERY, _ASKED + b"\0"))
        self._messages = self._ready = 0
        self._said: dict[bytes, bytes] = {}

    def _step(self) -> bool:
        """Take one message; False when it is not whole yet."""
        taken = self._take(MAX_BODY_LEN, "from a server that was handed over")
        if taken is None:
            return False
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            raise ServerProtocolError("a server that was handed over talks without end")
        self._handle(*taken)
        return True

    def _handle(self, code: int, body: bytes) -> None:
        if code == BE_DATA_ROW and self._ready == 1:
            row = data_row(body)
            if len(row) != 2 or (name := row[0]) is None:
                raise ServerProtocolError("a row with other columns than were asked for")
            if (value := row[1]) is not None:
                self._said[name] = value
        elif code == BE_ERROR_RESPONSE:
            self._failure = self._failure or ErrorFields.parse(code, body)
        elif code == BE_READY_FOR_QUERY:
            if ready_status(body) != 0x49:
                raise ServerProtocolError("a server that was handed over as idle is in a transaction")
            self._ready += 1
            if self._ready == 2:
                self._verdict = self._standing()
        elif code not in _PASSING:
            raise ServerProtocolError(f"message {code:#04x} from a server that was handed over")

    def _standing(self) -> Standing:
        database, pid = self._said.pop(_DATABASE.encode(), b""), self._said.pop(_PID.encode(), b"0")
        names = {name.encode() for name in REPORTED}
        pairs = tuple((name, value) for name, value in self._said.items() if name in names)
        number = int(pid) if pid.isdigit() else 0
        return Standing(pairs, database, number, self._failure, bytes(self._in))
