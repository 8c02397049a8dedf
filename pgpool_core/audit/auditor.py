"""Finding out what a pooler lets leak: one client makes session state, others are given its server and look for it.

Works through any pooler, or on PostgreSQL itself: nothing is needed but a connection string.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from pgpool_core.audit.kinds import KINDS, Kind
from pgpool_core.audit.report import Finding, Report
from pgpool_core.audit.session import Answer, Gone, Session, parse, run_of
from pgpool_core.audit.strangers import PID, Strangers, ask, is_seen
from pgpool_core.control.messages import ErrorFields
from pgpool_core.errors import PgPoolError

BETWEEN_TRANSACTIONS: Final = "between transactions"
BETWEEN_CLIENTS: Final = "when a client leaves"
NEVER: Final = "never"

_NO_RIGHT: Final = "42501"
_NOT_SUPPORTED: Final = "0A000"
_NO_FILE: Final = "58P01"
_LOGIN_S: Final = 10.0


@attrs.define(kw_only=True)
class Audit:
    """One run against `url`.

    Attributes:
        wait_s: how long a client waits for a server before it counts as having none, in seconds.
        limit: clients that hold a server at one time, at most; more than the pool has servers.
    """

    url: str = attrs.field(repr=False)
    wait_s: float = 2.0
    limit: int = 25
    kinds: Sequence[Kind] = KINDS
    _shared: bool = False  # servers change hands while clients stay
    _spare: bool = False  # there is a second server
    _holds: bool = True  # a transaction keeps its server
    _reused: bool = False  # a server has been seen again after its client had left

    async def run(self) -> Report:
        """Test every kind.

        Raises:
            ConfigError: the connection string cannot be used.
            PgPoolError: nobody can log in.
        """
        await self._calibrate()
        findings = [await self._examine(kind) for kind in self.kinds]
        changes = BETWEEN_TRANSACTIONS if self._shared else BETWEEN_CLIENTS if self._reused else NEVER
        return Report(changes=changes, findings=tuple(findings))

    async def _open(self) -> Session:
        return await Session.open(self.url, timeout_s=_LOGIN_S)

    def _strangers(self) -> Strangers:
        return Strangers(self._open, limit=self.limit, wait_s=self.wait_s, holds=self._holds)

    async def _calibrate(self) -> None:
        async with await self._open() as session:
            try:
                answers = [await session.query(sql) for sql in ("BEGIN", PID)]
                self._holds = all(answer.error is None for answer in answers)
            except Gone:
                self._holds = False  # statement pooling
        async with await self._open() as owner:
            pid = (await owner.query(PID)).value or ""
            strangers = self._strangers()
            try:
                await strangers.look(None, pid)
                self._shared = strangers.reached
                self._spare = strangers.others > 0 or (self._shared and await strangers.can_have_another())
            finally:
                await strangers.close()

    async def _examine(self, kind: Kind) -> Finding:
        words = {"name": f"pgpool_audit_{secrets.token_hex(4)}", "number": str(1000 + secrets.randbelow(1 << 30))}
        if kind.needs:
            async with await self._open() as session:
                role = (await session.query(kind.needs)).value
            if role is None:
                return Finding(kind=kind.about, verdict="not tested", reason="there is no role to change to")
            words["role"] = role
        kind = kind.with_words(**words)
        try:
            if kind.setup:
                async with await self._open() as session:
                    made = await session.query(kind.setup)
                if made.error is not None:
                    return _not_planted(kind, made.error)
            return await self._try(kind)
        except Gone:
            return Finding(kind=kind.about, verdict="not tested", reason="the connection was closed")
        except PgPoolError as error:
            return Finding(kind=kind.about, verdict="not tested", reason=str(error))
        finally:
            if kind.teardown:
                with trio.move_on_after(_LOGIN_S, shield=True):
                    async with await self._open() as session:
                        await session.query(kind.teardown)

    async def _try(self, kind: Kind) -> Finding:
        owner = await self._open()
        strangers = self._strangers()
        try:
            if kind.way not in ("unnamed", "cut") and is_seen(kind, await ask(owner, kind)):
                return Finding(kind=kind.about, verdict="not tested", reason="it was there before")
            planted = await _plant(owner, kind)
            if planted.error is not None:
                return _not_planted(kind, planted.error)
            pid = planted.value or ""
            answer: Answer | None = None
            heard = False
            if kind.way == "cut":
                owner.cut()
            else:
                if self._shared:
                    await strangers.look(kind, pid)
                    await strangers.release(all_of_them=not self._spare)
                answer = await self._ask_owner(owner, kind)
                heard = kind.way == "listen" and await self._is_heard(owner, strangers, kind)
            await strangers.clean(kind)
        finally:
            await strangers.close()
            await owner.close()
        there = heard if kind.way == "listen" else answer is not None and is_seen(kind, answer)
        later = self._strangers()
        try:
            if not strangers.seen:
                await later.look(kind, pid, left=True)
                self._reused = self._reused or later.reached
                await later.clean(kind)
        finally:
            await later.close()
        return self._judge(kind, answer, there, strangers, later)

    async def _ask_owner(self, owner: Session, kind: Kind) -> Answer:
        with trio.move_on_after(_LOGIN_S):
            return await ask(owner, kind)
        raise Gone("no answer in time")

    async def _is_heard(self, owner: Session, strangers: Strangers, kind: Kind) -> bool:
        """Whether a notification reaches the owner; `strangers.seen` if it reaches somebody else."""
        channel = kind.plant.removeprefix("LISTEN ")
        async with await self._open() as speaker:
            await speaker.query(f"NOTIFY {channel}")
            strangers.seen = strangers.seen or channel in speaker.notified
        with trio.move_on_after(self.wait_s):
            await owner.query("SELECT 1")
            await owner.notification(channel)
        strangers.seen = strangers.seen or strangers.notified(channel)
        return channel in owner.notified

    def _judge(self, kind: Kind, answer: Answer | None, there: bool, now: Strangers, later: Strangers) -> Finding:
        error = answer.error if answer is not None else None
        owner = "its own" if there else f"error {error.sqlstate}" if error is not None else "nothing"
        if kind.way == "cut":
            owner = "(has left)"
        if now.seen or later.seen:
            stranger = "the owner's" if now.seen else "the owner's, once it has left"
            return Finding(kind=kind.about, owner=owner, stranger=stranger, verdict="leaked")
        stranger = self._isolation(now, later)
        if not kind.lasts:
            return Finding(kind=kind.about, owner=owner, stranger=stranger, verdict="leaked" if there else "ended")
        if there:
            return Finding(kind=kind.about, owner=owner, stranger=stranger, verdict="kept")
        if error is not None and error.sqlstate == _NOT_SUPPORTED:
            return Finding(kind=kind.about, owner=owner, stranger=stranger, verdict="refused", reason=error.message)
        return Finding(kind=kind.about, owner=owner, stranger=stranger, verdict="lost")

    def _isolation(self, now: Strangers, later: Strangers) -> str:
        if now.reached or later.reached:
            return "nothing"
        if later.closed:
            return "nothing: that server is closed"
        if now.waited or later.waited:
            return "nothing: that server is not to be had"
        return f"nothing on {max(now.others, later.others)} other servers"


async def _plant(owner: Session, kind: Kind) -> Answer:
    """Make the state; the value of the answer is the pid of the server that has it."""
    if kind.way == "named":
        return await owner.group(parse(kind.plant, kind.ask), run_of(PID))
    if kind.way == "unnamed":
        return await owner.group(run_of(PID, f"{kind.ask}_o"), parse(kind.plant))
    return await owner.query(f"{kind.plant}; {PID}")


def _not_planted(kind: Kind, error: ErrorFields) -> Finding:
    if error.sqlstate in (_NO_RIGHT, _NO_FILE):
        return Finding(kind=kind.about, verdict="not tested", reason=error.message)
    return Finding(kind=kind.about, verdict="refused", reason=f"{error.message} ({error.sqlstate})")
