"""The door between the faces of a pool (`Pool`, `Connection`) and whatever lends it server connections."""

from __future__ import annotations

from typing import Protocol

from pgpool_core.client.link import Link


class Borrower(Protocol):
    """Somebody who lends links. A link that has been lent is used by nobody else until it is given back."""

    def borrow_now(self) -> Link | None:
        """A link at once, or None where one must be waited for. Never overtakes those who wait."""
        ...

    async def borrow(self) -> Link:
        """A link, first come, first served.

        Raises:
            PoolTimeout: not in time, or too many wait already.
            PoolClosed: there will be none any more.
        """
        ...

    def give_back(self, link: Link) -> None:
        """The link is idle, in step and clean, or closed; it goes to the first who waits."""
        ...
