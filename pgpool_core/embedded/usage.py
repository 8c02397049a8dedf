"""What a program used of the pooler while it ran: highest numbers seen, waits, reasons to keep a server, errors, and what follows from it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs
import trio

from pgpool_core.embedded.proxy import Proxy
from pgpool_core.errors import PoolClosed
from pgpool_core.metrics.counters import percentile_us
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import Snapshot

LOOK_EVERY_S: Final = 0.25
LONG_WAIT_US: Final = 50_000  # from which on a 99th percentile of waits deserves advice
MANY_TRANSACTIONS: Final = 1000  # from which on the numbers say something about the pool's size
ERRORS_SHOWN: Final = 5


class Complaints(logging.Handler):
    """Counts what the pooler has warned of, by its words without the numbers in them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count one line."""
        words = record.getMessage().split()
        self.counts[" ".join(word for word in words if "=" not in word and not word.startswith(("C-", "S-")))] += 1


@attrs.define(eq=False)
class Usage:
    """The highest numbers seen so far. `follow` looks every quarter of a second, so that a shorter peak may be missed."""

    clients: int = 0
    servers: int = 0
    waiting: int = 0
    longest_wait_us: int = 0

    async def follow(self, proxy: Proxy) -> None:
        """Look until the proxy has stopped."""
        while True:
            try:
                self.look(proxy.statistics())
            except PoolClosed:
                return
            await trio.sleep(LOOK_EVERY_S)

    def look(self, now: Snapshot) -> None:
        """Take one snapshot into account."""
        self.clients = max(self.clients, sum(pool.cl_active + pool.cl_waiting for pool in now.pools))
        self.servers = max(self.servers, sum(pool.servers_total for pool in now.pools))
        self.waiting = max(self.waiting, sum(pool.cl_waiting for pool in now.pools))
        self.longest_wait_us = max(self.longest_wait_us, *(pool.maxwait_us for pool in now.pools), 0)

    def report(self, last: Snapshot, features: SessionFeatures, complaints: Counter[str], *, pool_size: int) -> str:
        """The report for a terminal; no trailing newline."""
        totals = last.overall.totals
        wait_us = percentile_us(totals.wait, 0.99)
        lines = [
            f"pooler: {totals.xacts} transactions, {totals.queries} queries, {totals.client_logins} logins",
            f"  at most {self.clients} clients and {self.servers} servers at once (pool size {pool_size or 'unlimited'})",
            f"  at most {self.waiting} clients waited for a server at once, 99 % of waits took up to {wait_us / 1000:.1f} ms",
        ]
        lines += [f"  kept a server for {reason}: {times} times" for reason, times in features.pins.items()]
        lines += [f"  {times} x {text}" for text, times in complaints.most_common(ERRORS_SHOWN)]
        if (others := len(complaints) - ERRORS_SHOWN) > 0:
            lines.append(f"  and {others} other warnings")
        lines += [f"  advice: {text}" for text in self._advice(wait_us, totals.xacts, features, pool_size)]
        return "\n".join(lines)

    def _advice(self, wait_us: int, xacts: int, features: SessionFeatures, pool_size: int) -> Iterator[str]:
        if self.waiting and wait_us > LONG_WAIT_US and pool_size and self.servers >= pool_size:
            yield f"clients waited long while all {pool_size} servers were busy: try a larger --pool-size"
        if xacts >= MANY_TRANSACTIONS and self.servers * 2 < pool_size and not self.waiting:
            yield f"--pool-size {self.servers} would have done"
        if features.pins:
            yield "some session state kept clients on their server; `pgpool-core check-app` tells what it was"
