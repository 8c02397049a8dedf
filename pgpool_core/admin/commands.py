"""The console of the virtual database `pgbouncer`: what its commands do, and the rows that they answer.

The console owns no state. It reads a Snapshot and asks for changes through `PoolerCommands`, which control implements. Who may come
in, and as admin or not, was settled at login. How statements come and answers go is `session`'s matter.
Source: PgBouncer `doc/usage.md`, "Admin console"; its error texts and command tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import attrs
import trio

from pgpool_core import logs
from pgpool_core.admin import reply, show
from pgpool_core.admin.chatter import Said, chatter
from pgpool_core.admin.grammar import Assignment, Command, EmptyQuery, Refused, invalid_command, parse
from pgpool_core.admin.reply import Cells, Column
from pgpool_core.admin.selection import Selection, chosen_columns, parameter_types, parse_selection, select
from pgpool_core.errors import CommandRefused, ConfigError
from pgpool_core.metrics.snapshot import ConfigRow, Snapshot

ADMIN_NEEDED = "admin access needed"
TABLES_AT_ONCE = 16
"""Tables that are being made for consoles; further ones wait their turn, for they may be large."""

ORDERS = frozenset(
    (
        *("RELOAD", "SHUTDOWN", "PAUSE", "RESUME", "SUSPEND", "DISABLE", "ENABLE"),
        *("KILL", "KILL_CLIENT", "RECONNECT", "WAIT_CLOSE"),
    )
)
"""Commands that only admin_users may give."""
ADMIN_TABLES = frozenset(("FDS",))

HELP_DETAIL = """
\tSHOW HELP|CONFIG|DATABASES|FDS|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW PEERS|PEER_POOLS
\tSHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW CHANNELS|HOSTS|LOGINS|PINS|PIN_TOTALS|LEAKS|WORKERS
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSHOW <table> [WHERE <column> = <value> AND ...] [ORDER BY <column> [DESC]] [LIMIT <n>]
\tSET key = arg
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tSUSPEND
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
\tWAIT_CLOSE [<db>]"""


class PoolerOrders(Protocol):
    """What the console may order; each raises CommandRefused. Those that wait take back what they began when they are cancelled."""

    async def pause(self, database: str | None = None) -> None: ...
    async def resume(self, database: str | None = None) -> None: ...
    async def suspend(self, holder: int | None = None) -> None: ...
    async def kill(self, database: str | None = None) -> None: ...
    async def kill_client(self, which: str | None) -> None: ...
    async def wait_close(self, database: str | None = None) -> None: ...
    def disable(self, database: str | None) -> None: ...
    def enable(self, database: str | None) -> None: ...
    def reconnect(self, database: str | None = None) -> None: ...
    def shutdown(self, mode: Literal["WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"] | None = None) -> None: ...


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

    async def change_setting(self, key: str, value: str) -> None:
        """Change one setting of the [pgbouncer] section until the next reload.

        Raises:
            ConfigError: there is no such setting, a restart is needed for it, or the value is not acceptable.
        """
        ...

    def config_rows(self) -> Iterable[ConfigRow]:
        """Return every setting of the [pgbouncer] section, in any order."""
        ...

    @property
    def orders(self) -> PoolerOrders:
        """What the pooler may be ordered."""
        ...


@attrs.frozen
class Result:
    """What a statement came to. `columns` is None where it answers no rows."""

    tag: str
    columns: tuple[Column, ...] | None = None
    rows: Sequence[Cells] = ()
    notice: bytes = b""
    said: Said | None = None


Statement = Said | Selection | EmptyQuery | Assignment | Command


def understand(text: bytes) -> Statement:
    """Return what one statement says.

    Raises:
        CommandRefused: nothing that the console knows.
    """
    words = text.decode("utf-8", "surrogateescape")
    statement = chatter(words) or parse_selection(words) or parse(text)
    match statement:
        case Refused():
            raise CommandRefused(statement.message)
        case Selection() | Command(word="SHOW"):
            if _table_of(statement) is None and not _is_help(statement):
                raise CommandRefused(invalid_command(statement.text))
        case Command() if statement.word not in ORDERS:
            raise CommandRefused(invalid_command(statement.text))
    return statement


def columns_of(statement: Statement) -> tuple[Column, ...] | None:
    """Return the columns of the answer; None where it has no rows."""
    match statement:
        case Said():
            return statement.columns
        case Selection():
            return chosen_columns(statement, _table_of(statement) or ())
        case Command(word="SHOW"):
            return _table_of(statement)
        case _:
            return None


def parameters_of(statement: Statement) -> tuple[int, ...]:
    """Return the type of each parameter."""
    if not isinstance(statement, Selection):
        return ()
    chosen_columns(statement, _table_of(statement) or ())
    return parameter_types(statement, _table_of(statement) or ())


def _what(statement: Selection | Command) -> str:
    return (statement.table if isinstance(statement, Selection) else statement.argument or "").upper()


def _table_of(statement: Selection | Command) -> tuple[Column, ...] | None:
    what = _what(statement)
    return show.TABLES[what].columns if what in show.TABLES else show.OTHER_COLUMNS.get(what)


def _is_help(statement: Selection | Command) -> bool:
    return isinstance(statement, Command) and _what(statement) == "HELP"


class Console:
    """Executes statements for any number of clients."""

    def __init__(self, commands: PoolerCommands, *, version: str) -> None:
        """Keep `commands`; `version` is that of pgpool_core."""
        self._commands = commands
        self._version = reply.version_text(version)
        self._tables = trio.CapacityLimiter(TABLES_AT_ONCE)

    async def execute(
        self, statement: Statement, *, client: int, is_admin: bool, parameters: Sequence[str | None] = ()
    ) -> Result:
        """Return what `statement` comes to.

        Args:
            client: the id of the console client.
            is_admin: whether it is one of admin_users; the others may only look.
            parameters: the values of $1 and following, as text.

        Raises:
            PgPoolError: it cannot be obeyed.
        """
        match statement:
            case EmptyQuery():
                return Result("")
            case Said():
                rows = [statement.row] if statement.columns is not None else []
                return Result(statement.tag, statement.columns, rows, statement.notice, statement)
            case Selection() | Command(word="SHOW"):
                return await self._show(statement, parameters, is_admin=is_admin)
        if not is_admin:
            raise CommandRefused(ADMIN_NEEDED)
        if isinstance(statement, Assignment):
            return await self._set(statement)
        return await self._order(statement, client)

    async def _show(
        self, statement: Selection | Command, parameters: Sequence[str | None], *, is_admin: bool
    ) -> Result:
        what, table = _what(statement), _table_of(statement)
        if table is None:
            return Result("SHOW", notice=reply.notice_response("Console usage", detail=HELP_DETAIL))
        if what in ADMIN_TABLES and not is_admin:
            raise CommandRefused(ADMIN_NEEDED)
        async with self._tables:
            rows: Sequence[Cells]
            if what == "CONFIG":
                rows = show.config_rows(self._commands.config_rows())
            elif what == "VERSION":
                rows = [[self._version]]
            else:
                rows = list(show.TABLES[what].rows(await self._commands.snapshot()))
        if isinstance(statement, Selection):
            rows = select(statement, table, rows, parameters)
            return Result("SHOW", chosen_columns(statement, table), rows)
        return Result("SHOW", table, rows)

    async def _set(self, statement: Assignment) -> Result:
        with trio.CancelScope(shield=True):  # a reload is not left half done
            try:
                await self._commands.change_setting(statement.key, statement.value)
            except ConfigError as error:
                raise CommandRefused("SET failed", detail=str(error)) from error
        return Result(f"SET {statement.key}={statement.value}")

    async def _reload(self) -> None:
        logs.LOGGER.info("%s", logs.line("", "RELOAD command issued"))
        with trio.CancelScope(shield=True):
            try:
                await self._commands.reload()
            except ConfigError as error:
                raise CommandRefused(
                    "RELOAD failed, see logs for additional details",
                    sqlstate=reply.CONFIG_FILE_ERROR,
                    detail=str(error),
                ) from error

    async def _order(self, command: Command, client: int) -> Result:
        orders, argument = self._commands.orders, command.argument
        match command.word, argument:
            case "RELOAD", None:
                await self._reload()
            case "PAUSE", _:
                await orders.pause(argument)
            case "RESUME", _:
                await orders.resume(argument)
            case "SUSPEND", None:
                await orders.suspend(client)
            case "KILL", _:
                await orders.kill(argument)
            case "KILL_CLIENT", _:
                await orders.kill_client(argument)
            case "WAIT_CLOSE", _:
                await orders.wait_close(argument)
            case "RECONNECT", _:
                orders.reconnect(argument)
            case "DISABLE", _:
                orders.disable(argument)
            case "ENABLE", _:
                orders.enable(argument)
            case "SHUTDOWN", None:
                orders.shutdown()
            case "SHUTDOWN", str() if argument.upper() == "WAIT_FOR_SERVERS":
                orders.shutdown("WAIT_FOR_SERVERS")
            case "SHUTDOWN", str() if argument.upper() == "WAIT_FOR_CLIENTS":
                orders.shutdown("WAIT_FOR_CLIENTS")
            case _:
                raise CommandRefused(invalid_command(command.text))
        return Result(command.word)
