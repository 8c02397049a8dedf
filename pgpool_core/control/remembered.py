"""Answers that are remembered for a while; one question about the same thing is under way at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import attrs
import trio

REMEMBERED: Final = 10_000  # answers; the oldest go first

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.define(eq=False)
class _Flight(Generic[V]):
    """A question under way; others who ask the same wait for it."""

    done: trio.Event = attrs.field(factory=trio.Event)
    answer: V | None = None
    error: Exception | None = None


class Remembered(Generic[K, V]):
    """What `ask` has answered. All of it belongs to the control loop; no answer is None."""

    def __init__(
        self,
        ask: Callable[[K], Awaitable[V]],
        ttl_s: Callable[[V], float],
        *,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """`ttl_s` says how long an answer holds, each time anew."""
        self._ask = ask
        self._ttl_s = ttl_s
        self._now = now
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()  # the oldest first
        self._flights: dict[K, _Flight[V]] = {}

    async def get(self, key: K) -> V:
        """The answer about `key`: remembered, or asked for now.

        Raises:
            Exception: what `ask` raises, to everybody who waits for it; it is not remembered.
        """
        if (known := self._answers.get(key)) is not None and self._now() - known[0] < self._ttl_s(known[1]):
            return known[1]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
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
            raise flight.error or RuntimeError("whoever asked has been cancelled")
        return flight.answer

    def forget(self) -> None:
        """Forget all; what is under way answers those who wait for it, and nobody else."""
        self._answers.clear()
        self._flights.clear()

    def _remember(self, key: K, flight: _Flight[V], answer: V) -> None:
        if self._flights.get(key) is not flight:
            return
        self._answers.pop(key, None)
        self._answers[key] = (self._now(), answer)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
