"""What a program used of the pooler while it ran: highest numbers, waits, reasons to keep a server, errors, and what follows from it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs

from pgpool_core.metrics.counters import percentile_us
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import Snapshot

LONG_WAIT_US: Final = 50_000  # from which on a 99th percentile of waits deserves advice
MANY_TRANSACTIONS: Final = 1000  # from which on the numbers say something about the pool's size
ERRORS_SHOWN: Final = 5
_PORT: Final = re.compile(r"(@.*):\d+\Z")
"""Behind an address, which each connection has to itself."""


class Complaints(logging.Handler):
    """Counts what the pooler has warned of, by its words without the numbers in them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count one line."""
        words = record.getMessage().split()
        kept = (word for word in words if "=" not in word and not word.startswith(("C-", "S-")))
        self.counts[" ".join(_PORT.sub(r"\1", word) for word in kept)] += 1


@attrs.frozen
class Usage:
    """The highest numbers that there have been, pool by pool, added up."""

    clients: int
    servers: int
    waiting: int

    @classmethod
    def of(cls, last: Snapshot) -> Usage:
        """What `last`, taken at the end, has counted."""
        return cls(
            clients=sum(pool.most_clients for pool in last.pools),
            servers=sum(pool.most_servers for pool in last.pools),
            waiting=sum(pool.most_waiting for pool in last.pools),
        )

    def report(self, last: Snapshot, features: SessionFeatures, complaints: Counter[str], *, pool_size: int) -> str:
        """The report for a terminal; no trailing newline."""
        totals = last.overall.totals
        wait_us = percentile_us(totals.wait, 0.99)
        lines = [
            f"pooler: {_count(totals.xacts, 'transaction')}, {_count(totals.queries, 'query', 'queries')}, {_count(totals.client_logins, 'login')}",
            f"  at most {_count(self.clients, 'client')} and {_count(self.servers, 'server')} at once (pool size {pool_size or 'unlimited'})",
            (
                f"  at most {_count(self.waiting, 'client')} waited for a server at once, 99 % of waits took up to {wait_us / 1000:.1f} ms"
                if self.waiting
                else "  no client waited for a server"
            ),
        ]
        lines += [f"  kept a server for {reason}: {_count(times, 'time')}" for reason, times in features.pins.items()]
        lines += [f"  {times} x {text}" for text, times in complaints.most_common(ERRORS_SHOWN)]
        if (others := len(complaints) - ERRORS_SHOWN) > 0:
            lines.append(f"  and {_count(others, 'other warning')}")
        lines += [f"  advice: {text}" for text in self._advice(wait_us, totals.xacts, features, pool_size)]
        return "\n".join(lines)

    def _advice(self, wait_us: int, xacts: int, features: SessionFeatures, pool_size: int) -> Iterator[str]:
        if self.waiting and wait_us > LONG_WAIT_US and pool_size and self.servers >= pool_size:
            busy = f"all {pool_size} servers were" if pool_size > 1 else "the only server was"
            yield f"clients waited long while {busy} busy: try a larger --pool-size"
        if xacts >= MANY_TRANSACTIONS and self.servers * 2 < pool_size and not self.waiting:
            yield f"--pool-size {self.servers} would have done"
        if features.pins:
            yield "some session state kept clients on their server; `pgpool-core check-app` tells what it was"


def _count(number: int, noun: str, several: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {several or noun + 's'}"
