"""Notifications as a channel, from a connection of its own that is opened anew when it is lost.

Source: PostgreSQL docs, "LISTEN", "Message Flow", Asynchronous Operations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.client.copying import quoted
from pgpool_core.client.link import Link
from pgpool_core.client.values import Notification, Reconnected
from pgpool_core.control.groups import sole_errors
from pgpool_core.embedded.block import async_block
from pgpool_core.errors import PgPoolError, PoolClosed

if TYPE_CHECKING:
    from pgpool_core.client.lender import Lender

FIRST_PAUSE_S: Final = 0.1  # between tries to connect again; doubled up to the last
LAST_PAUSE_S: Final = 5.0

News = Notification | Reconnected


@async_block("listen(...)", "news")
async def listen(
    links: Lender, channels: tuple[str, ...], max_buffer: int
) -> AsyncIterator[trio.MemoryReceiveChannel[News]]:
    """See `Pool.listen`."""
    if not channels:
        raise ValueError("listen() needs the name of a channel")
    if not all(isinstance(name, str) for name in channels):
        raise TypeError('names of channels are str, one argument each: listen("jobs", "news")')
    links.check()
    listener = Listener(links, channels)
    send, receive = trio.open_memory_channel[News](max_buffer)
    await listener.connect()
    try:
        async with sole_errors(), trio.open_nursery() as nursery, receive:
            nursery.start_soon(listener.run, send)
            yield receive
            nursery.cancel_scope.cancel("nobody listens any more")
    finally:
        listener.close()


class Listener:
    """One connection that listens, and its successors."""

    def __init__(self, links: Lender, channels: tuple[str, ...]) -> None:
        self._links = links
        self._sql = "; ".join(f"LISTEN {quoted(name)}" for name in channels)
        self._link: Link | None = None
        self._found: deque[Notification] = deque()

    async def connect(self) -> None:
        """Open a connection and listen there.

        Raises:
            PoolClosed: the pool has been closed, perhaps meanwhile.
        """
        self._links.check()
        link = await self._links.new_link()
        link.on_notification = self._found.append
        self._links.listening.add(link)
        try:
            self._links.check()
            await link.script(self._sql)
        except BaseException:
            self._links.listening.discard(link)
            self._links.let_go(link)
            raise
        self._link = link

    async def run(self, send: trio.MemorySendChannel[News]) -> None:
        """Put what comes into the channel, until nobody listens; where the channel is full, wait with reading."""
        async with send:
            try:
                while True:
                    reason = await self._read(send)
                    self.close()
                    if self._links.closed:
                        return
                    logs.LOGGER.info("%s", logs.line("", "a connection that listens was lost; connecting again"))
                    if not await self._connect_again():
                        return
                    await send.send(Reconnected(reason))
            except trio.BrokenResourceError:
                return  # the block has ended

    async def _read(self, send: trio.MemorySendChannel[News]) -> str:
        """Why there is no more to read."""
        link = self._link
        assert link is not None
        while True:
            while self._found:
                await send.send(self._found.popleft())
            try:
                await link.readable()
                link.poll()
                if link.error is not None:
                    return link.error.message
            except (OSError, PgPoolError, trio.ClosedResourceError) as error:
                return str(error)

    async def _connect_again(self) -> bool:
        """As often as it takes, whatever goes wrong, also in the user's functions. False: there is no pool any more."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.connect()
                return True
            except PoolClosed:
                return False
            except Exception as error:
                why = error if isinstance(error, PgPoolError) else type(error).__name__
                logs.LOGGER.warning("%s", logs.line("", f"a connection that listens cannot be opened: {why}"))
            await trio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_S)

    def close(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            self._links.listening.discard(link)
            self._links.let_go(link)
