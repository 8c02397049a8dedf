"""Secrets of users who are not in auth_file, from a database: auth_query, run by auth_user on connections of our own.

What a database has answered is remembered for auth_query_ttl, "no such user" too; the engine has a copy, so that a login with a known
secret needs nobody. A login that fails with a remembered secret is looked up again before it is refused. Nothing that a client has sent
but its name gets near these connections: no startup parameter, no setting.
Source: PgBouncer docs, auth_query, auth_user, auth_dbname; its texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control import routing
from pgpool_core.control.auth_lookup import ROWS, AuthLookup, LookupDone
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.login_steps import Asking, NobodyAsks
from pgpool_core.control.opener import OpenServer
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.remembered import Abandoned, Remembered
from pgpool_core.control.routing import Lookup, PoolKey, connect_timeout_s
from pgpool_core.control.talk import NEED_DATA
from pgpool_core.errors import PgPoolError, PoolError, ServerLoginRefused, ServerProtocolError, TlsError
from pgpool_core.policy.secrets import Secret

if TYPE_CHECKING:
    from pgpool_core.control.pools import PoolRegistry
    from pgpool_core.engine.plane import Engine

CONNECTIONS: Final = 4  # at most, for each auth_user in each database
IDLE_S: Final = 30.0  # a connection that nobody has used for so long is closed
REMEMBERED: Final = 100_000  # answers; the oldest go first
FRESH_S: Final = 1.0  # an answer is not asked for again sooner, however many logins fail
SLOT_LOOK_S: Final = 0.02  # between looks whether the limits leave room
RESUME_LOOK_S: Final = 1.0  # between looks whether anybody still waits for a lookup that waits for RESUME
FAILED_S: Final = 1.0  # after a connection could not be opened, logins fail at once for so long

CONFIG_ERROR: Final = "bouncer config error"
CROWDED: Final = (
    "users cannot be looked up now: no server connection is free (max_db_connections, max_user_connections)"
)
UNAVAILABLE_STATE: Final = "57P03"
UNAVAILABLE: Final = "users cannot be looked up now: no connection to the database (auth_query)"


class LookupFailed(PoolError):
    """A user could not be looked up; the text is for the client, the log has more."""


@attrs.define(eq=False)
class Answer:
    """What a database has said about one user; `secret` None: there is no such user."""

    secret: Secret | None
    told: set[bytes] = attrs.field(factory=set)  # databases for whose logins the engine has it


@attrs.define(eq=False)
class Connection:
    """One that is not in use."""

    server: LoggedInServer
    pipe: SocketPipe
    since: float


@attrs.define(eq=False)
class Place:
    """One auth_user in one database."""

    target: ServerTarget
    groups: tuple[int, int] | None = None  # the limits that count its connections; none before the first one
    turns: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(CONNECTIONS))
    idle: list[Connection] = attrs.field(factory=list)
    failed_until: float = -math.inf
    failure: LookupFailed | None = None
    closed: bool = False  # a reload has put another in its place


class AuthQuery:
    """Looks users up. All of it belongs to the control loop."""

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        *,
        open_server: OpenServer,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._engine = engine
        self._pools = pools
        self._open_server = open_server
        self._now = now
        self._places: dict[tuple[str, str], Place] = {}
        self._answers: Remembered[tuple[Lookup, bytes], Answer] = Remembered(
            self._answer, lambda answer: pools.config.auth_query_ttl, most=REMEMBERED, changed=self._changed, now=now
        )
        self._unknown: list[tuple[Lookup, bytes]] = []  # to be logged
        self.holds: Callable[[bytes], bool] = lambda database: False

    async def find(self, lookup: Lookup, user: bytes, *, again: bool = False, asking: Asking | None = None) -> Answer:
        """The answer about `user`: remembered, or asked for now. One question about a user is under way at a time.

        Args:
            again: the remembered one has failed a login: ask, unless it is quite fresh.
            asking: who may leave before it is asked.

        Raises:
            LookupFailed: it cannot be had.
            NobodyAsks: `asking` has gone, and nobody else has asked.
        """
        try:
            longest_s = FRESH_S if again else math.inf
            return await self._answers.get((lookup, user), longest_s=longest_s, asking=asking)
        except Abandoned:
            raise LookupFailed(UNAVAILABLE, sqlstate=UNAVAILABLE_STATE) from None

    def known(self, lookup: Lookup, user: bytes) -> Answer | None:
        """What has been said about `user` last, however long ago: a login has passed with it."""
        return self._answers.known((lookup, user))

    async def _answer(self, key: tuple[Lookup, bytes]) -> Answer:
        try:
            return Answer(await self._ask(*key))
        except (LookupFailed, NobodyAsks):
            raise
        except Exception as error:
            logs.LOGGER.exception("internal error while looking a user up")
            raise LookupFailed("internal error", sqlstate="XX000") from error

    def tell_nobody(self, answer: Answer, database: bytes, user: bytes) -> None:
        """Have the engine refuse logins of `user` to `database`, as long as the answer holds."""
        self._pools.set_nobody(database, user)
        answer.told.add(database)

    async def tell(self, lookup: Lookup, answer: Answer, database: bytes, user: bytes, *, scram: bool) -> None:
        """Give the engine what logins of `user` to `database` are checked against."""
        if answer.secret is None or database in answer.told:
            return
        credential = await answer.secret.client_credential(
            user, scram=scram, iterations=self._pools.config.scram_iterations, salt=self._pools.salt_of(user)
        )
        now = self._answers.known((lookup, user))
        if now is None or now.secret != answer.secret:
            return  # it has changed meanwhile: the login fails, and is looked up again
        asks_key = self._pools.keys.missing(answer.secret)
        self._engine.set_credential(user, **credential, database=database, asks_key=asks_key)
        self._pools.is_somebody(database, user)
        now.told.add(database)

    def expire(self) -> None:
        """Forget what is too old, and close connections that are idle for too long; the janitor's round.

        It logs who does not exist, too: done at once, that would make their logins the slower ones.
        """
        self._log_unknown()
        self._answers.expire(FRESH_S)
        now = self._now()
        for place in self._places.values():
            stale = [each for each in place.idle if now - each.since > IDLE_S or not self._pools.is_there(each.server)]
            place.idle = [each for each in place.idle if each not in stale]
            for each in stale:
                self._end(place, each.server)
        for key, place in list(self._places.items()):
            if not place.idle and not place.turns.borrowed_tokens and now >= place.failed_until:
                del self._places[key]  # of a database that there is not, as like as not

    def let_go(self, databases: Set[bytes]) -> None:
        """Close what is idle in these; what is in use is closed when it comes back, while `holds` says so."""
        for place in self._places.values():
            if place.target.dbname in databases:
                self._drop_idle(place)

    def interrupt(self, database: str | None) -> None:
        """Close what is idle in this database (None: in all); what is in use is closed when it comes back."""
        for key, place in list(self._places.items()):
            if database in (None, key[0]):
                del self._places[key]
                place.closed = True
                self._drop_idle(place)

    def reloaded(self) -> None:
        """After a reload, which made the engine forget: begin anew."""
        self._answers.forget()
        self.close()
        self._places.clear()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        for place in self._places.values():
            place.closed = True
            self._drop_idle(place)
        self._log_unknown()

    def _log_unknown(self) -> None:
        unknown, self._unknown = self._unknown, []
        for lookup, user in unknown:
            logs.LOGGER.info("%s", logs.line(str(lookup), "no such user", {"user": routing.as_name(user)}))

    def _drop_idle(self, place: Place) -> None:
        for each in place.idle:
            self._end(place, each.server)
        place.idle.clear()

    def _changed(self, key: tuple[Lookup, bytes], before: Answer, after: Answer | None) -> None:
        """The database says something else, or it is too long ago that it said so."""
        if after is not None and before.secret == after.secret:
            after.told = before.told
            return
        if after is not None:
            self._pools.keys.forget(before.secret)
        for database in before.told:
            self._engine.forget_credential(key[1], database)
            self._pools.is_somebody(database, key[1])

    async def rows(
        self, lookup: Lookup, user: bytes, *, most: int, wanted: Callable[[], bool]
    ) -> tuple[tuple[bytes | None, bytes | None], ...]:
        """What the query of `lookup` says of `user`, asked for now: at most so many rows.

        Args:
            wanted: looked at when it is its turn.

        Raises:
            LookupFailed: it cannot be had.
            NobodyAsks: it was not `wanted` any more.
        """
        while True:
            if not lookup.in_pause:
                await self._until_resumed(lookup, wanted)
            place = self._place(lookup)
            async with place.turns:
                if not wanted():
                    raise NobodyAsks
                try:
                    done = await self._run(place, lookup, user, most)
                    break
                except LookupFailed as failed:
                    paused = not lookup.in_pause and self._pools.holds.pauses(lookup.database)
                    if failed.sqlstate != UNAVAILABLE_STATE or not paused:
                        raise
            place.failed_until = -math.inf
        if done.error is not None and done.error.sqlstate == "22021":  # not a name in that database's encoding
            return ()
        if done.error is not None or done.problem:
            text = done.problem or f"error in auth_query: {done.error and done.error.sqlstate}"
            raise self._misconfigured(lookup, text)
        return done.rows

    async def _until_resumed(self, lookup: Lookup, wanted: Callable[[], bool]) -> None:
        """Wait for RESUME: nothing is asked of a database while it is paused, and that its server is away is nobody's failure."""
        holds = self._pools.holds
        while holds.pauses(lookup.database):
            if not wanted():
                raise NobodyAsks
            with trio.move_on_after(RESUME_LOOK_S):
                await holds.released.wait()

    async def _ask(self, lookup: Lookup, user: bytes) -> Secret | None:
        rows = await self.rows(lookup, user, most=ROWS, wanted=lambda: self._answers.is_wanted((lookup, user)))
        if len(rows) > 1:
            raise self._misconfigured(lookup, "expected at most 1 row from auth_query, not more")
        name, secret = rows[0] if rows else (None, None)
        if name is None:
            self._unknown.append((lookup, user))
            return None
        if name != user:
            raise self._misconfigured(lookup, "auth_query has answered with another user's name")
        try:
            return Secret.parse(secret or b"")
        except ValueError as error:
            fields = {"user": routing.as_name(user)}
            logs.LOGGER.warning("%s", logs.line(str(lookup), f"unusable secret from auth_query: {error}", fields))
            return Secret()

    def _misconfigured(self, lookup: Lookup, text: str) -> LookupFailed:
        logs.LOGGER.error("%s", logs.line(str(lookup), text))
        return LookupFailed(CONFIG_ERROR, sqlstate="F0000")

    def _place(self, lookup: Lookup) -> Place:
        key = (lookup.database, lookup.user)
        if (place := self._places.get(key)) is None:
            pools = self._pools
            entry = routing.entry_for(pools.config, lookup.database)
            if entry is None:
                raise self._misconfigured(lookup, f'authentication database "{lookup.database}" is not configured')
            names = pools.names
            target = routing.server_target(
                pools.config, PoolKey(*key), entry, pools.userlist.get, HostOrder(), names, pools.contexts
            )
            place = self._places[key] = Place(target)
        return place

    async def _run(self, place: Place, lookup: Lookup, user: bytes, most: int) -> LookupDone:
        """Ask on a connection that is there, or on a new one; one that has died since its last use is replaced."""
        timeout_s = connect_timeout_s(self._pools.config)
        with trio.move_on_after(timeout_s):
            while place.idle:
                if (done := await self._try(place, place.idle.pop(), lookup, user, most)) is not None:
                    return done
            server = await self._open(place, lookup)
            connection = Connection(server, server.pipe, self._now())
            if (done := await self._try(place, connection, lookup, user, most)) is not None:
                return done
            logs.LOGGER.error("%s", logs.line(str(lookup), "the server closed the connection during auth_query"))
            raise LookupFailed(UNAVAILABLE, sqlstate=UNAVAILABLE_STATE)
        logs.LOGGER.error("%s", logs.line(str(lookup), f"no answer within {timeout_s:g} s (server_connect_timeout)"))
        raise LookupFailed(UNAVAILABLE, sqlstate=UNAVAILABLE_STATE)

    def _end(self, place: Place, server: LoggedInServer) -> None:
        server.close()
        assert place.groups is not None
        self._engine.give_aside(*place.groups)

    async def _open(self, place: Place, lookup: Lookup) -> LoggedInServer:
        if place.failure is not None and self._now() < place.failed_until:
            raise place.failure
        place.groups = place.groups or self._pools.known_groups(lookup.database, lookup.user)
        if counted := place.groups is not None:
            await self._take_room(place, lookup)
        opened = False
        try:
            target = attrs.evolve(place.target, unlock=self._pools.unlock)
            server = await self._open_server(target, timeout_s=connect_timeout_s(self._pools.config))
            if not counted:  # there is such a database: its limits are worth a place of theirs
                place.groups = self._pools.groups_for(lookup.database, lookup.user)
                if not self._engine.take_aside(*place.groups):
                    server.close()
                    raise self._crowded(lookup)
            opened = True
            return server
        except PgPoolError as error:
            logs.LOGGER.error("%s", logs.line(str(lookup), f"auth_query: {error}", {"sqlstate": error.sqlstate}))
            refused = isinstance(error, ServerLoginRefused) and not error.cannot_connect_now
            text, sqlstate = (CONFIG_ERROR, "F0000") if refused else (UNAVAILABLE, UNAVAILABLE_STATE)
            place.failure = LookupFailed(text, sqlstate=sqlstate)
            place.failed_until = self._now() + FAILED_S
            raise place.failure from error
        finally:
            if counted and not opened and place.groups is not None:
                self._engine.give_aside(*place.groups)

    async def _take_room(self, place: Place, lookup: Lookup) -> None:
        """Wait until the limits allow one more connection."""
        assert place.groups is not None
        with trio.move_on_after(connect_timeout_s(self._pools.config) / 2):
            while True:
                if self._engine.take_aside(*place.groups):
                    return
                await trio.sleep(SLOT_LOOK_S)
        raise self._crowded(lookup)

    def _crowded(self, lookup: Lookup) -> LookupFailed:
        logs.LOGGER.error("%s", logs.line(str(lookup), CROWDED))
        return LookupFailed(CROWDED, sqlstate="53300")

    async def _try(
        self, place: Place, connection: Connection, lookup: Lookup, user: bytes, most: int
    ) -> LookupDone | None:
        """Ask; None: the connection is of no use. Afterwards it is idle, or closed."""
        server, pipe = connection.server, connection.pipe
        query = AuthLookup(routing.as_bytes(lookup.query), user, server.unread, rows=most)
        kept = False
        try:
            while (event := query.next_event()) is NEED_DATA:
                if data := query.data_to_send():
                    await pipe.send_all(data)
                query.receive_data(await pipe.receive_some())
            if not isinstance(event, LookupDone):
                return None
            server.unread = event.unread
            kept = not event.in_transaction and not place.closed and self._may_stay(place, lookup, server)
            return event
        except trio.Cancelled:
            await server.abandon(str(lookup), "auth_query")
            raise
        except (OSError, TlsError):
            return None
        except ServerProtocolError as error:
            raise self._misconfigured(lookup, f"the server broke the protocol: {error}") from error
        finally:
            if kept:
                connection.since = self._now()
                place.idle.append(connection)
            else:
                self._end(place, server)

    def _may_stay(self, place: Place, lookup: Lookup, server: LoggedInServer) -> bool:
        """Whether an idle connection stands in nobody's way, and takes no room that queries may need, or is needed at once."""
        if (
            self.holds(place.target.dbname)
            or self._pools.holds.pauses(lookup.database)
            or not self._pools.is_there(server)
        ):
            return False
        limited = self._pools.is_limited(lookup.database, lookup.user)
        return not limited or place.turns.statistics().tasks_waiting > 0
