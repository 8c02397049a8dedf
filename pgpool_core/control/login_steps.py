"""Counts the logins that wait for an answer of somebody else, such as an LDAP server, and those that wait until they may ask for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs
import trio

from pgpool_core.errors import PoolError
from pgpool_core.metrics.snapshot import LoginStepRow

__all__ = ["Asking", "LoginStep", "NobodyAsks"]


@attrs.define(eq=False)
class Asking:
    """A login that waits for an answer."""

    gone: bool = False  # its client has left


class NobodyAsks(Exception):
    """Whoever wanted to know has left before it was asked."""


class LoginStep:
    """One thing that logins may have to wait for. Belongs to the control loop."""

    def __init__(self, name: str, turns: trio.CapacityLimiter | None = None) -> None:
        """`turns`: what limits how many ask at one time; None = any number."""
        self.name = name
        self._turns = turns
        self._here = 0
        self._total = 0
        self._queued = 0
        self._failed = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """A login takes this step. It has failed where no answer is to be had."""
        self._here += 1
        self._total += 1
        if self._turns is not None and self._turns.available_tokens < 1:
            self._queued += 1
        try:
            yield
        except PoolError:
            self._failed += 1
            raise
        finally:
            self._here -= 1

    def row(self) -> LoginStepRow:
        """How things stand."""
        waiting = 0 if self._turns is None else min(self._here, self._turns.statistics().tasks_waiting)
        return LoginStepRow(
            step=self.name,
            active=self._here - waiting,
            waiting=waiting,
            max_active=0 if self._turns is None else int(self._turns.total_tokens),
            total=self._total,
            queued=self._queued,
            failed=self._failed,
        )
