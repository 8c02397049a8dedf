"""What becomes of a line whose exchange was interrupted: back in step, or closed.

A task that is cancelled while an answer is owed has its query cancelled on the server, and reads up to the last ReadyForQuery,
shielded and with a deadline.
Source: PostgreSQL docs, "Message Flow", Canceling Requests in Progress.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.control.cancel import send_cancel
from pgpool_core.errors import ConnectionLost, ServerUnavailable
from pgpool_core.rows import inbox as codes

if TYPE_CHECKING:
    from pgpool_core.client.line import Line

CANCEL_AGAIN_S: Final = 0.15  # of silence


async def give_up(line: Line, error: BaseException) -> None:
    """`error` has interrupted an exchange: bring the line back in step, or close it.

    Raises:
        ConnectionLost: in the place of an OSError.
    """
    if isinstance(error, OSError | trio.ClosedResourceError):
        by_us = line.closed
        line.lost()
        fatal, line.error = line.error, None
        if fatal is not None:
            raise fatal from error
        if line.closed_because:
            raise ConnectionLost(line.closed_because) from error
        if by_us or isinstance(error, trio.ClosedResourceError):
            raise ConnectionLost("the pool closed the connection") from error
        raise ConnectionLost(f"the connection to the server broke: {error.strerror or error}") from error
    if isinstance(error, Exception) or not line.owed:
        line.lost()
        return
    await abandon(line)


async def abandon(line: Line) -> None:
    """Nobody wants the answers that are owed: cancel what runs and read up to the last ReadyForQuery, or close."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + line.cancel_timeout_s) as scope:
        try:
            await _drain(line)
        except Exception as trouble:
            logs.LOGGER.info(
                "%s", logs.line("", f"closing a connection after a cancelled query: {type(trouble).__name__}")
            )
            line.lost()
    if scope.cancelled_caught:
        line.lost()


async def _drain(line: Line) -> None:
    """Cancel what runs and read what is owed."""
    if line.closed or line.sending:
        line.lost()
        await cancel(line)
        return
    line.inbox.expect(None, None)
    _skim(line)
    if line.owed:
        line.receive()
        _skim(line)
    if not line.owed:
        return
    await cancel(line)
    while line.owed:
        _skim(line)
        if line.owed:
            with trio.move_on_after(CANCEL_AGAIN_S) as silence:
                await line.readable()
                line.receive()
            if silence.cancelled_caught:  # the query had perhaps not begun when it was to be cancelled
                await cancel(line)


def _skim(line: Line) -> None:
    while code := line.inbox.next():
        if code == codes.READY:
            line.take_ready()
        elif code == codes.COMMAND_COMPLETE:
            line.take_tag()
        elif code in (codes.NOTIFICATION, codes.PARAMETER_STATUS, codes.NOTICE):
            line.aside(code)
        elif code == codes.COPY_IN:
            raise ConnectionLost("cancelled in front of a COPY")


async def cancel(line: Line) -> None:
    """Ask the server to cancel what runs there; whether it does is not known."""
    with contextlib.suppress(ServerUnavailable):
        await send_cancel(
            host=line.host,
            port=line.port,
            backend_pid=line.backend_pid,
            backend_key=line.backend_key,
            timeout_s=line.cancel_timeout_s,
            secured=line.secured,
        )
