"""Send one CancelRequest to a server, on a connection of its own; PostgreSQL closes it once the backend is signalled.

Source: PostgreSQL docs, "Message Flow", Canceling Requests in Progress.
"""

from __future__ import annotations

import trio

from pgpool_core.control.hosts import Address, connect, place, resolve
from pgpool_core.control.messages import cancel_request
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.control.server_tls import NoTls, Secured, begin_tls
from pgpool_core.errors import PgPoolError, ServerUnavailable, TlsError


async def send_cancel(
    *, host: str, port: int, backend_pid: int, backend_key: bytes, timeout_s: float, secured: Secured | None = None
) -> None:
    """Ask the server to cancel what `backend_pid` runs, and wait until it has closed the connection.

    Only then has the signal been sent, so only then may that server go to another client.

    Args:
        host, port: as in LoggedInServer (an address or a socket directory), so that the request meets the same server.
        backend_key: as in BackendKeyData, 4 bytes or longer.
        timeout_s: server_connect_timeout, in seconds, for everything together.
        secured: None: without TLS.
    Raises:
        ServerUnavailable: the server could not be reached or did not close in time; the request may have arrived.
    """
    where = place(host, port)
    with trio.move_on_after(timeout_s):
        problem: Exception = ServerUnavailable("no address found")
        try:
            for address in await resolve(host, port):
                try:
                    return await _send_to(address, cancel_request(backend_pid, backend_key), secured)
                except (OSError, PgPoolError, NoTls) as error:
                    problem = error
        except (OSError, UnicodeError, ValueError) as error:
            problem = error
        raise ServerUnavailable(f"cannot send a cancel request to {where}: {problem}") from problem
    raise ServerUnavailable(
        f"cancel request to {where} was not answered within {timeout_s:g} s (server_connect_timeout)"
    )


async def _send_to(address: Address, request: bytes, secured: Secured | None) -> None:
    with await connect(address) as sock:
        if secured is None:
            pipe = SocketPipe(sock)
        else:
            pipe = await begin_tls(sock, secured)
        await pipe.send_all(request)
        try:
            while await pipe.receive_some():
                pass  # nothing is due; a server that sends anything is still waited for
        except (ConnectionResetError, TlsError):
            pass  # closed with our bytes unread: it has gone, as with an end of stream
