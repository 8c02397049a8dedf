"""Clients and idle servers of another process (-R) become ours: each finds its pool, as a login would, and goes to the engine.

The other process has let the clients in; here nobody proves anything again, as at a reload. A server is taken where it is what we
would have opened ourselves and the limits have room for it; else it is closed. A client whose database is not there is told so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control import routing
from pgpool_core.control.auth_query import AuthQuery, LookupFailed
from pgpool_core.control.connect import Began, LoggedInServer, Pairs
from pgpool_core.control.functions import Functions
from pgpool_core.control.goodbye import SHUTTING_DOWN
from pgpool_core.control.hosts import HostTold
from pgpool_core.control.opener import clock_us
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.pools import DATABASE_REMOVED, PoolRecord, PoolRegistry
from pgpool_core.control.routing import PoolKey, ToPool
from pgpool_core.errors import InternalError, error_response
from pgpool_core.policy.secrets import Secret

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

CANCEL_KEY_LEN: Final = 8
FULL_LOOK_S: Final = 0.01  # how often it is looked whether a worker's ring has room again
SERVERS_COME_S: Final = 0.25  # for which no server is opened in a pool whose clients come: theirs are about to
HOSTS_TOLD: Final = 16  # of a database, to another process
TERMINATE: Final = b"X\0\0\0\x04"
INTERNAL_ERROR: Final = error_response(InternalError("internal error while the connection was taken over"))


@attrs.frozen(kw_only=True)
class PoolFacts:
    """A pool as it is told to another process, or kept for whom nobody there has taken."""

    database: str
    user: str
    target: str  # routing.target_digest: servers of the same are the same to us
    welcome: Pairs = ()
    began: Began | None = None
    hosts: tuple[HostTold, ...] = ()  # those that have been tried
    keeping: str = "watched"  # PoolSettings.keeping: how its servers were used
    shown: bytes | None = attrs.field(default=None, repr=False)  # PoolRecord.shown

    @classmethod
    def of(cls, record: PoolRecord) -> Self:
        """A pool of ours."""
        states = record.target.host_order.states
        return cls(
            database=record.key.database,
            user=record.key.user,
            target=routing.target_digest(record.target),
            welcome=tuple(record.welcome),
            began=record.began,
            hosts=tuple(state.told(host) for host, state in [*states.items()][:HOSTS_TOLD]),
            keeping=record.settings.keeping,
            shown=record.shown.plain if record.shown is not None else None,
        )


@attrs.frozen
class Parcel:
    """A client, an idle server, or a client with the server that it keeps; owns the descriptors (-1: none)."""

    pool: int  # of the process that gives it
    client_fd: int
    server_fd: int
    data: bytes = attrs.field(repr=False)

    def close(self, last_words: bytes = b"") -> None:
        """Nobody takes it: the client hears `last_words`, the server Terminate."""
        for fd, words in ((self.client_fd, last_words), (self.server_fd, TERMINATE)):
            if fd >= 0:
                with socket.socket(fileno=fd) as sock, suppress(OSError):
                    sock.setblocking(False)
                    if words:
                        sock.send(words)


class Arrivals:
    """Takes parcels; remembers the cancel keys of those who came. Belongs to the control loop."""

    def __init__(
        self, engine: Engine, pools: PoolRegistry, functions: Functions, auth_query: AuthQuery, nursery: trio.Nursery
    ) -> None:
        self.clients = self.servers = 0  # taken so far
        self._engine = engine
        self._pools = pools
        self._functions = functions
        self._auth_query = auth_query
        self._nursery = nursery
        self._seen: set[PoolRecord] = set()
        self._by_key: dict[bytes, tuple[int, int]] = {}  # id and worker
        self._key_of: dict[int, bytes] = {}
        self._under_way = 0
        self._settled = trio.Event()

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def under_way(self) -> int:
        """How many have come and are not with the engine yet."""
        return self._under_way

    def learn(self, parcel: Parcel) -> tuple[bytes | None, bytes] | None:
        """The texts of a parcel, in the order in which they were sent: they are told in one, and named in later ones.

        Returns: its user (None: a server's) and its key; None where nothing can be made of it.
        """
        try:
            return self._engine.learn_texts(parcel.data)
        except (ValueError, MemoryError) as error:
            logs.LOGGER.warning("%s", logs.line("", f"nothing can be made of what was handed over: {error}"))
            return None

    def take(self, facts: PoolFacts, parcel: Parcel) -> None:
        """Take a parcel, in the order in which they were sent."""
        if (found := self.learn(parcel)) is None:
            parcel.close()
            return
        user, key = found
        self._under_way += 1
        self._settled = trio.Event()
        self._nursery.start_soon(self._settle, facts, parcel, user, key, name="take over a connection")

    def take_back(self, record: PoolRecord, parcel: Parcel) -> None:
        """What the engine has given away, and nobody has taken."""
        self._engine.know_elsewhere(True)  # for the cancel keys that clients bring along
        self.take(PoolFacts.of(record), parcel)

    async def settled(self) -> None:
        """Wait until those that have come are with the engine."""
        while self._under_way:
            await self._settled.wait()

    async def end(self, forget: Callable[[], bool]) -> None:
        """No further parcel comes: wait until those that have come are with the engine, and then, if so, `forget` their texts."""
        await self.settled()
        if forget():
            self._engine.forget_texts()
        self._seen.clear()

    def cancel(self, key: bytes, canceller: int) -> bool:
        """A cancel request with the key of somebody who came; False: of nobody."""
        found = self._by_key.get(_bare(key))
        return found is not None and self._engine.cancel_moved(*found, canceller)

    def gone(self, client_id: int) -> None:
        """A client that came has left."""
        key = self._key_of.pop(client_id, b"")
        found = self._by_key.get(key)
        if found is not None and found[0] == client_id:
            del self._by_key[key]

    async def _settle(self, facts: PoolFacts, parcel: Parcel, user: bytes | None, key: bytes) -> None:
        kept: list[Parcel] = [parcel]  # empty: the descriptors are the engine's, or closed
        last_words = SHUTTING_DOWN  # where we are cancelled
        try:
            record = await self.pool_of(facts, user)
            if record is None:
                kept.pop().close(DATABASE_REMOVED)
            elif user is None:
                await self._server(facts, record, kept)
            else:
                await self._client(facts, record, kept, key)
        except Exception:
            logs.LOGGER.exception("internal error while taking over a connection")
            last_words = INTERNAL_ERROR
        finally:
            for left in kept:
                left.close(last_words)
            self._under_way -= 1
            if not self._under_way:
                self._settled.set()

    async def pool_of(self, facts: PoolFacts, user: bytes | None) -> PoolRecord | None:
        """The pool where the login of `user` (None: that of a server) would lead now; None: nowhere."""
        pools = self._pools
        config = pools.config
        entry = routing.entry_for(config, facts.database)
        if entry is None:
            return None
        name = entry.user or (facts.user if user is None else routing.as_name(user))
        record = pools.pool_for(ToPool(PoolKey(facts.database, name), entry, facts.database not in config.databases))
        if record not in self._seen:
            self._seen.add(record)
            self._engine.hold_pool(record.id, clock_us() + routing.microseconds(SERVERS_COME_S))
        if facts.welcome and not record.welcome and facts.target == routing.target_digest(record.target):
            pools.greet(record, facts.welcome, facts.began or Began())
        if facts.target == routing.target_digest(record.target):
            for told in facts.hosts:
                if told.host in record.target.hosts:
                    record.target.host_order.learn(told)
                    if told.addresses:
                        pools.names.want(told.host, record.target.port)
        if facts.shown is not None and record.shown is None and entry.user is None:
            pools.was_shown(record, Secret.plain_password(facts.shown))
        lookup = routing.lookup_for(config, facts.database)
        if record.target.secret is None and record.looked_up is None and entry.user is None and lookup is not None:
            with suppress(LookupFailed):  # it is in the log; the server's login will fail, and be tried again
                asked = attrs.evolve(lookup, in_pause=True)  # it may end when all have arrived
                record.looked_up = (await self._auth_query.find(asked, routing.as_bytes(name))).secret
        return record

    async def _server(self, facts: PoolFacts, record: PoolRecord, kept: list[Parcel]) -> None:
        parcel, target = kept[0], record.target
        if facts.target != routing.target_digest(target) or not record.settings.may_keep(facts.keeping):
            return
        slot = self._engine.place_server(record.id, parcel.data)
        if not slot:
            return
        try:
            sock = trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(parcel.server_fd)))
            with sock:
                logged_in = LoggedInServer(
                    host="",
                    port=0,
                    is_unix=False,
                    backend_pid=0,
                    backend_key=b"",
                    parameters=list(record.welcome),
                    unread=b"",
                    pipe=SocketPipe(sock),
                )
                await self._functions.before_first_use(record, target, logged_in)
            if target is not record.target or logged_in.unread:
                self._engine.abandon_server(slot)
                return
            self._engine.take_server(slot, parcel.server_fd, parcel.data)
        except BaseException:
            self._engine.abandon_server(slot)
            raise
        kept.clear()
        self.servers += 1

    async def _client(self, facts: PoolFacts, record: PoolRecord, kept: list[Parcel], key: bytes) -> None:
        parcel, slot = kept[0], 0
        if parcel.server_fd >= 0:
            await self._functions.until_known(record)
            slot = self._engine.place_server(record.id, parcel.data, kept=True)
            if not slot:
                raise MemoryError("no room for a server")
        try:
            while True:
                try:
                    client, worker = self._engine.take_client(
                        record.id,
                        parcel.client_fd,
                        parcel.data,
                        server=slot,
                        server_fd=parcel.server_fd,
                        stale=not record.settings.may_keep(facts.keeping),
                    )
                    break
                except BlockingIOError:
                    await trio.sleep(FULL_LOOK_S)
                    if slot:  # what it had been filled with is gone
                        self._engine.abandon_server(slot)
                        slot = self._engine.place_server(record.id, parcel.data, kept=True)
        except BaseException:
            if slot:
                self._engine.abandon_server(slot)
            raise
        kept.clear()
        self._by_key[_bare(key)] = client, worker
        self._key_of[client] = _bare(key)
        self.clients += 1
        self.servers += slot != 0


def _bare(key: bytes) -> bytes:
    """A cancel key without the two bits that say how often it may still be passed on among peers."""
    return key[:-1] + bytes([key[-1] & 0xFC]) if len(key) == CANCEL_KEY_LEN else key
