"""What every lender of links has: it lives in one trio run of one process, has hooks, knows the types, tells of leaks."""

from __future__ import annotations

import inspect
import os
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.lending import Loan
from pgpool_core.client.link import Link
from pgpool_core.client.settings import Hook, LendingSettings
from pgpool_core.client.statistics import Counters, PoolStatistics
from pgpool_core.errors import ConfigError, PoolClosed, PoolError

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection

FORKED: Final = "this pool lives in the process that opened it, not in a forked child: open one here"
WRONG_LOOP: Final = "this pool belongs to the trio.run() that opened it: open another one here"
LEAK_FRAMES: Final = 8  # of a borrower's stack that are told of

now = time.monotonic


class Lender(ABC):
    """Somebody who lends links to the faces of a pool; see `Borrower` for how."""

    def __init__(self, settings: LendingSettings) -> None:
        self.settings = settings
        self.catalogue = Catalogue()
        self.counters = Counters()
        self.closed = False
        self.listening: set[Link] = set()
        self.hooks = Hooks(settings)
        self._token = trio.lowlevel.current_trio_token()
        self._forked = False

    def check(self) -> None:
        """Refuse to work where the pool does not live.

        Raises:
            PoolClosed: it has been closed, or this is a forked child.
            PoolError: this is another trio.run().
        """
        if self._forked:
            raise PoolClosed(FORKED)
        if self.closed:
            raise PoolClosed("the pool is closed")
        try:
            here = trio.lowlevel.current_trio_token()
        except RuntimeError:
            raise PoolError("a pool is used from inside trio.run(), in the thread that runs it") from None
        if here is not self._token:
            raise PoolError(WRONG_LOOP)

    @abstractmethod
    def borrow_now(self) -> Link | None:
        """See `Borrower`."""

    @abstractmethod
    async def borrow(self) -> Link:
        """See `Borrower`."""

    @abstractmethod
    def give_back(self, link: Link) -> None:
        """See `Borrower`."""

    @abstractmethod
    def needs_cleaning(self, link: Link) -> bool:
        """Whether `clean` has something to do before `give_back`."""

    @abstractmethod
    async def clean(self, link: Link) -> None:
        """Take out of the session what its borrower has left there, or close it. Shielded, with a deadline."""

    @abstractmethod
    async def new_link(self) -> Link:
        """A link for a listener, which ends with `let_go`."""

    @abstractmethod
    def let_go(self, link: Link) -> None:
        """The end of a link of `new_link`."""

    @abstractmethod
    def state(self) -> str:
        """Size, use and waiting, for people."""

    @abstractmethod
    def statistics(self) -> PoolStatistics:
        """What there is and has been done."""

    @abstractmethod
    def drain(self) -> None:
        """See `Pool.drain`."""

    @abstractmethod
    def resize(self, min_size: int | None, max_size: int | None) -> None:
        """See `Pool.resize`."""

    @abstractmethod
    def suspend(self) -> None:
        """See `Pool.suspend`."""

    @abstractmethod
    def resume(self) -> None:
        """See `Pool.resume`."""

    def note_borrower(self, loan: Loan) -> None:
        """The task that runs has it now."""
        loan.fresh = False
        loan.borrower = trio.lowlevel.current_task().name
        if self.settings.leak_after is not None:
            loan.told = False
            loan.stack = traceback.extract_stack()
        self.counters.acquired += 1

    def tell_leaks(self, lent: Iterable[Loan], at: float, after: float) -> None:
        """Tell the log of links that have been in use for long."""
        for loan in lent:
            if at - loan.since >= after and not loan.told and loan.stack is not None:
                loan.told = True
                text = f"a connection has been in use by task {loan.borrower} for {at - loan.since:.1f} s (leak_after)"
                logs.LOGGER.warning("%s", logs.line("", text, {"acquired_at": _place(loan.stack)}))

    async def on_release(self, connection: Connection) -> None:
        """Call the user's hook, shielded, with a deadline; a link that it spoils is closed."""
        hook = self.settings.on_release
        assert hook is not None
        link = connection.link
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.settings.cancel_timeout) as scope:
            try:
                await call_hook("on_release", hook, connection)
                if self.needs_cleaning(link):
                    await self.clean(link)
                return
            except Exception as error:
                why = str(error) if isinstance(error, ConfigError) else type(error).__name__
                logs.LOGGER.warning("%s", logs.line("", f"on_release failed: {why}"))
        if scope.cancelled_caught:
            logs.LOGGER.warning("%s", logs.line("", "on_release took longer than cancel_timeout"))
        link.close()

    def forget_in_child(self) -> None:
        """After a fork, in the child."""
        self._forked = self.closed = True
        for link in self.listening:
            link.forget()


async def call_hook(name: str, hook: Hook, connection: Connection) -> None:
    """Call an async function of the user's.

    Raises:
        ConfigError: it is not async.
    """
    result = hook(connection)
    if not inspect.isawaitable(result):
        raise ConfigError(f"{name} must be an async function: what it returned cannot be awaited")
    await result


def _place(stack: traceback.StackSummary) -> str:
    """Where the user's code stands, innermost first."""
    own = os.path.dirname(__file__)
    frames = [frame for frame in reversed(stack) if os.path.dirname(frame.filename) != own]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[:LEAK_FRAMES])


class Hooks:
    """The functions that a user has given."""

    def __init__(self, settings: LendingSettings) -> None:
        self._settings = settings
        self.at_each_loan = settings.on_acquire is not None or settings.on_release is not None

    async def connect(self, link: Link) -> None:
        """A link is new, or as new."""
        from pgpool_core.client.connection import Connection

        if self._settings.on_connect is not None:
            handle = Connection(link)
            try:
                await call_hook("on_connect", self._settings.on_connect, handle)
            finally:
                handle.end()

    def close(self, link: Link, reason: str) -> None:
        """A link has ended."""
        if self._settings.on_close is not None:
            try:
                self._settings.on_close(link.backend_pid, reason)
            except Exception as error:
                logs.LOGGER.warning("%s", logs.line("", f"on_close failed: {type(error).__name__}"))
