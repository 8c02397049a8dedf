"""The other poolers of [peers]: cancel requests that came here and are meant for a client of theirs are passed on.

Several processes share a port (so_reuseport) or an address (a load balancer), and a cancel request reaches any of them. A key says
whose it is and how often it may still be passed on.
Source: PgBouncer docs, "Section [peers]".
"""

from __future__ import annotations

import trio

from pgpool_core import logs
from pgpool_core.config.model import Config, PeerConfig
from pgpool_core.control.cancel import send_cancel, turn
from pgpool_core.control.routing import connect_timeout_s
from pgpool_core.errors import PgPoolError

TTL_BITS = 3
"""In the last byte of a key."""


class Peers:
    """Passes requests on, so many at a time for each peer as its pool_size says; the others wait, up to cancel_wait_timeout."""

    def __init__(self) -> None:
        self._limits: dict[int, trio.CapacityLimiter] = {}
        self.waiting: dict[int, int] = {}
        """Requests that wait for their turn, by peer."""

    def under_way(self, peer: int) -> int:
        """Requests that are on their way to a peer."""
        limiter = self._limits.get(peer)
        return int(limiter.borrowed_tokens) if limiter is not None else 0

    async def carry(self, config: Config, peer: int, key: bytes) -> None:
        """Pass one request on, if its key names a peer that we know and it has not gone round for too long."""
        known = config.peers.get(peer)
        if known is None or known.host is None or peer == config.peer_id:
            logs.LOGGER.info(
                "%s", logs.line("", f"a cancel request for peer {peer}, which is not in [peers], is dropped")
            )
            return
        if key[7] & TTL_BITS == 0:
            logs.LOGGER.warning("%s", logs.line("", f"a cancel request for peer {peer} has been passed on too often"))
            return
        limiter = self._limits.setdefault(peer, trio.CapacityLimiter(1))
        limiter.total_tokens = _at_once(known, config)
        self.waiting[peer] = self.waiting.get(peer, 0) + 1
        waits = True
        try:
            async with turn(limiter, config.cancel_wait_timeout):
                waits = False
                self.waiting[peer] -= 1
                await send_cancel(
                    host=known.host,
                    port=known.port,
                    backend_pid=int.from_bytes(key[:4]),
                    backend_key=key[4:7] + bytes([key[7] - 1]),
                    timeout_s=connect_timeout_s(config),
                )
        except PgPoolError as error:
            logs.LOGGER.warning("%s", logs.line(f"peer-{peer}", str(error)))
        finally:
            self.waiting[peer] -= waits


def _at_once(peer: PeerConfig, config: Config) -> float:
    size = config.default_pool_size if peer.pool_size is None else peer.pool_size
    return size or float("inf")
