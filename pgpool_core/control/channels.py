"""LISTEN for clients that hold no server: one connection for each pool that somebody listens in, for all its clients.

A worker asks for a channel when its first client listens to it, and lets it go with its last. The connection is opened
with the first channel and closed a while after the last. It is logged in as a server of its pool is, and counted by
max_db_connections and max_user_connections, not by pool_size. While it is lost, LISTENs wait; when it is back, every
client that listens is told that notifications may have been missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control import routing
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.listening import ListeningWire, Notified, query
from pgpool_core.control.messages import TERMINATE
from pgpool_core.control.opener import FIRST_RETRY_S, SHORTEST_RETRY_S, OpenServer
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.pools import PoolRecord, PoolRegistry
from pgpool_core.control.routing import connect_timeout_s
from pgpool_core.errors import PgPoolError, PoolError, ServerUnavailable, error_response

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

IDLE_CLOSE_S: Final = 30.0  # a connection that listens to nothing is kept for so long
PING_S: Final = 60.0  # a quiet connection is asked for an answer so often
ANSWER_S: Final = 15.0  # and has so long for any answer
CHANNELS_AT_ONCE: Final = 500  # in one query
FULL_RING_S: Final = 0.002  # between tries at a worker that has not read its mail
SLOT_LOOK_S: Final = 0.05  # between looks whether a shared limit leaves room

SLOT_TAKEN: Final = 0  # what Engine.take_listener says
SLOT_NEVER: Final = 2
NO_ROOM: Final = "no connection would be left for queries (max_db_connections, max_user_connections)"

MISSED: Final = (
    b"N"
    + error_response(
        {
            "S": "WARNING",
            "V": "WARNING",
            "C": "01000",
            "M": "notifications may have been missed: the pooler's listening connection was lost and has been replaced",
        }
    )[1:]
)


@attrs.frozen
class Asked:
    """A worker's question that is not answered yet."""

    worker: int
    token: int
    channel: bytes


@attrs.frozen
class ListenerStatus:
    """The listening connection of one pool, for the console."""

    state: str  # "opening", "listening" or "lost"
    backend_pid: int  # 0 while there is none
    notifications: int  # that have come, since the first client listened
    reconnects: int
    connected: bool = False  # a connection is there, or being opened


async def until_taken(letter: Callable[[], bool]) -> None:
    """Post a letter; a worker whose ring is full gets it when there is room, which nobody tells us."""
    while not letter():  # noqa: ASYNC110
        await trio.sleep(FULL_RING_S)


class PoolListener:
    """The listening connection of one pool; `run` is its life, until nobody listens any more."""

    def __init__(self, engine: Engine, pools: PoolRegistry, record: PoolRecord, open_server: OpenServer) -> None:
        self.wanted: dict[bytes, set[int]] = {}  # channel: workers whose clients listen
        self.target: ServerTarget = record.target
        self._engine = engine
        self._pools = pools
        self._record = record
        self._open_server = open_server
        self._asked: list[Asked] = []
        self._heard: set[bytes] = set()  # what the connection listens to
        self._news = trio.Event()
        self._answered = trio.Event()
        self._serving = trio.CancelScope()
        self._freed = trio.Event()
        self._held_until = 0.0
        self._given_up = 0  # how often `reconnect` has been called
        self._backend_pid = 0
        self._server: LoggedInServer | None = None
        self._adding: list[bytes] = []  # what the query under way changes
        self._dropping: list[bytes] = []
        self._lost = False  # clients listen, and there is no connection
        self._connected = False
        self._notifications = self._reconnects = 0

    @property
    def status(self) -> ListenerStatus:
        """What it looks like now."""
        state = "listening" if self._heard else "lost" if self._lost else "opening"
        return ListenerStatus(state, self._backend_pid, self._notifications, self._reconnects, self._connected)

    def listen(self, asked: Asked) -> None:
        """A worker has its first client for a channel; it is told when the connection listens."""
        self.wanted.setdefault(asked.channel, set()).add(asked.worker)
        self._asked.append(asked)
        self._wake()

    def unlisten(self, worker: int, channel: bytes) -> None:
        """The last client of a worker has gone from a channel."""
        workers = self.wanted.get(channel, set())
        workers.discard(worker)
        if not workers:
            self.wanted.pop(channel, None)
        self._asked = [asked for asked in self._asked if (asked.worker, asked.channel) != (worker, channel)]
        self._wake()

    def reconnect(self) -> None:
        """Give up the connection, also one that is being opened, and open another: a reload has changed where or how."""
        self._given_up += 1
        self._serving.cancel()

    def follow_name(self) -> None:
        """Give up the connection where the name of its host leads elsewhere by now."""
        if self._server is not None and not self._pools.is_there(self._server):
            self.reconnect()

    def hold(self, seconds: float) -> None:
        """Give up the connection, and open none for so long."""
        self._held_until = trio.current_time() + seconds
        self._serving.cancel()
        self._freed = trio.Event()

    def release(self) -> None:
        """A connection may be opened again."""
        self._held_until = 0.0
        self._freed.set()

    async def run(self) -> None:
        """Listen until nobody wants it any more; every failure is told to those who wait, and tried again."""
        failures = 0
        while self.wanted:
            try:
                await self._one_connection()
                failures = 0
            except Exception as error:
                failures = 0 if self._heard else failures + 1
                self._log(error)
                if failures:
                    await self._hold_back(error, failures)
            if self._heard:
                self._heard.clear()
                if self.wanted:
                    self._lost = True
                    await self._tell(partial(self._engine.channels_lost, self._record.id))
                    await trio.sleep(SHORTEST_RETRY_S)

    async def _one_connection(self) -> None:
        """One connection from its opening to its end, which is in order when this returns."""
        engine, pool = self._engine, self._record.id
        if (held_s := self._held_until - trio.current_time()) > 0:
            with trio.move_on_after(held_s):
                await self._freed.wait()
        while (verdict := engine.take_listener(pool)) != SLOT_TAKEN:
            if verdict == SLOT_NEVER:
                raise PoolError(NO_ROOM, sqlstate="53300")
            await trio.sleep(SLOT_LOOK_S)
            if not self.wanted:
                return
        self._connected = True
        try:
            self.target, given_up = self._record.target, self._given_up
            login = self._pools.login_target(self._record)
            server = await self._open_server(login, timeout_s=connect_timeout_s(self._pools.config))
            held = self._held_until > trio.current_time() or self._pools.holds.pauses(self._record.key.database)
            old = given_up != self._given_up or not self._pools.is_there(server)
            if held or old:  # since it was begun to be opened
                server.close()
            else:
                await self._serve(server)
        finally:
            self._backend_pid, self._server = 0, None
            self._connected = False
            engine.give_listener(pool)

    async def _serve(self, server: LoggedInServer) -> None:
        """Keep one connection until nobody listens any more, or until it is to be replaced."""
        self._backend_pid, self._server = server.backend_pid, server
        key = self._record.key
        tag = logs.server_tag(0, key.database, key.user, server.host, server.port)
        logs.LOGGER.info("%s", logs.line(tag, "listening for clients", {"backend_pid": server.backend_pid}))
        pipe = server.give()
        wire = ListeningWire(server.unread)
        try:
            with trio.CancelScope() as self._serving:
                async with sole_errors(), trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, pipe, wire)
                    await self._write(pipe)
                    nursery.cancel_scope.cancel(reason="nobody listens")
        finally:
            pipe.close(TERMINATE)

    async def _write(self, pipe: SocketPipe) -> None:
        """Bring what the connection listens to in line with what is wanted; ask for a sign of life when all is quiet."""
        while True:
            self._news = trio.Event()
            add = [name for name in self.wanted if name not in self._heard][:CHANNELS_AT_ONCE]
            drop = [name for name in self._heard if name not in self.wanted][:CHANNELS_AT_ONCE]
            if add or drop:
                await self._ask(pipe, add, drop)
                continue
            await self._confirm()  # a second worker may want what the connection listens to already
            with trio.move_on_after(PING_S if self.wanted else IDLE_CLOSE_S) as quiet:
                await self._news.wait()
            if quiet.cancelled_caught:
                if not self.wanted:
                    return
                await self._ask(pipe, [], [])

    async def _ask(self, pipe: SocketPipe, add: list[bytes], drop: list[bytes]) -> None:
        self._adding, self._dropping, self._answered = add, drop, trio.Event()
        with trio.move_on_after(ANSWER_S) as patience:
            await pipe.send_all(query(add, drop))
            await self._answered.wait()
        if patience.cancelled_caught:
            raise ServerUnavailable(f"no answer within {ANSWER_S:g} s on the listening connection")

    async def _read(self, pipe: SocketPipe, wire: ListeningWire) -> None:
        data = b""
        while True:
            for event in wire.receive(data):
                if isinstance(event, Notified):
                    self._notifications += event.count
                    await self._hand_over(event.messages)
                elif event.error is not None:
                    raise PoolError(f"cannot listen: {event.error.message}", sqlstate=event.error.sqlstate)
                else:
                    self._heard.update(self._adding)
                    self._heard.difference_update(self._dropping)
                    await self._confirm()
                    self._answered.set()
            data = await pipe.receive_some()
            if not data:
                raise ServerUnavailable("server closed the listening connection")

    async def _hand_over(self, messages: bytes) -> None:
        """Give notifications to every worker whose clients may listen; while a ring is full, PostgreSQL keeps the rest."""
        engine, pool = self._engine, self._record.id
        for worker in range(engine.workers):
            await until_taken(partial(engine.notify, pool, worker, messages))

    async def _confirm(self) -> None:
        """Tell who asked for a channel that the connection listens to; after a loss, all others too."""
        engine, pool = self._engine, self._record.id
        if self._lost and self._heard.issuperset(self.wanted):
            self._lost = False
            self._reconnects += 1
            await self._tell(self._channels_back)
        told = [asked for asked in self._asked if asked.channel in self._heard]
        for asked in told:
            self._asked.remove(asked)
            await until_taken(partial(engine.listening, pool, asked.worker, asked.token, asked.channel))

    def _channels_back(self, worker: int) -> bool:
        return self._engine.channels_back(self._record.id, worker, MISSED)

    async def _hold_back(self, error: Exception, failures: int) -> None:
        """No connection can be had: whoever waits or comes is told, until it is time for the next try."""
        told = error_response(error, severity="ERROR")
        longest_s = self._pools.config.server_login_retry
        pause_s = max(SHORTEST_RETRY_S, min(longest_s, FIRST_RETRY_S * 2.0 ** min(failures - 1, 30)))
        with trio.move_on_after(pause_s):
            while self.wanted:
                self._news = trio.Event()
                if self._asked or failures:
                    failures = 0
                    self._asked.clear()
                    await self._tell(lambda worker: self._engine.listen_failed(self._record.id, worker, told))
                await self._news.wait()

    async def _tell(self, letter: Callable[[int], bool]) -> None:
        """Send every worker a letter; one whose ring is full gets it when there is room."""
        for worker in range(self._engine.workers):
            await until_taken(partial(letter, worker))

    def _wake(self) -> None:
        self._news.set()

    def _log(self, error: Exception) -> None:
        text = "the listening connection was lost" if self._heard else "no listening connection can be had"
        if isinstance(error, PgPoolError):
            fields = {"sqlstate": error.sqlstate}
            logs.LOGGER.warning("%s", logs.line(str(self._record.key), f"{text}: {error}", fields))
        elif isinstance(error, OSError):
            logs.LOGGER.warning("%s", logs.line(str(self._record.key), f"{text}: {error.strerror}"))
        else:
            logs.LOGGER.error("%s", logs.line(str(self._record.key), text), exc_info=error)


class Channels:
    """The listening connections of all pools."""

    def __init__(self, engine: Engine, pools: PoolRegistry, *, open_server: OpenServer) -> None:
        """Begin with none; `nursery` must be set before the first letter comes."""
        self._engine = engine
        self._pools = pools
        self._open_server = open_server
        self._listeners: dict[int, tuple[PoolListener, trio.CancelScope]] = {}
        self.nursery: trio.Nursery | None = None

    def asked(self, pool: int, worker: int, token: int, channel: bytes) -> None:
        """A "listen" letter: the first client of a worker listens to `channel`, or (token 0) its last one has gone."""
        if pool in self._listeners:
            listener = self._listeners[pool][0]
        elif token and self.nursery is not None and (record := self._pools.get(pool)) is not None:
            listener = PoolListener(self._engine, self._pools, record, self._open_server)
            self._listeners[pool] = listener, trio.CancelScope()
            self.nursery.start_soon(self._run, pool)
        else:
            return
        if token:
            listener.listen(Asked(worker, token, channel))
        else:
            listener.unlisten(worker, channel)

    async def _run(self, pool: int) -> None:
        listener, scope = self._listeners[pool]
        try:
            with scope:
                while listener.wanted:
                    await listener.run()
        finally:
            del self._listeners[pool]

    def reloaded(self) -> None:
        """After a reload: end the connections of pools that are gone, replace those whose target has changed."""
        live = {record.id: record for record in self._pools}
        for pool, (listener, scope) in self._listeners.items():
            if pool not in live:
                scope.cancel(reason="its pool is closed")
            elif routing.must_reconnect(listener.target, live[pool].target):
                listener.reconnect()

    def interrupt(self, pools: Set[int]) -> None:
        """Give up the connections of these pools; others are opened as soon as there is room for them."""
        for pool, (listener, _) in self._listeners.items():
            if pool in pools:
                listener.reconnect()

    def follow_names(self) -> None:
        """There are news about names of hosts: give up the connections that are where theirs is not any more."""
        for listener, _ in self._listeners.values():
            listener.follow_name()

    def let_go(self, pool: int, seconds: float) -> None:
        """Give up the connection of a pool, for so long or until `let_come`."""
        if pool in self._listeners:
            self._listeners[pool][0].hold(seconds)

    def let_come(self, pool: int) -> None:
        """The connection of a pool may be opened again."""
        if pool in self._listeners:
            self._listeners[pool][0].release()

    def status(self) -> Mapping[int, ListenerStatus]:
        """The listening connections by pool."""
        return {pool: listener.status for pool, (listener, _) in self._listeners.items()}
