"""The wait for the last client, when the pooler is to end without sending anybody away, or when it has handed over.

Source: PgBouncer docs, SHUTDOWN WAIT_FOR_CLIENTS; client_drain_timeout is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.metrics.counters import CONSOLE_POOL

if TYPE_CHECKING:
    from pgpool_core.control.report import Report
    from pgpool_core.engine.plane import Engine

LOOK_S: Final = 0.1  # how often it is looked whether clients are left
TELL_S: Final = 60.0  # how often the log says how many


async def leave(
    engine: Engine,
    report: Report,
    drain_timeout: Callable[[], float],
    gives: Callable[[], bool] = lambda: False,
    arriving: Callable[[], int] = lambda: 0,
) -> None:
    """Return when no client is left, or when `drain_timeout` seconds (0 = never) are over.

    With a timeout the engine sends clients away, each when it holds no server; a reload may change it meanwhile. While `gives`
    says so, clients go to another process instead, where they can. `arriving`: how many come from another one, and are not the engine's yet.
    """
    began = told = trio.current_time()
    while left := await _left(engine, report, arriving):
        now, timeout_s = trio.current_time(), drain_timeout()
        if timeout_s and now - began >= timeout_s:
            text = "clients are left that have not come to an idle point (client_drain_timeout)"
            logs.LOGGER.warning("%s", logs.line("", text, {"clients": left}))
            return
        if gives():
            engine.give()
        if timeout_s:
            engine.drain()
        if now - told >= TELL_S:
            told = now
            logs.LOGGER.info("%s", logs.line("", "waiting for clients to leave", {"clients": left}))
        await trio.sleep(LOOK_S)


async def _left(engine: Engine, report: Report, arriving: Callable[[], int]) -> int:
    """How many clients there are; those who have not yet said who they are count, those on the console do not."""
    if count := engine.client_count() + arriving():
        return count
    rows = await report.clients()
    return engine.client_count() + arriving() or sum(row["pool"] != CONSOLE_POOL for row in rows)
