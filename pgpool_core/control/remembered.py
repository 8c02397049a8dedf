"""Answers that are remembered for a while; one question about the same thing is under way at a time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import attrs
import trio

from pgpool_core.control.login_steps import Asking

REMEMBERED: Final = 10_000  # answers; the oldest go first

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.define(eq=False)
class _Flight(Generic[V]):
    """A question under way; others who ask the same wait for it."""

    done: trio.Event = attrs.field(factory=trio.Event)
    asking: list[Asking] = attrs.field(factory=list)
    answer: V | None = None
    error: Exception | None = None


class Abandoned(RuntimeError):
    """There is no answer: whoever asked has been cancelled."""


class Remembered(Generic[K, V]):
    """What `ask` has answered. All of it belongs to the control loop; no answer is None."""

    def __init__(
        self,
        ask: Callable[[K], Awaitable[V]],
        ttl_s: Callable[[V], float],
        *,
        most: int = REMEMBERED,
        changed: Callable[[K, V, V | None], None] = lambda key, before, after: None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """Nothing is remembered yet.

        Args:
            ttl_s: how long an answer holds, asked each time anew.
            most: answers; the oldest go first.
            changed: told of each answer that another takes the place of, or (None) that goes without one, but not by `forget`.
        """
        self._ask = ask
        self._ttl_s = ttl_s
        self._most = most
        self._changed = changed
        self._now = now
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()  # the oldest first
        self._flights: dict[K, _Flight[V]] = {}

    def known(self, key: K) -> V | None:
        """What is remembered about `key`, however old."""
        known = self._answers.get(key)
        return None if known is None else known[1]

    def is_wanted(self, key: K) -> bool:
        """Whether anybody still waits for the answer about `key` that is being asked for."""
        flight = self._flights.get(key)
        return flight is None or not all(each.gone for each in flight.asking)

    async def get(self, key: K, *, longest_s: float = math.inf, asking: Asking | None = None) -> V:
        """The answer about `key`: remembered, and for less than `longest_s`, or asked for now.

        Args:
            asking: who may leave before it is asked; see `is_wanted`.

        Raises:
            Abandoned: another task has asked, and has been cancelled.
            Exception: what `ask` raises, to everybody who waits for it; it is not remembered.
        """
        known = self._answers.get(key)
        if known is not None and self._now() - known[0] < min(self._ttl_s(known[1]), longest_s):
            return known[1]
        flight = self._flights.get(key)
        if flight is not None:
            flight.asking.append(asking or Asking())
        else:
            flight = self._flights[key] = _Flight(asking=[asking or Asking()])
            try:
                flight.answer = await self._ask(key)
                self._remember(key, flight, flight.answer)
            except Exception as error:
                flight.error = error
            finally:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.done.set()
        await flight.done.wait()
        if flight.answer is None:
            raise flight.error or Abandoned("whoever asked has been cancelled")
        return flight.answer

    def expire(self, grace_s: float) -> None:
        """Forget answers that have held no more for so long."""
        while self._answers:
            at, answer = next(iter(self._answers.values()))
            if self._now() - at < self._ttl_s(answer) + grace_s:
                break
            self._drop_oldest()

    def forget(self) -> None:
        """Forget all; what is under way answers those who wait for it, and nobody else."""
        self._answers.clear()
        self._flights.clear()

    def _remember(self, key: K, flight: _Flight[V], answer: V) -> None:
        if self._flights.get(key) is not flight:
            return
        before = self._answers.pop(key, None)
        self._answers[key] = (self._now(), answer)
        if before is not None:
            self._changed(key, before[1], answer)
        if len(self._answers) > self._most:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        key, (_, answer) = self._answers.popitem(last=False)
        self._changed(key, answer, None)
