"""Names of hosts and their addresses, remembered for a while: one look-up serves all pools, and a failing one is not repeated at once.

The operating system's resolver does the work (hosts file, nsswitch, DNS), in a thread; it tells no TTL, so every answer holds for
dns_max_ttl. Names that servers have come from are looked up again when that time is over, as long as they are wanted. Whoever has
connections to an address asks `has` when there are news, and retires what is where a name is not any more; it does not matter
who has looked the name up. A name that cannot be looked up any more keeps the addresses that it had.
Source: PgBouncer docs, dns_max_ttl, dns_nxdomain_ttl.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import attrs
import trio

from pgpool_core.control.hosts import Address, is_name, place, resolve

UNUSED_TTLS: Final = 20  # a name that nobody has asked for in so many times its TTL is forgotten
PATIENCE_S: Final = 1.0  # with a resolver, where there are addresses that a name had; then these are used
SHORTEST_TTL_S: Final = 0.2  # also with dns_max_ttl = 0: the janitor would look up without a pause


@attrs.define(eq=False)
class Name:
    """What is known of one name and port."""

    host: str
    port: int
    addresses: tuple[Address, ...] = ()  # the last that were found; empty before that
    error: OSError | UnicodeError | None = None  # why the last look-up failed
    expires: float = 0.0  # on trio's clock
    asked: float = 0.0  # when somebody wanted it last
    looking: trio.Event | None = None  # set when the look-up that is under way has ended

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(address.host for address in self.addresses)


class Names:
    """The names of one pooler; belongs to its trio loop."""

    def __init__(
        self,
        max_ttl_s: float = 15.0,
        nxdomain_ttl_s: float = 15.0,
        *,
        look_up: Callable[[str, int], Awaitable[list[Address]]] = resolve,
    ) -> None:
        """`configure` changes the times; `look_up` is `hosts.resolve` or a test's."""
        self.configure(max_ttl_s, nxdomain_ttl_s)
        self._look_up = look_up
        self._names: dict[tuple[str, int], Name] = {}
        self._news = False

    def configure(self, max_ttl_s: float, nxdomain_ttl_s: float) -> None:
        """Seconds for which an answer, and a failure, hold; from the next look-up on."""
        self._max_ttl_s = max(SHORTEST_TTL_S, max_ttl_s)
        self._nxdomain_ttl_s = nxdomain_ttl_s

    def __iter__(self) -> Iterator[Name]:
        return iter(self._names.values())

    def __len__(self) -> int:
        return len(self._names)

    @property
    def under_way(self) -> int:
        """How many look-ups are under way."""
        return sum(name.looking is not None for name in self._names.values())

    def known(self, host: str, port: int) -> frozenset[str] | None:
        """The addresses that a name has by now; None: it is no name, or has not been found yet."""
        name = self._names.get((host, port))
        return name.hosts if name is not None and name.addresses else None

    def has(self, host: str, port: int, address: str) -> bool:
        """Whether a server of `host` may be at this address; only of a name that has other ones we know better."""
        known = self.known(host, port)
        return known is None or address in known

    def take_news(self) -> bool:
        """Whether any answer has changed since the last call."""
        news, self._news = self._news, False
        return news

    def want(self, host: str, port: int) -> None:
        """There are servers of `host`: if that is a name, it is to be looked up from time to time."""
        if is_name(host):
            self._names.setdefault((host, port), Name(host, port)).asked = trio.current_time()

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Addresses of `host`, remembered or looked up; a resolver that is silent is not waited for while there are some.

        Raises:
            OSError, UnicodeError: the name cannot be looked up, now or shortly before.
        """
        if not is_name(host):
            return await self._look_up(host, port)
        name = self._names.setdefault((host, port), Name(host, port))
        name.asked = trio.current_time()
        with trio.move_on_after(PATIENCE_S if name.addresses else math.inf) as patience:
            if name.looking is None and name.expires <= name.asked:
                await self._ask(name)
            while name.looking is not None:
                await name.looking.wait()
                if not name.addresses and name.error is None:  # whoever was looking has been cancelled
                    await self._ask(name)
        if patience.cancelled_caught and name.looking is None:  # nobody else asks, and who comes next need not
            name.expires = max(name.expires, trio.current_time() + PATIENCE_S)
        if not name.addresses and name.error is not None:
            raise type(name.error)(*name.error.args)
        return list(name.addresses)

    @property
    def are_due(self) -> bool:
        """Whether `refresh` has anything to do."""
        now = trio.current_time()
        return any(name.looking is None and name.expires <= now for name in self._names.values())

    async def refresh(self) -> None:
        """Look up again what has expired and is in use, and forget what is not."""
        now = trio.current_time()
        for key, name in list(self._names.items()):
            if name.looking is None and name.asked + UNUSED_TTLS * self._max_ttl_s < now:
                del self._names[key]
        due = [name for name in self._names.values() if name.looking is None and name.expires <= now]
        async with trio.open_nursery() as nursery:
            for name in due:
                nursery.start_soon(self._ask, name, name=f"look up {place(name.host, name.port)}")

    async def _ask(self, name: Name) -> None:
        looking = name.looking = trio.Event()
        try:
            found = await self._look_up(name.host, name.port)
            if not found:
                raise socket.gaierror(socket.EAI_NONAME, "no address found")
            before = name.hosts
            name.addresses, name.error = tuple(found), None
            self._news = self._news or name.hosts != before
            ttl_s = self._max_ttl_s
        except (OSError, UnicodeError) as error:
            name.error = error
            ttl_s = self._nxdomain_ttl_s
        except RuntimeError as error:  # no thread can be started
            name.error = OSError(errno.EAGAIN, str(error))
            ttl_s = self._nxdomain_ttl_s
        finally:
            name.looking = None
            looking.set()
        name.expires = trio.current_time() + ttl_s
