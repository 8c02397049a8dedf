"""What servers begin with beside what they report at login: what connect_query has set, and a role by default.

Clients begin with it as they do with startup parameters of their own, so it follows them whatever others do to the servers. Where there is
a connect_query every server is asked; else the first one of a pool, and the first one after its servers have changed. The same answer
tells whether it is PostgreSQL whose process we have, or that of another pooler, whose keys for cancel requests are its own.
Source: PostgreSQL docs, "System Views", pg_settings; ALTER ROLE; PgBouncer docs, connect_query.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control.connect import LoggedInServer, ServerTarget
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
from pgpool_core.control.talk import NEED_DATA, Question
from pgpool_core.errors import ServerProtocolError, ServerUnavailable, TlsError
from pgpool_core.session.began import began_question, began_settings

PATIENCE_S: Final = 10.0  # for an answer
MAX_BODY_LEN: Final = 1024 * 1024
MAX_MESSAGES: Final = 2000

_PASSING: Final = frozenset(
    {BE_COMMAND_COMPLETE, BE_NOTICE_RESPONSE, BE_NOTIFICATION_RESPONSE, BE_PARAMETER_STATUS, BE_ROW_DESCRIPTION}
)


_WHOSE: Final = b"; select pg_catalog.pg_backend_pid()"
_FIXED: Final = b"""; select name from pg_catalog.pg_settings
where source operator(pg_catalog.=) 'session' and context operator(pg_catalog.=) 'superuser'
and not (select rolsuper from pg_catalog.pg_roles where rolname operator(pg_catalog.=) session_user)"""


@attrs.frozen
class _Said:
    rows: bytes = attrs.field(repr=False)
    backend_pid: int  # of the process that answered; 0: not told
    fixed: tuple[bytes, ...]
    error: ErrorFields | None
    unread: bytes = attrs.field(repr=False)


class _Ask(Question[_Said]):
    def __init__(self, sql: bytes) -> None:
        super().__init__(message(FE_QUERY, sql + _WHOSE + _FIXED + b"\0"))
        self._rows = bytearray()
        self._fixed: list[bytes] = []
        self._messages = self._complete = self._backend_pid = 0

    def _step(self) -> bool:
        taken = self._take(MAX_BODY_LEN, "from a server that was asked what it begins with")
        if taken is None:
            return False
        self._messages += 1
        code, body = taken
        if code == BE_DATA_ROW and self._complete > 1:
            [name] = data_row(body)
            self._fixed.append(name or b"")
        elif code == BE_DATA_ROW and self._complete:
            [pid] = data_row(body)
            self._backend_pid = int(pid or 0)
        elif code == BE_DATA_ROW and self._messages <= MAX_MESSAGES:
            self._rows += message(code, body)
        elif code == BE_ERROR_RESPONSE:
            self._failure = self._failure or ErrorFields.parse(code, body)
        elif code == BE_READY_FOR_QUERY and ready_status(body) == 0x49:
            self._verdict = _Said(
                bytes(self._rows), self._backend_pid, tuple(self._fixed), self._failure, bytes(self._in)
            )
        elif code not in _PASSING or self._messages > MAX_MESSAGES:
            raise ServerProtocolError(f"message {code:#04x} from a server that was asked what it begins with")
        self._complete += code == BE_COMMAND_COMPLETE
        return True


async def ask_began(server: LoggedInServer, target: ServerTarget, who: str) -> None:
    """Ask a server that nobody has yet, and write it down there; `who` names its pool in the log.

    Raises:
        ServerUnavailable: the connection is of no more use.
    """
    sql = began_question(target.connect_query)
    if sql is None or server.unread:  # which must reach the engine as it came
        return
    ask = _Ask(sql)

    def take(data: bytes) -> bool:
        ask.receive_data(data)
        return ask.next_event() is not NEED_DATA

    try:
        with trio.fail_after(PATIENCE_S):
            await server.exchange(ask.data_to_send(), take)
        said = ask.next_event()
        if not isinstance(said, _Said):
            raise ServerUnavailable("server closed the connection")
        server.unread = said.unread
        server.is_poolers = 0 not in (said.backend_pid, server.backend_pid) and said.backend_pid != server.backend_pid
        if said.error is None:
            settings = tuple(began_settings(said.rows, target.user))
            fixed = tuple(name for name, _ in settings if name in said.fixed)
            server.began = attrs.evolve(server.began, settings=settings, fixed=fixed)
            return
    except (trio.TooSlowError, OSError, TlsError, ServerProtocolError, ValueError) as error:
        raise ServerUnavailable("no answer to the question what a server begins with") from error
    fields = {"sqlstate": said.error.sqlstate}
    logs.LOGGER.warning("%s", logs.line(who, "a server does not say what it begins with", fields))
