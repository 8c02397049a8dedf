"""One line that tells how a pooler does: redrawn each second on a terminal, written every 10 s elsewhere."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Final, Self, TextIO

import trio

from pgpool_core import logs
from pgpool_core.errors import PoolClosed
from pgpool_core.metrics.snapshot import CONSOLE_DATABASE, CounterRow, Snapshot

ON_TERMINAL_S: Final = 1.0
ELSEWHERE_S: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[K"  # ECMA-48: carriage return, erase to the end of the line


class StatusLine(logging.Handler):
    """The line, and as a log handler the warnings above it; a context manager that installs and removes itself."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(logging.WARNING)
        self._out = out
        self._terminal = out.isatty()
        self._shown = ""
        self.setFormatter(logs.LineFormatter())

    def __enter__(self) -> Self:
        logs.LOGGER.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        logs.LOGGER.removeHandler(self)
        if self._terminal:
            self._write(_CLEAR_LINE)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a warning where the line was, and the line again below it."""
        text = self.format(record) + "\n"
        self._write(f"{_CLEAR_LINE}{text}{self._shown}" if self._terminal else text)

    async def follow(self, statistics: Callable[[], Snapshot]) -> None:
        """Show `statistics()` until the pooler has stopped."""
        period_s = ON_TERMINAL_S if self._terminal else ELSEWHERE_S
        before = statistics()
        while True:
            await trio.sleep(period_s)
            try:
                now = statistics()
            except PoolClosed:
                return
            self._shown = describe(before, now)
            self._write(f"{_CLEAR_LINE}{self._shown}" if self._terminal else f"{self._shown}\n")
            before = now

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def describe(before: Snapshot, now: Snapshot) -> str:
    """Clients, servers and rates between two snapshots, the console left out."""
    counted = _totals(now).since(_totals(before))
    seconds = max(now.now_us - before.now_us, 1) / 1e6
    pools = [pool for pool in now.pools if pool.database != CONSOLE_DATABASE]
    waiting = sum(pool.cl_waiting for pool in pools)
    clients = sum(pool.cl_active for pool in pools) + waiting
    busy = sum(pool.sv_active for pool in pools)
    servers = sum(pool.servers_total for pool in pools)
    xact_us = counted.xact_us // counted.xacts if counted.xacts else 0
    return (
        f"clients {clients} ({waiting} waiting)  servers {servers} ({busy} busy)"
        f"  {counted.xacts / seconds:.0f} xacts/s  {xact_us} us/xact"
    )


def _totals(snapshot: Snapshot) -> CounterRow:
    total = CounterRow()
    for database in snapshot.stats:
        if database.database != CONSOLE_DATABASE:
            total = total.plus(database.totals)
    return total
