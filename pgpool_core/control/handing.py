"""SHOW FDS with descriptors: how another pooler takes over that knows nothing of ours, PgBouncer with -R.

Only while everybody stands still (SUSPEND), over the unix socket, to a process of our user or root that has logged in as pgbouncer. Then the engine
gives away what a row can tell of (engine/departure.pxd), and each row goes out with its descriptor. We keep our copies: a RESUME,
or the end of that console, brings everybody back. A SHUTDOWN of the same console means that they are the other one's: our copies
are closed without a word, nobody is accepted any more, and whoever could not be told of goes on here until he leaves.
Source: PgBouncer docs, SHOW FDS; the system calls of PgBouncer 1.18 and 1.24 that take over from each other.
"""

from __future__ import annotations

import array
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from pgpool_core import logs
from pgpool_core.admin import reply
from pgpool_core.admin.commands import understand
from pgpool_core.admin.grammar import Command
from pgpool_core.admin.reply import Cells
from pgpool_core.admin.show import TABLES
from pgpool_core.control.arrivals import Arrivals, Parcel
from pgpool_core.control.pools import DATABASE_REMOVED, PoolRegistry
from pgpool_core.control.report import Report
from pgpool_core.errors import PgPoolError
from pgpool_core.metrics.counters import CONSOLE_POOL
from pgpool_core.moving.written import read

if TYPE_CHECKING:
    from pgpool_core.control.listeners import Listener
    from pgpool_core.engine.plane import Engine

TAKEN_BACK: Final = "RESUME came first: nothing is handed over, and nothing shut down"
GOES_ON: Final = "RESUME came before everything was given out"
OWNER: Final = "pgbouncer"  # who may have descriptors
CALM_ROUNDS: Final = 3  # in which no worker has given anything more
ROUND_S: Final = 0.005
CROWDED_S: Final = 0.01  # before another try, where the system has too many descriptors in flight

_COLUMNS: Final = TABLES["FDS"].columns
_SETTINGS: Final = (b"client_encoding", b"standard_conforming_strings", b"DateStyle", b"TimeZone")
_CREDENTIALS: Final = struct.Struct("3i")


class Handing:
    """What has been given out, and to whom. Belongs to the control loop."""

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        report: Report,
        arrivals: Arrivals,
        listeners: Callable[[], Sequence[Listener]],
        round_trip: Callable[[], Awaitable[object]],
    ) -> None:
        """Begin with nothing given.

        Args:
            listeners: those on which we listen.
            round_trip: returns when all workers, who stand still, have answered.
        """
        self.to: Callable[[Parcel], None] | None = None
        """Where clients and servers go that the engine gives away."""
        self.read: Callable[[], None] = lambda: None
        """Delivers the letters that have come."""
        self.enabled = False
        """Somebody waits for `taken`, to end this process."""
        self.taken = trio.Event()
        """They are another process's now."""
        self.pid = 0  # of that process
        self._engine = engine
        self._pools = pools
        self._report = report
        self._arrivals = arrivals
        self._listeners = listeners
        self._round_trip = round_trip
        self._holder: int | None = None
        self._lost: int | None = None  # who was that, and has not heard yet that everybody went on
        self._console: socket.socket | None = None
        self._parcels: list[Parcel] = []

    async def answer(self, client: int, kind: bytes, body: bytes, *, suspended: bool) -> bytes | None:
        """What is still to be answered to a console's message, the rest being sent; None: it is to be answered as usual."""
        if kind != b"Q" or not self.enabled or not (suspended or client == self._lost):
            return None
        try:
            statement = understand(body.removesuffix(b"\0"))
        except PgPoolError:
            return None
        if not isinstance(statement, Command):
            return None
        what = statement.argument.upper() if statement.argument else None
        if statement.word == "SHUTDOWN" and what is None and client == self._holder:
            self._hand_over()
            return b""
        if statement.word == "SHUTDOWN" and what is None and client == self._lost:
            self._lost = None
            return reply.error_response(TAKEN_BACK, sqlstate="55000") + reply.ready_for_query("I")
        if statement.word != "SHOW" or what != "FDS" or not suspended:
            return None
        if self._holder is None and not await self._allow(client):
            return None
        if self._holder != client:
            return None
        return await self._give()

    def end(self) -> None:
        """Everybody goes on: what has been given out is ours again, unless another process has taken it."""
        parcels, self._parcels = self._parcels, []
        if not self.taken.is_set():
            if self._holder is not None:
                self._lost = self._holder
            self._forget()
        for parcel in parcels:
            record = self._pools.get(parcel.pool)
            if record is None:
                parcel.close(DATABASE_REMOVED)
            else:
                self._arrivals.take_back(record, parcel)

    def let_go(self) -> None:
        """Nothing of ours stands in the way any more: the other process sees from the end of its console that it may begin."""
        if self._console is not None:
            self._console.shutdown(socket.SHUT_RDWR)
        self._forget()

    # ------------------------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._holder = None
        if self._console is not None:
            self._console.close()
            self._console = None

    async def _allow(self, client: int) -> bool:
        """Take a copy of the console's socket, if it is one that may have descriptors."""
        fd = await self._fd_of(client)
        if fd < 0:
            return False
        try:
            console = socket.socket(fileno=os.dup(fd))
        except OSError:
            return False
        if console.family == socket.AF_UNIX and await self._fd_of(client) == fd:  # and it has been that all the time
            pid, uid, _ = _CREDENTIALS.unpack(
                console.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if uid in (os.geteuid(), 0):
                self._holder, self._console, self.pid = client, console, pid
                self._lost = None
                return True
        console.close()
        return False

    async def _fd_of(self, client: int) -> int:
        for row in await self._report.clients():
            if row["id"] == client and row["pool"] == CONSOLE_POOL and row["user"] == OWNER:
                return int(row["fd"])
        return -1

    async def _give(self) -> bytes:
        if not self._parcels:
            await self._collect()
        if self._console is None or not self._pools.holds.suspended:
            return reply.error_response(GOES_ON, sqlstate="57014") + reply.ready_for_query("I")
        with trio.socket.from_stdlib_socket(self._console.dup()) as console:
            await _send(console, reply.row_description(_COLUMNS), -1)
            for cells, fd in [*self._listening(), *self._moving()]:
                await _send(console, reply.data_row(cells), fd)
        logs.LOGGER.info("%s", logs.line("", "descriptors given out (SHOW FDS)", self._fields()))
        return reply.command_complete("SHOW") + reply.ready_for_query("I")

    def _fields(self) -> dict[str, object]:
        clients = sum(parcel.client_fd >= 0 for parcel in self._parcels)
        return {"clients": clients, "servers": len(self._parcels) - clients, "pid": self.pid}

    async def _collect(self) -> None:
        """Have the workers give all that they can, while everybody stands still."""
        self.to = lambda parcel: self._parcels.append(parcel)
        try:
            calm = 0
            while calm < CALM_ROUNDS and self._pools.holds.suspended:
                before = len(self._parcels)
                self._engine.give(plain=True)
                await self._round_trip()
                await trio.sleep(ROUND_S)
                self.read()
                calm = calm + 1 if len(self._parcels) == before else 0
        finally:
            self._engine.keep()
            with trio.CancelScope(shield=True):
                await self._round_trip()
            self.read()
            self.to = None
            if not self._pools.holds.suspended:  # RESUME has come in between, or the console has gone
                self.end()

    def _hand_over(self) -> None:
        logs.LOGGER.info("%s", logs.line("", "SHUTDOWN: handed over", self._fields()))
        for parcel in self._parcels:
            for fd in (parcel.client_fd, parcel.server_fd):
                if fd >= 0:
                    os.close(fd)
        self._parcels.clear()
        self.taken.set()

    # -- rows ------------------------------------------------------------------------------------------------------

    def _listening(self) -> Iterable[tuple[Cells, int]]:
        nothing = [None] * 7
        for listener in self._listeners():
            addr = "unix" if listener.is_unix else listener.host
            yield [listener.fd, "pooler", None, None, addr, listener.port, 0, 0, *nothing], listener.fd

    def _moving(self) -> Iterable[tuple[Cells, int]]:
        port = next((listener.port for listener in self._listeners()), 0)
        for parcel in sorted(self._parcels, key=lambda parcel: parcel.client_fd < 0):
            record = self._pools.get(parcel.pool)
            if record is None:
                continue
            facts, fd = read(parcel.data), max(parcel.client_fd, parcel.server_fd)
            told: list[Any] = [fd]
            if facts.peer is not None:
                address, at = "unix", port
                if facts.peer.family != 1:
                    length = 4 if facts.peer.family == 4 else 16
                    address, at = str(ipaddress.ip_address(facts.peer.addr[:length])), facts.port
                told += ["client", _text(facts.user), record.key.database, address, at]
            else:
                host = _text(facts.host)
                address = "unix" if host.startswith(("/", "@")) else host
                told += ["server", record.key.user, record.key.database, address, facts.port]
            told += [int.from_bytes(facts.key[:8], "big"), 0]
            told += [_text(facts.settings[name]) if name in facts.settings else None for name in _SETTINGS]
            yield [*told, None, None, None], fd


async def _send(console: trio.socket.SocketType, data: bytes, fd: int) -> None:
    """All of it; the descriptor, where there is one, goes with the first byte."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
    left = memoryview(data)
    while left:
        try:
            left = left[await console.sendmsg([left], rights) :]
            rights = []
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            await trio.sleep(CROWDED_S)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
