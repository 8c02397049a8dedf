"""Who has which link, who waits, and how many there may be. No sockets and no clocks: time comes in as `now`, in seconds.

Idle links are a stack, those who wait a queue. A link that is given back goes straight to the first who waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import traceback

    from pgpool_core.client.link import Link


@attrs.define(eq=False)
class Loan:
    """What the pool knows of one link, from its login to its end."""

    link: Link
    expires: float  # when it is too old
    generation: int
    since: float = 0.0  # idle or lent since
    borrower: str = ""
    stack: traceback.StackSummary | None = None  # of the borrower, where leaks are looked for
    fresh: bool = True  # never lent
    told: bool = False  # that it may have leaked


Wake = Callable[[Any], None]
"""Hands a Loan, or an exception to be raised, to somebody who waits."""


class Lending:
    """The books of a pool."""

    def __init__(self, *, min_size: int, max_size: int) -> None:
        self.min_size = min_size
        self.max_size = max_size
        self.opening = 0
        self.idle: list[Loan] = []
        self.lent: dict[Link, Loan] = {}
        self.waiting: OrderedDict[object, Wake] = OrderedDict()
        self.suspended = False
        self.generation = 0

    @property
    def size(self) -> int:
        """Links that exist or are being opened."""
        return len(self.idle) + len(self.lent) + self.opening

    def take(self, now: float) -> Loan | None:
        """The idle link that was used last, unless somebody waits already."""
        if self.waiting or self.suspended or not self.idle:
            return None
        loan = self.idle.pop()
        self._lend(loan, now)
        return loan

    def _lend(self, loan: Loan, now: float) -> None:
        loan.since = now
        self.lent[loan.link] = loan

    def put(self, loan: Loan, now: float) -> None:
        """A good link is free: it goes to the first who waits, or on the stack."""
        self.lent.pop(loan.link, None)
        if self.waiting and not self.suspended:
            _, wake = self.waiting.popitem(last=False)
            self._lend(loan, now)
            wake(loan)
            return
        loan.since = now
        self.idle.append(loan)

    def drop(self, loan: Loan) -> None:
        """A link has ended."""
        self.lent.pop(loan.link, None)
        if loan in self.idle:
            self.idle.remove(loan)

    def fail_first(self, error: BaseException) -> bool:
        """The first who waits gets an error instead of a link."""
        if not self.waiting:
            return False
        _, wake = self.waiting.popitem(last=False)
        wake(error)
        return True

    def fail_all(self, error: Callable[[], BaseException]) -> None:
        """Everybody who waits gets an error."""
        while self.fail_first(error()):
            pass

    def match(self, now: float) -> None:
        """Hand idle links to those who wait, after `suspended` has ended."""
        while self.waiting and self.idle and not self.suspended:
            self.put(self.idle.pop(), now)

    def to_open(self) -> int:
        """How many links should be opened beside those that are being opened."""
        if self.suspended:
            return 0
        wanted = max(len(self.waiting) - len(self.idle), 0)
        missing = self.min_size - self.size
        return max(min(max(wanted - self.opening, missing), self.max_size - self.size), 0)

    def queued(self) -> int:
        """How many wait for a link that somebody has to give back; for the others one is opened, or may be."""
        room = 0 if self.suspended else self.max_size - len(self.idle) - len(self.lent)
        return len(self.waiting) - max(room, 0)

    def is_old(self, loan: Loan, now: float) -> bool:
        """Whether a link should be replaced."""
        return now >= loan.expires or self.is_void(loan)

    def is_void(self, loan: Loan) -> bool:
        """Whether a link must be replaced, whatever its age."""
        return loan.link.closed or loan.generation != self.generation

    def too_many(self) -> bool:
        """Whether there are more than there may be, since `max_size` was lowered."""
        return self.size > self.max_size

    def expired(self, now: float, max_idle: float) -> list[Loan]:
        """Idle links that are too old, not used for too long, or too many; the least recently used first."""
        spare = self.size - self.min_size
        surplus = self.size - self.max_size
        found = []
        for loan in self.idle:
            stale = now - loan.since >= max_idle and spare > 0
            if stale or surplus > 0 or self.is_old(loan, now):
                found.append(loan)
                spare -= 1
                surplus -= 1
        return found

    def longest(self) -> Loan | None:
        """The loan that has lasted longest."""
        return min(self.lent.values(), key=lambda loan: loan.since, default=None)
