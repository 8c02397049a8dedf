"""What operators have stopped: paused and disabled databases, a pooler that is about to end. Values only; `orders` changes them."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

ShutdownWait = Literal["WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"]


@attrs.define
class Holds:
    """Read wherever a pool is made, a login decided or the state shown."""

    paused_all: bool = False
    paused: set[str] = attrs.field(factory=set)
    """Databases paused by name."""
    killed_all: bool = False
    """`paused_all` is what a KILL has left: the databases may be resumed one by one."""
    disabled: set[str] = attrs.field(factory=set)
    suspended: bool = False
    ending: ShutdownWait | None = None
    released: trio.Event = attrs.field(factory=trio.Event)
    """Set when the next pause ends; then another takes its place."""

    def pauses(self, database: str) -> bool:
        """Whether nobody is given a server of this database."""
        return self.paused_all or database in self.paused

    def by_name(self, databases: set[str]) -> None:
        """These are paused by name from now on, instead of all there are."""
        self.paused_all = self.killed_all = False
        self.paused |= databases

    def tell_release(self) -> None:
        """A pause has ended."""
        self.released.set()
        self.released = trio.Event()

    def keep_only(self, databases: set[str]) -> None:
        """Forget databases that exist no longer."""
        self.paused &= databases
        self.disabled &= databases
