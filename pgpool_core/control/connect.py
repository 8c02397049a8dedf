"""Open one server connection and log in: with cancel.py the only place in control that makes sockets to PostgreSQL.

The result is handed to the engine as a bare descriptor; nothing of trio stays attached to it.
Source: PostgreSQL docs, "Message Flow", Start-up; PgBouncer docs, [databases] host, load_balance_hosts, connect_query.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterable
from typing import Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.passwords import PasswordSource, PasswordWanted
from pgpool_core.control.cancel import send_cancel
from pgpool_core.control.connect_query import ConnectQuery, QueryDone
from pgpool_core.control.hosts import Address, HostOrder, connect, place
from pgpool_core.control.messages import TERMINATE, ErrorFields
from pgpool_core.control.names import Names
from pgpool_core.control.passwords import ask_password
from pgpool_core.control.pipes import BytePipe, SocketPipe, TlsPipe
from pgpool_core.control.server_login import (
    KeysWanted,
    LoginCut,
    LoginOk,
    ServerLogin,
    ServerNotice,
    Verdict,
)
from pgpool_core.control.server_tls import NoTls, Secured, TlsContexts, TlsWish, begin_tls, channel_of, setting_of
from pgpool_core.control.talk import NEED_DATA
from pgpool_core.errors import (
    ConfigError,
    PgPoolError,
    ServerLoginRefused,
    ServerProtocolError,
    ServerUnavailable,
    TlsError,
)
from pgpool_core.policy.scram import scram_keys
from pgpool_core.policy.secrets import Secret
from pgpool_core.tls.face import Session

__all__ = [
    "BytePipe",
    "HostOrder",
    "LoggedInServer",
    "ServerTarget",
    "SocketPipe",
    "log_in",
    "open_server",
]

WRONG_PASSWORD: Final = "28P01"
NOT_SO: Final = "28000"  # what PostgreSQL says where no line of its pg_hba.conf fits
ABANDONED_S: Final = 3.0  # at most, for a query that has taken too long to be cancelled
MAX_NOTICE_LEN: Final = 500  # characters of a notice that a log line may take


def _to_bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _to_pairs(pairs: Iterable[tuple[str | bytes, str | bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((_to_bytes(name), _to_bytes(value)) for name, value in pairs)


@attrs.frozen(kw_only=True)
class ServerTarget:
    """Where one pool's servers are and how to log in there; everything `open_server` needs."""

    hosts: tuple[str, ...] = attrs.field(validator=attrs.validators.min_len(1))  # name, address, /dir, @abstract
    port: int = 5432
    dbname: bytes = attrs.field(converter=_to_bytes)
    user: bytes = attrs.field(converter=_to_bytes)
    secret: Secret | None = None
    password: PasswordSource | None = None  # asked for each connection; goes before `secret`
    unlock: Callable[[Secret | None], Secret | None] = attrs.field(default=lambda secret: secret, eq=False, repr=False)
    """What becomes of a secret when it is used: a client may have revealed the key that it lacks."""
    parameters: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), converter=_to_pairs)  # for the startup packet
    tls: TlsWish = attrs.field(factory=TlsWish)
    connect_query: bytes = attrs.field(default=b"", converter=_to_bytes, repr=False)  # b"" = none
    tcp_keepalive: bool = True
    tcp_keepidle: int = 0  # seconds, 0 = as the operating system has it
    tcp_keepintvl: int = 0  # seconds, 0 = as the operating system has it
    tcp_keepcnt: int = 0  # probes, 0 = as the operating system has it
    tcp_user_timeout: int = 0  # milliseconds, 0 = as the operating system has it
    tcp_socket_buffer: int = 0  # bytes, 0 = as the operating system has it
    host_order: HostOrder = attrs.field(factory=HostOrder, eq=False, repr=False)
    names: Names = attrs.field(factory=Names, eq=False, repr=False)
    contexts: TlsContexts = attrs.field(factory=TlsContexts, eq=False, repr=False)


Pairs = tuple[tuple[bytes, bytes], ...]


@attrs.frozen
class Began:
    """What a server begins with beside what it reports; `control.began` asks for it."""

    settings: Pairs = ()
    at_login: Pairs | None = None  # what it has reported before connect_query; None: nothing has run since
    fixed: tuple[bytes, ...] = ()  # names among `settings` that its login cannot set itself


@attrs.define(eq=False)
class LoggedInServer:
    """A server that is ready for queries; owns its socket until `give`, `detach` or `close`."""

    host: str  # the address in use, or the socket directory: where a CancelRequest has to go
    port: int
    is_unix: bool
    backend_pid: int
    backend_key: bytes = attrs.field(repr=False)
    parameters: list[tuple[bytes, bytes]]  # the last value of each, in the order in which the names first came
    unread: bytes = attrs.field(repr=False)  # bytes that came behind ReadyForQuery
    _pipe: SocketPipe | None = attrs.field(repr=False)
    secured: Secured | None = None  # None: without TLS
    began: Began = Began()
    called: str = ""  # what its entry calls the host; "": it has come from another process
    is_poolers: bool = False  # whether it was asked, and another pooler answers between us and PostgreSQL

    async def exchange(self, data: bytes, take: Callable[[bytes], bool]) -> None:
        """Send `data`, then give `take` what comes until it says that this was all; b"" is the end of the stream.

        Raises:
            OSError, TlsError: the connection broke.
        """
        pipe = self.pipe
        await pipe.send_all(data)
        while not take(await pipe.receive_some()):
            pass

    async def abandon(self, tag: str, what: str) -> None:
        """Nobody waits any more for `what`, which runs there: have it cancelled, and wait until PostgreSQL has closed, for it counts until then."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ABANDONED_S):
            try:
                await send_cancel(
                    host=self.host,
                    port=self.port,
                    backend_pid=self.backend_pid,
                    backend_key=self.backend_key,
                    timeout_s=ABANDONED_S,
                    secured=self.secured,
                )
                await self.exchange(TERMINATE, lambda data: not data)
            except (PgPoolError, OSError) as error:
                logs.LOGGER.info("%s", logs.line(tag, f"{what} runs on after its time: {error}"))

    @property
    def pipe(self) -> SocketPipe:
        """The way to it, which stays ours."""
        if self._pipe is None:
            raise RuntimeError("this server connection has been given away or closed")
        return self._pipe

    @property
    def tls(self) -> str:
        """Version, cipher and key exchange; "" without TLS."""
        return self.pipe.session.info if self.pipe.session is not None else ""

    def give(self) -> SocketPipe:
        """The way to it, with what nobody has received yet in `unread`; it moves to the caller, who closes it."""
        pipe, self._pipe = self.pipe, None
        if isinstance(pipe, TlsPipe):
            self.unread += pipe.unread()
        return pipe

    def detach(self) -> tuple[int, Session | None]:
        """The descriptor, non-blocking, and the TLS session on it; both move to the caller."""
        pipe = self.give()
        return pipe.socket.detach(), pipe.session

    def close(self) -> None:
        """Say Terminate if the socket takes it at once, and close; nothing to do after `give`."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close(TERMINATE)


async def log_in(pipe: BytePipe, login: ServerLogin, user: bytes, secret: Secret | None, tag: str) -> Verdict:
    """Drive `login` over `pipe` until it reaches a verdict; `tag` names the server in log lines.

    Raises:
        ServerProtocolError: the server broke the protocol.
        OSError: the connection broke.
    """
    while True:
        event = login.next_event()
        if data := login.data_to_send():
            await pipe.send_all(data)
        if event is NEED_DATA:
            login.receive_data(await pipe.receive_some())
        elif isinstance(event, KeysWanted):
            password = (secret.plain if secret is not None else None) or b""
            login.provide_keys(await scram_keys(user, password, event.salt, event.iterations))
        elif isinstance(event, ServerNotice):
            logs.LOGGER.info("%s", logs.line(tag, f"server notice at login: {event.fields.message[:MAX_NOTICE_LEN]}"))
        else:
            return event


async def open_server(
    target: ServerTarget, *, timeout_s: float, setting: str = "server_connect_timeout"
) -> LoggedInServer:
    """A server connection, logged in, with connect_query run.

    Hosts and their addresses are tried one after the other; each may use its share of the time left to be found and to
    connect, a login all of it. A host that answers 57P03 (cannot_connect_now) gives way to the next one; any other refusal is
    final.

    Args:
        timeout_s: server_connect_timeout, in seconds, for everything together.
        setting: what the caller calls that, for errors.
    Raises:
        ServerUnavailable: no host could be reached or none answered in time; names each host and its reason.
        PasswordUnavailable: what has the password does not give it.
        ServerLoginRefused: the server's ErrorResponse, or our own where the secret cannot answer what the server asks.
        ServerProtocolError: the server broke the protocol.
    """
    attempt = _Attempt(target, trio.current_time() + timeout_s, setting)
    with trio.move_on_after(timeout_s):
        for host in target.host_order.hosts(target.hosts):
            server = await attempt.try_host(host)
            if server is not None:
                target.host_order.opened(host, server.host)
                return server
            target.host_order.failed(host, target.hosts, attempt.last_problem)
            attempt.hosts_left -= 1
        raise attempt.failure()
    if attempt.at is not None:
        attempt.problems.append(f"{attempt.at}: {attempt.waiting_for} within {timeout_s:g} s ({setting})")
        target.host_order.failed(attempt.host, target.hosts, attempt.last_problem)
    raise attempt.failure()


class _OtherWay(Exception):
    """The server is to be asked again, with TLS where that was without, or the other way round."""


class _Attempt:
    """One call of open_server: where it is, and what went wrong before."""

    def __init__(self, target: ServerTarget, deadline: float, setting: str) -> None:
        self.target = target
        self.deadline = deadline
        self.setting = setting
        self.hosts_left = len(target.hosts)
        self.host = ""
        self.secret: Secret | None = None
        self.at: str | None = None
        self.waiting_for = ""
        self.problems: list[str] = []
        self.not_now: ServerLoginRefused | None = None
        self.refused_now = False  # what the last address said, cannot_connect_now

    def failure(self) -> ServerUnavailable | ServerLoginRefused:
        return self.not_now or ServerUnavailable("cannot connect to server at " + "; ".join(self.problems))

    @property
    def last_problem(self) -> str:
        """What the host that was tried last has failed of."""
        return f"{self.at}: {self.not_now}" if self.refused_now else self.problems[-1] if self.problems else ""

    async def try_host(self, host: str) -> LoggedInServer | None:
        """A server of this host; None after noting why there is none."""
        self.refused_now = False
        self.host, self.at, self.waiting_for = host, place(host, self.target.port), "no address found"
        share_s = (self.deadline - trio.current_time()) / self.hosts_left
        try:
            with trio.move_on_after(max(0, share_s) if self.hosts_left > 1 else math.inf) as scope:
                found = await self.target.names.addresses(host, self.target.port)
        except (OSError, UnicodeError, ValueError) as error:
            self.problems.append(f"{self.at}: server DNS lookup failed: {_reason(error)}")
            return None
        if scope.cancelled_caught:
            self.problems.append(f"{self.at}: no address found within {share_s:.2g} s ({self.setting})")
            return None
        self.waiting_for = "no password"
        self.secret = await self._secret(host)
        addresses = self.target.host_order.addresses(host, found)
        for number, address in enumerate(addresses):
            shares = len(addresses) - number + self.hosts_left - 1
            server = await self._try_passwords(address, (self.deadline - trio.current_time()) / shares)
            if server is not None:
                return server
        return None

    async def _try_passwords(self, address: Address, share_s: float) -> LoggedInServer | None:
        """A server at this address; a password that has changed since it was asked for is asked for again."""
        try:
            return await self._try_address(address, share_s)
        except ServerLoginRefused as error:
            if self.target.password is None or error.sqlstate != WRONG_PASSWORD:
                raise
            refused = self.secret
            self.secret = await self._secret(self.host)
            if self.secret == refused:
                raise
        return await self._try_address(address, share_s)

    async def _secret(self, host: str) -> Secret | None:
        target = self.target
        if target.password is None:
            return target.unlock(target.secret)
        user, database = (name.decode("utf-8", "surrogateescape") for name in (target.user, target.dbname))
        wanted = PasswordWanted(user=user, database=database, host=host, port=target.port)
        return target.unlock(await ask_password(target.password, wanted))

    async def _try_address(self, address: Address, share_s: float) -> LoggedInServer | None:
        """A server at this address; with `prefer` and `allow` in two ways, if need be."""
        steps = self.target.tls.steps(is_unix=address.is_unix)
        for number, secure in enumerate(steps, start=1):
            try:
                return await self._try_way(address, share_s, secure, is_last=number == len(steps))
            except _OtherWay as other:
                told = logs.line(
                    self._tag(address), f"{other}, {'without' if secure else 'with'} TLS now (server_tls_sslmode)"
                )
                logs.LOGGER.debug("%s", told)
        return None

    async def _try_way(self, address: Address, share_s: float, secure: bool, *, is_last: bool) -> LoggedInServer | None:
        """
        Raises:
            _OtherWay: this one does not lead to the server, and there is another.
        """
        self.at, self.waiting_for = place(address.host, self.target.port), "no connection"
        with trio.move_on_after(max(0, share_s)) as scope:
            try:
                sock = await connect(address)
            except (OSError, ValueError) as error:
                self.problems.append(f"{self.at}: {_reason(error)}")
                return None
        if scope.cancelled_caught:
            self.problems.append(f"{self.at}: no connection within {share_s:.2g} s ({self.setting})")
            return None
        server: LoggedInServer | None = None
        try:
            if not address.is_unix:
                _set_tcp_options(sock, self.target)
            pipe = await self._secured(sock, is_last=is_last) if secure else SocketPipe(sock)
            if pipe is not None:
                self.waiting_for = "no login"
                server = await self._log_in(pipe, address, is_last=is_last)
        finally:
            if server is None:
                sock.close()
        return server

    async def _secured(self, sock: trio.socket.SocketType, *, is_last: bool) -> SocketPipe | None:
        """A pipe through TLS, or without where the server has none and that is fine; None after noting why there is none."""
        target, self.waiting_for = self.target, "no TLS"
        try:
            return await begin_tls(sock, self._secured_by())
        except NoTls:
            if not is_last:
                return SocketPipe(sock)
            problem = f"the server has no TLS, which sslmode = {target.tls.mode} demands (server_tls_sslmode)"
        except (TlsError, ConfigError) as error:
            problem = f"TLS: {error} ({setting_of(target.tls, error)})"
        except OSError as error:
            problem = f"TLS: {_reason(error)}"
        except ServerProtocolError as error:
            raise ServerProtocolError(f"server at {self.at} broke the protocol: {error}") from error
        if not is_last:
            raise _OtherWay(problem)
        self.problems.append(f"{self.at}: {problem}")
        return None

    def _secured_by(self) -> Secured:
        return Secured(self.target.tls, self.target.contexts, self.host)

    async def _log_in(self, pipe: SocketPipe, address: Address, *, is_last: bool) -> LoggedInServer | None:
        target, tag = self.target, self._tag(address)
        login = ServerLogin(
            user=target.user,
            dbname=target.dbname,
            secret=self.secret,
            parameters=target.parameters,
            channel=channel_of(target.tls, pipe),
        )
        try:
            verdict = await log_in(pipe, login, target.user, self.secret, tag)
            if isinstance(verdict, LoginOk):
                return await self._finish(pipe, address, verdict)
        except OSError as error:
            self.problems.append(f"{self.at}: {_reason(error)} during login")
            return None
        except TlsError as error:
            self.problems.append(f"{self.at}: TLS: {error} ({setting_of(target.tls, error)})")
            return None
        except ServerProtocolError as error:
            raise ServerProtocolError(f"server at {self.at} broke the protocol: {error}") from error
        if isinstance(verdict, LoginCut):
            self.problems.append(f"{self.at}: server closed the connection during login")
            return None
        if not is_last and not login.asked and verdict.fields.sqlstate == NOT_SO:
            raise _OtherWay(verdict.fields.message)
        self._note_refusal(verdict.fields)
        return None

    def _note_refusal(self, fields: ErrorFields) -> None:
        error = ServerLoginRefused(
            fields.message,
            severity=fields.severity,
            sqlstate=fields.sqlstate,
            detail=fields.detail or None,
            hint=fields.hint or None,
            raw=fields.raw,
            where=self.at or "",
        )
        if not error.cannot_connect_now:
            self.target.host_order.refused(self.host, f"{self.at}: {error.sqlstate} {error.message}")
            raise error
        self.not_now, self.refused_now = error, True

    async def _finish(self, pipe: SocketPipe, address: Address, login: LoginOk) -> LoggedInServer | None:
        query = self.target.connect_query
        server = LoggedInServer(
            host=address.host,
            port=self.target.port,
            is_unix=address.is_unix,
            backend_pid=login.backend_pid,
            backend_key=login.backend_key,
            parameters=list(login.parameters),
            unread=login.unread,
            pipe=pipe,
            secured=self._secured_by() if pipe.session is not None else None,
            began=Began(at_login=tuple(login.parameters) if query else None),
            called=self.host,
        )
        return server if not query or await self._run_connect_query(server, query, self._tag(address)) else None

    async def _run_connect_query(self, server: LoggedInServer, sql: bytes, tag: str) -> bool:
        """Whether the server is there afterwards; notes why it is not."""
        self.waiting_for = "connect_query did not end"
        parameters = dict(server.parameters)
        try:
            done = await self._run(server.pipe, sql, server.unread, tag)
            if done is not None and done.in_transaction:
                parameters.update(done.parameters)
                left_open = "connect_query left a transaction open: rolled back (connect_query)"
                logs.LOGGER.warning("%s", logs.line(tag, left_open))
                done = await self._run(server.pipe, b"ROLLBACK", done.unread, tag)
        except trio.Cancelled:
            await server.abandon(tag, "connect_query")
            raise
        if done is None or done.in_transaction:
            self.problems.append(f"{self.at}: server closed the connection (connect_query)")
            return False
        parameters.update(done.parameters)
        server.parameters, server.unread = list(parameters.items()), done.unread
        return True

    async def _run(self, pipe: SocketPipe, sql: bytes, unread: bytes, tag: str) -> QueryDone | None:
        """Run a query for its effects; None: the server left. Its error is logged without text, which may quote SQL."""
        query = ConnectQuery(sql, unread)
        while True:
            event = query.next_event()
            if data := query.data_to_send():
                await pipe.send_all(data)
            if event is NEED_DATA:
                query.receive_data(await pipe.receive_some())
                continue
            if event.error is not None:
                fields = {"sqlstate": event.error.sqlstate}
                logs.LOGGER.warning("%s", logs.line(tag, "connect_query failed, ignored (connect_query)", fields))
            return event if isinstance(event, QueryDone) else None

    def _tag(self, address: Address) -> str:
        names = f"{self.target.dbname.decode(errors='replace')}/{self.target.user.decode(errors='replace')}"
        return f"{names}@{place(address.host, self.target.port)}"


def _set_tcp_options(sock: trio.socket.SocketType, target: ServerTarget) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(target.tcp_keepalive))
    if target.tcp_user_timeout:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, target.tcp_user_timeout)
    if target.tcp_socket_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, target.tcp_socket_buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, target.tcp_socket_buffer)
    if target.tcp_keepalive:
        for option, value in (
            (socket.TCP_KEEPIDLE, target.tcp_keepidle),
            (socket.TCP_KEEPINTVL, target.tcp_keepintvl),
            (socket.TCP_KEEPCNT, target.tcp_keepcnt),
        ):
            if value:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _reason(error: Exception) -> str:
    """What went wrong, without the address that trio puts in front; a gaierror has no errno and keeps its text."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
