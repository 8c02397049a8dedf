"""-R: a new process takes the listening sockets of the running one, and then whoever is at rest there.

The two talk over a socket beside the unix socket that clients use, `.s.PGSQL.PORT.takeover`, in whole packets:

    new  "pgpool_core takeover 1"
    old  {"clients": 2, "metrics": "127.0.0.1:9127",      with the descriptors: clients' sockets first, then those for metrics;
          "moves": 1, "texts": 17, "mock_key": "5f...",    how it tells of clients, the last number of a statement's text, what
          "foreign": [0, 1]}                              users who do not exist are made of, in hexadecimal digits; which of
                                                          the clients' sockets a service manager has opened
    new  "up" or "up 1"                                   it accepts clients; until here nothing has changed for the old one
    old  "yours"                                          it accepts no more, and the socket's path is free
    new  8 bytes                                          a cancel request for nobody whom the new one knows, as often as there is one

After "up 1" clients and servers follow (packets.py), if both mean the same by that number; after "up" they stay where they are. The
connection lasts until one of them ends. If the new one ends before it is up, the old one goes on as if nobody had asked. Both see from the kernel that the other one is the same
user, or root.
Source: unix(7), SCM_RIGHTS and SO_PEERCRED.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.control.host_key import KEY_LEN
from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.process.exchange import Sender
from pgpool_core.process.packets import VERSION

HELLO: Final = b"pgpool_core takeover 1"
UP: Final = b"up"
UP_MOVES: Final = b"up %d" % VERSION  # and clients and servers may come
YOURS: Final = b"yours"
STEP_S: Final = 10.0  # for each packet that is only a matter of the other process being alive
START_S: Final = 60.0  # for the new process to start
ACCEPT_AGAIN_S: Final = 1.0  # where the system had no descriptor, or no memory, for who knocks
MAX_DESCRIPTORS: Final = 250  # SCM_MAX_FD is 253
MAX_PACKET: Final = 4096
MAX_PASSED_ON: Final = 64  # cancel requests that wait until the old process reads on; further ones are dropped
MAX_PATH_LEN: Final = 107  # bytes of sun_path before its closing zero byte

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED})
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Sockets(NamedTuple):
    """What is handed over."""

    clients: list[socket.socket]
    metrics_listen: str
    metrics: list[socket.socket]
    moves: int = VERSION  # how the process that has them tells of clients and servers; 0: not at all
    texts: int = 0  # the highest number that a statement's text has there
    mock_key: bytes = b""  # what users who do not exist are made of there; empty: it does not say
    foreign: tuple[int, ...] = ()  # which of `clients` are a service manager's: their files are not to be removed


def door_path(config: Config, port: int) -> str:
    """Where the process that listens on `port` can be asked; "" where it has no folder for unix sockets."""
    return f"{config.unix_socket_dir}/.s.PGSQL.{port}.takeover" if config.unix_socket_dir else ""


async def _accepted(listener: trio.socket.SocketType) -> trio.socket.SocketType:
    """The next connection; who comes while the system has no room for one waits."""
    while True:
        try:
            return (await listener.accept())[0]
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
        await trio.sleep(ACCEPT_AGAIN_S)


class Door:
    """The running process's side: answers one new process after the other, until one has come up."""

    def __init__(self, path: str, give: Callable[[], Sockets], let_go: Callable[[], Awaitable[None]]) -> None:
        """Open nothing yet.

        Args:
            give: the sockets as they are now; they stay the caller's. OSError: there is nothing to be had.
            let_go: called when the other one is up; when it returns, this process watches the sockets no more.
        """
        self._path = path
        self._give = give
        self._let_go = let_go
        self._file_id: tuple[int, int] | None = None

    async def serve(self) -> tuple[int, trio.socket.SocketType, bool]:
        """Answer until a new process has taken the sockets. Cancel it to close the door.

        Returns: its process number, the connection to it, and whether it takes clients and servers too.

        Raises:
            OSError: the door cannot be opened.
        """
        listener = trio.socket.from_stdlib_socket(_listening(self._path))
        try:
            if not self._path.startswith("@"):
                found = os.lstat(self._path)
                self._file_id = found.st_dev, found.st_ino
            while True:
                connection = await _accepted(listener)
                try:
                    pid, moves = await self._answer(connection)
                    if pid:
                        self._close(listener)
                        with suppress(OSError):  # it has ended meanwhile, but we have let go
                            await connection.send(YOURS)
                        return pid, connection, moves
                except BaseException:
                    connection.close()
                    raise
                connection.close()
        finally:
            self._close(listener)

    async def _answer(self, connection: trio.socket.SocketType) -> tuple[int, bool]:
        """One new process: its number when it is up, else 0; and whether it takes clients and servers."""
        pid, said = 0, b""
        try:
            pid = peer_of(connection)
            with trio.fail_after(STEP_S):
                if await connection.recv(MAX_PACKET) != HELLO:
                    return 0, False
                await _send(connection, self._give())
            logs.LOGGER.info("%s", logs.line("", "a new process is about to take over", {"pid": pid}))
            with trio.fail_after(START_S):
                said = await connection.recv(MAX_PACKET)
                if said not in (UP, UP_MOVES):
                    raise OSError(errno.ECONNRESET, "it has ended")
        except (OSError, trio.TooSlowError) as error:
            reason = "no answer in time" if isinstance(error, trio.TooSlowError) else error.strerror or error
            logs.LOGGER.warning("%s", logs.line("", f"not taken over, going on: {reason}", {"pid": pid}))
            return 0, False
        await self._let_go()
        return pid, said == UP_MOVES

    def _close(self, listener: trio.socket.SocketType) -> None:
        listener.close()
        if self._file_id is not None:
            with suppress(OSError):
                found = os.lstat(self._path)
                if (found.st_dev, found.st_ino) == self._file_id:
                    os.unlink(self._path)
            self._file_id = None


@attrs.define(eq=False)
class Successor:
    """The new process's side, from `knock` to `come_up`."""

    sockets: Sockets
    pid: int
    _connection: trio.socket.SocketType
    _path: str = ""
    _taken: trio.Event = attrs.field(factory=trio.Event)
    _passed_on: int = 0  # cancel requests that wait
    _sender: Sender = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender = Sender(self._connection)

    @classmethod
    async def knock(cls, path: str) -> Successor | None:
        """Ask the process behind `path` for its sockets, which are ours then; None where there is none, nor can be: the path is too long.

        Raises:
            ConfigError: it is somebody else's, or does not answer as it should.
        """
        if len(os.fsencode(path)) > MAX_PATH_LEN:
            return None
        connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                await connection.connect(_address(path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                return None
            with trio.fail_after(STEP_S):
                pid = peer_of(connection)
                await connection.send(HELLO)
                return cls(await _receive(connection), pid, connection, path)
        except (OSError, trio.TooSlowError, ValueError) as error:
            connection.close()
            reason = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
            text = f"cannot take over from the process at {path}: {reason}"
            raise ConfigError([ConfigProblem(text, section="pgbouncer", key="unix_socket_dir")]) from error
        except BaseException:
            connection.close()
            raise

    async def come_up(self) -> None:
        """Say that we accept clients, and wait until the other one does no more; for a while only, where it does not answer.

        Raises:
            ConfigError: it has waited for us too long, and goes on.
        """
        text = "the old process has ended meanwhile"
        try:
            with suppress(OSError), trio.fail_after(STEP_S):
                await self._sender.send(UP_MOVES if self.sockets.moves == VERSION else UP)
                if await self._yours():
                    return
            if await self._goes_on():
                problem = f"the process at {self._path} does not hand over any more, it goes on"
                raise ConfigError([ConfigProblem(problem, section="pgbouncer", key="unix_socket_dir")])
        except trio.TooSlowError:
            text = "the old process does not answer, going on"
        logs.LOGGER.warning("%s", logs.line("", text, {"pid": self.pid}))

    async def _goes_on(self) -> bool:
        """Whether it has not ended, but only let us go: then it answers again."""
        try:
            again = await Successor.knock(self._path) if self._path else None
        except ConfigError:
            return False  # it is just ending
        if again is not None:
            again.close()
        return again is not None

    def close(self) -> None:
        """Take nothing: the other one goes on."""
        self._connection.close()
        for sock in (*self.sockets.clients, *self.sockets.metrics):
            sock.close()

    async def _yours(self) -> bool:
        if await self._connection.recv(MAX_PACKET) != YOURS:
            return False
        logs.LOGGER.info("%s", logs.line("", "taken over", {"pid": self.pid}))
        self._taken.set()
        return True

    async def wait_taken(self) -> None:
        """Wait until the other one watches the sockets no more, or has ended."""
        await self._taken.wait()

    async def pass_on(self, key: bytes) -> None:
        """A cancel request that may be meant for a client of the old process; dropped where too many wait already."""
        if self._passed_on >= MAX_PASSED_ON:
            return
        self._passed_on += 1
        try:
            await self._taken.wait()
            with suppress(OSError, trio.ClosedResourceError):
                await self._sender.send(key)
        finally:
            self._passed_on -= 1

    async def wait_ended(self, take: Callable[[trio.socket.SocketType, Sender], Awaitable[None]]) -> None:
        """Wait until the old process has ended, and `take` what it sends; nothing is to be passed on afterwards."""
        text = "the old process has ended"
        with self._connection:
            try:
                if self._taken.is_set() or await self._yours():
                    await take(self._connection, self._sender)
            except ValueError as error:
                broken = f"what the old process hands over cannot be understood: {error}"
                logs.LOGGER.error("%s", logs.line("", broken, {"pid": self.pid}))
                text = "the old process keeps who has not been taken over"
            except OSError as error:
                text = f"the old process has ended: {error.strerror or error}"
        self._taken.set()  # who waits to pass on something is told that there is nobody
        logs.LOGGER.info("%s", logs.line("", text, {"pid": self.pid}))


def _address(path: str) -> bytes:
    return b"\0" + os.fsencode(path[1:]) if path.startswith("@") else os.fsencode(path)


def _listening(path: str) -> socket.socket:
    if len(os.fsencode(path)) > MAX_PATH_LEN:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        if not path.startswith("@"):
            _clear_stale(path)
        sock.bind(_address(path))
        if not path.startswith("@"):
            os.chmod(path, 0o600)  # nobody can connect before listen()
        sock.listen(1)
    except BaseException:
        sock.close()
        raise
    return sock


def _clear_stale(path: str) -> None:
    """Remove a socket behind which nobody is."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket has this name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        if probe.connect_ex(_address(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def peer_of(connection: trio.socket.SocketType) -> int:
    """The process number of the other side.

    Raises:
        OSError: it is neither of our user nor root's.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if uid not in (os.geteuid(), 0):
        raise OSError(errno.EPERM, f"it belongs to another user ({uid})")
    return int(pid)


async def _send(connection: trio.socket.SocketType, sockets: Sockets) -> None:
    every = [*sockets.clients, *sockets.metrics]
    if len(every) > MAX_DESCRIPTORS:
        raise OSError(errno.E2BIG, "too many listening sockets")
    said: dict[str, object] = {"clients": len(sockets.clients), "metrics": sockets.metrics_listen}
    said |= {"moves": sockets.moves, "texts": sockets.texts, "mock_key": sockets.mock_key.hex()}
    text = json.dumps({**said, "foreign": sockets.foreign})
    numbers = array.array("i", [sock.fileno() for sock in every])
    await connection.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


async def _receive(connection: trio.socket.SocketType) -> Sockets:
    """The sockets; raises ValueError where they are not what was to come."""
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    text, ancillary, flags, _ = await connection.recvmsg(MAX_PACKET, space, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    every = [socket.socket(fileno=fd) for fd in numbers]
    if not text:
        raise ValueError("it does not hand over, for it is shutting down")
    try:
        said = json.loads(text)
        clients, metrics_listen = said["clients"], said["metrics"]
        moves, texts = int(said.get("moves", 0)), int(said.get("texts", 0))
        mock_key, foreign = bytes.fromhex(said.get("mock_key", "")), tuple(map(int, said.get("foreign", ())))
        if len(mock_key) not in (0, KEY_LEN):
            raise ValueError("it sent half a key")
        if flags & socket.MSG_CTRUNC or not isinstance(metrics_listen, str) or not 0 < clients <= len(every):
            raise ValueError("it sent something else than its sockets")
        for sock in every:
            sock.setblocking(False)
    except (KeyError, TypeError, ValueError) as error:
        for sock in every:
            sock.close()
        raise ValueError("it sent something else than its sockets") from error
    return Sockets(every[:clients], metrics_listen, every[clients:], moves, texts, mock_key, foreign)
