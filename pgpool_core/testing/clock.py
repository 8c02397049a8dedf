"""A clock that stands still until a test moves it."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """Monotonic time for code that takes `now_us`: it moves when told, and never back.

    Call it for the time in microseconds, as the engine and the pools count; `seconds` is what `time.monotonic` would say. For
    trio's own deadlines use trio's `MockClock`, which a test can keep in step: `mock.jump(1.5); clock.advance(1.5)`.
    """

    def __init__(self, start_us: int = 1_000_000_000) -> None:
        if start_us < 0:
            raise ValueError(f"a monotonic clock does not start at {start_us} us")
        self._now_us = start_us

    def __call__(self) -> int:
        return self._now_us

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now_us} us>"

    @property
    def now_us(self) -> int:
        """The time in microseconds."""
        return self._now_us

    @property
    def seconds(self) -> float:
        """The time in seconds."""
        return self._now_us / 1e6

    def advance(self, seconds: float = 0.0, *, us: int = 0) -> int:
        """Move forward by `seconds` plus `us` microseconds; the new time in microseconds.

        Raises:
            ValueError: the step is negative.
        """
        step = round(seconds * 1_000_000) + us
        if step < 0:
            raise ValueError(f"a monotonic clock does not go back ({step} us)")
        self._now_us += step
        return self._now_us

    def advance_to(self, when_us: int) -> int:
        """Move forward to `when_us`.

        Raises:
            ValueError: that is in the past.
        """
        return self.advance(us=when_us - self._now_us)
