"""The bytes of one server connection as a client has it: the only file of this room with a socket.

What is sent ends in Sync (or is a Query), and the server owes one ReadyForQuery for each. Whoever is interrupted while one is owed
gives up (`giving_up`). So a line is either idle and in step, or closed.
Source: PostgreSQL docs, "Message Flow", Extended Query.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Final, Protocol

import trio
from trio.lowlevel import current_trio_token, wait_readable

from pgpool_core.client import sqlstate
from pgpool_core.client.described import notification_of
from pgpool_core.client.giving_up import give_up
from pgpool_core.client.secure import TlsSocket
from pgpool_core.client.values import Notification
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.server_tls import Secured
from pgpool_core.errors import ConnectionLost, PgPoolError, PoolError, ServerProtocolError
from pgpool_core.rows import inbox as codes
from pgpool_core.rows.inbox import Inbox
from pgpool_core.rows.outbox import Outbox
from pgpool_core.tls.face import Session

IDLE: Final = 0x49  # of ReadyForQuery
IN_BLOCK: Final = 0x54
FAILED: Final = 0x45

FORKED: Final = "this connection lives in the process that opened its pool, not in a forked child"
OTHER_RUN: Final = "this connection belongs to the trio.run() that opened its pool: use it there"
IN_A_ROW: Final = 16  # times that a socket is read before other tasks have their turn
COMMAND_COMPLETE: Final = codes.COMMAND_COMPLETE
EMPTY_QUERY: Final = codes.EMPTY_QUERY
READY: Final = codes.READY


class OpenedServer(Protocol):
    """A server that has been logged in to, as `control.connect.LoggedInServer`."""

    host: str
    port: int
    backend_pid: int
    backend_key: bytes
    parameters: list[tuple[bytes, bytes]]
    unread: bytes

    secured: Secured | None

    def detach(self) -> tuple[int, Session | None]:
        """The descriptor, non-blocking, and the TLS session on it; both move to the caller."""
        ...


class Line:
    """A logged-in connection; owns its socket."""

    def __init__(self, server: OpenedServer, *, cancel_timeout_s: float) -> None:
        self.host, self.port = server.host, server.port
        self.backend_pid, self.backend_key = server.backend_pid, server.backend_key
        self.parameters = {name.decode(): value.decode(errors="replace") for name, value in server.parameters}
        self.outbox = Outbox()
        self.inbox = Inbox()
        self._window = self.inbox.window
        self.secured = server.secured
        fd, session = server.detach()
        unread = server.unread
        plain = socket.socket(fileno=fd)
        self.socket: socket.socket | TlsSocket = plain if session is None else TlsSocket(plain, session)
        self.taken = 0  # bytes received
        if unread:
            self.inbox.feed(unread)
            self.inbox.stash()
        self._home = current_trio_token()
        self.cancel_timeout_s = cancel_timeout_s
        self.status = IDLE
        self.owed = 0  # ReadyForQuery messages
        self.sending = False  # part of a message has been sent
        self.closed = False
        self.closed_because = ""
        self.tag = b""
        self.on_complete: Callable[[], None] | None = None  # a command is done; `tag` is what it said
        self.error: PgPoolError | None = None  # the first of the exchange
        self.described: dict[int, bytes] = {}
        self.on_notification: Callable[[Notification], None] | None = None
        self.on_notice: Callable[[dict[str, str]], None] | None = None

    # -- its end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close at once, with Terminate where nothing is owed; whoever waits for the socket is woken."""
        if self.closed:
            return
        self.closed = True
        trio.lowlevel.notify_closing(self.socket)
        if not self.owed:
            self.outbox.cut(0)
            self.outbox.terminate()
            with contextlib.suppress(OSError):
                self.socket.send(self.outbox.flush(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self.socket.close()

    def forget(self) -> None:
        """In a forked child: close the descriptor and say nothing."""
        self.closed, self.closed_because = True, FORKED
        self.socket.close()

    def lost(self) -> None:
        """Close it where nothing polite can be said any more."""
        self.owed = self.owed or 1
        self.close()

    def has_news(self) -> bool:
        """Whether an idle link has something to read. What is harmless is read; False after a close means that it is dead."""
        self.inbox.stash()
        try:
            count = self.socket.recv_into(self._window)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        try:
            if count:
                self.taken += count
                self.inbox.received(count)
                while code := self.inbox.next():
                    self.aside(code)
                if self.error is None:
                    return True
        except PgPoolError:
            pass
        self.error = None
        self.close()
        return False

    # -- bytes -----------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Before anything is written: nobody else is in the middle of something."""
        if self.closed:
            raise ConnectionLost(self.closed_because or "the connection is closed")
        if self.owed:
            raise trio.BusyResourceError(
                "another task uses this connection, or something begun there is not over: acquire() one for each task"
            )
        if not is_home(self._home):
            raise PoolError(OTHER_RUN)

    async def talk(self, *, syncs: int = 1, extended: bool = True) -> None:
        """Send what stands in the outbox, which wants `syncs` ReadyForQuery, and read up to the last of them.

        A checkpoint. Raises the server's first error after that.
        """
        self.owed += syncs
        self.error = None
        self.tag = b""
        in_a_row = 0
        try:
            await self.send()
            while True:
                while code := self.inbox.next():
                    if code == READY:
                        self.take_ready()
                    elif code in (COMMAND_COMPLETE, EMPTY_QUERY):
                        self.take_tag()
                        if self.on_complete is not None:
                            self.on_complete()
                    else:
                        self.aside(code)
                        if code == codes.COPY_IN:
                            if self.on_complete is not None and self.error is None:  # what follows is no data
                                self.error = PoolError("COPY FROM STDIN cannot be one of many: use copy_in()")
                            self._refuse_copy(extended)
                            await self.send()
                        elif code == codes.COPY_OUT and self.error is None:
                            self.error = PoolError("what COPY TO STDOUT sends has been dropped: use copy_out()")
                if not self.owed:
                    break
                if in_a_row == 0:
                    await self.readable()
                in_a_row = (in_a_row + 1) % IN_A_ROW if self.receive() else 0
        except BaseException as error:
            await give_up(self, error)
            raise
        self.raise_error()

    def take_ready(self) -> None:
        self.status = self.inbox.status()
        self.owed -= 1
        if self.owed < 0:
            raise ServerProtocolError("the server sent a ReadyForQuery that nobody waits for")

    def take_tag(self) -> None:
        """A command is done."""
        self.tag = self.inbox.body()

    def raise_error(self) -> None:
        """Raise what has gone wrong in the exchange that is over."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if (failure := self.inbox.failure) is not None:
            raise failure

    async def event(self) -> int:
        """The next message of those that a command may have to look at; a checkpoint only where it has to wait."""
        while True:
            code = self.inbox.next()
            if code == READY:
                self.take_ready()
                return code
            if code == COMMAND_COMPLETE:
                self.take_tag()
                return code
            if code:
                self.aside(code)
                return code
            await self.readable()
            self.receive()

    async def readable(self) -> None:
        """Wait until something has come.

        Raises:
            trio.ClosedResourceError: the line has been closed, now or while its task was busy elsewhere.
        """
        if self.closed:  # trio would keep a task for descriptor -1
            raise trio.ClosedResourceError("this connection is closed")
        await wait_readable(self.socket)

    def receive(self) -> bool:
        """Take what has come; whether there was anything."""
        try:
            count = self.socket.recv_into(self._window)
        except BlockingIOError:
            return False
        if not count:
            raise ConnectionResetError("the server closed the connection")
        self.taken += count
        self.inbox.received(count)
        return True

    def poll(self) -> None:
        """Look, without waiting, whether the server has said something, now or while something was being sent."""
        self.inbox.stash()
        self.receive()
        while code := self.inbox.next():
            if code == READY:
                self.take_ready()
            else:
                self.aside(code)

    async def send(self) -> None:
        """Send what stands in the outbox; a checkpoint only where it has to wait."""
        data = self.outbox.flush()
        if not data:
            return
        try:
            sent = self.socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, data: memoryview) -> None:
        """Send on while the server takes it. It may not read before its answers have been read, so they are."""

        async def read_along() -> None:
            while True:
                await wait_readable(self.socket)
                try:
                    self.receive()
                except OSError:
                    return  # the send fails too, or whoever reads next sees it
                self.inbox.stash()

        self.inbox.stash()
        self.sending = True
        async with sole_errors(), trio.open_nursery() as nursery:
            nursery.start_soon(read_along)
            while data:
                await trio.lowlevel.wait_writable(self.socket)
                with contextlib.suppress(BlockingIOError):
                    data = data[self.socket.send(data, socket.MSG_NOSIGNAL) :]
            nursery.cancel_scope.cancel("all has been sent")
        self.sending = False

    def aside(self, code: int) -> None:
        """A message that says something about the connection, or that the exchange will be asked about at its end."""
        body = self.inbox.body()
        if code == codes.ERROR:
            if self.error is None:
                self.error = sqlstate.error_of(sqlstate.read_fields(body))
        elif code == codes.NOTICE:
            if self.on_notice is not None:
                self.on_notice(sqlstate.read_fields(body))
        elif code == codes.PARAMETER_STATUS:
            name, _, value = body.rstrip(b"\0").partition(b"\0")
            self.parameters[name.decode(errors="replace")] = value.decode(errors="replace")
        elif code == codes.NOTIFICATION:
            heard = notification_of(body)
            if self.on_notification is not None:
                self.on_notification(heard)
        elif code in (codes.PARAMETER_DESCRIPTION, codes.ROW_DESCRIPTION, codes.NO_DATA):
            self.described[code] = body
        elif code in (codes.COPY_IN, codes.COPY_OUT, codes.COPY_DATA, codes.COPY_DONE):
            pass
        elif code != codes.PORTAL_SUSPENDED:
            raise ServerProtocolError("the server sent a message out of turn")

    def _refuse_copy(self, extended: bool) -> None:
        self.outbox.copy_fail(b"use copy_in() for COPY FROM STDIN")
        if extended:  # the server has skipped the Sync that stood behind the query
            self.outbox.sync()


def is_home(home: trio.lowlevel.TrioToken) -> bool:
    """Whether this is that trio run."""
    try:
        return current_trio_token() is home
    except RuntimeError:
        return False
