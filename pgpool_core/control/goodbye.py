"""The pooler's last words to its clients and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from pgpool_core.errors import PoolClosed, error_response

if TYPE_CHECKING:
    from pgpool_core.control.pools import PoolRegistry
    from pgpool_core.control.report import Report
    from pgpool_core.engine.plane import Engine

GOODBYE_S: Final = 1.0  # at most, for the last error to reach clients and Terminate to reach servers
LOOK_S: Final = 0.01  # how often it is looked whether they have gone

SHUTTING_DOWN: Final = error_response(PoolClosed("pooler is shutting down", sqlstate="57P01"))


async def say_goodbye(engine: Engine, pools: PoolRegistry, report: Report) -> None:
    """Tell all clients why, let the servers go; wait until they have gone, but not for long."""
    with trio.move_on_after(GOODBYE_S, shield=True):
        for row in await report.clients():
            engine.disconnect(row["id"], SHUTTING_DOWN)
        for record in pools:
            engine.end_pool(record.id, SHUTTING_DOWN)
            engine.close_pool(record.id, SHUTTING_DOWN)
        while any(  # noqa: ASYNC110 (the workers send no mail about this)
            pool["cl_active"] + pool["cl_waiting"] + pool["servers_total"] for pool in engine.pools()
        ):
            await trio.sleep(LOOK_S)
