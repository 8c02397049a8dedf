"""Exceptions of pgpool_core, each with its SQLSTATE, and the ErrorResponse that tells a client about one.

Sources: PostgreSQL docs, "PostgreSQL Error Codes", "Error and Notice Message Fields", "Message Formats" (ErrorResponse).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs


class PgPoolError(Exception):
    """Root of everything that pgpool_core raises on purpose.

    Args:
        message: the primary text (field M); where a setting decided, it ends with the setting in parentheses.
        detail: more of it (field D), if any.
        hint: what to do about it (field H), if any.
        sqlstate: five characters that replace the class's own, for an error that a server has named already.
    """

    sqlstate: str = "XX000"
    severity: str = "FATAL"

    def __init__(
        self, message: str = "", *, detail: str | None = None, hint: str | None = None, sqlstate: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        if sqlstate is not None:
            if len(sqlstate) != 5 or not sqlstate.isascii() or not sqlstate.isalnum():
                raise ValueError("an SQLSTATE has five letters or digits")
            self.sqlstate = sqlstate

    def __str__(self) -> str:
        return self.message


@attrs.frozen
class ConfigProblem:
    """One thing that is wrong with a configuration."""

    text: str
    """What is wrong, complete with place, key and what would be accepted; never holds a password."""
    file: str | None = None
    line: int | None = None
    """From 1; None where no line can be named."""
    section: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        return self.text


class ConfigError(PgPoolError):
    """A configuration cannot be used; carries every problem found, and its text has one per line.

    Args:
        problems: what is wrong; a plain text stands for a single problem without a place.
    """

    sqlstate = "F0000"

    def __init__(self, problems: str | Iterable[ConfigProblem]) -> None:
        found = (ConfigProblem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(problem.text for problem in found))
        self.args = (found,)
        self.problems: tuple[ConfigProblem, ...] = found

    @property
    def file(self) -> str | None:
        """The file of the first problem."""
        return self.problems[0].file if self.problems else None

    @property
    def line(self) -> int | None:
        """The line of the first problem."""
        return self.problems[0].line if self.problems else None

    @property
    def key(self) -> str | None:
        """The setting of the first problem."""
        return self.problems[0].key if self.problems else None


class ClientProtocolError(PgPoolError):
    """A client broke the PostgreSQL protocol; it costs that client its connection and nobody else anything."""

    sqlstate = "08P01"


class ServerProtocolError(PgPoolError):
    """A server broke the PostgreSQL protocol; its connection is closed and never reused."""

    sqlstate = "08P01"


class TlsError(PgPoolError):
    """TLS cannot be had as it is asked for, or with this other side.

    Args:
        part: what is wrong: a parameter of `tls.face.Context` ("certificate" also where the other side does not take it), "pair" (its
            certificate and key), "host", or "peer" for the other side.
    """

    sqlstate = "08P01"

    def __init__(self, message: str, *, part: str) -> None:
        super().__init__(message)
        self.part = part


class LoginError(PgPoolError):
    """A login was refused."""

    sqlstate = "28000"


class LoginTimeout(LoginError):
    """A login came to no verdict in time (client_login_timeout, server_connect_timeout)."""


class BadPassword(LoginError):
    """The password, or the proof of knowing it, is wrong."""

    sqlstate = "28P01"


class PoolError(PgPoolError):
    """No server connection can be lent."""

    sqlstate = "53000"


class QueryWaitTimeout(PoolError):
    """No server connection came free in time (query_wait_timeout)."""


class TooManyClients(PoolError):
    """One more client than is allowed (max_client_conn)."""

    sqlstate = "53300"


class PoolClosed(PoolError):
    """The pool or the whole pooler is closing, or the database was removed."""

    sqlstate = "57P03"


class CommandRefused(PgPoolError):
    """An order, such as a command of the console, cannot be obeyed; the session goes on."""

    sqlstate = "08P01"
    severity = "ERROR"


class PoolTimeout(PoolError):
    """No connection of `open_pool` came free in time (acquire_timeout), or too many wait for one already (max_waiting)."""


class ConnectionLost(PgPoolError):
    """The connection to PostgreSQL broke, or was closed by the pool; what became of its transaction is not known."""

    sqlstate = "08006"


class DecodeError(PgPoolError):
    """A value from the server cannot be a Python value; the connection stays good."""

    sqlstate = "22P03"


class EncodeError(PgPoolError):
    """An argument cannot be sent as the type that the query wants; nothing has been sent."""

    sqlstate = "22P03"


class ServerUnavailable(PgPoolError):
    """PostgreSQL cannot be reached, or hung up before the login was over."""

    sqlstate = "08001"


class PasswordUnavailable(ServerUnavailable):
    """A server is not asked, because the file, command or function that has the password for it does not give one."""

    sqlstate = "28000"


class ServerLoginRefused(PgPoolError):
    """PostgreSQL answered a login with an ErrorResponse, or asked for something that the stored secret cannot answer.

    Args:
        message, severity, sqlstate, detail, hint: in the server's own words.
        raw: the whole ErrorResponse message, header included, to be passed to clients that wait for this server.
        where: host and port, for the log.
    """

    def __init__(
        self,
        message: str,
        *,
        severity: str = "FATAL",
        sqlstate: str = "28000",
        detail: str | None = None,
        hint: str | None = None,
        raw: bytes = b"",
        where: str = "",
    ) -> None:
        super().__init__(message, detail=detail, hint=hint, sqlstate=sqlstate)
        self.severity = severity
        self.raw = raw
        self.where = where

    @property
    def cannot_connect_now(self) -> bool:
        """The server starts up, recovers or shuts down: a later try may do, and clients need not hear of it (57P03)."""
        return self.sqlstate == "57P03"

    def __str__(self) -> str:
        at = f" at {self.where}" if self.where else ""
        return f"server login failed{at}: {self.severity} {self.message.removeprefix('server login failed: ')}"


class InternalError(PgPoolError):
    """Our bug: an invariant does not hold.

    Args:
        state: a dump of the state that should not exist, for the log and the report; without SQL text or secrets.
    """

    sqlstate = "XX000"

    def __init__(self, message: str = "", *, state: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.state: Mapping[str, object] = dict(state or {})

    def __str__(self) -> str:
        dump = " ".join(f"{name}={value!r}" for name, value in self.state.items())
        return f"{self.message} [{dump}]" if dump else self.message


_MAX_FIELD_LEN: Final = 60_000  # bytes; a longer field is cut, so that the message stays a sane packet


def error_response(error: BaseException | Mapping[str, str], *, severity: str | None = None) -> bytes:
    """Build the ErrorResponse message ('E', length, fields) that tells a peer about `error`.

    Args:
        error: an exception, or fields by their one-letter code, such as `{"C": "57P03", "M": "text"}`, for example those of
            a server's own ErrorResponse. An exception that is not ours says "internal error" and keeps its text to itself.
        severity: FATAL (the connection is closed after it), ERROR, PANIC; without it the mapping's own `S`, else FATAL.

    Returns:
        a whole message, its fields in the order S, V, C, M, D, H, then others as given. Zero bytes inside a field, which
        would end it early, are dropped; text that came with `surrogateescape` goes out as the bytes that it was.
    """
    if isinstance(error, PgPoolError):
        given = {"C": error.sqlstate, "M": error.message, "D": error.detail or "", "H": error.hint or ""}
        level = severity or error.severity
        if isinstance(error, ConfigError) and len(error.problems) > 1:
            given["M"], given["D"] = error.problems[0].text, error.message
    elif isinstance(error, BaseException):
        given = {"C": "XX000", "M": "internal error"}
        level = severity or "FATAL"
    else:
        given = dict(error)
        level = severity or given.get("S") or given.get("V") or "FATAL"
    untranslated = severity or given.get("V") or (level if level in _SEVERITIES else "FATAL")
    fields = {
        "S": level,
        "V": untranslated,
        "C": given.get("C") or "XX000",
        "M": given.get("M") or "internal error",
    }
    fields.update((code, text) for code, text in sorted(given.items(), key=_field_order) if code not in fields and text)
    body = bytearray()
    for code, text in fields.items():
        if len(code) != 1 or not code.isascii() or not code.isalpha():
            raise ValueError("a field of an ErrorResponse is named by one letter")
        body += code.encode("ascii") + _field_bytes(text) + b"\0"
    body += b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + bytes(body)


_SEVERITIES: Final = frozenset({"ERROR", "FATAL", "PANIC"})


def _field_order(item: tuple[str, str]) -> int:
    return {"D": 0, "H": 1}.get(item[0], 2)


def _field_bytes(text: str) -> bytes:
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "backslashreplace")
    raw = raw.replace(b"\0", b"")
    if len(raw) > _MAX_FIELD_LEN:  # cut between characters, never inside one
        raw = raw[:_MAX_FIELD_LEN].decode("utf-8", "ignore").encode("utf-8") + b"..."
    return raw
