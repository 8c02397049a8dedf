"""HTTP for machines: /metrics for Prometheus, /healthz and /readyz for supervisors and load balancers (metrics_listen).

One request a connection, answered and closed. Whoever connects may be anybody: a request has a limit of bytes and of time, and there is
a limit of connections; where that is reached, who has been silent for longest gives way. h11 says what the bytes mean.
Source: RFC 9110 and 9112; Kubernetes docs, "Liveness, Readiness" (any status from 200 to 399 is good).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

import attrs
import h11
import trio

from pgpool_core import logs
from pgpool_core.control.listeners import addresses_of
from pgpool_core.errors import ConfigError, ConfigProblem

REQUEST_MAX_LEN: Final = 16 * 1024  # bytes of request line and headers
REQUEST_S: Final = 10.0  # for the whole exchange, the answer's way to a slow reader included
CONNECTIONS: Final = 64  # that are served at once
ACCEPT_AGAIN_S: Final = 1.0  # after an accept that failed
BACKLOG: Final = 128

TEXT: Final = "text/plain; charset=utf-8"


@attrs.frozen
class Answer:
    """What a path answers."""

    status: int
    body: bytes
    content_type: str = TEXT


Route = Callable[[], Awaitable[Answer]]


async def open_endpoint(metrics_listen: str) -> list[socket.socket]:
    """Listening sockets for `host:port`, one for each address; none for an empty text.

    Raises:
        ConfigError: it cannot be listened on; nothing stays open then.
    """
    opened: list[socket.socket] = []
    if not metrics_listen:
        return opened
    try:
        for family, address in await places_of(metrics_listen):
            try:
                opened.append(_listening(family, address))
            except OSError as error:
                if (
                    not metrics_listen.startswith("*:")
                    or family != socket.AF_INET6
                    or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                ):
                    raise
    except OSError as error:
        for each in opened:
            each.close()
        raise listen_problem(metrics_listen, error) from error
    return opened


async def places_of(metrics_listen: str) -> list[tuple[int, object]]:
    """Families and addresses of `host:port`.

    Raises:
        OSError: it has none.
    """
    host, _, port = metrics_listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") else host
    return [*await addresses_of(None if host == "*" else host, int(port))]


def listen_problem(metrics_listen: str, error: OSError) -> ConfigError:
    """What to say where there are none, or none can be bound."""
    text = f"cannot listen on {metrics_listen}: {error.strerror or error} (metrics_listen)"
    return ConfigError([ConfigProblem(text, section="pgbouncer", key="metrics_listen")])


def _listening(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Endpoint:
    """Answers `routes` on its sockets, which it owns, in a nursery of the caller."""

    def __init__(self, nursery: trio.Nursery, routes: Mapping[str, Route]) -> None:
        self.listen_text = ""
        self._nursery = nursery
        self._routes = routes
        self.sockets: list[socket.socket] = []
        self._listeners: list[trio.socket.SocketType] = []
        self._free = trio.Semaphore(CONNECTIONS)
        self._silent: dict[trio.CancelScope, None] = {}
        """Connections whose request is not there yet, the oldest first."""

    def listen(self, text: str, sockets: Iterable[socket.socket]) -> None:
        """Listen on these sockets, and no longer on those before; `text` is the setting that they were opened for."""
        self.close()
        self.listen_text, self.sockets = text, list(sockets)
        for sock in self.sockets:
            listener = trio.socket.from_stdlib_socket(sock)
            self._listeners.append(listener)
            self._nursery.start_soon(self._accept, listener)
            host, port = sock.getsockname()[:2]
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            logs.LOGGER.info("%s", logs.line("", f"listening on {place} for metrics"))

    def close(self) -> None:
        """Listen no more; what has been accepted is still answered."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def forget_in_child(self) -> None:
        """In a forked child: close the descriptors by number; the event loop that knows them is the parent's."""
        for listener in self._listeners:
            os.close(listener.fileno())
        self._listeners = []

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        while True:
            try:
                connection, _ = await listener.accept()
            except (OSError, trio.ClosedResourceError) as error:
                if listener.fileno() < 0:
                    return  # closed
                # no descriptor is left, or the connection has gone already: not our end
                logs.LOGGER.warning("%s", logs.line("", f"cannot accept a connection for metrics: {error}"))
                await trio.sleep(ACCEPT_AGAIN_S)
                continue
            if self._free.value == 0 and self._silent:
                oldest = next(iter(self._silent))
                del self._silent[oldest]
                oldest.cancel(reason="another one has come, and there are too many")
            try:
                await self._free.acquire()
            except BaseException:
                connection.close()
                raise
            self._nursery.start_soon(self._serve, trio.SocketStream(connection))

    async def _serve(self, stream: trio.SocketStream) -> None:
        scope = trio.CancelScope()
        self._silent[scope] = None
        try:
            with scope:
                await serve_one(stream, self._routes, lambda: self._silent.pop(scope, None))
        finally:
            self._silent.pop(scope, None)
            self._free.release()


async def serve_one(
    stream: trio.abc.HalfCloseableStream, routes: Mapping[str, Route], asked: Callable[[], object] = lambda: None
) -> None:
    """Answer one request on `stream` and close it, within REQUEST_S; `asked` is called when the request is there."""
    with suppress(trio.BrokenResourceError), trio.move_on_after(REQUEST_S):
        async with stream:
            await answer_one(stream, routes, asked)


async def answer_one(
    stream: trio.abc.HalfCloseableStream, routes: Mapping[str, Route], asked: Callable[[], object]
) -> None:
    """Read one request from `stream` and answer it; the stream stays the caller's.

    Raises:
        trio.BrokenResourceError: the peer has gone.
    """
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_MAX_LEN)
    try:
        request = await _next_request(stream, http)
        if request is None:
            return
        asked()
        answer = await _answer(request, routes)
        is_head = request.method == b"HEAD"
    except h11.RemoteProtocolError as error:
        answer, is_head = Answer(error.error_status_hint, b"bad request\n"), False
    head = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
    ]
    if answer.status == 405:
        head.append(("Allow", "GET, HEAD"))
    data = http.send(h11.Response(status_code=answer.status, headers=head)) or b""
    if not is_head:
        data += http.send(h11.Data(data=answer.body)) or b""
    await stream.send_all(data)
    await stream.send_eof()


async def _next_request(stream: trio.abc.HalfCloseableStream, http: h11.Connection) -> h11.Request | None:
    """The request; None when the peer leaves before one was whole."""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None  # ConnectionClosed
        http.receive_data(bytes(await stream.receive_some(REQUEST_MAX_LEN)))


async def _answer(request: h11.Request, routes: Mapping[str, Route]) -> Answer:
    route = routes.get(request.target.partition(b"?")[0].decode("ascii"))
    if route is None:
        return Answer(404, b"there are /metrics, /healthz and /readyz\n")
    if request.method not in (b"GET", b"HEAD"):
        return Answer(405, b"only GET\n")
    try:
        return await route()
    except Exception:
        logs.LOGGER.error("internal error while a page of metrics was made", exc_info=True)
        return Answer(500, b"internal error, see the log\n")
