"""What the HTTP endpoint answers: /metrics, /healthz, /readyz.

Alive is who answers at all. Ready is who takes in clients: it listens, is not paused or suspended and does not drain. Whether PostgreSQL
can be reached is not part of it: all poolers would be taken out of service at once, and their clients, who would wait here or be told what
is wrong, would be told nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from pgpool_core.control.endpoint import Answer, Route
from pgpool_core.errors import PoolClosed
from pgpool_core.metrics.prometheus import CONTENT_TYPE, Facts, page
from pgpool_core.metrics.snapshot import Snapshot


class Pages:
    """The routes of `endpoint.Endpoint`."""

    def __init__(
        self, snapshot: Callable[[], Awaitable[Snapshot]], facts: Callable[[], Facts], unready: Callable[[], str]
    ) -> None:
        """`unready` tells why clients are not to be sent here, "" when they are."""
        self._snapshot = snapshot
        self._facts = facts
        self._unready = unready
        self._one_at_a_time = trio.Lock()
        self.routes: Mapping[str, Route] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    async def _metrics(self) -> Answer:
        async with self._one_at_a_time:
            try:
                snapshot = await self._snapshot()
            except PoolClosed as error:
                return Answer(503, f"{error}\n".encode())
            text = await trio.to_thread.run_sync(page, snapshot, self._facts())
        return Answer(200, text, CONTENT_TYPE)

    async def _healthz(self) -> Answer:
        return Answer(200, b"alive\n")

    async def _readyz(self) -> Answer:
        reason = self._unready()
        return Answer(503, f"not ready: {reason}\n".encode()) if reason else Answer(200, b"ready\n")
