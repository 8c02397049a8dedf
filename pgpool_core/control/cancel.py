"""Send one CancelRequest to a server, on a connection of its own; PostgreSQL closes it once the backend is signalled.

Source: PostgreSQL docs, "Message Flow", Canceling Requests in Progress.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator

import trio

from pgpool_core.control.hosts import Address, connect, place, resolve
from pgpool_core.control.messages import cancel_request
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.server_tls import NoTls, Secured, begin_tls
from pgpool_core.errors import PgPoolError, PoolError, ServerUnavailable, TlsError


class CancelUnanswered(ServerUnavailable):
    """The request has been sent, and nobody knows whether its signal has been, or is still to come."""


@contextlib.asynccontextmanager
async def turn(limiter: trio.CapacityLimiter, wait_s: float) -> AsyncGenerator[None]:
    """Take one of so many places for as long as a cancel request is carried.

    Args:
        wait_s: cancel_wait_timeout, in seconds; 0 = any time.
    Raises:
        PoolError: none has become free in time.
    """
    with trio.move_on_after(wait_s or math.inf) as scope:
        await limiter.acquire()
    if scope.cancelled_caught:
        raise PoolError("a cancel request has waited for too long, dropped (cancel_wait_timeout)")
    try:
        yield
    finally:
        limiter.release()


class Turns:
    """So many requests are on their way to one place at a time: one that does not answer holds up its own."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._limits: dict[tuple[str, int], trio.CapacityLimiter] = {}
        self._here: Counter[tuple[str, int]] = Counter()

    @contextlib.asynccontextmanager
    async def taken(self, host: str, port: int, wait_s: float) -> AsyncGenerator[None]:
        """Take a `turn` of this place."""
        to = host, port
        self._here[to] += 1
        try:
            async with turn(self._limits.setdefault(to, trio.CapacityLimiter(self._at_once)), wait_s):
                yield
        finally:
            self._here[to] -= 1
            if not self._here[to]:
                del self._here[to], self._limits[to]


async def send_cancel(
    *, host: str, port: int, backend_pid: int, backend_key: bytes, timeout_s: float, secured: Secured | None = None
) -> None:
    """Ask the server to cancel what `backend_pid` runs, and wait until it has closed the connection.

    Only then has the signal been sent, so only then may that server go to another client.

    Args:
        host, port: as in LoggedInServer (an address or a socket directory), so that the request meets the same server.
        backend_key: as in BackendKeyData, 4 bytes or longer.
        timeout_s: server_connect_timeout, in seconds, for everything together; each address of a name may use its share to connect.
        secured: None: without TLS.
    Raises:
        CancelUnanswered: the server did not close in time; the request may take effect at any time.
        ServerUnavailable: the server could not be reached; nothing has been sent.
    """
    where = place(host, port)
    asking = _Asking(cancel_request(backend_pid, backend_key), secured)
    deadline = trio.current_time() + timeout_s
    with trio.move_on_at(deadline):
        problem: Exception = ServerUnavailable("no address found")
        try:
            addresses = await resolve(host, port)
            for number, address in enumerate(addresses):
                left = len(addresses) - number
                share_s = (deadline - trio.current_time()) / left if left > 1 else math.inf
                try:
                    return await asking.at(address, share_s)
                except (OSError, PgPoolError, NoTls) as error:
                    problem = error
        except (OSError, UnicodeError, ValueError) as error:
            problem = error
        if asking.sent:
            raise CancelUnanswered(f"a cancel request to {where} was not answered: {problem}") from problem
        raise ServerUnavailable(f"cannot send a cancel request to {where}: {problem}") from problem
    failure = CancelUnanswered if asking.sent else ServerUnavailable
    raise failure(f"cancel request to {where} was not answered within {timeout_s:g} s (server_connect_timeout)")


class _Asking:
    """One request, and whether it has been sent anywhere."""

    def __init__(self, request: bytes, secured: Secured | None) -> None:
        self.sent = False
        self._request = request
        self._secured = secured

    async def at(self, address: Address, connect_s: float) -> None:
        """Send it to this address and wait for the end."""
        found: trio.socket.SocketType | None = None
        with trio.move_on_after(max(0, connect_s)):
            found = await connect(address)
        if found is None:
            raise ServerUnavailable(f"no connection within {connect_s:.2g} s (server_connect_timeout)")
        with found as sock:
            if self._secured is None:
                pipe = SocketPipe(sock)
            else:
                pipe = await begin_tls(sock, self._secured)
            self.sent = True
            await pipe.send_all(self._request)
            try:
                while await pipe.receive_some():
                    pass  # nothing is due; a server that sends anything is still waited for
            except (ConnectionResetError, TlsError):
                pass  # closed with our bytes unread: it has gone, as with an end of stream
