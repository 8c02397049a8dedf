"""What operators order: pause and resume, suspend, disable, kill, reconnect, wait, shut down.

The console, the signals of the executable and the embedded proxy give the same orders. An order that waits is ended by
cancelling it, which takes back what it has begun: a pause, a suspension.
Source: PgBouncer docs, "Process controlling commands", "Signals"; its texts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.config.names import CONSOLE_DATABASE, FALLBACK_DATABASE
from pgpool_core.control.channels import Channels, until_taken
from pgpool_core.control.holds import ShutdownWait
from pgpool_core.control.pools import DATABASE_REMOVED, PoolRecord, PoolRegistry
from pgpool_core.control.report import Report
from pgpool_core.errors import CommandRefused, PoolClosed, error_response

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

LOOK_S: Final = 1 / 3  # at the latest, when nothing has been heard
STANDSTILL_LOOK_S: Final = 0.02  # between looks whether everybody has come to rest
ANSWER_S: Final = 1.0  # for all workers to say how many have

FORCED: Final = error_response(PoolClosed("admin forced disconnect", sqlstate="57P01"))
SERVER_SHUTTING_DOWN: Final = error_response(PoolClosed("server shutting down", sqlstate="57P01"))
NO_DATABASE: Final = "a database is required"
SUSPENDED: Final = "already suspended/paused"
PAUSED: Final = "already paused"
ENDING: Final = "pooler is shutting down"
TAKEN_BACK: Final = "RESUME came before every server was released"
_CLIENT: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)


class Orders:
    """Gives the orders to the engine and waits for what comes of them."""

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        report: Report,
        channels: Channels,
        nursery: trio.Nursery,
        *,
        config: Callable[[], Config],
        stop: Callable[[str], None],
        close_tcp: Callable[[], Awaitable[None]],
        clients_leave: Callable[[], Awaitable[None]],
        moved: Callable[[], Awaitable[bool]],
    ) -> None:
        """Begin with nothing ordered.

        Args:
            config: the configuration in force.
            stop: ends the pooler; gets the reason for the log.
            close_tcp: closes the listening sockets but for the unix one.
            clients_leave: returns when no client is left.
            moved: returns when no client is on its way to another process any more; and whether some have come back.
        """
        self._engine = engine
        self._pools = pools
        self._report = report
        self._channels = channels
        self._nursery = nursery
        self._config = config
        self._stop = stop
        self._close_tcp = close_tcp
        self._clients_leave = clients_leave
        self._moved = moved
        self._holds = pools.holds
        self._stir = trio.Event()
        self._token = 0
        self._resting: dict[int, tuple[dict[int, int], trio.Event]] = {}
        self._suspender: int | None = None
        self.went_on: Callable[[], None] = lambda: None
        """Called when a suspension has ended."""
        self.interrupt: Callable[[str | None], None] = lambda database: None
        """Gives up the connections to a database (None: to all) that are no servers of pools, and do not listen."""

    @property
    def ending(self) -> bool:
        """Whether a shutdown waits."""
        return self._holds.ending is not None

    def stirred(self) -> None:
        """A server has gone: who waits may look again."""
        self._stir.set()
        self._stir = trio.Event()

    def at_rest(self, token: int, worker: int, unsettled: int) -> None:
        """A worker has answered `suspend` or `go_on`."""
        if token in self._resting:
            told, complete = self._resting[token]
            told[worker] = unsettled
            if len(told) == self._engine.workers:
                complete.set()

    # -- pause and resume ------------------------------------------------------------------------------------------

    async def pause(self, database: str | None = None) -> None:
        """Give servers to nobody and close them as they come free; returns when the last has gone. Cancelled: resumes.

        Raises:
            CommandRefused: no such database, paused or suspended already, or resumed meanwhile.
        """
        holds = self._holds
        self._say("PAUSE", database)
        if database is not None:
            self._must_know(database, "pause")
        if holds.suspended:
            raise CommandRefused(SUSPENDED)
        if holds.paused_all or (database is None and holds.ending == "WAIT_FOR_SERVERS"):
            raise CommandRefused(PAUSED)
        self._hold(database)
        try:
            await self._until_gone(database)
        except trio.Cancelled:
            if self._held(database):
                self._release(database)
            raise

    async def resume(self, database: str | None = None) -> None:
        """End a pause, or a suspension.

        Raises:
            CommandRefused: there is none.
        """
        holds = self._holds
        self._say("RESUME", database)
        if database is not None:
            self._must_know(database, "resume")
            if holds.killed_all:
                holds.by_name(self._databases())
            if database not in holds.paused:
                raise CommandRefused(f"database {database} is not paused")
        elif holds.ending == "WAIT_FOR_SERVERS" or (holds.ending and not holds.paused_all):
            raise CommandRefused(ENDING)
        elif holds.suspended:
            await self._go_on()
            return
        elif not holds.paused_all:
            raise CommandRefused("pooler is not paused")
        self._release(database)

    async def kill(self, database: str | None = None) -> None:
        """Send all clients away at once and close their servers; then as after `pause`. Returns when all have gone.

        Raises:
            CommandRefused: no such database, or resumed meanwhile.
        """
        self._say("KILL", database)
        if database is not None:
            self._must_know(database, "kill")
        if self._holds.suspended:
            raise CommandRefused(SUSPENDED)
        if not self._held(database):
            self._hold(database)
            self._holds.killed_all |= database is None
        for record in self._records(database):
            await until_taken(partial(self._engine.kick_pool, record.id, DATABASE_REMOVED))
        await self._until_gone(database)

    def _hold(self, database: str | None) -> None:
        if database is None:
            self._holds.paused_all = True
        else:
            self._holds.paused.add(database)
        for record in self._records(database):
            self._engine.pause_pool(record.id, True)
        self._channels.interrupt({record.id for record in self._records(database)})
        self.interrupt(database)

    def _release(self, database: str | None) -> None:
        if database is None:
            self._holds.paused_all = self._holds.killed_all = False
        else:
            self._holds.paused.discard(database)
        for record in self._records(database):
            self._engine.pause_pool(record.id, self._holds.pauses(record.key.database))
        self._holds.tell_release()
        self.stirred()

    def _held(self, database: str | None) -> bool:
        return self._holds.paused_all if database is None else database in self._holds.paused

    async def _until_gone(self, database: str | None) -> None:
        def gone() -> bool:
            if not self._held(database):
                raise CommandRefused(TAKEN_BACK, sqlstate="57014")
            return self._servers(database) == 0

        await self._until(gone)

    def _servers(self, database: str | None) -> int:
        """How many connections to PostgreSQL there are, those that listen for clients among them."""
        ids = {record.id for record in self._records(database)}
        listening = sum(status.connected for pool, status in self._channels.status().items() if pool in ids)
        return listening + sum(int(row["servers_total"]) for row in self._engine.pools() if row["id"] in ids)

    async def release_all(self) -> None:
        """End every pause and the suspension, for nobody can order it any more."""
        if self._holds.suspended:
            await self._go_on()
        if self._holds.paused_all:
            self._release(None)
        for database in list(self._holds.paused):
            self._release(database)

    # -- suspend ---------------------------------------------------------------------------------------------------

    async def suspend(self, holder: int | None = None) -> None:
        """Read from nobody, between messages; returns when all that has been begun is through. Cancelled: goes on.

        Connections that are not through by suspend_timeout are dropped.

        Args:
            holder: the console client whose leaving ends it.

        Raises:
            CommandRefused: something is paused or suspended already.
        """
        holds = self._holds
        self._say("SUSPEND", None)
        if holds.ending:
            raise CommandRefused(ENDING)
        if holds.paused_all or holds.suspended:
            raise CommandRefused(SUSPENDED if holds.suspended else PAUSED)
        if holds.paused:
            raise CommandRefused("cannot suspend with paused databases")
        holds.suspended, self._suspender = True, holder
        deadline = trio.current_time() + self._config().suspend_timeout
        try:
            while await self._unsettled(drop=trio.current_time() >= deadline):
                await trio.sleep(STANDSTILL_LOOK_S)
                if not holds.suspended:
                    raise CommandRefused(TAKEN_BACK, sqlstate="57014")
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._go_on()
            raise

    async def round_trip(self) -> None:
        """Return when all workers have answered. Nobody stands still who did not before."""
        if self._holds.suspended:
            await self._unsettled(drop=False)
        else:
            await self._told_all(self._engine.go_on)

    async def _unsettled(self, *, drop: bool) -> int:
        """Have everybody stand still; how many are not at rest yet, 1 where a worker has not answered."""
        return await self._told_all(lambda token: self._engine.suspend(token, drop))

    async def _told_all(self, tell: Callable[[int], bool]) -> int:
        """Tell every worker, and add up what they answer."""
        self._token += 1
        token, told, complete = self._token, dict[int, int](), trio.Event()
        self._resting[token] = told, complete
        try:
            await until_taken(partial(tell, token))
            with trio.move_on_after(ANSWER_S) as scope:
                await complete.wait()
        finally:
            del self._resting[token]
        return 1 if scope.cancelled_caught else sum(told.values())

    async def _go_on(self) -> None:
        self._holds.suspended, self._suspender = False, None
        await until_taken(partial(self._engine.go_on, 0))
        self.went_on()

    async def console_gone(self, client: int) -> None:
        """A console client has left: what it alone had suspended goes on."""
        if self._suspender is not None and self._suspender == client:
            logs.LOGGER.info("the console has left, RESUME")
            await self._go_on()

    # -- one database, one client ----------------------------------------------------------------------------------

    def disable(self, database: str | None) -> None:
        """Refuse new logins to a database.

        Raises:
            CommandRefused: no such database.
        """
        name = self._named(database, "disable")
        self._say("DISABLE", name)
        self._holds.disabled.add(name)
        self._engine.clear_routes()  # the next login of each user asks, and is told

    def enable(self, database: str | None) -> None:
        """Take back `disable`.

        Raises:
            CommandRefused: no such database.
        """
        name = self._named(database, "enable")
        self._say("ENABLE", name)
        self._holds.disabled.discard(name)

    async def kill_client(self, which: str | None) -> None:
        """Send one client away; `which` is its `id`, or its `ptr`.

        Raises:
            CommandRefused: that is neither, or nobody has it.
        """
        if which is None or not _CLIENT.fullmatch(which):
            raise CommandRefused("invalid client pointer supplied")
        number = int(which, 16 if which[:2] in ("0x", "0X") else 10)
        if not any(row["id"] == number for row in await self._report.clients()):
            raise CommandRefused("client not found")
        self._say("KILL_CLIENT", which)
        await until_taken(partial(self._engine.disconnect, number, FORCED))

    def reconnect(self, database: str | None = None) -> None:
        """Close every server as soon as it is free, and learn anew what servers report at login.

        Raises:
            CommandRefused: no such database.
        """
        self._say("RECONNECT", database)
        if database is not None:
            self._must_know(database, "reconnect")
        for record in self._records(database):
            self._engine.retire_servers(record.id, dedicated=False)
            self._pools.forget_greeting(record)
        self._channels.interrupt({record.id for record in self._records(database)})
        self.interrupt(database)

    async def wait_close(self, database: str | None = None) -> None:
        """Wait until no server is left that is to be closed.

        Raises:
            CommandRefused: no such database.
        """
        if database is not None:
            self._must_know(database, "wait in")
        await self._until(lambda: not any(self._engine.servers_to_close(r.id) for r in self._records(database)))

    # -- the end ---------------------------------------------------------------------------------------------------

    def shutdown(self, mode: ShutdownWait | None = None) -> None:
        """Begin to end the pooler; returns at once.

        Args:
            mode: what is waited for. WAIT_FOR_SERVERS: servers close as they come free, and who asks for one is sent away.
                WAIT_FOR_CLIENTS: clients go on until they leave. None: nothing.

        Raises:
            CommandRefused: it waits for servers already, which is less; without a mode it still ends at once.
        """
        if mode is None:
            self._stop("SHUTDOWN")
            return
        if self._holds.ending == "WAIT_FOR_SERVERS" != mode:
            raise CommandRefused("already shutting down")
        self._say(f"SHUTDOWN {mode}", None)
        if self._holds.ending == mode:
            return
        self._holds.ending = mode
        self._engine.clear_routes()  # new logins ask, and are told
        self._nursery.start_soon(self._end, mode)

    async def _end(self, mode: ShutdownWait) -> None:
        await self._close_tcp()
        if self._holds.suspended:
            await self._go_on()
        while True:
            await self._until_over(mode)
            if not await self._moved():
                break
        self._stop(f"SHUTDOWN {mode}, nobody is left")

    async def _until_over(self, mode: ShutdownWait) -> None:
        if mode == "WAIT_FOR_CLIENTS":
            await self._clients_leave()
            return
        for record in self._pools:
            self._engine.end_pool(record.id, SERVER_SHUTTING_DOWN)
        self._channels.interrupt({record.id for record in self._pools})
        await self._until(lambda: self._servers(None) == 0)

    # -- common ----------------------------------------------------------------------------------------------------

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            with trio.move_on_after(LOOK_S):
                await self._stir.wait()

    def _records(self, database: str | None) -> Iterator[PoolRecord]:
        return (record for record in list(self._pools) if database is None or record.key.database == database)

    def _databases(self) -> set[str]:
        """The names that have an entry or a pool."""
        return {record.key.database for record in self._pools} | set(self._config().databases) - {FALLBACK_DATABASE}

    def _must_know(self, database: str, verb: str) -> None:
        if database == CONSOLE_DATABASE:
            raise CommandRefused(f"cannot {verb} admin db: {database}")
        if not self._pools.knows(database):
            raise CommandRefused(f"no such database: {database}")

    def _named(self, database: str | None, verb: str) -> str:
        if not database:
            raise CommandRefused(NO_DATABASE)
        self._must_know(database, verb)
        return database

    @staticmethod
    def _say(command: str, database: str | None) -> None:
        about = "" if database is None else f" '{database}'"
        logs.LOGGER.info("%s", logs.line("", f"{command}{about} command issued"))
