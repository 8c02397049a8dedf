"""Counters of pools and what is told from them: sums, averages over a period, percentiles.

Averages are taken over the last finished `stats_period` and stand still until the next one is over, so that two readers
see the same numbers. Percentiles come from log-linear histograms of microseconds, eight buckets per octave.
Source: PgBouncer `doc/usage.md`, "SHOW STATS" (what is counted, and per what an average is taken).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from operator import add, attrgetter, itemgetter, sub
from typing import Any, TypeVar, cast

import attrs

CONSOLE_POOL = -2
"""The `pool` of a client that is logged in to the console."""
CONSOLE_DATABASE = "pgbouncer"

Row = TypeVar("Row")


def reader(cls: type[Row]) -> Callable[[Mapping[str, Any]], Row]:
    """Return a function that makes a `cls` of a dict with at least its fields; a missing one is our bug (KeyError)."""
    fields = attrs.fields(cast("type[attrs.AttrsInstance]", cls))
    fetch = itemgetter(*(field.name for field in fields))
    return lambda row: cls(*fetch(row))


def _buckets(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


@attrs.frozen
class CounterRow:
    """What one pool (or a sum of pools) has counted: items, bytes, microseconds, and histograms of times.

    The names are the engine's (`engine/counters.pxd`). `pinned_for` has a number for each of `features.PIN_REASONS`,
    `warned_of` for each of `features.WARNED_KINDS`.
    """

    server_assignments: int = 0
    xacts: int = 0
    queries: int = 0
    received: int = 0
    sent: int = 0
    xact_us: int = 0
    query_us: int = 0
    wait_us: int = 0
    client_parses: int = 0
    server_parses: int = 0
    binds: int = 0
    client_logins: int = 0
    login_us: int = 0
    pins: int = 0
    state_refusals: int = 0
    probes: int = 0
    leak_checks: int = 0
    leaks: int = 0
    listens: int = 0
    notifications: int = 0
    wait: tuple[int, ...] = attrs.field(default=(), converter=_buckets)
    query: tuple[int, ...] = attrs.field(default=(), converter=_buckets)
    xact: tuple[int, ...] = attrs.field(default=(), converter=_buckets)
    login: tuple[int, ...] = attrs.field(default=(), converter=_buckets)
    pinned_for: tuple[int, ...] = attrs.field(default=(), converter=_buckets)
    warned_of: tuple[int, ...] = attrs.field(default=(), converter=_buckets)

    def plus(self, other: CounterRow) -> CounterRow:
        """Return the sum of two rows."""
        return self._combined(other, add)

    def since(self, earlier: CounterRow) -> CounterRow:
        """Return what was counted after `earlier`; never negative, so a counter that began anew counts from zero."""
        return self._combined(earlier, sub)

    def _combined(self, other: CounterRow, operation: Callable[[int, int], int]) -> CounterRow:
        numbers = _pairwise(operation, _numbers(self), _numbers(other))
        histograms = [_pairwise(operation, a, b) for a, b in zip(_lists(self), _lists(other), strict=True)]
        return _read_counters(dict(zip((*_NUMBERS, *_LISTS), (*numbers, *histograms), strict=True)))


def _pairwise(operation: Callable[[int, int], int], a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return `operation` of each pair, not below 0; the shorter side is filled up with zeros."""
    if not b:
        return a
    if len(a) != len(b):
        width = max(len(a), len(b))
        a, b = a + (0,) * (width - len(a)), b + (0,) * (width - len(b))
    values = tuple(map(operation, a, b))
    return values if min(values) >= 0 else tuple(max(0, value) for value in values)


_LISTS = ("wait", "query", "xact", "login", "pinned_for", "warned_of")
_NUMBERS = tuple(field.name for field in attrs.fields(CounterRow) if field.name not in _LISTS)
_numbers: Callable[[CounterRow], tuple[int, ...]] = attrgetter(*_NUMBERS)
_lists: Callable[[CounterRow], tuple[tuple[int, ...], ...]] = attrgetter(*_LISTS)

_read_counters = reader(CounterRow)


def bucket_of(value_us: int, buckets: int) -> int:
    """Return the histogram index of `value_us`: a bucket per microsecond below 8, then 8 per octave, the last open."""
    if value_us < 8:
        return min(max(value_us, 0), buckets - 1)
    octave = value_us.bit_length() - 1
    return min((octave - 2) * 8 + ((value_us >> (octave - 3)) & 7), buckets - 1)


def bucket_bounds_us(index: int) -> tuple[int, int]:
    """Return the smallest and the largest value (microseconds) that fall into bucket `index`, were it not the last."""
    if index < 8:
        return index, index
    shift = index // 8 - 1
    low = (8 + index % 8) << shift
    return low, low + (1 << shift) - 1


def percentile_us(histogram: Sequence[int], fraction: float) -> int:
    """Return the value in microseconds that `fraction` (0..1) of the samples do not exceed; 0 without samples.

    It is the largest value of the bucket that holds the sample of that rank, hence at most 12.5 % too high and never
    too low. The last bucket has no largest value, so its smallest is returned.
    """
    total = sum(histogram)
    rank = max(1, -(-total * round(fraction * 10_000) // 10_000))
    seen = 0
    for index, count in enumerate(histogram):
        seen += count
        if total and seen >= rank:
            return bucket_bounds_us(index)[0 if index == len(histogram) - 1 else 1]
    return 0


@attrs.frozen(kw_only=True)
class Averages:
    """The last finished period: items, bytes and waiting per second; transaction and query time per item; percentiles.

    All are whole numbers, rounded down, and zero until the first period is over. Waiting is microseconds per second, as
    PgBouncer has it: 2,500,000 means that two and a half clients were waiting at any time.
    """

    server_assignments: int = 0
    xacts: int = 0
    queries: int = 0
    received: int = 0
    sent: int = 0
    xact_us: int = 0
    query_us: int = 0
    wait_us: int = 0
    client_parses: int = 0
    server_parses: int = 0
    binds: int = 0
    client_logins: int = 0
    query_p50_us: int = 0
    query_p99_us: int = 0
    wait_p50_us: int = 0
    wait_p99_us: int = 0
    xact_p50_us: int = 0
    xact_p99_us: int = 0

    @classmethod
    def over(cls, counted: CounterRow, period_us: int) -> Averages:
        """Return the averages of what was `counted` in a period of `period_us` microseconds."""
        if period_us <= 0:
            return cls()
        values = {name: getattr(counted, name) * 1_000_000 // period_us for name in _PER_SECOND}
        values["xact_us"] = counted.xact_us // counted.xacts if counted.xacts else 0
        values["query_us"] = counted.query_us // counted.queries if counted.queries else 0
        for name in ("query", "wait", "xact"):
            histogram = getattr(counted, name)
            values[f"{name}_p50_us"] = percentile_us(histogram, 0.50)
            values[f"{name}_p99_us"] = percentile_us(histogram, 0.99)
        return cls(**values)


_PER_SECOND = tuple(field.name for field in attrs.fields(Averages) if field.name in _NUMBERS)


@attrs.frozen
class DatabaseStats:
    """Counters of one database, all its pools together: since the start, and over the last finished period."""

    database: str
    totals: CounterRow
    averages: Averages


class StatsPeriods:
    """Remembers the counters at the last two ends of a `stats_period`, so that averages can be told.

    Call `tick` every stats_period; between ticks the averages stand still. Console commands are counted here, because
    no worker counts them: each is one query and one transaction of database `pgbouncer`.
    """

    def __init__(self, now_us: int) -> None:
        """Begin the first period at `now_us`, monotonic microseconds."""
        self._before_us = self._ended_us = now_us
        self._before: dict[int, CounterRow] = {}
        self._ended: dict[int, CounterRow] = {}
        self._console_commands = 0
        self.console_logins = 0
        """How many clients have logged in to the console, as last told."""

    def count_console_command(self) -> None:
        """Count one command that the console was sent."""
        self._console_commands += 1

    def tick(self, counters: Mapping[int, Mapping[str, Any]], now_us: int) -> None:
        """End the period now; `counters` are the engine's, by pool id."""
        self._before, self._before_us = self._ended, self._ended_us
        self._ended, self._ended_us = self._rows(counters), now_us

    def statistics(
        self,
        counters: Mapping[int, Mapping[str, Any]],
        databases: Mapping[int, str],
        shown: Container[str] | None = None,
    ) -> tuple[tuple[DatabaseStats, ...], DatabaseStats]:
        """Return one entry per database that is `shown`, sorted by name, and one for all that there have been, whose name is "".

        Args:
            counters: the engine's, by pool id; totals are theirs, averages those of the last period.
            databases: the database of each pool id, also of pools that are no more: what they have counted stays in the sums of their
                database, which never go back. The console's is added. Counters of other pools are left out.
            shown: the databases that have a pool now; the console's is added. None: all.
        """
        names = {**databases, CONSOLE_POOL: CONSOLE_DATABASE}
        rows = self._rows(counters)
        period_us = self._ended_us - self._before_us
        nothing = CounterRow()
        totals: dict[str, CounterRow] = {}
        counted: dict[str, CounterRow] = {}
        for pool, name in names.items():
            period = self._ended.get(pool, nothing).since(self._before.get(pool, nothing))
            for into in (name, ""):
                totals[into] = totals.get(into, nothing).plus(rows.get(pool, nothing))
                counted[into] = counted.get(into, nothing).plus(period)
        stats = {name: DatabaseStats(name, totals[name], Averages.over(counted[name], period_us)) for name in totals}
        overall = stats.pop("")
        told = [name for name in sorted(stats) if shown is None or name in shown or name == CONSOLE_DATABASE]
        return tuple(stats[name] for name in told), overall

    def _rows(self, counters: Mapping[int, Mapping[str, Any]]) -> dict[int, CounterRow]:
        rows = {pool: _read_counters(row) for pool, row in counters.items()}
        console = CounterRow(
            xacts=self._console_commands, queries=self._console_commands, client_logins=self.console_logins
        )
        rows[CONSOLE_POOL] = rows.get(CONSOLE_POOL, CounterRow()).plus(console)
        return rows
