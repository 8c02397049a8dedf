"""What a pool has done, in numbers."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class PoolStatistics:
    """A pool at one moment, and since it was opened; times are seconds."""

    name: str
    min_size: int
    max_size: int
    size: int
    """Connections that exist or are being opened."""
    idle: int
    in_use: int
    opening: int
    waiting: int
    """Tasks that wait for a connection."""
    suspended: bool
    acquired: int
    """Times that a connection was lent."""
    waits: int
    """How many of these had to wait."""
    wait_time: float
    """How long all of them together."""
    longest_wait: float
    timeouts: int
    """PoolTimeout for acquire_timeout."""
    refused: int
    """PoolTimeout for max_waiting."""
    opened: int
    closed: int
    failed: int
    """Connections that could not be opened."""


@attrs.define(eq=False)
class Counters:
    """Numbers that only grow."""

    acquired: int = 0
    waits: int = 0
    wait_time: float = 0.0
    longest_wait: float = 0.0
    timeouts: int = 0
    refused: int = 0
    opened: int = 0
    closed: int = 0
    failed: int = 0

    def waited(self, seconds: float) -> None:
        """Somebody has got a connection after a wait."""
        self.waits += 1
        self.wait_time += seconds
        self.longest_wait = max(self.longest_wait, seconds)

    def statistics(
        self,
        *,
        name: str,
        min_size: int,
        max_size: int,
        size: int,
        idle: int,
        in_use: int,
        opening: int,
        waiting: int,
        suspended: bool,
    ) -> PoolStatistics:
        """These numbers with those of the moment."""
        return PoolStatistics(
            name=name,
            min_size=min_size,
            max_size=max_size,
            size=size,
            idle=idle,
            in_use=in_use,
            opening=opening,
            waiting=waiting,
            suspended=suspended,
            acquired=self.acquired,
            waits=self.waits,
            wait_time=self.wait_time,
            longest_wait=self.longest_wait,
            timeouts=self.timeouts,
            refused=self.refused,
            opened=self.opened,
            closed=self.closed,
            failed=self.failed,
        )
