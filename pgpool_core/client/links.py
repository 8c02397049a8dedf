"""A pool's own links: opened when they are needed, checked, cleaned, closed when they are old. A Borrower.

Links are opened by tasks of the pool's nursery, so a borrower who is cancelled loses nothing; the first who waits gets the error of
a link that could not be opened.
"""

from __future__ import annotations

import random
from typing import Final

import trio

from pgpool_core import logs
from pgpool_core.client.giving_up import cancel
from pgpool_core.client.lender import Lender, now
from pgpool_core.client.lending import Lending, Loan
from pgpool_core.client.line import IDLE
from pgpool_core.client.link import Link
from pgpool_core.client.settings import PoolSettings, check_sizes, with_password
from pgpool_core.client.statistics import PoolStatistics
from pgpool_core.control.connect import ServerTarget, open_server
from pgpool_core.control.groups import sole_errors
from pgpool_core.errors import PgPoolError, PoolClosed, PoolError, PoolTimeout

PEEK_AFTER_S: Final = 0.05  # idle for longer: a look whether the server has said good-bye
JITTER: Final = 0.1  # of max_lifetime, so that links that were opened together do not end together
RETRY_S: Final = 1.0  # between tries to reach min_size
TICK_S: Final = 1.0
OPENING_AT_FIRST: Final = 4  # links that are opened at once when the pool opens


class OwnLinks(Lender):
    """The links of one pool."""

    settings: PoolSettings

    def __init__(self, target: ServerTarget, settings: PoolSettings, nursery: trio.Nursery) -> None:
        super().__init__(settings)
        self.target = target
        self.books = Lending(min_size=settings.min_size, max_size=settings.max_size)
        self._nursery = nursery
        self._retry_at = 0.0
        self._failing = False  # the last connection that nobody waited for could not be opened

    # -- borrowing -------------------------------------------------------------------------------------------------

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
            self.note_borrower(loan)
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
                self.check()  # the pool may have been closed since this was handed to us
                # One that was opened for us is lent once, however short its life: else there might be no end to opening.
                old = self.books.is_void(loan) if loan.fresh else self.books.is_old(loan, now())
            else:
                old = self.books.is_old(loan, now())
            if old or not self._looks_alive(loan):
                self._end(loan, "too old or closed by the server")
                continue
            if await self._passes_check(loan):
                self.counters.waited(now() - begun)
                self.note_borrower(loan)
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
            self.check()  # the pool may have closed it, and has ended the loan then
            self._end(loan, "did not answer after being idle")
            return False
        return True

    async def _wait(self, deadline: float) -> Loan:
        limit = self.settings.max_waiting
        queued = self.books.queued()
        if limit is not None and queued >= limit:
            self.counters.refused += 1
            await trio.lowlevel.checkpoint_if_cancelled()
            raise PoolTimeout(f"{queued} wait for a connection already: {self.state()} (max_waiting)")
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
            if link.owed:  # another task waits for an answer there
                link.close()
                await cancel(link)
                return
            try:
                if link.status != IDLE:
                    await link.script("ROLLBACK")
                if link.dirty:
                    await link.script("DISCARD ALL")
                    link.statements.forget_closed()
                    if self.target.connect_query:
                        await link.script(self.target.connect_query.decode())
                    await self._connected(link)
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
            if not self.books.fail_first(error):
                self._tell_failure(error)
            if self.books.waiting:
                self.open_wanted()
            return
        except BaseException:
            self.books.opening -= 1
            raise
        self.books.opening -= 1
        self.add(link, generation)

    def _tell_failure(self, error: Exception) -> None:
        """A link that nobody waits for could not be opened: the log has the first of such failures in a row."""
        if not self._failing:
            why = error if isinstance(error, PgPoolError) else type(error).__name__
            who = f" of {self.settings.name}" if self.settings.name else ""
            logs.LOGGER.warning("%s", logs.line("", f"a connection{who} cannot be opened, trying again: {why}"))
        self._failing = True

    def add(self, link: Link, generation: int) -> None:
        """A new link is there; `generation` is that of when its opening began."""
        self._failing = False
        lifetime = self.settings.max_lifetime * (1 - JITTER * random.random())  # noqa: S311
        link.used = now()
        loan = Loan(link, now() + lifetime, generation)
        if self.closed or self.books.too_many():
            self._end(loan, "closed by the pool")
        else:
            self.books.put(loan, now())

    def let_go(self, link: Link) -> None:
        """The end of a link of `new_link`."""
        link.close()

    async def new_link(self) -> Link:
        """A link that nobody knows of yet, its on_connect done."""
        timeout_s = self.settings.connect_timeout
        target = await with_password(self.target, self.settings.password, timeout_s=timeout_s)
        server = await open_server(target, timeout_s=timeout_s, setting="connect_timeout")
        link = Link(
            server,
            self.catalogue,
            statement_cache_size=self.settings.statement_cache_size,
            cancel_timeout_s=self.settings.cancel_timeout,
        )
        self.counters.opened += 1
        try:
            await self._connected(link)
        except BaseException:
            link.close()
            raise
        return link

    async def _connected(self, link: Link) -> None:
        """A link is new, or as new: its on_connect.

        Raises:
            PoolError: that has left a transaction open.
        """
        await self.hooks.connect(link)
        if link.status != IDLE:
            raise PoolError("on_connect has begun a transaction and not ended it")
        link.dirty = False

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
            self.tell_leaks(self.books.lent.values(), at, self.settings.leak_after)

    def suspend(self) -> None:
        """Lend nothing until `resume`."""
        self.check()
        self.books.suspended = True

    def resume(self) -> None:
        """The end of a suspension: whoever waits is served."""
        self.check()
        self.books.suspended = False
        self.books.match(now())
        self.open_wanted()

    def resize(self, min_size: int | None, max_size: int | None) -> None:
        """Other limits from now on; what is too much is closed as it comes back.

        Raises:
            ConfigError: they contradict each other.
        """
        self.check()
        books = self.books
        low = books.min_size if min_size is None else min_size
        high = books.max_size if max_size is None else max_size
        check_sizes(low, high)
        books.min_size, books.max_size = low, high
        self.sweep()
        self.open_wanted()

    def statistics(self) -> PoolStatistics:
        """What there is and has been done."""
        books = self.books
        return self.counters.statistics(
            name=self.settings.name,
            min_size=books.min_size,
            max_size=books.max_size,
            size=books.size,
            idle=len(books.idle),
            in_use=len(books.lent),
            opening=books.opening,
            waiting=len(books.waiting),
            suspended=books.suspended,
        )

    def drain(self) -> None:
        """Replace every link: idle ones now, others when they come back."""
        self.check()
        self.books.generation += 1
        for loan in list(self.books.idle):
            self._end(loan, "drained")
        self.open_wanted()

    async def finish(self) -> None:
        """`close`, and have the server cancel what runs on links that were lent. Shielded, with a deadline."""
        busy = [link for link in self.books.lent if link.owed and not link.closed]
        self.close()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.settings.cancel_timeout):
            async with trio.open_nursery() as nursery:
                for link in busy:
                    nursery.start_soon(cancel, link)

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
        super().forget_in_child()
        for loan in [*self.books.idle, *self.books.lent.values()]:
            loan.link.forget()
