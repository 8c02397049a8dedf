"""Signals of the executable: HUP reads the configuration again, INT, TERM and QUIT stop. The library itself installs no handler."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from pgpool_core import logs

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


@contextmanager
def signals_received() -> Iterator[AsyncIterator[int]]:
    """Catch the signals from here on, before anything listens: one that comes during the start is answered after it. Main thread only.

    A SIGTERM that was ignored when the process began stays ignored: a launcher says so where a platform sends it to every process at once, and
    the application is to leave first. (SIGINT does not: a shell ignores it for whatever it puts in the background.)
    """
    deaf = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    stop = [number for number in STOP_SIGNALS if not (deaf and number == signal.SIGTERM)]
    with trio.open_signal_receiver(signal.SIGHUP, *stop) as received:
        yield received


async def watch_signals(
    received: AsyncIterator[int], *, reload: Callable[[], Awaitable[None]], stop: Callable[[str], None]
) -> None:
    """Answer signals until cancelled. Two HUPs in a row may become one, as signals do.

    Args:
        received: from `signals_received`.
        reload: reads the configuration again; deals with its own errors.
        stop: begins an orderly end; gets the name of the signal.
    """
    async for number in received:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            logs.LOGGER.info("got %s, reading the configuration again", name)
            await reload()
        else:
            logs.LOGGER.info("got %s, shutting down", name)
            stop(name)
