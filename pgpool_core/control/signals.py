"""Signals of the executable, with PgBouncer's meanings. The library itself installs no handler.

HUP reads the configuration again. TERM ends when the last client has left, INT when the last server has been released; QUIT, and a
second TERM or INT, end at once. USR1 pauses, USR2 resumes.
Source: PgBouncer docs, "Signals".
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import trio

from pgpool_core import logs
from pgpool_core.control.holds import ShutdownWait
from pgpool_core.control.orders import Orders
from pgpool_core.errors import PgPoolError, PoolClosed

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
WAITS: Final[Mapping[int, ShutdownWait]] = {signal.SIGTERM: "WAIT_FOR_CLIENTS", signal.SIGINT: "WAIT_FOR_SERVERS"}

_WAITED_FOR: Final[Mapping[int, str]] = {
    signal.SIGTERM: "waiting for all clients disconnect",
    signal.SIGINT: "waiting for all servers connections to be released",
}
"""PgBouncer's words."""


@contextmanager
def signals_received() -> Iterator[AsyncIterator[int]]:
    """Catch the signals from here on, before anything listens: one that comes during the start is answered after it. Main thread only.

    A SIGTERM that was ignored when the process began stays ignored: a launcher says so where a platform sends it to every process at once, and
    the application is to leave first. (SIGINT does not: a shell ignores it for whatever it puts in the background.)
    """
    deaf = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    stop = [number for number in STOP_SIGNALS if not (deaf and number == signal.SIGTERM)]
    with trio.open_signal_receiver(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, *stop) as received:
        yield received


async def watch_signals(
    received: AsyncIterator[int],
    *,
    reload: Callable[[], Awaitable[None]],
    stop: Callable[[str], None],
    orders: Callable[[], Orders],
) -> None:
    """Answer signals until cancelled. Two HUPs in a row may become one, as signals do.

    Args:
        received: from `signals_received`.
        reload: reads the configuration again; deals with its own errors.
        stop: begins an end at once; gets the name of the signal.
        orders: what the pooler may be ordered.
    """
    async with trio.open_nursery() as nursery:
        async for number in received:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                logs.LOGGER.info("got %s, re-reading config", name)
                await reload()
                continue
            try:
                obeys = orders()
            except PoolClosed:  # it has ended just now
                continue
            if number == signal.SIGUSR1:
                nursery.start_soon(_obeyed, name, "pausing all activity", obeys.pause)
            elif number == signal.SIGUSR2:
                nursery.start_soon(_obeyed, name, "continuing", obeys.resume)
            elif number == signal.SIGQUIT or obeys.ending:
                logs.LOGGER.info("got %s, fast exit", name)
                stop(name)
            else:
                logs.LOGGER.info("got %s, shutting down, %s", name, _WAITED_FOR[number])
                obeys.shutdown(WAITS[number])


async def _obeyed(name: str, what: str, order: Callable[[], Awaitable[None]]) -> None:
    logs.LOGGER.info("got %s, %s", name, what)
    try:
        await order()
    except PgPoolError as error:
        logs.LOGGER.warning("got %s, ignoring: %s", name, error)
