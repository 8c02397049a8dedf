"""metrics_listen, from its first use on: what is behind it is imported only where it is asked for."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pgpool_core.control.endpoint import Endpoint
    from pgpool_core.metrics.prometheus import Facts
    from pgpool_core.metrics.snapshot import Snapshot


class Observed:
    """The HTTP endpoint of a pooler, where there is one."""

    def __init__(
        self, snapshot: Callable[[], Awaitable[Snapshot]], facts: Callable[[], Facts], unready: Callable[[], str]
    ) -> None:
        """See `pages.Pages`. `nursery` must be set before `use`."""
        self.nursery: trio.Nursery | None = None
        self._pages = snapshot, facts, unready
        self._endpoint: Endpoint | None = None
        self._opened: tuple[str, list[socket.socket]] | None = None
        self._over = False  # nothing is opened any more

    def take(self, metrics_listen: str, sockets: list[socket.socket]) -> None:
        """Sockets that another process has opened for this value of the setting."""
        self._opened = metrics_listen, sockets

    @property
    def sockets(self) -> tuple[str, list[socket.socket]]:
        """The setting in use, and the sockets that were opened for it, which stay ours."""
        return (self._endpoint.listen_text, self._endpoint.sockets) if self._endpoint else ("", [])

    async def open(self, metrics_listen: str) -> None:
        """Open the sockets for this value of the setting, unless they are open; `use` or `discard` decides about them.

        Raises:
            ConfigError: it cannot be listened on; what is in use stays.
        """
        if self._over:
            return
        if self._opened is not None:
            if self._opened[0] == metrics_listen:
                return
            self.discard()
        if metrics_listen != (self._endpoint.listen_text if self._endpoint else ""):
            from pgpool_core.control.endpoint import open_endpoint

            self._opened = metrics_listen, await open_endpoint(metrics_listen)

    def use(self) -> None:
        """Answer on what `open` has opened, and no longer on what was open before."""
        if self._opened is None:
            return
        if self._endpoint is None:
            from pgpool_core.control.endpoint import Endpoint
            from pgpool_core.control.pages import Pages

            assert self.nursery is not None
            self._endpoint = Endpoint(self.nursery, Pages(*self._pages).routes)
        (text, sockets), self._opened = self._opened, None
        self._endpoint.listen(text, sockets)

    def discard(self) -> None:
        """Close what `open` has opened."""
        if self._opened is not None:
            for sock in self._opened[1]:
                sock.close()
            self._opened = None

    def close(self) -> None:
        """Listen no more, whatever the setting becomes."""
        self._over = True
        self.discard()
        if self._endpoint is not None:
            self._endpoint.close()

    def forget_in_child(self) -> None:
        """In a forked child: close the descriptors by number."""
        if self._endpoint is not None:
            self._endpoint.forget_in_child()
