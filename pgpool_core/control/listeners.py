"""Listening sockets: TCP addresses of listen_addr and the file `.s.PGSQL.PORT` in unix_socket_dir.

The engine accepts on them; the descriptors stay ours and are closed here, after the engine has let go of them.
Source: PgBouncer docs, listen_addr, listen_port, unix_socket_dir, unix_socket_mode, unix_socket_group.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import re
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from pgpool_core.config.model import Config

DEFER_ACCEPT_S: Final = (
    45  # of silence before the kernel hands a client over all the same; as PgBouncer's manual has it
)
MAX_PATH_LEN: Final = 107  # bytes of sun_path before its closing zero byte

_SOCKET_NAME: Final = re.compile(r"\.s\.PGSQL\.([0-9]{1,5})")
_WILDCARDS: Final = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # what `*` means


@attrs.define(eq=False)
class Listener:
    """One listening socket. Owns its descriptor and, for a unix socket, the file, both until `close`."""

    socket: socket.socket = attrs.field(repr=False)
    host: str  # address, or the directory of the unix socket
    port: int
    is_unix: bool
    late: bool = False  # it was open before us, so that who has come by then has none of our options
    path: str = ""  # the socket file; empty for TCP and for abstract sockets
    foreign: bool = False  # the file is that of a service manager, who made it and whose it stays
    _file_id: tuple[int, int] | None = None  # device and inode, so that another process's file is never removed

    @property
    def fd(self) -> int:
        return self.socket.fileno()

    @property
    def place(self) -> str:
        """Where it listens, as log lines write it."""
        if self.is_unix:
            return f"unix:{self.path or f'{self.host}/.s.PGSQL.{self.port}'}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def close(self) -> None:
        """Close it and remove its file, unless somebody else has put another one there."""
        if self._file_id is not None:
            with contextlib.suppress(OSError):
                found = os.lstat(self.path)
                if (found.st_dev, found.st_ino) == self._file_id:
                    os.unlink(self.path)
            self._file_id = None
        self.socket.close()

    def release(self) -> None:
        """Close it and leave its file: another process listens there now."""
        self._file_id = None
        self.socket.close()

    def own_file(self) -> bool:
        """From now on the socket's file is ours to remove, unless it is foreign. False: it is not there, and nobody finds us by it."""
        if self.path and not self.foreign:
            try:
                found = os.lstat(self.path)
            except OSError:
                return False
            self._file_id = found.st_dev, found.st_ino
        return True

    def defer_accept(self, on: bool) -> None:
        """Set tcp_defer_accept: let the kernel keep who has connected and said nothing yet. Nothing where it is closed."""
        if not self.is_unix and self.fd >= 0:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_ACCEPT_S if on else 0)

    def forget_in_child(self) -> None:
        """In a forked child: close the descriptor and leave the file, which is the parent's."""
        self._file_id = None
        self.socket.close()


def listener_of(sock: socket.socket, *, late: bool = False, foreign: bool = False) -> Listener:
    """A listener on a socket that somebody else has opened; its file, if it has one, is not ours.

    Args:
        late: that was not another process of ours, which has set its options.
        foreign: nor will its file be ours.
    """
    address = sock.getsockname()
    if sock.family != socket.AF_UNIX:
        return Listener(sock, address[0], address[1], is_unix=False, late=late, foreign=foreign)
    path = os.fsdecode(address)
    is_abstract = path.startswith("\0")
    path = "@" + path[1:] if is_abstract else path
    folder, _, name = path.rpartition("/")
    number = _SOCKET_NAME.fullmatch(name)
    port = int(number[1]) if number else 0
    return Listener(sock, folder, port, is_unix=True, path="" if is_abstract else path, foreign=foreign)


async def open_listeners(config: Config) -> list[Listener]:
    """Every listening socket that `config` asks for, bound and listening.

    Of listen_addr it is enough that one address can be bound; the others are logged. Port 0 lets the system choose one port, which all
    addresses and the unix socket then share.

    Raises:
        ConfigError: nothing can be bound, or the unix socket cannot; names the settings. Nothing stays open then.
    """
    with contextlib.ExitStack() as opened:
        listeners = await _tcp_listeners(config, opened)
        if config.unix_socket_dir:
            port = listeners[0].port if listeners else config.listen_port
            listeners.append(unix_listener(config, port))
            opened.callback(listeners[-1].close)
        if not listeners:
            raise _problem("listen_addr", "nothing to listen on: both listen_addr and unix_socket_dir are empty")
        opened.pop_all()
        return listeners


async def _tcp_listeners(config: Config, opened: contextlib.ExitStack) -> list[Listener]:
    listeners: list[Listener] = []
    problems: list[str] = []
    port = config.listen_port
    for family, address in await _places(config, problems):
        try:
            listener = _tcp_listener(family, address, port, config)
        except OSError as error:
            if "*" in config.listen_addr and family == socket.AF_INET6 and error.errno in _NO_IPV6:
                continue
            problems.append(_tcp_problem(address, port, error))
            continue
        opened.callback(listener.close)
        listeners.append(listener)
        port = listener.port
    if config.listen_addr and not listeners:
        raise ConfigError([ConfigProblem(text, section="pgbouncer", key="listen_addr") for text in problems])
    for text in problems:
        logs.LOGGER.warning("%s", logs.line("", text))
    return listeners


async def _places(config: Config, problems: list[str]) -> list[tuple[socket.AddressFamily, str]]:
    """Families and addresses that listen_addr means, each once, and none that an address for all has in it."""
    places: dict[tuple[socket.AddressFamily, str], None] = {}
    for name in config.listen_addr:
        try:
            places |= dict.fromkeys(await resolve(name))
        except OSError as error:
            problems.append(f"cannot resolve {name}: {error.strerror or error} (listen_addr)")
    for wildcard in _WILDCARDS:
        if wildcard in places:
            places = {place: None for place in places if place[0] != wildcard[0] or place == wildcard}
    return list(places)


_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


async def resolve(name: str) -> list[tuple[socket.AddressFamily, str]]:
    """Families and addresses of one item of listen_addr, without repetitions.

    Raises:
        OSError: it has none.
    """
    if name == "*":
        return list(_WILDCARDS)
    return list(dict.fromkeys((family, str(address[0])) for family, address in await addresses_of(name, 0)))


async def addresses_of(name: str | None, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """Where `name` (None: everywhere) can be listened on: family and socket address, each once.

    Raises:
        OSError: there is no such place, or it is no name.
    """
    try:
        found = await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # two dots in a row, or too long between two
        raise OSError("it is no name of a host") from None
    return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]


def _tcp_listener(family: socket.AddressFamily, address: str, port: int, config: Config) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if config.so_reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        listener = Listener(sock, address, sock.getsockname()[1], is_unix=False)
        listener.defer_accept(config.tcp_defer_accept)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # clients get these from the listener, as it is when they come
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(config.tcp_keepalive))
        sock.listen(config.listen_backlog)
    except BaseException:
        sock.close()
        raise
    return listener


def _tcp_problem(address: str, port: int, error: OSError) -> str:
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is in use by another process (listen_addr, listen_port)"
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: not permitted, ports below 1024 need a privilege (listen_port)"
    return f"cannot listen on {where}: {error.strerror or error} (listen_addr, listen_port)"


def unix_path(config: Config, port: int) -> str:
    """Where the unix socket is.

    Raises:
        ConfigError: there can be none.
    """
    path = f"{config.unix_socket_dir}/.s.PGSQL.{port}"
    if port == 0:
        raise _problem("listen_port", "a unix socket needs a listen_port other than 0 where no TCP address chooses one")
    if len(os.fsencode(path)) > MAX_PATH_LEN:
        text = f"{path} is too long for a socket: at most {MAX_PATH_LEN} bytes (unix_socket_dir)"
        raise _problem("unix_socket_dir", text)
    return path


def unix_listener(config: Config, port: int) -> Listener:
    """The unix socket of `port`, bound and listening.

    Raises:
        ConfigError: that is not possible.
    """
    folder, path = config.unix_socket_dir, unix_path(config, port)
    listener = Listener(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), folder, port, is_unix=True)
    try:
        listener.socket.setblocking(False)
        if folder.startswith("@"):
            listener.socket.bind(b"\0" + os.fsencode(path[1:]))
        else:
            _clear_stale(path)
            listener.socket.bind(path)
            found = os.lstat(path)
            listener.path, listener._file_id = path, (found.st_dev, found.st_ino)
            _set_rights(path, config)  # nobody can connect before listen()
        listener.socket.listen(config.listen_backlog)
    except OSError as error:
        listener.close()
        reason = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror or error
        text = f"cannot listen on {path}: {reason} (unix_socket_dir, listen_port)"
        raise _problem("unix_socket_dir", text) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more.

    Raises:
        OSError: EADDRINUSE, somebody answers there; EEXIST, the path is not a socket.
        ConfigError: PostgreSQL's lock file says that the name is taken.
    """
    lock = path + ".lock"
    if os.path.lexists(lock):
        text = f"cannot listen on {path}: PostgreSQL holds the lock file {lock} (unix_socket_dir, listen_port)"
        raise _problem("unix_socket_dir", text)
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket has this name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer in (0, errno.EAGAIN, errno.EACCES, errno.EPERM):  # EAGAIN: its queue is full, so somebody listens
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def group_of(config: Config) -> int:
    """The group that the unix socket is given, -1 for none in particular.

    Raises:
        ConfigError: there is no such group.
    """
    name = config.unix_socket_group
    try:
        return -1 if not name else int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise _problem("unix_socket_group", f"there is no group {name} (unix_socket_group)") from None


def _set_rights(path: str, config: Config) -> None:
    if config.unix_socket_group:
        try:
            os.chown(path, -1, group_of(config))
        except OSError as error:
            text = f"cannot give {path} to group {config.unix_socket_group}: {error.strerror} (unix_socket_group)"
            raise _problem("unix_socket_group", text) from error
    os.chmod(path, config.unix_socket_mode)


def _problem(key: str, text: str) -> ConfigError:
    return ConfigError([ConfigProblem(text, section="pgbouncer", key=key)])
