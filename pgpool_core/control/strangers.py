"""Clients and servers that PgBouncer hands over at -R become ours; rows of its SHOW FDS are all that is known of them.

An idle server is asked how it stands, behind a DISCARD ALL, before anybody has it: PostgreSQL's word counts, not the row's. It is taken
where it is what we would have opened ourselves. A client without a server becomes a session with the four settings that the row has.
A client that holds a server comes with it, and nobody knows what that has still to answer: the engine finds it out
(engine/doubt.pxd), and until then nobody else gets it. What is prepared at PgBouncer is told by nobody: clients with such
statements are told to connect anew.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control.arrivals import TERMINATE, Arrivals, Parcel, PoolFacts
from pgpool_core.control.connect import LoggedInServer
from pgpool_core.control.opener import Opener, clock_us
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.pools import DATABASE_REMOVED, PoolRecord, PoolRegistry
from pgpool_core.control.standing import Ask, Standing
from pgpool_core.control.talk import NEED_DATA, AnswerCut
from pgpool_core.errors import PgPoolError, PoolClosed, ServerUnavailable, error_response
from pgpool_core.moving.written import DOUBT_LASTS, DOUBT_MOVED, ClientWritten, Peer, ServerWritten, write

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

AT_ONCE: Final = 16  # servers that are being asked
ASKED_S: Final = 5.0  # for everything about one server
KEY_LEN: Final = 32
SETTINGS: Final = {  # columns of SHOW FDS
    "client_encoding": b"client_encoding",
    "datestyle": b"DateStyle",
    "std_strings": b"standard_conforming_strings",
    "timezone": b"TimeZone",
}
MAX_VALUE_LEN: Final = 1000

CONNECT_ANEW: Final = error_response(
    PoolClosed("taken over from PgBouncer, which does not tell what is prepared: connect anew", sqlstate="57P01")
)
SERVER_STAYED: Final = error_response(PoolClosed("its server could not be taken over from PgBouncer", sqlstate="57P01"))

_CREDENTIALS: Final = struct.Struct("3i")

Row = Mapping[str, str]
Facts = Mapping[str, str]


@attrs.define
class Count:
    """What has come of it, for the log."""

    told: int = 0  # to connect anew
    closed: int = 0  # servers


class Strangers:
    """One takeover from PgBouncer. Belongs to the control loop."""

    def __init__(self, engine: Engine, pools: PoolRegistry, opener: Opener, arrivals: Arrivals) -> None:
        self._engine = engine
        self._pools = pools
        self._opener = opener
        self._arrivals = arrivals
        self._asking = trio.CapacityLimiter(AT_ONCE)
        self._count = Count()
        self._pids: dict[int, list[Facts]] = {}
        self._addresses: dict[tuple[str, str], Facts] = {}

    async def take(self, fds: Sequence[tuple[Row, int]], about: Sequence[Facts]) -> None:
        """Take all of it; the descriptors are ours. Servers that nobody holds are asked meanwhile, beside their clients.

        Args:
            fds: rows of SHOW FDS.
            about: rows of SHOW CLIENTS.
        """
        self._know(about)
        servers = {row["fd"]: (row, fd) for row, fd in fds if row.get("task") == "server" and "fd" in row}
        clients = [(row, fd) for row, fd in fds if row.get("task") == "client"]
        for row, fd in fds:
            if row.get("task") not in ("server", "client") or (row.get("task") == "server" and "fd" not in row):
                os.close(fd)
        held = {row.get("link", "0") for row, _ in clients} - {"0"}
        async with trio.open_nursery() as nursery:
            for number in list(servers):
                if number not in held and servers[number][0].get("link", "0") == "0":
                    nursery.start_soon(self._take_server, *servers.pop(number))
            for row, fd in clients:
                self._take_row(row, fd, servers)
                await trio.lowlevel.checkpoint()
            for _, fd in servers.values():  # nobody's, and not idle
                self._count.closed += 1
                os.close(fd)
        self._tell(about)

    def _take_row(self, row: Row, fd: int, servers: dict[str, tuple[Row, int]]) -> None:
        """One client, with the server that it holds; whatever goes wrong costs these two."""
        linked = row.get("link", "0")
        held = servers.pop(linked, None) if linked != "0" else None
        try:
            if linked == "0":
                self._take_client(row, fd)
            elif held is not None:
                self._take_pair(row, fd, *held)
            else:
                self._dismiss(fd, SERVER_STAYED)
        except (OSError, KeyError, ValueError, OverflowError, struct.error) as error:
            who = f"{row.get('database', '')}/{row.get('user', '')}"
            text = f"a client of PgBouncer cannot be taken over: {error}"
            logs.LOGGER.warning("%s", logs.line(who, text))
            if held is not None:
                self._count.closed += 1
                os.close(held[1])
            self._dismiss(fd, SERVER_STAYED if held is not None else DATABASE_REMOVED)

    def _know(self, about: Sequence[Facts]) -> None:
        for facts in about:
            if facts.get("addr") != "unix":
                self._addresses[facts.get("addr", ""), facts.get("port", "")] = facts
            elif facts.get("remote_pid", "").isdigit():
                self._pids.setdefault(int(facts["remote_pid"]), []).append(facts)

    def _tell(self, about: Sequence[Facts]) -> None:
        secure = sum(1 for facts in about if facts.get("tls"))
        fields = {
            "clients_told_to_connect_anew": self._count.told,
            "clients_with_tls_dropped": secure,
            "servers_closed": self._count.closed,
        }
        if any(fields.values()):
            logs.LOGGER.warning("%s", logs.line("", "not everything could be taken over from PgBouncer", fields))

    # -- clients ---------------------------------------------------------------------------------------------------

    def _take_client(self, row: Row, fd: int) -> None:
        peer = _peer(fd)
        facts = self._about(row, peer)
        if _prepared(facts):
            self._dismiss(fd, CONNECT_ANEW)
            return
        self._learn(row)
        parcel = write(self._client(row, peer, facts, _settings(row)), None)
        self._arrivals.take(_pool_of(row), Parcel(0, fd, -1, parcel))

    def _take_pair(self, row: Row, fd: int, server: Row, server_fd: int) -> None:
        peer = _peer(fd)
        facts = self._about(row, peer)
        if _prepared(facts):
            self._dismiss(fd, CONNECT_ANEW)
            self._count.closed += 1
            os.close(server_fd)
            return
        self._learn(row)
        lasting = facts.get("replication", "none") != "none"
        settings = _settings(server)
        parcel = write(
            self._client(row, peer, facts, settings, keeps=True),
            _server(server, server_fd, settings, DOUBT_LASTS if lasting else DOUBT_MOVED),
        )
        self._arrivals.take(_pool_of(server), Parcel(0, fd, server_fd, parcel))

    def _client(
        self, row: Row, peer: Peer, facts: Facts, settings: Mapping[bytes, bytes], *, keeps: bool = False
    ) -> ClientWritten:
        now_us = clock_us()
        named = _value(facts.get("application_name", ""))
        return ClientWritten(
            user=_bytes(row["user"]),
            key=_key(row["cancel"]),
            peer=peer,
            connect_us=max(1, now_us - _age_us(facts.get("connect_time", ""))),
            now_us=now_us,
            settings={**settings, b"application_name": named} if named else settings,
            keeps=keeps,
        )

    def _about(self, row: Row, peer: Peer) -> Facts:
        """What SHOW CLIENTS tells of it; nothing where several clients of one process cannot be told apart."""
        if peer.family != 1:
            return self._addresses.get((row.get("addr", ""), row.get("port", "")), {})
        found = [
            facts
            for facts in self._pids.get(peer.pid, ())
            if facts.get("user") == row.get("user") and facts.get("database") == row.get("database")
        ]
        if not found or len({facts.get("replication") for facts in found}) > 1:
            return {}
        said = dict(found[0])
        if len({facts.get("application_name") for facts in found}) > 1:
            said.pop("application_name", None)
        said["prepared_statements"] = str(max(map(_prepared, found)))
        return said

    def _learn(self, row: Row) -> None:
        key = row.get("scram_client_key", "")
        with suppress(ValueError):
            if len(found := bytes.fromhex(key.removeprefix("\\x"))) == KEY_LEN:
                self._pools.keys.learn(found)

    def _dismiss(self, fd: int, words: bytes) -> None:
        self._count.told += 1
        Parcel(0, fd, -1, b"").close(words)

    # -- servers ---------------------------------------------------------------------------------------------------

    async def _take_server(self, row: Row, fd: int) -> None:
        async with self._asking:
            pipe = SocketPipe(trio.socket.from_stdlib_socket(_socket_of(fd)))
            why = "it does not answer in time"
            try:
                with trio.move_on_after(ASKED_S):
                    why = await self._adopted(row, pipe)
            except (OSError, PgPoolError, KeyError, ValueError, OverflowError) as error:
                why = str(error)
            except Exception:
                logs.LOGGER.exception("internal error while taking over a server connection")
            if why:
                self._count.closed += 1
                pipe.close(TERMINATE)
                who = f"{row.get('database', '')}/{row.get('user', '')}"
                logs.LOGGER.info("%s", logs.line(who, f"a server connection of PgBouncer is closed: {why}"))

    async def _adopted(self, row: Row, pipe: SocketPipe) -> str:
        """Why it is not; "" when it is the engine's."""
        record = await self._arrivals.pool_of(_pool_of(row), None)
        if record is None:
            return "no such database"
        host = await _host_of(record, pipe.socket)
        if host is None:
            return "it leads elsewhere"
        is_unix = pipe.socket.family == socket.AF_UNIX
        if False not in record.target.tls.steps(is_unix=is_unix):
            return "it has no TLS (server_tls_sslmode)"
        if record.target.connect_query:
            return "it has to begin with connect_query"
        written = _server(row, pipe.socket.fileno(), {}, 0)
        target, slot = record.target, self._engine.place_server(record.id, write(None, written))
        if not slot:
            return "there is no room for it"
        try:
            standing = await _asked(pipe)
            if why := _differs(standing, record, written):
                self._engine.abandon_server(slot)
                return why
            opened = LoggedInServer(
                host=written.host.decode("utf-8", "surrogateescape"),
                port=record.target.port,
                is_unix=is_unix,
                backend_pid=written.backend_pid,
                backend_key=written.key,
                parameters=list(standing.parameters),
                unread=standing.unread,
                pipe=pipe,
            )
            await self._opener.prepare(record, target, opened)
        except BaseException:
            self._engine.abandon_server(slot)
            raise
        target.host_order.is_there(host, opened.host)
        self._opener.adopt(slot, record, target, opened, clock_us())
        self._arrivals.servers += 1
        return ""


def _server(row: Row, fd: int, settings: Mapping[bytes, bytes], doubt: int) -> ServerWritten:
    key = _key(row["cancel"])
    sock = _socket_of(os.dup(fd))
    with sock:
        is_unix = sock.family == socket.AF_UNIX
        at = sock.getpeername()
    path = os.fsdecode(at) if is_unix else ""
    host = path.replace("\0", "@", 1).rpartition("/")[0] if is_unix else str(at[0])
    return ServerWritten(
        host=_bytes(host),
        port=int(path.rpartition(".")[2]) if is_unix else int(at[1]),
        is_unix=is_unix,
        backend_pid=int.from_bytes(key[:4], "big"),
        key=key[4:],
        now_us=clock_us(),
        settings=settings,
        doubt=doubt,
    )


async def _asked(pipe: SocketPipe) -> Standing:
    ask = Ask()
    while True:
        event = ask.next_event()
        if data := ask.data_to_send():
            await pipe.send_all(data)
        if event is NEED_DATA:
            ask.receive_data(await pipe.receive_some())
        elif isinstance(event, AnswerCut):
            raise ServerUnavailable("the server has closed it")
        else:
            return event


def _differs(standing: Standing, record: PoolRecord, written: ServerWritten) -> str:
    """What is wrong with a server of this pool; "" = nothing."""
    target, said = record.target, dict(standing.parameters)
    if standing.error is not None:
        return f"it does not say how it stands ({standing.error.sqlstate})"
    if standing.database != target.dbname or said.get(b"session_authorization") != target.user:
        return "it is in another database, or another user's"
    if standing.backend_pid != written.backend_pid:
        return "its process number is not what was told"
    lower = {name.lower(): value for name, value in said.items()}
    if any(lower.get(name.lower()) != value for name, value in target.parameters):
        return "it has begun with other settings"
    return ""


async def _host_of(record: PoolRecord, sock: trio.socket.SocketType) -> str | None:
    """Which host of the pool's database it leads to; None: to none of them."""
    at = sock.getpeername()
    for host in record.target.hosts:
        with suppress(OSError, UnicodeError, ValueError):
            for address in await record.target.names.addresses(host, record.target.port):
                if address.family == sock.family and _same(address.sockaddr, at):
                    return host
    return None


def _same(one: object, other: object) -> bool:
    if isinstance(one, str | bytes) and isinstance(other, str | bytes):
        return os.fsencode(one) == os.fsencode(other)
    return isinstance(one, tuple) and isinstance(other, tuple) and one[:2] == other[:2]


def _peer(fd: int) -> Peer:
    """Who it is, as the kernel has it."""
    sock = _socket_of(os.dup(fd))
    with sock:
        if sock.family == socket.AF_UNIX:
            pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            return Peer(family=1, uid=uid, pid=pid)
        with suppress(OSError, ValueError):
            at = sock.getpeername()
            address = ipaddress.ip_address(str(at[0]).partition("%")[0])
            return Peer(family=address.version, addr=address.packed, port=int(at[1]))
    return Peer(family=4, addr=bytes(4))  # it has gone: its worker will see


def _socket_of(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def _pool_of(row: Row) -> PoolFacts:
    return PoolFacts(database=row.get("database", ""), user=row.get("user", ""), target="")


def _settings(row: Row) -> dict[bytes, bytes]:
    return {name: _value(row[column]) for column, name in SETTINGS.items() if column in row}


def _value(text: str) -> bytes:
    """Of a setting: PgBouncer keeps it as PostgreSQL has reported it."""
    return _bytes(text)[:MAX_VALUE_LEN].replace(b"\0", b"")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _key(cancel: str) -> bytes:
    """The 8 bytes that PgBouncer shows as a number, with a sign or without."""
    return (int(cancel) & (1 << 64) - 1).to_bytes(8, "big")


def _prepared(facts: Facts) -> int:
    said = facts.get("prepared_statements", "0")
    return int(said) if said.isdigit() else 0


def _age_us(connect_time: str) -> int:
    """Since `2026-11-21 17:19:48 UTC`."""
    with suppress(ValueError):
        since = datetime.fromisoformat(connect_time.removesuffix(" UTC") + "+00:00")
        return max(0, int((datetime.now(UTC) - since).total_seconds() * 1e6))
    return 0
