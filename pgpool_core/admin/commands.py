"""The console of the virtual database `pgbouncer`: text of one Query in, the whole reply out.

The console owns no state. It reads a Snapshot and asks for changes through `PoolerCommands`, which control implements.
Who may come in, and as admin or not, was settled at login.
Source: PgBouncer `doc/usage.md`, "Admin console"; its error texts and command tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import trio

from pgpool_core.admin import reply, show
from pgpool_core.admin.grammar import (
    FAKED_SETTINGS,
    Assignment,
    Command,
    EmptyQuery,
    Refused,
    invalid_command,
    parse,
)
from pgpool_core.errors import ConfigError, PgPoolError
from pgpool_core.metrics.snapshot import ConfigRow, Snapshot

ADMIN_NEEDED = "admin access needed"
ROWS_PER_TURN = 500
"""Rows that are written before other tasks of the control loop get their turn."""

ADMIN_COMMANDS = frozenset(
    (
        *("RELOAD", "SHUTDOWN", "PAUSE", "RESUME", "SUSPEND", "DISABLE", "ENABLE"),
        *("KILL", "KILL_CLIENT", "RECONNECT", "WAIT_CLOSE"),
    )
)
"""Commands of PgBouncer that only admin_users may give, whether this version has them or not."""
UNBUILT_SHOWS = frozenset(("PEERS", "PEER_POOLS", "SOCKETS", "ACTIVE_SOCKETS", "MEM", "DNS_HOSTS", "DNS_ZONES", "FDS"))
SHUTDOWN_WAITS = frozenset(("WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"))

HELP_DETAIL = """
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW LISTS|STATE|CHANNELS|PINS|PIN_TOTALS|LEAKS
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tRELOAD
\tSHUTDOWN"""


class PoolerCommands(Protocol):
    """What the console may ask of the pooler."""

    async def snapshot(self) -> Snapshot:
        """Return the pooler as it is now."""
        ...

    async def reload(self) -> None:
        """Read the configuration again and apply it.

        Raises:
            ConfigError: the new configuration cannot be used; its text names every problem, the log has it too.
        """
        ...

    def shutdown(self, mode: Literal["immediate"]) -> None:
        """Begin to stop the pooler; returns at once, and the reply may or may not still reach the client."""
        ...

    def config_rows(self) -> Iterable[ConfigRow]:
        """Return every setting of the [pgbouncer] section, in any order."""
        ...


class Console:
    """Answers console commands for any number of clients."""

    def __init__(self, commands: PoolerCommands, *, version: str) -> None:
        """Keep `commands`; `version` is that of pgpool_core."""
        self._commands = commands
        self._version = reply.version_text(version)

    async def answer(self, text: bytes, *, is_admin: bool) -> bytes:
        """Return the complete reply to one Query, ReadyForQuery included, whatever `text` holds.

        Args:
            text: the query as it came, with or without its closing zero byte.
            is_admin: whether the client is one of admin_users; the others may only look.
        """
        try:
            body = await self._answer(text, is_admin)
        except PgPoolError as error:
            body = reply.error_response(str(error), sqlstate=error.sqlstate, detail=error.detail)
        return body + reply.READY_FOR_QUERY

    async def _answer(self, text: bytes, is_admin: bool) -> bytes:
        statement = parse(text)
        match statement:
            case EmptyQuery():
                return reply.EMPTY_QUERY_RESPONSE
            case Refused():
                return reply.error_response(statement.message)
            case Assignment():
                return _set(statement, is_admin)
            case Command(word="SHOW"):
                return await self._show(statement, is_admin)
            case Command() if statement.word not in ADMIN_COMMANDS:
                return reply.error_response(invalid_command(statement.text))
            case Command() if not is_admin:
                return reply.error_response(ADMIN_NEEDED)
            case Command(word="RELOAD"):
                return await self._reload(statement)
            case Command(word="SHUTDOWN"):
                return self._shutdown(statement)
            case _:
                return _unsupported(statement.word)

    async def _show(self, command: Command, is_admin: bool) -> bytes:
        what = (command.argument or "").upper()
        if what in show.TABLES:
            table = show.TABLES[what]
            return await _table(table.columns, table.rows(await self._commands.snapshot()))
        if what == "CONFIG":
            return await _table(show.CONFIG_COLUMNS, show.config_rows(self._commands.config_rows()))
        if what == "VERSION":
            return await _table(show.VERSION_COLUMNS, [[self._version]])
        if what == "STATE":
            return await _table(show.STATE_COLUMNS, show.STATE_ROWS)
        if what == "HELP":
            return reply.notice_response("Console usage", detail=HELP_DETAIL) + reply.command_complete("SHOW")
        if what.lower() in FAKED_SETTINGS:
            name = what.lower()
            return await _table(reply.columns(reply.TEXT, name), [[FAKED_SETTINGS[name]]])
        if what == "FDS" and not is_admin:
            return reply.error_response(ADMIN_NEEDED)
        if what in UNBUILT_SHOWS:
            return _unsupported(f"SHOW {what}")
        return reply.error_response(invalid_command(command.text))

    async def _reload(self, command: Command) -> bytes:
        if command.argument is not None:
            return reply.error_response(invalid_command(command.text))
        try:
            await self._commands.reload()
        except ConfigError as error:
            return reply.error_response(
                "RELOAD failed, see logs for additional details",
                sqlstate=reply.CONFIG_FILE_ERROR,
                detail=str(error),
            )
        return reply.command_complete("RELOAD")

    def _shutdown(self, command: Command) -> bytes:
        if command.argument is None:
            self._commands.shutdown("immediate")
            return reply.command_complete("SHUTDOWN")
        how = command.argument.upper()
        if how in SHUTDOWN_WAITS:
            return _unsupported(f"SHUTDOWN {how}")
        return reply.error_response(invalid_command(command.text))


def _set(statement: Assignment, is_admin: bool) -> bytes:
    """Answer SET: ignored for what drivers set after login; settings of the pooler are changed in the file."""
    if statement.key in FAKED_SETTINGS:
        return reply.notice_response("SET ignored") + reply.command_complete("SET")
    if not is_admin:
        return reply.error_response(ADMIN_NEEDED)
    return _unsupported("SET")


def _unsupported(command: str) -> bytes:
    text = f"command {command} is not supported by this version of pgpool_core"
    return reply.error_response(text, sqlstate=reply.FEATURE_NOT_SUPPORTED)


async def _table(columns: Sequence[reply.Column], rows: Iterable[show.Cells]) -> bytes:
    """Return a whole result set with its tag; a long one lets other tasks run in between."""
    parts = [reply.row_description(columns)]
    for number, row in enumerate(rows, start=1):
        parts.append(reply.data_row(row))
        if number % ROWS_PER_TURN == 0:
            await trio.lowlevel.checkpoint()
    parts.append(reply.command_complete("SHOW"))
    return b"".join(parts)
