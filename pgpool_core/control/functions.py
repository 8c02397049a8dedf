"""What functions of users may do to a session: read from the catalogs, worked out, told to the workers.

A database is read before its first server is handed to the engine, again when a text has changed functions, and every
function_check_period for changes that came another way. The first is asked on that server, the others on a connection
that lives for one question; it is counted by max_db_connections and max_user_connections, not by pool_size. Where these
leave no room for it, the pool's servers are let go after such a text, and the next one is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control.catalog import ANSWER_MS, CatalogAnswer, question
from pgpool_core.control.channels import SLOT_LOOK_S, SLOT_NEVER, SLOT_TAKEN, until_taken
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.effects import Effects, effects_of
from pgpool_core.control.opener import OpenServer
from pgpool_core.control.pools import PoolRecord, PoolRegistry
from pgpool_core.control.routing import connect_timeout_s
from pgpool_core.errors import PgPoolError, PoolError, ServerUnavailable
from pgpool_core.session.effects import effects_pack

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

PATIENCE_S: Final = 2 * ANSWER_MS / 1000  # for an answer; PostgreSQL itself gives up before
PAUSE_S: Final = 0.1  # between two readings of one database, however often its functions change
REFUSED_S: Final = 10.0  # at most, where there is no connection to be had: twice as long each time
LONG_READING: Final = 100_000  # bytes of definitions; more of them are worked through beside the loop
LONGEST_WAIT_S: Final = 1.0  # for room under a shared limit
LOCKED: Final = "55P03"  # lock_not_available
VANISHED: Final = "XX000"  # internal_error: of what was there when the question began, something is gone
VANISHED_MOST: Final = 20  # times in a row: it is something else

Place = tuple[tuple[str, ...], int, bytes]  # hosts, port, database: where functions are the same


def place_of(target: ServerTarget) -> Place:
    """Which database servers of this target are in."""
    return target.hosts, target.port, target.dbname


@attrs.define(eq=False)
class Known:
    """What has been read of one database."""

    mark: int
    serial: int = -1  # changes that had been seen when it was read; -1 = never read
    heard: int = 0  # changes that those with the same port and name have been told of
    read_at: float = 0.0
    told: tuple[int, Effects] | None = None
    packed: bytes | None = None  # what the workers have been told
    complained: bool = False
    vanished: int = 0  # times in a row that something had gone
    refused: int = 0  # times in a row that there was no connection for it
    again: bool = False  # what is being changed just now was in the way: the same question is to be asked again
    reading: trio.Lock = attrs.field(factory=trio.Lock)
    due: bool = False  # a task is about to read it
    first: trio.Event = attrs.field(factory=trio.Event)  # it has been read, or it has been said that it cannot be


class Functions:
    """The functions of all databases that pools lead to."""

    def __init__(self, engine: Engine, pools: PoolRegistry, *, open_server: OpenServer) -> None:
        """Begin with nothing known; `nursery` must be set before the first letter comes."""
        self.nursery: trio.Nursery | None = None
        self.holds: Callable[[bytes], bool] = lambda database: False
        self._engine = engine
        self._pools = pools
        self._open_server = open_server
        self._places: dict[Place, Known] = {}
        self._generation = 0

    def watched(self, record: PoolRecord) -> bool:
        """Whether it matters for a pool what functions do."""
        return record.settings.watches_text and self._pools.config.function_check_period > 0

    def mark_of(self, record: PoolRecord) -> int | None:
        """The number of a pool's database; None where it does not matter what functions do."""
        known = self._changed_by(record)
        return None if known is None else known.mark

    def known_of(self, record: PoolRecord) -> tuple[int, bytes | None] | None:
        """How many changes the functions of a pool's database have seen, and what they do after the last: None while that is not
        known. None: it does not matter."""
        if not self.watched(record):
            return None
        known = self._places.get(place_of(record.target))
        if known is None:
            return -1, None
        changes = self._engine.function_changes(known.mark)
        return changes, known.packed if known.serial == changes else None

    async def before_first_use(self, record: PoolRecord, target: ServerTarget, server: LoggedInServer) -> None:
        """Ask a server that nobody has yet, where its database is not known or not well enough.

        Raises:
            ServerUnavailable: the connection is of no more use.
        """
        known = self._place(record, target)
        if known is None:
            return
        if server.unread or known.again:  # what is unread must reach the engine as it came
            self._read_soon(known)
            return
        async with known.reading:
            if self._is_due(known):
                serial = self._engine.function_changes(known.mark)
                try:
                    await self._read(known, str(record.key), server)
                except ServerUnavailable as lost:
                    await self._go_on(known, str(record.key), serial, lost)  # or it would be so with each server
                    raise
        if self._is_due(known):
            self._read_soon(known)

    async def until_known(self, record: PoolRecord) -> None:
        """For a client that comes with its server: its database is to be known before it says anything more; within limits."""
        known = self._place(record, record.target)
        if known is None:
            return
        if known.serial < 0:
            self._read_soon(known)
            with trio.move_on_after(LONGEST_WAIT_S):
                await known.first.wait()

    def changed(self) -> None:
        """A "functions" letter: somebody has changed functions somewhere.

        The same database may have been given other hosts elsewhere, `localhost` for an address: all that have its port and name
        are as good as changed.
        """
        moved = set[tuple[int, bytes]]()
        quiet: list[tuple[Place, Known]] = []
        for place, known in self._places.items():
            if (changes := self._engine.function_changes(known.mark)) == known.heard:
                quiet.append((place, known))
            else:
                known.heard = changes
                moved.add(place[1:])
        for place, known in quiet:
            if place[1:] in moved:
                self._engine.functions_changed(known.mark)
                known.heard = self._engine.function_changes(known.mark)
        for known in self._places.values():
            if known.serial >= 0 and self._engine.function_changes(known.mark) != known.serial:
                self._read_soon(known)

    def reloaded(self) -> None:
        """After a reload: other pools may matter."""
        for record in self._pools:
            known = self._place(record, record.target)
            if known is not None and known.serial < 0:
                self._read_soon(known)

    async def watch(self) -> None:
        """Look every function_check_period for what others have changed, in databases that have servers."""
        while True:
            period_s = self._pools.config.function_check_period
            await trio.sleep(period_s or 1.0)
            if not period_s:
                continue
            busy = {row["id"] for row in self._engine.pools() if row["servers_total"]}
            for record in self._pools:
                known = self._places.get(place_of(record.target))
                if known is not None and record.id in busy and self.watched(record) and self._is_due(known):
                    self._read_soon(known)

    def _place(self, record: PoolRecord, target: ServerTarget) -> Known | None:
        """What is known of the database of a pool whose clients matter; the pool is told its number.

        So are pools whose own clients do not matter, as in session mode, where those of another pool do: they change what others
        call.
        """
        watched = self.watched(record)
        known = self._known(target) if watched else self._changed_by(record)
        self._engine.watch_functions(record.id, -1 if known is None else known.mark)
        return known if watched else None

    def _changed_by(self, record: PoolRecord) -> Known | None:
        """What the clients of a pool may change, whether they matter or not."""
        return self._places.get(place_of(record.target)) if self._pools.config.function_check_period > 0 else None

    def _known(self, target: ServerTarget) -> Known:
        place = place_of(target)
        if place not in self._places:
            self._places[place] = known = Known(len(self._places))
            for record in self._pools:
                if place_of(record.target) == place:
                    self._engine.watch_functions(record.id, known.mark)
        return self._places[place]

    def _is_due(self, known: Known) -> bool:
        age_s = trio.current_time() - known.read_at
        changes = self._engine.function_changes(known.mark)
        return known.serial != changes or age_s >= self._pools.config.function_check_period

    def _read_soon(self, known: Known) -> None:
        if self.nursery is not None and not known.due:
            known.due = True
            self.nursery.start_soon(self._read_again, known)

    async def _read_again(self, known: Known) -> None:
        """Read a database on a connection of our own, until nothing is newer than what is known."""
        try:
            while self._is_due(known):
                record = self._some_pool(known)
                if record is None:
                    return
                if self.holds(record.target.dbname):  # somebody wants the database for himself
                    await trio.sleep(PAUSE_S)
                    continue
                async with known.reading:
                    if self._is_due(known) and not await self._on_own_connection(known, record):
                        return
                await trio.sleep(min(PAUSE_S * 2**known.refused, REFUSED_S))
        finally:
            known.due = False

    def _some_pool(self, known: Known) -> PoolRecord | None:
        return next(
            (r for r in self._pools if self.watched(r) and self._places.get(place_of(r.target)) is known),
            None,
        )

    async def _on_own_connection(self, known: Known, record: PoolRecord) -> bool:
        """Whether it has been read, or it has been said that it cannot be; if not now, it may be soon."""
        engine, stale = self._engine, known.serial != self._engine.function_changes(known.mark)
        serial = engine.function_changes(known.mark)
        verdict = SLOT_NEVER
        with trio.move_on_after(LONGEST_WAIT_S):
            while (verdict := engine.take_listener(record.id)) != SLOT_TAKEN:
                if verdict == SLOT_NEVER:
                    break
                await trio.sleep(SLOT_LOOK_S)
        if verdict != SLOT_TAKEN:
            if stale:
                engine.retire_servers(record.id)  # the next one is asked before its first use
            known.read_at = trio.current_time()
            return False
        server: LoggedInServer | None = None
        try:
            server = await self._open_server(
                self._pools.login_target(record), timeout_s=connect_timeout_s(self._pools.config)
            )
            await self._read(known, str(record.key), server)
        except PgPoolError as error:
            if stale:  # a change would be overlooked
                known.refused += 1
                self._complain(known, str(record.key), error)
                self._count_all(known)
            else:
                await self._go_on(known, str(record.key), serial, error)
        finally:
            if server is not None:
                server.close()
            engine.give_listener(record.id)
        return True

    async def _read(self, known: Known, who: str, server: LoggedInServer) -> None:
        """Ask `server`, tell the workers.

        Raises:
            ServerUnavailable: the connection is of no more use.
        """
        serial = self._engine.function_changes(known.mark)
        try:
            with trio.fail_after(PATIENCE_S):
                answer = await ask(server)
        except (trio.TooSlowError, OSError, PgPoolError) as error:
            raise ServerUnavailable("no answer to a question about functions (function_check_period)") from error
        if answer.error is not None:
            refused = PoolError(answer.error.message, sqlstate=answer.error.sqlstate)
            known.again = self._may_pass(known, who, refused)
            if not known.again:
                await self._go_on(known, who, serial, refused)
            return
        known.again, known.vanished, known.refused = False, 0, 0
        if sum(len(thing.text) for thing in answer.things) > LONG_READING:
            effects = await trio.to_thread.run_sync(effects_of, answer.things)
        else:
            effects = effects_of(answer.things)
        known.complained = False
        await self._tell(known, serial, effects)

    def _may_pass(self, known: Known, who: str, error: PoolError) -> bool:
        """Whether the same question may be answered a little later."""
        known.vanished += error.sqlstate == VANISHED
        if error.sqlstate != LOCKED and not (error.sqlstate == VANISHED and known.vanished <= VANISHED_MOST):
            return False
        if error.sqlstate == LOCKED:
            self._complain(known, who, error)
        self._count_all(known)
        return True

    def _count_all(self, known: Known) -> None:
        """It is not known yet, and nobody needs to wait for it: every text counts that may call something."""
        if known.serial < 0:
            self._engine.functions_known(known.mark)
            known.first.set()

    async def _go_on(self, known: Known, who: str, serial: int, error: Exception) -> None:
        """It could not be read: what was known before, or nothing, counts."""
        self._complain(known, who, error)
        known.again = False
        await self._tell(known, serial, known.told[1] if known.told else Effects())

    def _complain(self, known: Known, who: str, error: Exception) -> None:
        """Say once that it cannot be read."""
        if not known.complained:
            known.complained = True
            fields = {"sqlstate": error.sqlstate} if isinstance(error, PgPoolError) else {}
            text = "what functions do to a session cannot be read (function_check_period)"
            logs.LOGGER.warning("%s", logs.line(who, text, fields))

    async def _tell(self, known: Known, serial: int, effects: Effects) -> None:
        known.serial, known.read_at = serial, trio.current_time()
        known.first.set()
        if known.told == (serial, effects):
            return
        known.told = serial, effects
        self._generation += 1
        packed = known.packed = effects_pack(
            effects.names, sorted(effects.settings), serial=serial, generation=self._generation
        )
        for worker in range(self._engine.workers):
            await until_taken(partial(self._engine.tell_functions, known.mark, worker, packed))
        self._engine.functions_known(known.mark)


async def ask(server: LoggedInServer) -> CatalogAnswer:
    """Ask one server what functions there are.

    Raises:
        OSError, ServerProtocolError, ServerUnavailable: the connection is of no more use.
    """
    version = dict(server.parameters).get(b"server_version", b"")
    answer = CatalogAnswer()

    def take(data: bytes) -> bool:
        if not data:
            raise ServerUnavailable("server closed the connection")
        answer.receive(data)
        return answer.done

    await server.exchange(question(version), take)
    server.unread = answer.unread
    return answer
