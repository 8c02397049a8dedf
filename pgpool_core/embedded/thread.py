"""The pooler inside any program, whatever loop it runs or none: a thread of its own that runs trio.

with run_proxy_in_thread("postgresql://app@db/app") as proxy:
    connection = psycopg.connect(proxy.url)
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Final, TypeVar, TypeVarTuple

import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.embedded.address import Apart, ProxyAddress
from pgpool_core.embedded.block import sync_block
from pgpool_core.embedded.proxy import FORKED, STOPPED, Proxy, open_proxy
from pgpool_core.embedded.source import Source
from pgpool_core.errors import PoolClosed
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import Snapshot

EXIT_WAIT_S: Final = 3.0  # for a proxy that is still open when the interpreter ends

Answer = TypeVar("Answer")
Words = TypeVarTuple("Words")


async def statistics_of(proxy: Proxy) -> Snapshot:
    """`Proxy.statistics`, as something to be awaited."""
    await trio.lowlevel.checkpoint()
    return proxy.statistics()


async def features_of(proxy: Proxy) -> SessionFeatures:
    """`Proxy.features`, as something to be awaited."""
    await trio.lowlevel.checkpoint()
    return proxy.features()


class ThreadedProxy(Apart):
    """A running pooler in a thread of its own. All methods may be called from any thread, also from one that runs a loop."""

    def __init__(self, source: Source, listen: str | None, settings: dict[str, object]) -> None:
        """Called by `run_proxy_in_thread`; nothing runs yet."""
        self._pid = os.getpid()
        self._arguments = (source, listen, settings)
        self._started = threading.Event()
        self._proxy: Proxy | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._error: BaseException | None = None
        self._address: ProxyAddress | None = None
        self._refused = False
        self._thread = threading.Thread(target=self._main, name="pgpool_core proxy", daemon=True)

    @property
    def address(self) -> ProxyAddress:
        """Host, port and default login; stays known after the end."""
        if self._address is None:
            raise PoolClosed("this proxy was never started")
        return self._address

    @property
    def closed(self) -> bool:
        """Whether it has stopped, by `shutdown`, from the console, or by a fork."""
        return self._pid != os.getpid() or not self._thread.is_alive()

    def statistics(self) -> Snapshot:
        """Pools, servers, counters and averages now; no rows of clients, for these ask `snapshot`.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return self._ask(statistics_of)

    def features(self) -> SessionFeatures:
        """Which session features the clients have used since the start: settings, named statements, pins by reason.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return self._ask(features_of)

    def snapshot(self) -> Snapshot:
        """As `statistics`, with a row for each client.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        return self._ask(Proxy.snapshot)

    def reload(self, config: Config | None = None) -> None:
        """Run with another configuration from now on, all of it or nothing; without one, read files again.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
            PoolClosed: the proxy has stopped.
        """
        self._ask(Proxy.reload, config)

    def pause(self, database: str | None = None) -> None:
        """Give servers to nobody and close them as they come free, of one database or of all; returns when the last has gone.

        Clients wait meanwhile, each up to its query_wait_timeout. Interrupted: resumes.

        Raises:
            CommandRefused: no such database, or paused already.
            PoolClosed: the proxy has stopped.
        """
        self._ask(Proxy.pause, database)

    def resume(self, database: str | None = None) -> None:
        """End `pause`.

        Raises:
            CommandRefused: it is not paused.
            PoolClosed: the proxy has stopped.
        """
        self._ask(Proxy.resume, database)

    def shutdown(self, *, timeout_s: float | None = None) -> None:
        """Stop, as `Proxy.shutdown`, and wait for the thread, at most `timeout_s` seconds. Does nothing in a forked child."""
        if self._pid != os.getpid():
            return
        proxy, token = self._proxy, self._token
        if proxy is not None and token is not None:
            with suppress(trio.RunFinishedError):  # it has ended by itself
                token.run_sync_soon(proxy.begin_shutdown, "shutdown()")
        self._thread.join(timeout_s)

    def start(self) -> None:
        """Return when clients can connect; raises what `open_proxy` raises."""
        try:
            self._thread.start()
        except Exception:  # the system has no thread for us, so there is nothing to wait for
            self._refused = True
            raise
        atexit.register(self._at_exit)
        self._started.wait()
        if self._address is None:
            self.finish()

    def end(self) -> None:
        """The end of the block after an error: stop."""
        atexit.unregister(self._at_exit)
        if self._refused:
            return
        self._started.wait()  # an interrupt may have come before it was up
        self.shutdown()

    def finish(self) -> None:
        """The end of the block: stop, and raise what the thread died of, if that was not a shutdown."""
        self.end()
        if self._error is not None:
            raise self._error

    def _at_exit(self) -> None:
        self.shutdown(timeout_s=EXIT_WAIT_S)

    def submit(self, ask: Callable[[Proxy, *Words], Awaitable[Answer]], *words: *Words) -> Future[Answer]:
        """Run `ask` in the proxy's thread; cancelling the future cancels it there.

        Raises:
            PoolClosed: it has stopped, or this is a forked child.
        """
        proxy, token = self.running()
        answered: Future[Answer] = Future()
        scope = trio.CancelScope()

        async def answer() -> None:
            try:
                with scope, suppress(InvalidStateError):  # cancelled meanwhile
                    answered.set_result(await ask(proxy, *words))
            except trio.Cancelled:
                fail(PoolClosed(STOPPED))
                raise
            except Exception as error:
                fail(error)

        def fail(error: Exception) -> None:
            with suppress(InvalidStateError):
                answered.set_exception(error)

        def begin() -> None:
            try:
                trio.lowlevel.spawn_system_task(answer)
            except RuntimeError:  # it is just ending
                fail(PoolClosed(STOPPED))

        def give_up(future: Future[Answer]) -> None:
            if future.cancelled():
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(scope.cancel)

        answered.add_done_callback(give_up)
        try:
            token.run_sync_soon(begin)
        except trio.RunFinishedError:
            raise PoolClosed(STOPPED) from None
        return answered

    def _ask(self, ask: Callable[[Proxy, *Words], Awaitable[Answer]], *words: *Words) -> Answer:
        answered = self.submit(ask, *words)
        try:
            return answered.result()
        except BaseException:
            answered.cancel()  # where we were interrupted
            raise

    def running(self) -> tuple[Proxy, trio.lowlevel.TrioToken]:
        """The proxy and the token of its trio run.

        Raises:
            PoolClosed: it has stopped, or this is a forked child.
        """
        if self._pid != os.getpid():
            raise PoolClosed(FORKED)
        proxy, token = self._proxy, self._token
        if proxy is None or token is None or not self._thread.is_alive():
            raise PoolClosed(STOPPED)
        return proxy, token

    def _main(self) -> None:
        try:
            trio.run(self._life)
        except BaseException as error:
            self._error = error
            if self._started.is_set():
                logs.LOGGER.exception("the proxy has ended")
        finally:
            self._proxy = self._token = None  # and with them the engine
            self._started.set()

    async def _life(self) -> None:
        source, listen, settings = self._arguments
        async with open_proxy(source, listen=listen, **settings) as proxy:
            self._address = proxy.address
            self._token = trio.lowlevel.current_trio_token()
            self._proxy = proxy
            self._started.set()
            await proxy.wait_closed()

    def __repr__(self) -> str:
        if self._address is None:
            return "<ThreadedProxy not started>"
        state = "closed" if self.closed else "running"
        return f"<ThreadedProxy {state} on {self.host}:{self.port}, password hidden>"


@sync_block("run_proxy_in_thread(...)", "proxy")
def run_proxy_in_thread(source: Source, *, listen: str | None = None, **settings: object) -> Iterator[ThreadedProxy]:
    """Run a pooler in a thread until the block ends; ready for clients when the block begins.

    Arguments and errors are those of `open_proxy`. No signal handlers are installed. A forked child must open its own: in it this
    proxy is closed, while the parent's goes on and may be connected to.
    """
    proxy = ThreadedProxy(source, listen, settings)
    try:
        proxy.start()
        yield proxy
    except BaseException:
        proxy.end()
        raise
    proxy.finish()
