"""What more workers would bring, computed from what a few have cost: a simulation, for machines with more cores than this one.

Every worker has a core to itself. A transaction takes it `work_us` alone and `lock_us` under the lock of its pool, which is the
one thing that workers have to take in turns: a closed queueing network with N customers, a delay of `work_us` and one station of
`lock_us`, solved by exact mean value analysis. For k = 1 .. N, beginning with Q(0) = 0:

    R(k) = lock_us * (1 + Q(k-1))        time at the lock, waiting included
    X(k) = k / (work_us + R(k))          transactions per microsecond
    Q(k) = X(k) * R(k)                   workers at the lock

Hand-offs and steals are not in the formula but in `work_us`, which is measured with as many workers as there are to be.
Source: Reiser and Lavenberg, "Mean-Value Analysis of Closed Multichain Queuing Networks", JACM 27 (1980). It takes the time under
the lock to vary as an exponential distribution does, which is worse than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import attrs

CORES_A_WORKER: Final = 4
"""A worker that is to be busy needs this many: PostgreSQL takes about two beside it, the clients one."""

LONGER: Final = 4
"""How many times as long the lock is held in the pessimistic curve: cores that are far from each other, a busy memory."""


@attrs.frozen(kw_only=True)
class Cost:
    """What a transaction has cost with so many workers; all but `rate` and `held_ns` are per transaction.

    Attributes:
        cpu_us: of the whole process.
        by_worker_us: processor time of each worker, over the transactions of all.
        waits: locks that were not free.
        waited_us: time spent waiting for them.
        held_ns: how long a lock is held: the median, one reading of the clock included.
        rate: transactions per second here. It says something about scaling only where there are cores enough.
    """

    workers: int
    cpu_us: float
    by_worker_us: tuple[float, ...]
    steals: float
    handoffs: float
    wakeups: float
    locks: float
    waits: float
    waited_us: float
    held_ns: float
    rate: float

    @property
    def lock_us(self) -> float:
        """Time under the lock."""
        return self.locks * self.held_ns / 1000


@attrs.frozen(kw_only=True)
class Point:
    """One number of workers: transactions per second, and the share of the time that the lock is taken."""

    workers: int
    cpu_us: float
    rate: float
    lock_share: float


def cores_enough(workers: int, cores: int) -> bool:
    """Whether so many workers can be kept busy here, and the rate be measured."""
    return cores >= workers * CORES_A_WORKER


def middle(rounds: Sequence[Cost]) -> Cost:
    """The median of every figure over the rounds of one number of workers."""
    first = rounds[0]
    values = {
        field.name: median(getattr(each, field.name) for each in rounds)
        for field in attrs.fields(Cost)
        if field.name not in ("workers", "by_worker_us")
    }
    by_worker = tuple(median(each.by_worker_us[worker] for each in rounds) for worker in range(len(first.by_worker_us)))
    return Cost(workers=first.workers, by_worker_us=by_worker, **values)


def queue(workers: int, work_us: float, lock_us: float) -> Point:
    """The formula above."""
    at_lock = rate = 0.0
    for customers in range(1, workers + 1):
        there_us = lock_us * (1 + at_lock)
        rate = customers / (work_us + there_us)
        at_lock = rate * there_us
    return Point(workers=workers, cpu_us=work_us + lock_us, rate=rate * 1e6, lock_share=rate * lock_us)


def between(costs: Sequence[Cost], workers: int) -> tuple[float, float]:
    """CPU time and locks of a transaction with so many workers: on the straight line between the nearest that were measured."""
    known = sorted(costs, key=lambda cost: cost.workers)
    below = max((cost for cost in known if cost.workers <= workers), key=lambda cost: cost.workers, default=known[0])
    above = min((cost for cost in known if cost.workers >= workers), key=lambda cost: cost.workers, default=known[-1])
    if above.workers == below.workers:
        return below.cpu_us, below.locks
    share = (workers - below.workers) / (above.workers - below.workers)
    return (
        below.cpu_us + share * (above.cpu_us - below.cpu_us),
        below.locks + share * (above.locks - below.locks),
    )


def held_ns(costs: Sequence[Cost], cores: int) -> float:
    """How long a lock is held: the longest median among those numbers of workers that have a core each."""
    return max((cost.held_ns for cost in costs if cost.workers <= cores), default=costs[0].held_ns)


def predicted(costs: Sequence[Cost], cores: int, most: int, *, longer: float = 1.0) -> list[Point]:
    """The curve for 1 to `most` workers; `longer`: the lock is held so many times as long."""
    points = []
    held_us = held_ns(costs, cores) / 1000
    for workers in range(1, most + 1):
        cpu_us, locks = between(costs, workers)
        lock_us = locks * held_us
        points.append(queue(workers, max(0.0, cpu_us - lock_us), lock_us * longer))
    return points


def median_ns(bounds_ns: Sequence[float], counts: Sequence[float]) -> float:
    """The median of a histogram, inside its bucket on a straight line; the last bucket has no upper bound, so its lower one.

    Args:
        bounds_ns: where each bucket but the last ends.
        counts: how many are in each bucket.
    """
    half, seen = sum(counts) / 2, 0.0
    for index, count in enumerate(counts):
        low = bounds_ns[index - 1] if index else 0.0
        if count and seen + count >= half:
            high = bounds_ns[index] if index < len(bounds_ns) else low
            return low + (high - low) * (half - seen) / count
        seen += count
    return 0.0
