"""Signals of the executable: HUP reads the configuration again, INT, TERM and QUIT stop. The library itself installs no handler."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from pgpool_core import logs

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


async def watch_signals(
    *,
    reload: Callable[[], Awaitable[None]],
    stop: Callable[[str], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer signals until cancelled; needs the main thread. Two HUPs in a row may become one, as signals do.

    Args:
        reload: reads the configuration again; deals with its own errors.
        stop: begins an orderly end; gets the name of the signal.
    """
    with trio.open_signal_receiver(signal.SIGHUP, *STOP_SIGNALS) as received:
        task_status.started()
        async for number in received:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                logs.LOGGER.info("got %s, reading the configuration again", name)
                await reload()
            else:
                logs.LOGGER.info("got %s, shutting down", name)
                stop(name)
