"""Links that a proxy in this trio run lends, out of its own pools: the same queue, limits and servers as its clients have.

Source of the numbers is the proxy; what is kept here is who of the program has which link.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import chain
from typing import Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.client import sqlstate
from pgpool_core.client.lender import Lender, now
from pgpool_core.client.lending import Loan
from pgpool_core.client.lent import NO_MATTER, Knowledge, LentLink
from pgpool_core.client.line import IDLE
from pgpool_core.client.link import Link
from pgpool_core.client.patience import overdue
from pgpool_core.client.pool import Pool
from pgpool_core.client.settings import LendingSettings, check_session
from pgpool_core.client.statistics import PoolStatistics
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.loans import STOPPED, Lent, Loans, startup_packet
from pgpool_core.control.pools import PoolRecord
from pgpool_core.control.routing import as_bytes
from pgpool_core.embedded.block import async_block
from pgpool_core.embedded.fork import close_in_children
from pgpool_core.errors import (
    PgPoolError,
    PoolClosed,
    PoolError,
    PoolTimeout,
    ServerUnavailable,
    TooManyClients,
)

HEADER_LEN: Final = 5  # of a message
NEVER_LENT: Final = float("inf")  # the age of a link is the proxy's affair
LEAK_LOOK_S: Final = 1.0


@attrs.define(eq=False)
class Ticket:
    """One borrower, from the question to the end of the loan. A `control.loans.Borrower`."""

    links: SharedLinks
    record: PoolRecord
    task: trio.lowlevel.Task | None  # that waits
    token: int = 0
    loan: Loan | None = None
    waited: bool = False
    error: PgPoolError | None = None

    def lent(self, lent: Lent) -> None:
        """Here is a server."""
        self.waited = lent.waited
        self.loan = self.links.begin(self, lent)
        self._wake()

    def ended(self, error: bytes) -> None:
        """There will be none, or it has been taken away."""
        self.error = error_of(error)
        if self.loan is not None:
            self.links.taken_away(self)
        self._wake()

    def _wake(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """The task that waits has been cancelled."""
        self.task = None
        self.links.give_up(self)
        return trio.lowlevel.Abort.SUCCEEDED


class SharedLinks(Lender):
    """What a program has, or waits for, of one pool of a proxy."""

    def __init__(
        self, loans: Loans, database: str, user: str, server_settings: Mapping[str, str], settings: LendingSettings
    ) -> None:
        """Nothing is borrowed yet.

        Raises:
            ConfigError: the proxy has no such pool, or `server_settings` cannot be used.
            PoolClosed: the proxy takes nobody in.
            PoolError: the proxy lives in another trio run.
        """
        loans.check_run()
        super().__init__(settings)
        check_session(server_settings)
        self.database, self.user = database, user
        self._loans = loans
        self._worker = loans.next_worker()
        self._own = [(name.encode(), value.encode()) for name, value in server_settings.items()]
        names = ((b"user", as_bytes(user)), (b"database", as_bytes(database)), (b"client_encoding", b"UTF8"))
        self._startup = startup_packet([*names, *self._own])
        self._waiting: set[Ticket] = set()
        self._lent: dict[Link, Ticket] = {}
        self._known: dict[int, LentLink] = {}  # by server, for its prepared statements
        self._suspended: trio.Event | None = None
        self._held_up = 0  # tasks that wait for its end
        loans.pool_of(database, user)
        loans.watchers.add(self._server_ended)
        loans.lookers.add(self._look)

    # -- borrowing -------------------------------------------------------------------------------------------------

    def borrow_now(self) -> Link | None:
        """None: the proxy's workers give the servers out."""
        self.check()
        return None

    async def borrow(self) -> Link:
        """A link, first come, first served among all clients of the proxy's pool."""
        self.check()
        begun = now()
        deadline = trio.current_time() + self.settings.acquire_timeout
        limit = self.settings.max_waiting
        if limit is not None and self._waiters() >= limit:
            self.counters.refused += 1
            await trio.lowlevel.checkpoint_if_cancelled()
            raise PoolTimeout(f"{self._waiters()} wait for a connection already: {self.state()} (max_waiting)")
        link, waited = None, False
        with trio.CancelScope(deadline=deadline) as scope:
            link, waited = await self._alive()
        if link is None:
            assert scope.cancelled_caught
            self.counters.timeouts += 1
            raise PoolTimeout(
                f"no connection came free within {self.settings.acquire_timeout:g} s: {self.state()} (acquire_timeout)"
            )
        if waited:
            self.counters.waited(now() - begun)
        return link

    async def _alive(self) -> tuple[Link, bool]:
        """A link whose server has not said good-bye, as far as we know; whether there was none at once."""
        waited = False
        while True:
            while self._suspended is not None:
                waited = True
                self._held_up += 1
                try:
                    await self._suspended.wait()
                finally:
                    self._held_up -= 1
                self.check()
            ticket = await self._wait()
            assert ticket.loan is not None
            link = ticket.loan.link
            while link.has_news():
                pass
            if not link.closed:
                self.note_borrower(ticket.loan)
                return link, waited or ticket.waited
            self.give_back(link)
            waited = True

    def _waiters(self) -> int:
        return len(self._waiting) + self._held_up

    async def _wait(self) -> Ticket:
        record = self._loans.pool_of(self.database, self.user)
        ticket = Ticket(self, record, trio.lowlevel.current_task())
        ticket.token = self._loans.ask(record.id, self._worker, self._startup, ticket)
        self._waiting.add(ticket)
        await trio.lowlevel.wait_task_rescheduled(ticket.abort)
        self._waiting.discard(ticket)
        if ticket.error is not None:
            self.counters.failed += not isinstance(ticket.error, PoolTimeout | PoolClosed)
            if ticket.loan is not None:
                self.give_back(ticket.loan.link)
            raise ticket.error
        return ticket

    def give_up(self, ticket: Ticket) -> None:
        """Nobody waits any more."""
        self._waiting.discard(ticket)
        self._loans.stop_waiting(ticket.token)

    def begin(self, ticket: Ticket, lent: Lent) -> Loan:
        """A server has been lent."""
        record = ticket.record
        link = self._known.get(lent.server)
        if link is None:
            link = LentLink(
                lent,
                self._parameters(record),
                self.catalogue,
                statement_cache_size=self.settings.statement_cache_size
                if record.settings.max_prepared_statements
                else 0,
                cancel_timeout_s=self.settings.cancel_timeout,
                on_sequences=lambda: self._loans.sequences_read(record),
                on_databases=self._loans.databases_asked,
                secured=record.secured(lent.host) if lent.tls is not None else None,
            )
            self._known[lent.server] = link
            self.counters.opened += 1
        link.lend(lent, self._knowledge(record))
        link.close_statements(self._loans.statements.pop(lent.server, []))
        loan = Loan(link, NEVER_LENT, 0, since=now())
        self._lent[link] = ticket
        return loan

    def _parameters(self, record: PoolRecord) -> list[tuple[bytes, bytes]]:
        """What a client would be told at its login."""
        told = dict(record.welcome)
        names = {name.lower(): name for name in told}
        for name, value in ((b"client_encoding", b"UTF8"), *self._own):
            if name.lower() in names:
                told[names[name.lower()]] = value
        return list(told.items())

    def _knowledge(self, record: PoolRecord) -> Knowledge:
        known = self._loans.effects(record)
        return NO_MATTER if known is None else Knowledge(*known)

    def taken_away(self, ticket: Ticket) -> None:
        """The proxy has ended a loan."""
        assert ticket.loan is not None
        link = ticket.loan.link
        if self._lent.get(link) is ticket and isinstance(link, LentLink):
            self._server_ended(link.server)
            if not link.closed:
                link.take_away(f"the proxy has taken the connection back: {ticket.error}")

    def _look(self) -> None:
        """The janitor's round: the proxy's timeouts hold for those who have borrowed from it."""
        for link, ticket in list(self._lent.items()):
            if not isinstance(link, LentLink) or link.closed:
                continue
            patience = self._loans.patience(ticket.record, self.user)
            error = overdue(link, patience, listens=link in self.listening)
            if error is not None:
                logs.LOGGER.info("%s", logs.line("", f"a borrower's connection is taken away: {error.message}"))
                self._server_ended(link.server)
                link.take_away(f"the proxy has taken the connection back: {error.message}", error)

    def _server_ended(self, server: int) -> None:
        if self._known.pop(server, None) is not None:
            self.counters.closed += 1

    # -- giving back -----------------------------------------------------------------------------------------------

    def give_back(self, link: Link) -> None:
        """It goes back to the proxy, which cleans it before anybody else gets it."""
        ticket = self._lent.pop(link, None)
        if ticket is None or not isinstance(link, LentLink):
            return
        if link.about_databases:
            self._loans.databases_done(link.about_databases)
        returned = link.returned(self._knowledge(ticket.record).changes)
        if returned.broken:
            self._server_ended(link.server)
        if returned.functions:
            self._loans.functions_changed(ticket.record)
        self._loans.give_back(ticket.token, returned)

    def needs_cleaning(self, link: Link) -> bool:
        """Only for `on_release`, which is to find no transaction: the rest is the proxy's affair."""
        return self.settings.on_release is not None and link.status != IDLE

    async def clean(self, link: Link) -> None:
        """End the transaction, or close the link."""
        if link.closed:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.settings.cancel_timeout):
            try:
                await link.script("ROLLBACK")
                return
            except PgPoolError:
                pass
        link.close()

    async def new_link(self) -> Link:
        """One that is lent for as long as somebody listens."""
        link = await self.borrow()
        link.dirty = True
        return link

    def let_go(self, link: Link) -> None:
        """The end of a link of `new_link`."""
        self.give_back(link)

    # -- the pool itself -------------------------------------------------------------------------------------------

    def state(self) -> str:
        """Size, use and waiting, for people."""
        row = self._row()
        text = (
            f"{self.database}/{self.user} has {row.get('servers_total', 0)} of {row.get('pool_size', 0) or 'any number'},"
            f" in use here {len(self._lent)}, waiting here {self._waiters()},"
            f" waiting altogether {row.get('cl_waiting', 0)}"
        )
        longest = min(self._loans_now(), key=lambda loan: loan.since, default=None)
        if longest is not None:
            text += f", longest in use here for {now() - longest.since:.1f} s by task {longest.borrower}"
        return text + (", suspended" if self._suspended is not None else "")

    def _loans_now(self) -> Iterator[Loan]:
        return (ticket.loan for ticket in self._lent.values() if ticket.loan is not None)

    def _row(self) -> dict[str, int]:
        try:
            return self._loans.row(self._loans.pool_of(self.database, self.user).id)
        except PgPoolError:
            return {}

    def statistics(self) -> PoolStatistics:
        """What the proxy's pool has, and what has been done here."""
        row = self._row()
        return self.counters.statistics(
            name=self.settings.name,
            min_size=row.get("min_pool_size", 0),
            max_size=row.get("pool_size", 0),
            size=row.get("servers_total", 0),
            idle=row.get("sv_idle", 0) + row.get("sv_used", 0),
            in_use=len(self._lent),
            opening=row.get("sv_login", 0),
            waiting=self._waiters(),
            suspended=self._suspended is not None,
        )

    def drain(self) -> None:
        """Replace the servers of the proxy's pool, as RECONNECT on its console does."""
        self.check()
        self._loans.retire(self._loans.pool_of(self.database, self.user))

    def resize(self, min_size: int | None, max_size: int | None) -> None:
        """Not here.

        Raises:
            PoolError: always.
        """
        self.check()
        raise PoolError("the limits are the proxy's: change its configuration (pool_size, min_pool_size)")

    def suspend(self) -> None:
        """Borrow nothing until `resume`; clients of the proxy go on."""
        self.check()
        if self._suspended is None:
            self._suspended = trio.Event()

    def resume(self) -> None:
        """Whoever waits since `suspend` asks now."""
        self.check()
        self._end_suspension()

    def _end_suspension(self) -> None:
        event, self._suspended = self._suspended, None
        if event is not None:
            event.set()

    async def watch_leaks(self, after: float) -> None:
        """Tell the log of those who keep a link."""
        while True:
            await trio.sleep(min(LEAK_LOOK_S, after / 4))
            self.tell_leaks(self._loans_now(), now(), after)

    def close(self) -> None:
        """Give everything back; whoever waits or works with a link gets an error."""
        if self.closed:
            return
        self.closed = True
        self._loans.watchers.discard(self._server_ended)
        self._loans.lookers.discard(self._look)
        self._end_suspension()
        for ticket in list(self._waiting):
            self.give_up(ticket)
            ticket.error = PoolClosed("the pool is closed")
            ticket._wake()
        for link in list(self._lent):
            if isinstance(link, LentLink):
                link.take_away("the pool is closed")
            self.give_back(link)
        for server, known in self._known.items():
            self._loans.statements.setdefault(server, []).extend(known.statement_names())
        self._known.clear()

    def forget_in_child(self) -> None:
        """After a fork, in the child."""
        super().forget_in_child()
        for link in chain(self._lent, self._known.values()):
            if not link.closed:
                link.forget()


def error_of(message: bytes) -> PgPoolError:
    """What an ErrorResponse of the proxy means to somebody who waits for a connection; b"": the proxy has stopped."""
    if not message:
        return PoolClosed(STOPPED)
    fields = sqlstate.read_fields(message[HEADER_LEN:])
    code, text = fields.get("C", ""), fields.get("M", "")
    if code in ("57P01", "57P03", "55000"):
        return PoolClosed(text, sqlstate=code)
    if code == "53300":
        return TooManyClients(text)
    if text.startswith("query_wait_timeout"):
        return PoolTimeout(text, sqlstate=code)
    if code.startswith("08"):
        return ServerUnavailable(text, sqlstate=code)
    return sqlstate.error_of(fields)


@async_block("proxy.open_pool(...)", "pool", loop="trio")
async def open_shared_pool(
    loans: Loans, database: str, user: str, server_settings: Mapping[str, str], settings: LendingSettings
) -> AsyncIterator[Pool]:
    """See `Proxy.open_pool`."""
    links = SharedLinks(loans, database, user, server_settings, settings)
    close_in_children(links)
    try:
        await trio.lowlevel.checkpoint()
        if settings.leak_after is None:
            yield Pool(links)
        else:
            async with sole_errors(), trio.open_nursery() as nursery:
                nursery.start_soon(links.watch_leaks, settings.leak_after, name=f"{settings.name or 'pool'}: leaks")
                yield Pool(links)
                nursery.cancel_scope.cancel("the pool's block has ended")
    finally:
        links.close()
