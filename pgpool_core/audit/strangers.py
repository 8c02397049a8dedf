"""Clients that look for another client's state: one after the other, each holding the server that it was given.

A server that is held by an open transaction goes to nobody else, so sooner or later one of them gets the owner's server,
or waits in vain for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from pgpool_core.audit.kinds import Kind
from pgpool_core.audit.session import Answer, Gone, Session, call, run_of
from pgpool_core.errors import PgPoolError

PID = "SELECT pg_backend_pid()"


class Strangers:
    """As many clients as it takes, and `limit` at most; where there are no transactions, none of them `holds` its server.

    Attributes:
        seen: one of them has the owner's state.
        reached: one of them got the owner's server.
        waited: one of them got no server in time.
        closed: the owner's server is no longer there.
        others: how many servers they held besides.
    """

    def __init__(
        self, open_session: Callable[[], Awaitable[Session]], *, limit: int, wait_s: float, holds: bool
    ) -> None:
        self._open = open_session
        self._limit = limit
        self._wait_s = wait_s
        self._there: Session | None = None  # on the owner's server
        self._elsewhere: list[Session] = []
        self._holds = holds
        self.seen = self.reached = self.waited = self.closed = False

    @property
    def others(self) -> int:
        return len(self._elsewhere)

    async def look(self, kind: Kind | None, pid: str, *, left: bool = False) -> None:
        """Go on until the state is seen, the server with `pid` is reached, or there is nowhere else to look.

        Args:
            kind: None only looks for the server.
            left: the owner has left, so the server may be closed.
        """
        while not self._has_ended() and self.others < self._limit:
            session = await self._another(kind, pid)
            if session is None:
                self.waited = True
            elif self._has_ended():
                self._there = session
            else:
                self._elsewhere.append(session)
                self.closed = left and await self._is_closed(session, pid)

    def _has_ended(self) -> bool:
        return self.seen or self.reached or self.waited or self.closed

    async def _is_closed(self, session: Session, pid: str) -> bool:
        """Whether PostgreSQL has no such process any more; asked in a new transaction, for the old one may have failed."""
        again = "ROLLBACK; BEGIN; " if self._holds else ""
        alive = await session.query(f"{again}SELECT 1 FROM pg_stat_activity WHERE pid = {pid}")
        return alive.error is None and not alive.rows

    async def can_have_another(self) -> bool:
        """Whether there is a server besides those that are held."""
        session = await self._another(None, "")
        if session is None:
            return False
        self._elsewhere.append(session)
        return True

    async def release(self, *, all_of_them: bool) -> None:
        """Give back the servers other than the owner's, and that one too if wanted."""
        if not self._holds:
            return
        for session in self._elsewhere:
            await session.query("ROLLBACK")
        if all_of_them and self._there is not None:
            await self._there.query("ROLLBACK")

    async def clean(self, kind: Kind) -> None:
        """Take away on the owner's server what was found there."""
        if self._there is None or not self.seen or not kind.undo:
            return
        await self._there.query(kind.undo)
        if self._holds:
            await self._there.query("COMMIT")

    def notified(self, channel: str) -> bool:
        """Whether one of them was told what only the owner listens for."""
        everybody = [*self._elsewhere, *([self._there] if self._there else [])]
        return any(channel in session.notified for session in everybody)

    async def close(self) -> None:
        """Roll back and log out."""
        for session in [*self._elsewhere, *([self._there] if self._there else [])]:
            await session.close()
        self._elsewhere, self._there = [], None

    async def _another(self, kind: Kind | None, pid: str) -> Session | None:
        """One more client, with its look around done; None where it gets no server in time."""
        session: Session | None = None
        with trio.move_on_after(self._wait_s):
            try:
                session = await self._open()
                mine, sees = await self._begin(session, kind)
            except (Gone, PgPoolError):
                pass
            else:
                self.reached = self.reached or mine == pid
                self.seen = self.seen or sees
                return session
        if session is not None:
            session.cut()
        return None

    async def _begin(self, session: Session, kind: Kind | None) -> tuple[str | None, bool]:
        """The pid of the server that `session` has from now on, and whether the state is there."""
        if kind is not None and kind.way == "unnamed":
            begin = run_of("BEGIN", f"{kind.ask}_b") if self._holds else b""
            answer = await session.group(begin, run_of(PID, f"{kind.ask}_p"), call())
            return (answer.rows[0][0] if answer.rows else None), (kind.seen,) in answer.rows
        begun = await session.query(f"BEGIN; {PID}" if self._holds else PID)
        return begun.value, kind is not None and is_seen(kind, await ask(session, kind))


async def ask(session: Session, kind: Kind) -> Answer:
    """What `session` sees of `kind`."""
    if kind.way == "named":
        return await session.group(call(kind.ask))
    if kind.way == "unnamed":
        return await session.group(call())
    return await session.query(kind.ask)


def is_seen(kind: Kind, answer: Answer) -> bool:
    """Whether that is the owner's state."""
    return answer.error is None and answer.value == kind.seen
