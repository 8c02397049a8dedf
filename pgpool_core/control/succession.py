"""What passes between a running pooler and the process whose place it takes, or that takes its own (-R): clients, servers, cancel requests.

`arrivals` takes one in, `strangers` and `handing` know PgBouncer's way; the sockets between the processes are `process`'s matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.control.goodbye import SHUTTING_DOWN
from pgpool_core.control.mailroom import Mailroom
from pgpool_core.control.opener import Opener
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.strangers import Strangers
from pgpool_core.errors import PoolClosed

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

LAST_SERVERS_S: Final = 0.5  # at most, for servers without clients to go to the process that has taken over
LAST_SERVERS_LOOK_S: Final = 0.01  # how often they are offered

NOT_RUNNING: Final = "the pooler is not running"


@attrs.frozen
class Here:
    """What there is while the pooler runs."""

    engine: Engine
    pools: PoolRegistry
    opener: Opener
    mailroom: Mailroom


class Succession:
    """This pooler's side of it. All of it belongs to the control loop."""

    def __init__(self) -> None:
        self.here: Here | None = None
        """Set while the pooler runs."""
        self.given: Callable[[], Awaitable[None]] | None = None
        """Waits until the other process has answered for all that was offered to it; None: there is no such process."""
        self._came_back = 0

    def _running(self) -> Here:
        if self.here is None:
            raise PoolClosed(NOT_RUNNING)
        return self.here

    # -- this one goes ---------------------------------------------------------------------------------------------

    @property
    def gives(self) -> bool:
        """Whether clients and servers go to another process now."""
        return self.here is not None and self.here.mailroom.departures is not None

    def give_to(self, take: Callable[[Parcel], None] | None) -> None:
        """Clients and servers that are at rest go there from now on; None: they stay."""
        if (here := self.here) is None:
            return
        here.mailroom.departures = take
        if take is not None:
            here.engine.give()
        else:
            here.engine.keep()

    async def give_servers(self) -> None:
        """No client is left: let the idle servers go to the other process too; those that are not at rest soon are closed.

        Raises:
            PoolClosed: the pooler does not run.
        """
        with trio.move_on_after(LAST_SERVERS_S):
            while self.gives and any(pool["servers_total"] for pool in self._running().engine.pools()):
                self._running().engine.give()
                await trio.sleep(LAST_SERVERS_LOOK_S)

    def take_back(self, parcel: Parcel) -> None:
        """What was to be given away has not been taken: it goes on here."""
        facts = self.pool_facts(parcel.pool)
        if self.here is None or facts is None:
            parcel.close(SHUTTING_DOWN)
        else:
            self._came_back += 1
            self.here.mailroom.arrivals.take(facts, parcel)

    async def wait_given(self) -> bool:
        """Wait until the other process has answered for all that was offered to it, and who came back from it is with the engine.

        Returns: whether anybody did.
        """
        before = self._came_back
        if self.given is not None:
            if self.here is not None:
                self.here.mailroom.read()  # what the engine has given away, and nobody has offered yet
            await self.given()
        if self.here is None or (self._came_back == before and not self.arriving):  # some may be with the engine by now
            return False
        await self.here.mailroom.arrivals.settled()
        return True

    @property
    def arriving(self) -> int:
        """How many have come from another process, or come back from it, and are not with the engine yet."""
        return self.here.mailroom.arrivals.under_way if self.here is not None else 0

    def pool_facts(self, pool: int) -> PoolFacts | None:
        """What another process has to know of a pool."""
        record = self.here.pools.get(pool) if self.here is not None else None
        return PoolFacts.of(record) if record is not None else None

    def client_keys(self) -> frozenset[bytes]:
        """Keys for servers that clients have revealed by their logins."""
        return self.here.pools.keys.known() if self.here is not None else frozenset()

    async def handed_out(self) -> int:
        """Wait until a process has our sockets by SHOW FDS, and wants us to end: its number, or 0. `Pooler.hand_over` is to follow.

        Raises:
            PoolClosed: the pooler does not run.
        """
        handing = self._running().mailroom.handing
        handing.enabled = True
        await handing.taken.wait()
        return handing.pid

    def let_go(self) -> None:
        """That process may begin."""
        if self.here is not None:
            self.here.mailroom.handing.let_go()

    # -- this one comes --------------------------------------------------------------------------------------------

    def take(self, facts: PoolFacts, parcel: Parcel) -> None:
        """A client or a server of another process is ours from now on."""
        if (here := self.here) is None:
            parcel.close(SHUTTING_DOWN)
            return
        here.engine.know_elsewhere(True)  # for the cancel keys that clients bring along
        here.mailroom.arrivals.take(facts, parcel)

    def learn_texts(self, parcel: Parcel) -> None:
        """A client or a server stays with the other process; texts of statements that were told with it may be named by others."""
        if (here := self.here) is not None:
            here.mailroom.arrivals.learn(parcel)

    async def take_strangers(
        self, fds: Sequence[tuple[Mapping[str, str], int]], about: Sequence[Mapping[str, str]]
    ) -> None:
        """Clients and servers of a PgBouncer that has ended are ours from now on: rows of its SHOW FDS with descriptors, of SHOW CLIENTS.

        Raises:
            PoolClosed: the pooler does not run.
        """
        here = self._running()
        here.engine.know_elsewhere(True)  # for the cancel keys that clients bring along
        await Strangers(here.engine, here.pools, here.opener, here.mailroom.arrivals).take(fds, about)
        await self.took_all()

    async def took_all(self) -> None:
        """No more of them come. What we have given to another process ourselves may come back, and name texts of statements."""
        if self.here is not None:
            await self.here.mailroom.arrivals.end(forget=lambda: self.given is None)

    def learn_key(self, key: bytes) -> None:
        """A key for servers that a client has revealed to the other process."""
        if self.here is not None:
            self.here.pools.keys.learn(key)

    @property
    def moved(self) -> tuple[int, int]:
        """Clients and servers that have come from another process."""
        if self.here is None:
            return 0, 0
        return self.here.mailroom.arrivals.clients, self.here.mailroom.arrivals.servers

    # -- cancel requests -------------------------------------------------------------------------------------------

    def pass_cancels_to(self, elsewhere: Callable[[bytes], Awaitable[None]] | None) -> None:
        """Cancel keys of nobody here go there from now on, while the pooler runs; None: nowhere."""
        if (here := self.here) is not None:
            here.mailroom.elsewhere = elsewhere
            here.engine.know_elsewhere(elsewhere is not None or len(here.mailroom.arrivals) > 0)

    async def cancel(self, key: bytes) -> None:
        """Cancel the query of the client with this key, wherever it is.

        Raises:
            PoolClosed: the pooler does not run.
        """
        here = self._running()
        if here.engine.find_cancel(key) or here.mailroom.arrivals.cancel(key, 0):
            return
        if here.mailroom.elsewhere is not None:
            await here.mailroom.elsewhere(key)
