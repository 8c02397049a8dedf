"""One server connection as a client has it: the only place in this room that makes bytes travel.

What is sent ends in Sync (or is a Query), and the server owes one ReadyForQuery for each. A task that is cancelled while one is owed
has its query cancelled on the server, and reads up to the last ReadyForQuery, shielded and with a deadline; where that does not
succeed, the connection is closed. So a link is either idle and in step, or closed.
Source: PostgreSQL docs, "Message Flow", Extended Query, Canceling Requests in Progress.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import trio
from trio.lowlevel import current_trio_token, wait_readable

from pgpool_core import logs
from pgpool_core.client import sqlstate
from pgpool_core.client.catalogue import BUILT_IN, STRANGERS_QUERY, TYPES_QUERY, Catalogue
from pgpool_core.client.described import columns_of, parameter_oids, rows_of_tag
from pgpool_core.client.secure import TlsSocket
from pgpool_core.client.values import CommandTag, Notification
from pgpool_core.control.cancel import send_cancel
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.server_tls import Secured
from pgpool_core.errors import ConnectionLost, PgPoolError, PoolError, ServerProtocolError, ServerUnavailable
from pgpool_core.rows import inbox as codes
from pgpool_core.rows.inbox import Inbox
from pgpool_core.rows.outbox import Outbox
from pgpool_core.rows.record import Record, Shape
from pgpool_core.rows.statement import Statement, leaves_something
from pgpool_core.tls.face import Session

IDLE: Final = 0x49  # of ReadyForQuery
IN_BLOCK: Final = 0x54
FAILED: Final = 0x45

FORKED: Final = "this connection lives in the process that opened its pool, not in a forked child"
OTHER_RUN: Final = "this connection belongs to the trio.run() that opened its pool: use it there"
PLACEHOLDERS: Final = "arguments are written $1, $2, ... in the text of a query"
ADVICE: Final = {
    '"%"': PLACEHOLDERS,
    '":"': PLACEHOLDERS,
    "multiple commands": "execute() takes several commands, where there are no arguments; fetch() takes one",
}
"""What to say beside some syntax errors, by what stands in the server's message."""
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


class Link:
    """A logged-in connection; owns its socket."""

    def __init__(
        self,
        server: OpenedServer,
        catalogue: Catalogue,
        *,
        statement_cache_size: int,
        cancel_timeout_s: float,
        statement_prefix: bytes = b"s",
    ) -> None:
        self.host, self.port = server.host, server.port
        self.backend_pid, self._backend_key = server.backend_pid, server.backend_key
        self.parameters = {name.decode(): value.decode(errors="replace") for name, value in server.parameters}
        self.outbox = Outbox()
        self.inbox = Inbox()
        self._window = self.inbox.window
        self._secured = server.secured
        fd, session = server.detach()
        unread = server.unread
        plain = socket.socket(fileno=fd)
        self.socket: socket.socket | TlsSocket = plain if session is None else TlsSocket(plain, session)
        self.taken = 0  # bytes received
        if unread:
            self.inbox.feed(unread)
            self.inbox.stash()
        self._home = current_trio_token()
        self.catalogue = catalogue
        self._catalogue_version = catalogue.version
        self._cache: dict[str, Statement] = {}
        self._cache_size = statement_cache_size
        self._prefix = statement_prefix
        self._named = 0
        self.cancel_timeout_s = cancel_timeout_s
        self.status = IDLE
        self.owed = 0  # ReadyForQuery messages
        self.used = 0.0  # when it was last given back; of whoever lends it
        self.sending = False  # part of a message has been sent
        self.closed = False
        self.closed_because = ""
        self.dirty = False  # something may have been left in the session
        self.savepoints = self.portals = 0  # made so far, for their names
        self.tag = b""
        self._on_complete: Callable[[], None] | None = None  # a command is done; `tag` is what it said
        self._holding = 0  # statements are kept, however many
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
                    self._aside(code)
                if self.error is None:
                    return True
        except PgPoolError:
            pass
        self.error = None
        self.close()
        return False

    # -- statements ------------------------------------------------------------------------------------------------

    async def prepare(self, text: str) -> Statement:
        """The statement of a text, from the cache or from the server; a checkpoint only in the latter case."""
        if self._catalogue_version != self.catalogue.version:
            self.forget_statements()
        known = self._cache.pop(text, None)
        if known is not None:
            self._cache[text] = known
            return known
        raw = encoded(text)
        try:
            shape, parameters, name = await self._describe(raw)
        except sqlstate.SyntaxOrAccessError as error:
            if error.sqlstate == "42601":
                for mark, advice in ADVICE.items():
                    if mark in error.message:
                        error.add_note(advice)
            raise
        made = Statement(name=name, text=text, parameters=parameters, shape=shape, leaves=self.leaves(raw))
        if name:
            self._cache[text] = made
            self._evict()
        return made

    def leaves(self, raw: bytes) -> bool:
        """Whether a text may leave something in the session."""
        return leaves_something(raw)

    def _evict(self) -> None:
        """Forget the statements that were used least recently, where there are too many."""
        while len(self._cache) > self._cache_size and not self._holding:
            oldest = self._cache.pop(next(iter(self._cache)))
            self.outbox.close(oldest.name)

    async def _describe(self, raw: bytes, *, built_in: bool = False) -> tuple[Shape | None, list[Any], bytes]:
        name = b""
        if (self._cache_size or self._holding) and not built_in:
            self._named += 1
            name = b"%s%d" % (self._prefix, self._named)
        self.ready()
        self.outbox.parse(name, raw)
        self.outbox.sync()
        self.inbox.expect(None, None)
        self.described.clear()
        await self.talk()
        oids = parameter_oids(self.described.get(codes.PARAMETER_DESCRIPTION, b"\0\0"))
        columns = columns_of(self.described.get(codes.ROW_DESCRIPTION))
        has_rows = codes.ROW_DESCRIPTION in self.described
        wanted = oids + [oid for _, oid in columns]
        if built_in:
            found: list[Any] = [BUILT_IN[oid] for oid in wanted]
        else:
            missing = self.catalogue.missing(wanted)
            if missing:
                try:
                    await self._look_up(missing)
                except BaseException:
                    if name:
                        self.outbox.close(name)
                    raise
                if not name:  # the unnamed statement is another one now
                    self.outbox.parse(name, raw)
                    self.outbox.sync()
                    await self.talk()
            found = list(self.catalogue.codecs(wanted))
        shape = Shape([column for column, _ in columns], found[len(oids) :]) if has_rows else None
        return shape, found[: len(oids)], name

    async def _look_up(self, oids: list[int]) -> None:
        if self.catalogue.unproved:
            names = sorted(self.catalogue.unproved)
            self.catalogue.prove(names, await self._built_in_rows(STRANGERS_QUERY, names))
        self.catalogue.learn(oids, await self._built_in_rows(TYPES_QUERY, oids))

    async def _built_in_rows(self, text: str, argument: list[Any]) -> list[Record]:
        """The rows of a query whose types are all built in."""
        shape, parameters, name = await self._describe(text.encode(), built_in=True)
        statement = Statement(name=name, text=text, parameters=parameters, shape=shape, leaves=False)
        return await self.rows_of(statement, (argument,))

    def forget_statements(self) -> None:
        """Prepare everything anew from now on."""
        for statement in self._cache.values():
            self.outbox.close(statement.name)
        self._cache.clear()
        self._catalogue_version = self.catalogue.version

    def forget_closed_statements(self) -> None:
        """As `forget_statements`, where the server has forgotten them by itself."""
        self._cache.clear()

    # -- queries ---------------------------------------------------------------------------------------------------

    async def rows(self, text: str, args: tuple[Any, ...], *, raw: bool = False) -> list[Record]:
        """All rows of a query."""
        statement = self._cache.get(text)
        if statement is None or self._catalogue_version != self.catalogue.version:
            statement = await self.prepare(text)
        try:
            return await self.rows_of(statement, args, raw=raw)
        except sqlstate.PostgresError as error:
            if not self._is_stale(statement, error):
                raise
        return await self.rows_of(await self.prepare(text), args, raw=raw)

    async def rows_of(self, statement: Statement, args: tuple[Any, ...], *, raw: bool = False) -> list[Record]:
        """All rows of a prepared query."""
        self.ready()
        self.outbox.run(statement, args, raw)
        if statement.leaves:
            self.dirty = True
        rows: list[Record] = []
        self.inbox.expect(statement.shape, rows, raw=raw)
        await self.talk()
        return rows

    async def many(self, statement: Statement, batch: list[tuple[Any, ...]]) -> int:
        """Run a command for each row of arguments; how many rows it was about. What it returns is dropped."""
        self._ask_all((statement, args) for args in batch)
        self.inbox.expect(None, None)
        total = 0

        def count() -> None:
            nonlocal total
            total += rows_of_tag(self.tag)

        await self._talk_counting(count)
        return total

    async def all_of(self, asked: list[tuple[str, tuple[Any, ...]]]) -> list[tuple[list[Record], CommandTag]]:
        """Run queries together, as one transaction unless they stand in one; rows and tag of each."""
        self._holding += 1
        try:
            return await self._all_of([(await self.prepare(text), args) for text, args in asked])
        finally:
            self._holding -= 1
            self._evict()

    async def _all_of(self, asked: list[tuple[Statement, tuple[Any, ...]]]) -> list[tuple[list[Record], CommandTag]]:
        self._ask_all(asked)
        self.dirty = self.dirty or any(statement.leaves for statement, _ in asked)
        results: list[tuple[list[Record], CommandTag]] = []
        failures: list[PgPoolError] = []
        rows: list[Record] = []
        self.inbox.expect(asked[0][0].shape, rows)

        def next_one() -> None:
            nonlocal rows
            results.append((rows, self.command_tag()))
            if self.inbox.failure is not None:
                failures.append(self.inbox.failure)
            rows = []
            self.inbox.expect(asked[len(results)][0].shape if len(results) < len(asked) else None, rows)

        await self._talk_counting(next_one)
        if failures:
            raise failures[0]
        return results

    def _ask_all(self, asked: Iterable[tuple[Statement, tuple[Any, ...]]]) -> None:
        """Have all of them ready to be sent, as one group; nothing where an argument does not fit."""
        self.ready()
        before = len(self.outbox)
        try:
            for statement, args in asked:
                self.outbox.bind(statement, args)
                self.outbox.execute()
        except BaseException:
            self.outbox.cut(before)
            raise
        self.outbox.sync()

    async def _talk_counting(self, on_complete: Callable[[], None]) -> None:
        self._on_complete = on_complete
        try:
            await self.talk()
        finally:
            self._on_complete = None

    def _is_stale(self, statement: Statement, error: sqlstate.PostgresError) -> bool:
        """Whether the same query, prepared again, may do better; then the old statement is forgotten."""
        changed = error.sqlstate == "0A000" and error.fields.get("R") == "RevalidateCachedQuery"
        if not changed and error.sqlstate != "26000":
            return False
        if self._cache.pop(statement.text, None) is not None and changed:
            self.outbox.close(statement.name)
        return self.status == IDLE and not self.closed

    async def script(self, text: str) -> CommandTag:
        """Run statements without arguments, separated by semicolons; the tag of the last."""
        raw = encoded(text)
        self.ready()
        self.outbox.query(raw)
        if self.leaves(raw):
            self.dirty = True
        self.inbox.expect(None, None)
        await self.talk(extended=False)
        return self.command_tag()

    def command_tag(self) -> CommandTag:
        """What the last command said."""
        return CommandTag(self.tag.rstrip(b"\0").decode(errors="replace"))

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
                        self._take_ready()
                    elif code in (COMMAND_COMPLETE, EMPTY_QUERY):
                        self.tag = self.inbox.body()
                        if self._on_complete is not None:
                            self._on_complete()
                    else:
                        self._aside(code)
                        if code == codes.COPY_IN:
                            self._refuse_copy(extended)
                            await self.send()
                        elif code == codes.COPY_OUT and self.error is None:
                            self.error = PoolError("what COPY TO STDOUT sends has been dropped: use copy_out()")
                if not self.owed:
                    break
                if in_a_row == 0:
                    await wait_readable(self.socket)
                in_a_row = (in_a_row + 1) % IN_A_ROW if self.receive() else 0
        except BaseException as error:
            await self.give_up(error)
            raise
        self.raise_error()

    def _take_ready(self) -> None:
        self.status = self.inbox.status()
        self.owed -= 1
        if self.owed < 0:
            raise ServerProtocolError("the server sent a ReadyForQuery that nobody waits for")

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
                self._take_ready()
                return code
            if code == COMMAND_COMPLETE:
                self.tag = self.inbox.body()
                return code
            if code:
                self._aside(code)
                return code
            await wait_readable(self.socket)
            self.receive()

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
                self._take_ready()
            else:
                self._aside(code)

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

    def _aside(self, code: int) -> None:
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
            self._notify(body)
        elif code in (codes.PARAMETER_DESCRIPTION, codes.ROW_DESCRIPTION, codes.NO_DATA):
            self.described[code] = body
        elif code in (codes.COPY_IN, codes.COPY_OUT, codes.COPY_DATA, codes.COPY_DONE):
            pass
        elif code != codes.PORTAL_SUSPENDED:
            raise ServerProtocolError("the server sent a message out of turn")

    def _notify(self, body: bytes) -> None:
        if len(body) < 6 or body.count(b"\0", 4) < 2:
            raise ServerProtocolError("malformed NotificationResponse")
        if self.on_notification is not None:
            (pid,) = struct.unpack_from("!i", body)
            channel, _, payload = body[4:-1].partition(b"\0")
            self.on_notification(Notification(channel.decode(errors="replace"), payload.decode(errors="replace"), pid))

    def _refuse_copy(self, extended: bool) -> None:
        self.outbox.copy_fail(b"use copy_in() for COPY FROM STDIN")
        if extended:  # the server has skipped the Sync that stood behind the query
            self.outbox.sync()

    # -- when it goes wrong ----------------------------------------------------------------------------------------

    async def give_up(self, error: BaseException) -> None:
        """`error` has interrupted an exchange: bring the link back in step, or close it.

        Raises:
            ConnectionLost: in the place of an OSError.
        """
        if isinstance(error, OSError | trio.ClosedResourceError):
            self._lost()
            fatal, self.error = self.error, None
            if fatal is not None:
                raise fatal from error
            if self.closed_because:
                raise ConnectionLost(self.closed_because) from error
            if isinstance(error, trio.ClosedResourceError):
                raise ConnectionLost("the pool closed the connection") from error
            raise ConnectionLost(f"the connection to the server broke: {error.strerror or error}") from error
        if isinstance(error, Exception) or not self.owed:
            self._lost()
            return
        await self.abandon()

    async def abandon(self) -> None:
        """Nobody wants the answers that are owed: cancel what runs and read up to the last ReadyForQuery, or close."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.cancel_timeout_s) as scope:
            try:
                await self._drain()
            except Exception as trouble:
                logs.LOGGER.info(
                    "%s", logs.line("", f"closing a connection after a cancelled query: {type(trouble).__name__}")
                )
                self._lost()
        if scope.cancelled_caught:
            self._lost()

    def _lost(self) -> None:
        self.owed = self.owed or 1  # so that nothing polite is said
        self.close()

    async def _drain(self) -> None:
        """Cancel what runs and read what is owed."""
        if self.closed or self.sending:
            self._lost()
            await self._cancel()
            return
        self.inbox.expect(None, None)
        self._skim()
        if self.owed:
            self.receive()
            self._skim()
        if not self.owed:
            return
        await self._cancel()
        while self.owed:
            self._skim()
            if self.owed:
                await wait_readable(self.socket)
                self.receive()

    def _skim(self) -> None:
        while code := self.inbox.next():
            if code == READY:
                self._take_ready()
            elif code in (codes.NOTIFICATION, codes.PARAMETER_STATUS, codes.NOTICE):
                self._aside(code)
            elif code == codes.COPY_IN:
                raise ConnectionLost("cancelled in front of a COPY")

    async def _cancel(self) -> None:
        with contextlib.suppress(ServerUnavailable):
            await send_cancel(
                host=self.host,
                port=self.port,
                backend_pid=self.backend_pid,
                backend_key=self._backend_key,
                timeout_s=self.cancel_timeout_s,
                secured=self._secured,
            )

    async def cancel(self) -> None:
        """Cancel what runs, from outside."""
        await self._cancel()


def encoded(text: object) -> bytes:
    """A query as it is sent.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a query is a str, not {type(text).__name__}")
    return text.encode()


def is_home(home: trio.lowlevel.TrioToken) -> bool:
    """Whether this is that trio run."""
    try:
        return current_trio_token() is home
    except RuntimeError:
        return False
