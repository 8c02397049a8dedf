"""Where servers are: the order in which hosts are tried, names turned into addresses, and connected sockets.

Source: PostgreSQL docs, libpq "host" (socket directories and abstract names); PgBouncer docs, [databases] host and load_balance_hosts.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

TOLD_ADDRESSES: Final = 16  # of a host, to another process; packets are short
TOLD_ERROR: Final = 300  # characters
LOOK_UPS_AT_ONCE: Final = 64  # threads
BACKLOG_RETRY_S: Final = 0.01  # between tries at a unix socket with a full backlog

T = TypeVar("T")


@attrs.frozen
class HostTold:
    """The state of a host, as another process has it."""

    host: str
    up: bool | None
    since_us: int
    tried_us: int
    error: str
    opened: int
    failed: int
    addresses: tuple[str, ...]


@attrs.define(eq=False)
class HostState:
    """What attempts to open servers at one host have come to; times are microseconds on the monotonic clock."""

    up: bool | None = None  # None: not tried yet
    since_us: int = 0  # it has been so
    tried_us: int = 0  # the last attempt ended
    error: str = ""  # of the last attempt that failed, also where another has succeeded since
    opened: int = 0
    failed: int = 0
    addresses: set[str] = attrs.field(factory=set)  # where servers have been opened; of a name, while it has them

    def told(self, host: str) -> HostTold:
        """For another process of this machine, whose monotonic clock is the same."""
        addresses, error = tuple(sorted(self.addresses)[:TOLD_ADDRESSES]), self.error[:TOLD_ERROR]
        return HostTold(host, self.up, self.since_us, self.tried_us, error, self.opened, self.failed, addresses)

    def note(self, up: bool, now_us: int) -> None:
        self.tried_us = now_us
        if self.up is not up:
            self.up, self.since_us = up, now_us


class HostOrder:
    """In which order the hosts of one database entry are tried, and the addresses of one name.

    `round-robin` begins each new connection at the next host; `disable` stays with a host until it fails. The
    addresses of a name always take turns, as with PgBouncer. Share one object between all targets of an entry; it
    belongs to one trio loop.
    """

    def __init__(self, load_balance_hosts: str = "round-robin") -> None:
        if load_balance_hosts not in ("round-robin", "disable"):
            raise ValueError("load_balance_hosts is round-robin or disable")
        self._sticky = load_balance_hosts == "disable"
        self._host_turn = 0
        self._address_turn: dict[str, int] = {}
        self.states: dict[str, HostState] = {}
        """By host, for those that have been tried."""

    def hosts(self, hosts: Sequence[str]) -> list[str]:
        """All hosts, the one to try first in front."""
        start = self._host_turn % len(hosts)
        if not self._sticky:
            self._host_turn += 1
        return [*hosts[start:], *hosts[:start]]

    def addresses(self, name: str, found: Sequence[T]) -> list[T]:
        """All addresses that `name` resolved to, the one to try first in front."""
        turn = self._address_turn.get(name, 0)
        self._address_turn[name] = turn + 1
        start = turn % len(found)
        return [*found[start:], *found[:start]]

    def opened(self, host: str, address: str) -> None:
        """`host` has given a server, at this address."""
        state = self._state(host)
        state.note(True, _now_us())
        state.opened += 1
        state.addresses.add(address)

    def is_there(self, host: str, address: str) -> None:
        """A server at this address has come from another process."""
        state = self._state(host)
        state.note(True, _now_us())
        state.addresses.add(address)

    def gone(self, addresses_of: Callable[[str], frozenset[str] | None]) -> frozenset[str]:
        """Addresses at which servers have been opened, and which no host has any more; they are told once.

        Args:
            addresses_of: those that a host has by now; None: the ones where it has been found.
        """
        there = set(self.states)
        lost = set[str]()
        for host, state in self.states.items():
            if (has := addresses_of(host)) is not None:
                lost |= state.addresses - has
                state.addresses &= has
                there |= has
            there |= state.addresses
        return frozenset(lost - there)

    def learn(self, told: HostTold) -> None:
        """What another process knows of a host that has not been tried here."""
        if told.host not in self.states:
            self.states[told.host] = HostState(
                told.up, told.since_us, told.tried_us, told.error, told.opened, told.failed, set(told.addresses)
            )

    def refused(self, host: str, why: str) -> None:
        """`host` is there, and has refused the login."""
        state = self._state(host)
        state.note(True, _now_us())
        state.failed += 1
        state.error = why

    def _state(self, host: str) -> HostState:
        return self.states.setdefault(host, HostState())

    def failed(self, host: str, hosts: Sequence[str], why: str = "") -> None:
        """`host` gave no server: with `disable`, the next connection begins at the one after it."""
        state = self._state(host)
        state.note(False, _now_us())
        state.failed += 1
        state.error = why
        if self._sticky and hosts[self._host_turn % len(hosts)] == host:
            self._host_turn += 1


def _now_us() -> int:
    return time.monotonic_ns() // 1000


@attrs.frozen
class Address:
    """One thing to connect to: `sockaddr` for connect(2), `host` in the form that resolves to it again."""

    family: socket.AddressFamily
    sockaddr: tuple[str | bytes | int, ...] | str
    host: str

    @property
    def is_unix(self) -> bool:
        return self.family is socket.AF_UNIX


_LIMITER: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("look_up_limiter")


def _limiter() -> trio.CapacityLimiter:
    """Threads of look-ups: a resolver that is silent keeps them for long, and nobody else's may be among them."""
    try:
        return _LIMITER.get()
    except LookupError:
        _LIMITER.set(limiter := trio.CapacityLimiter(LOOK_UPS_AT_ONCE))
        return limiter


def is_name(host: str) -> bool:
    """Whether `host` has to be looked up: neither a socket directory nor an address."""
    if host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


async def resolve(host: str, port: int) -> list[Address]:
    """Addresses of `host`: a socket directory (`/dir`, `@abstract`), an IP address or a name.

    Raises:
        OSError, UnicodeError: the name cannot be looked up.
    """
    if host.startswith(("/", "@")):
        await trio.lowlevel.checkpoint()
        path = f"{host}/.s.PGSQL.{port}"
        return [Address(socket.AF_UNIX, "\0" + path[1:] if host.startswith("@") else path, host)]
    if host.isascii() and is_name(host):
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_limiter())
    else:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [
        Address(family, sockaddr, _numeric_host(sockaddr))
        for family, _type, _proto, _name, sockaddr in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]


def _numeric_host(sockaddr: tuple[str | bytes | int, ...]) -> str:
    numeric = str(sockaddr[0])
    if len(sockaddr) == 4 and isinstance(scope := sockaddr[3], int) and scope and "%" not in numeric:
        return f"{numeric}%{scope}"
    return numeric


async def connect(address: Address) -> trio.socket.SocketType:
    """A connected, non-blocking socket, which the caller closes.

    Raises:
        OSError: refused, unreachable, no such socket file.
    """
    raw = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        sock = trio.socket.from_stdlib_socket(raw)
        if not address.is_unix:
            await sock.connect(address.sockaddr)
        while address.is_unix:
            await trio.lowlevel.checkpoint()
            try:
                raw.connect(address.sockaddr)
                break
            except BlockingIOError:  # EAGAIN: the listener's backlog is full; there is nothing to poll for
                await trio.sleep(BACKLOG_RETRY_S)
    except BaseException:
        raw.close()
        raise
    return sock


def place(host: str, port: int) -> str:
    """Host and port as log lines and errors write them."""
    if host.startswith(("/", "@")):
        return f"{host}/.s.PGSQL.{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
