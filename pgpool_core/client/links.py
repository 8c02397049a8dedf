"""A pool's own links: opened when they are needed, checked, cleaned, closed when they are old. A Borrower.

Links are opened by tasks of the pool's nursery, so a borrower who is cancelled loses nothing; the first who waits gets the error of
a link that could not be opened.
"""

from __future__ import annotations

import os
import random
import time
import traceback
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.lending import Lending, Loan
from pgpool_core.client.link import IDLE, Link
from pgpool_core.client.settings import PoolSettings, with_password
from pgpool_core.client.statistics import Counters
from pgpool_core.control.connect import ServerTarget, open_server
from pgpool_core.control.groups import sole_errors
from pgpool_core.errors import PgPoolError, PoolClosed, PoolError, PoolTimeout

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection

FORKED: Final = "this pool lives in the process that opened it, not in a forked child: open one here"
WRONG_LOOP: Final = "this pool belongs to the trio.run() that opened it: open another one here"
PEEK_AFTER_S: Final = 0.05  # idle for longer: a look whether the server has said good-bye
JITTER: Final = 0.1  # of max_lifetime, so that links that were opened together do not end together
RETRY_S: Final = 1.0  # between tries to reach min_size
TICK_S: Final = 1.0
LEAK_FRAMES: Final = 8  # of a borrower's stack that are told of
OPENING_AT_FIRST: Final = 4  # links that are opened at once when the pool opens

now = time.monotonic


class OwnLinks:
    """The links of one pool."""

    def __init__(self, target: ServerTarget, settings: PoolSettings, nursery: trio.Nursery) -> None:
        self.target = target
        self.settings = settings
        self.catalogue = Catalogue()
        self.books = Lending(min_size=settings.min_size, max_size=settings.max_size)
        self.counters = Counters()
        self.closed = False
        self.listening: set[Link] = set()
        self.hooks = Hooks(settings)
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._pid = os.getpid()
        self._forked = False
        self._retry_at = 0.0

    # -- borrowing -------------------------------------------------------------------------------------------------

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

    def borrow_now(self) -> Link | None:
        """A link at once, or None; it is fresh enough, not too old, and has not been closed by the server as far as we know."""
        self.check()
        books = self.books
        at = now()
        while True:
            waited = books.idle[-1].since if books.idle else at
            loan = books.take(at)
            if loan is None:
                return None
            idle = at - waited
            if books.is_old(loan, at) or (idle > PEEK_AFTER_S and not self._looks_alive(loan)):
                self._end(loan, "too old or closed by the server")
                continue
            if idle > self.settings.check_after_idle:
                books.put(loan, waited)  # `borrow` checks it
                return None
            self._note_borrower(loan)
            return loan.link

    def _looks_alive(self, loan: Loan) -> bool:
        while loan.link.has_news():
            pass
        return not loan.link.closed

    async def borrow(self) -> Link:
        """A link; see `Borrower`."""
        self.check()
        begun = now()
        deadline = trio.current_time() + self.settings.acquire_timeout
        while True:
            loan = self.books.take(now())
            if loan is None:
                loan = await self._wait(deadline)
                # One that was opened for us is lent once, however short its life: else there might be no end to opening.
                old = self.books.is_void(loan) if loan.fresh else self.books.is_old(loan, now())
            else:
                old = self.books.is_old(loan, now())
            if old or not self._looks_alive(loan):
                self._end(loan, "too old or closed by the server")
                continue
            if await self._passes_check(loan):
                self.counters.waited(now() - begun)
                self._note_borrower(loan)
                return loan.link

    async def _passes_check(self, loan: Loan) -> bool:
        """Ask the server for an answer where the link has been idle for long."""
        idle = now() - loan.link.used
        if idle <= self.settings.check_after_idle:
            return True
        try:
            with trio.fail_after(self.settings.connect_timeout):
                await loan.link.script("")
        except (PgPoolError, trio.TooSlowError):
            loan.link.close()
        except BaseException:
            self.give_back(loan.link)
            raise
        if loan.link.closed:
            self._end(loan, "did not answer after being idle")
            return False
        return True

    async def _wait(self, deadline: float) -> Loan:
        limit = self.settings.max_waiting
        if limit is not None and len(self.books.waiting) >= limit and self.books.to_open() == 0:
            self.counters.refused += 1
            await trio.lowlevel.checkpoint_if_cancelled()
            raise PoolTimeout(f"{len(self.books.waiting)} wait for a connection already: {self.state()} (max_waiting)")
        task = trio.lowlevel.current_task()
        ticket = object()
        given: list[Loan | BaseException] = []

        def wake(result: Loan | BaseException) -> None:
            given.append(result)
            trio.lowlevel.reschedule(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            del self.books.waiting[ticket]
            return trio.lowlevel.Abort.SUCCEEDED

        self.books.waiting[ticket] = wake
        self.open_wanted()
        with trio.CancelScope(deadline=deadline) as scope:
            await trio.lowlevel.wait_task_rescheduled(abort)
        if given:
            if isinstance(given[0], BaseException):
                raise given[0]
            return given[0]
        assert scope.cancelled_caught
        self.counters.timeouts += 1
        raise PoolTimeout(
            f"no connection came free within {self.settings.acquire_timeout:g} s: {self.state()} (acquire_timeout)"
        )

    def state(self) -> str:
        """Size, use and waiting, for people."""
        books = self.books
        text = f"size {books.size} of {books.max_size}, in use {len(books.lent)}, waiting {len(books.waiting)}"
        longest = books.longest()
        if longest is not None:
            text += f", longest in use for {now() - longest.since:.1f} s by task {longest.borrower}"
        return text + (", suspended" if books.suspended else "")

    def _note_borrower(self, loan: Loan) -> None:
        loan.fresh = False
        loan.borrower = trio.lowlevel.current_task().name
        if self.settings.leak_after is not None:
            loan.told = False
            loan.stack = traceback.extract_stack()
        self.counters.acquired += 1

    # -- giving back -----------------------------------------------------------------------------------------------

    def give_back(self, link: Link) -> None:
        """See `Borrower`."""
        loan = self.books.lent.get(link)
        if loan is None:
            return
        at = now()
        link.used = at
        if link.status != IDLE or link.owed:
            link.close()  # nobody has cleaned it
        if self.closed or self.books.is_old(loan, at) or self.books.too_many():
            self._end(loan, "closed by the pool" if self.closed else "too old, or broken while in use")
        else:
            self.books.put(loan, at)

    def needs_cleaning(self, link: Link) -> bool:
        """Whether `clean` has something to do before `give_back`."""
        return link.dirty or link.status != IDLE or bool(link.owed)

    async def clean(self, link: Link) -> None:
        """Take out of the session what its borrower has left there, or close it. Shielded, with a deadline."""
        if link.closed:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.settings.cancel_timeout):
            try:
                if link.status != IDLE:
                    await link.script("ROLLBACK")
                if link.dirty:
                    await link.script("DISCARD ALL")
                    link.forget_closed_statements()
                    await self.hooks.connect(link)
                    link.dirty = False
                return
            except Exception as error:
                logs.LOGGER.info(
                    "%s", logs.line("", f"closing a connection that cannot be cleaned: {type(error).__name__}")
                )
        link.close()

    # -- opening and closing ---------------------------------------------------------------------------------------

    def open_wanted(self) -> None:
        """Begin to open what is missing."""
        for _ in range(self.books.to_open()):
            self.books.opening += 1
            self._nursery.start_soon(self._open_one, name=f"{self.settings.name or 'pool'}: opening a connection")

    async def open_first(self) -> None:
        """Open min_size links and at least one, a few at a time; the first error is raised."""
        missing = max(self.settings.min_size, 1)

        async def some() -> None:
            nonlocal missing
            while missing > 0:
                missing -= 1
                self.books.opening += 1
                generation = self.books.generation
                try:
                    link = await self.new_link()
                finally:
                    self.books.opening -= 1
                self.add(link, generation)

        async with sole_errors(), trio.open_nursery() as nursery:
            for _ in range(min(OPENING_AT_FIRST, missing)):
                nursery.start_soon(some)

    async def _open_one(self) -> None:
        generation = self.books.generation
        try:
            link = await self.new_link()
        except Exception as error:
            self.books.opening -= 1
            self.counters.failed += 1
            self._retry_at = now() + RETRY_S
            self.books.fail_first(error)
            if self.books.waiting:
                self.open_wanted()
            return
        except BaseException:
            self.books.opening -= 1
            raise
        self.books.opening -= 1
        self.add(link, generation)

    def add(self, link: Link, generation: int) -> None:
        """A new link is there; `generation` is that of when its opening began."""
        lifetime = self.settings.max_lifetime * (1 - JITTER * random.random())  # noqa: S311
        link.used = now()
        loan = Loan(link, now() + lifetime, generation)
        if self.closed or self.books.too_many():
            self._end(loan, "closed by the pool")
        else:
            self.books.put(loan, now())

    async def new_link(self) -> Link:
        """A link that nobody knows of yet, its on_connect done."""
        target = await with_password(self.target, self.settings.password)
        server = await open_server(target, timeout_s=self.settings.connect_timeout)
        link = Link(
            server,
            self.catalogue,
            statement_cache_size=self.settings.statement_cache_size,
            cancel_timeout_s=self.settings.cancel_timeout,
        )
        self.counters.opened += 1
        try:
            await self.hooks.connect(link)
        except BaseException:
            link.close()
            raise
        link.dirty = False
        return link

    def _end(self, loan: Loan, reason: str) -> None:
        self.books.drop(loan)
        loan.link.close()
        self.counters.closed += 1
        self.hooks.close(loan.link, reason)
        if not self.closed and self.books.waiting:
            self.open_wanted()

    # -- upkeep ----------------------------------------------------------------------------------------------------

    async def keep_up(self) -> None:
        """The pool's timer: old links end, min_size is kept, leaks are told of."""
        settings = self.settings
        shortest = min(settings.max_idle, settings.max_lifetime, settings.leak_after or settings.max_idle)
        while True:
            await trio.sleep(min(TICK_S, shortest / 4))
            self.sweep()

    def sweep(self) -> None:
        """One turn of the timer."""
        at = now()
        for loan in self.books.expired(at, self.settings.max_idle):
            self._end(loan, "idle for too long (max_idle), or too old (max_lifetime)")
        for loan in list(self.books.idle):
            if not self._looks_alive(loan):
                self._end(loan, "closed by the server")
        if at >= self._retry_at:
            self.open_wanted()
        if self.settings.leak_after is not None:
            self._tell_leaks(at, self.settings.leak_after)

    def _tell_leaks(self, at: float, after: float) -> None:
        for loan in self.books.lent.values():
            if at - loan.since >= after and not loan.told and loan.stack is not None:
                loan.told = True
                text = f"a connection has been in use by task {loan.borrower} for {at - loan.since:.1f} s (leak_after)"
                logs.LOGGER.warning("%s", logs.line("", text, {"acquired_at": _place(loan.stack)}))

    def resume(self) -> None:
        """The end of a suspension: whoever waits is served."""
        self.books.suspended = False
        self.books.match(now())
        self.open_wanted()

    async def on_release(self, connection: Connection) -> None:
        """Call the user's hook, shielded, with a deadline; a link that it spoils is closed."""
        hook = self.settings.on_release
        assert hook is not None
        link = connection.link
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.settings.cancel_timeout) as scope:
            try:
                await hook(connection)
                if self.needs_cleaning(link):
                    await self.clean(link)
                return
            except Exception as error:
                logs.LOGGER.warning("%s", logs.line("", f"on_release failed: {type(error).__name__}"))
        if scope.cancelled_caught:
            logs.LOGGER.warning("%s", logs.line("", "on_release took longer than cancel_timeout"))
        link.close()

    def drain(self) -> None:
        """Replace every link: idle ones now, others when they come back."""
        self.books.generation += 1
        for loan in list(self.books.idle):
            self._end(loan, "drained")
        self.open_wanted()

    def close(self) -> None:
        """Close every link, also those that are lent; whoever waits or works with one gets an error."""
        if self.closed:
            return
        self.closed = True
        self.books.fail_all(lambda: PoolClosed("the pool is closed"))
        for loan in [*self.books.idle, *self.books.lent.values()]:
            self._end(loan, "closed by the pool")
        for link in list(self.listening):
            link.close()

    def forget_in_child(self) -> None:
        """After a fork, in the child."""
        self._forked = self.closed = True
        for loan in [*self.books.idle, *self.books.lent.values()]:
            loan.link.forget()
        for link in self.listening:
            link.forget()


def _place(stack: traceback.StackSummary) -> str:
    """Where the user's code stands, innermost first."""
    own = os.path.dirname(__file__)
    frames = [frame for frame in reversed(stack) if os.path.dirname(frame.filename) != own]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[:LEAK_FRAMES])


class Hooks:
    """The functions that a user has given."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self.at_each_loan = settings.on_acquire is not None or settings.on_release is not None

    async def connect(self, link: Link) -> None:
        """A link is new, or as new."""
        from pgpool_core.client.connection import Connection

        if self._settings.on_connect is not None:
            handle = Connection(link)
            try:
                await self._settings.on_connect(handle)
            finally:
                handle.end()

    def close(self, link: Link, reason: str) -> None:
        """A link has ended."""
        if self._settings.on_close is not None:
            try:
                self._settings.on_close(link.backend_pid, reason)
            except Exception as error:
                logs.LOGGER.warning("%s", logs.line("", f"on_close failed: {type(error).__name__}"))
