"""The pooler inside an asyncio program: `async with open_proxy_asyncio("postgresql://...") as proxy`, then any driver against `proxy.url`.

It runs in a thread of its own (see `thread`); nothing here makes the event loop wait. Any loop will do, uvloop's too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from pgpool_core.config.model import Config
from pgpool_core.embedded.address import Apart, ProxyAddress
from pgpool_core.embedded.block import async_block
from pgpool_core.embedded.proxy import Proxy
from pgpool_core.embedded.source import Source
from pgpool_core.embedded.thread import Answer, ThreadedProxy, Words, features_of, statistics_of
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import Snapshot


class AsyncioProxy(Apart):
    """A running pooler in a thread of its own, to be asked from asyncio. Its address is good for everybody on this machine."""

    def __init__(self, thread: ThreadedProxy) -> None:
        """Called by `open_proxy_asyncio`."""
        self._thread = thread

    @property
    def address(self) -> ProxyAddress:
        """Host, port and default login; stays known after the end."""
        return self._thread.address

    @property
    def closed(self) -> bool:
        """Whether it has stopped, by `shutdown`, from the console, or by a fork."""
        return self._thread.closed

    async def statistics(self) -> Snapshot:
        """Pools, servers, counters and averages now; no rows of clients, for these ask `snapshot`.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return await self._ask(statistics_of)

    async def features(self) -> SessionFeatures:
        """Which session features the clients have used since the start: settings, named statements, pins by reason.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return await self._ask(features_of)

    async def snapshot(self) -> Snapshot:
        """As `statistics`, with a row for each client.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return await self._ask(Proxy.snapshot)

    async def reload(self, config: Config | None = None) -> None:
        """Run with another configuration from now on, all of it or nothing; without one, read files again.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
            PoolClosed: the proxy has stopped.
        """
        await self._ask(Proxy.reload, config)

    async def pause(self, database: str | None = None) -> None:
        """Give servers to nobody and close them as they come free, of one database or of all; returns when the last has gone.

        Clients wait meanwhile, each up to its query_wait_timeout. Cancelled: resumes.

        Raises:
            CommandRefused: no such database, or paused already.
            PoolClosed: the proxy has stopped.
        """
        await self._ask(Proxy.pause, database)

    async def resume(self, database: str | None = None) -> None:
        """End `pause`.

        Raises:
            CommandRefused: it is not paused.
            PoolClosed: the proxy has stopped.
        """
        await self._ask(Proxy.resume, database)

    async def shutdown(self) -> None:
        """Stop: clients get FATAL 57P01 `pooler is shutting down`, servers Terminate. Returns when it is done; may be repeated."""
        await _to_its_end(self._thread.shutdown)

    async def _ask(self, ask: Callable[[Proxy, *Words], Awaitable[Answer]], *words: *Words) -> Answer:
        return await asyncio.wrap_future(self._thread.submit(ask, *words))

    def __repr__(self) -> str:
        return repr(self._thread).replace("ThreadedProxy", "AsyncioProxy")


@async_block("open_proxy_asyncio(...)", "proxy", loop="asyncio")
async def open_proxy_asyncio(
    source: Source, *, listen: str | None = None, **settings: object
) -> AsyncIterator[AsyncioProxy]:
    """Run a pooler until the block ends; ready for clients when the block begins. For asyncio; `open_proxy` is trio's.

    Arguments and errors are those of `open_proxy`.
    """
    thread = ThreadedProxy(source, listen, settings)
    try:
        await _to_its_end(thread.start)
        yield AsyncioProxy(thread)
    except BaseException:
        await _to_its_end(thread.end)
        raise
    await _to_its_end(thread.finish)


async def _to_its_end(wait: Callable[[], None]) -> None:
    """Call what blocks in another thread, and wait for it also when we are cancelled meanwhile; then that goes on."""
    doing = asyncio.ensure_future(asyncio.to_thread(wait))
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and doing.exception() is None:
        raise cancelled
    doing.result()
