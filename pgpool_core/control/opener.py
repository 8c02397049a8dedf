"""Opens the server connections that the engine wants, several at once, and holds back after failures.

A refused login (wrong password, no such database, too many connections) is repeated after server_login_retry. A server that cannot be
reached or is starting up is tried again after a quarter of a second, then after twice that, up to server_login_retry: refused
connects cost nothing, and a restarted server is found soon. Who waits when a server cannot be reached goes on waiting; who sends a
query later fails with the cached error. After a refused login everybody does.
Replication clients have a server each, opened once for each of them: what it failed of, that client is told, and nobody else.
Source: PgBouncer docs, server_login_retry; its texts.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from pgpool_core import logs
from pgpool_core.control.began import ask_began
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.pools import DATABASE_REMOVED, PoolRecord, PoolRegistry
from pgpool_core.control.replication import replication_kind, replication_target
from pgpool_core.control.routing import connect_timeout_s, microseconds
from pgpool_core.control.server_login import NO_CLIENT_KEYS
from pgpool_core.errors import (
    InternalError,
    PasswordUnavailable,
    PgPoolError,
    ServerLoginRefused,
    ServerUnavailable,
    error_response,
)

if TYPE_CHECKING:
    from pgpool_core.control.databases import Databases
    from pgpool_core.engine.plane import Engine

FIRST_RETRY_S: Final = 0.25  # after a server could not be reached; doubles with every further failure
LAYERED: Final = (
    "its servers are another pooler's: unless that one is in session mode, what clients set in their sessions is lost, or met"
    " by others (session_state)"
)
INTERNAL_ERROR: Final = error_response(InternalError("internal error"))
SHORTEST_RETRY_S: Final = 0.05  # also with server_login_retry = 0: a pool with min_pool_size would try without a pause


def _cached(text: str, sqlstate: str) -> bytes:
    message = f"server login has been failing, cached error: {text} (server_login_retry)"
    return error_response({"C": sqlstate, "M": message})


class OpenServer(Protocol):
    """`connect.open_server`, or a test's stand-in."""

    def __call__(self, target: ServerTarget, *, timeout_s: float) -> Awaitable[LoggedInServer]: ...


BeforeFirstUse = Callable[[PoolRecord, ServerTarget, LoggedInServer], Awaitable[None]]


def clock_us() -> int:
    """Now, on the engine's clock."""
    return time.monotonic_ns() // 1000


@attrs.frozen
class Opening:
    """A server connection that is being opened: SHOW SERVERS tells of it before it has an address of its own."""

    pool: int
    target: ServerTarget
    since_us: int
    replication: str = "none"  # or "physical" or "logical"


class Opener:
    """One task per connection being opened, all in the nursery it is given; how many at once is the engine's plan."""

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        nursery: trio.Nursery,
        *,
        open_server: OpenServer,
        before_first_use: BeforeFirstUse,
        now_us: Callable[[], int] = clock_us,
    ) -> None:
        """Make an opener; `before_first_use` may ask each server something that is for the pool."""
        self.before_first_use = before_first_use
        self._engine = engine
        self._pools = pools
        self._nursery = nursery
        self._open_server = open_server
        self._now_us = now_us
        self.databases: Databases | None = None
        self.opening: dict[int, Opening] = {}  # by their places

    def poke(self) -> None:
        """Open whatever is wanted now; cheap when nothing is."""
        now_us = self._now_us()
        for server, pool, startup in self._engine.plan(now_us):
            record = self._pools.get(pool)
            if record is None:
                self._engine.abandon_server(server, DATABASE_REMOVED)
            elif startup is not None:
                name = f"open replication server for {record.key}"
                self._nursery.start_soon(self._open_dedicated, server, record, startup, name=name)
            elif now_us < record.retry_us:
                self._engine.abandon_server(server)
            elif self.databases is not None and self.databases.holds(record.target.dbname):
                self._engine.abandon_server(server)
                self.databases.keep_shut(record)  # a pool that has come since
            else:
                self._nursery.start_soon(self._open, server, record, name=f"open server for {record.key}")

    async def _open(self, server: int, record: PoolRecord) -> None:
        started_us, failures = self._now_us(), record.failures
        target = record.target
        opened: LoggedInServer | None = None
        self.opening[server] = Opening(record.id, target, started_us)
        try:
            login = self._pools.login_target(record)
            opened = await self._open_server(login, timeout_s=connect_timeout_s(self._pools.config))
            await self.prepare(record, target, opened)
        except Exception as error:
            if opened is not None:
                opened.close()
            self._engine.abandon_server(server)
            self._failed(record, error, failures + 1)
        except BaseException:  # cancelled: the pooler stops
            if opened is not None:
                opened.close()
            self._engine.abandon_server(server)
            raise
        else:
            self.adopt(server, record, target, opened, started_us)
        finally:
            del self.opening[server]
        self.poke()

    async def prepare(self, record: PoolRecord, target: ServerTarget, opened: LoggedInServer) -> None:
        """Ask a server that nobody has yet what has to be known first.

        Raises:
            ServerUnavailable: the connection is of no more use.
        """
        await self.before_first_use(record, target, opened)
        asks = self._pools.config.function_check_period > 0  # in any mode: with another one it will matter
        if target.connect_query or (asks and record.began is None):
            await ask_began(opened, target, str(record.key))
            if opened.is_poolers and not record.layered and record.settings.keeping != "anything":
                record.layered = True
                logs.LOGGER.warning("%s", logs.line(str(record.key), LAYERED))
        elif record.began is not None:
            opened.began = record.began

    async def _open_dedicated(self, server: int, record: PoolRecord, startup: Sequence[tuple[bytes, bytes]]) -> None:
        """Open a server for one client, which alone hears of a failure: its right to replicate is its own affair."""
        started_us, target = self._now_us(), record.target
        self.opening[server] = Opening(record.id, target, started_us, replication_kind(startup))
        try:
            asked = replication_target(self._pools.login_target(record), startup)
            opened = await self._open_server(asked, timeout_s=connect_timeout_s(self._pools.config))
        except Exception as error:
            self._log(record, error, None, again=False)
            raw = error.raw if isinstance(error, ServerLoginRefused) else None
            self._engine.abandon_server(server, raw or error_response(error))
        except BaseException:  # cancelled: the pooler stops
            self._engine.abandon_server(server)
            raise
        else:
            self.adopt(server, record, target, opened, started_us, dedicated=True)
        finally:
            del self.opening[server]
        self.poke()

    def adopt(
        self,
        server: int,
        record: PoolRecord,
        target: ServerTarget,
        opened: LoggedInServer,
        started_us: int,
        *,
        dedicated: bool = False,
    ) -> None:
        """Give an open server to the engine, in the place `server`; it moves there, or is closed."""
        if target is not record.target:  # a reload came in between; what was right for the old target may be wrong now
            opened.close()
            self._engine.abandon_server(server)
            return
        if not dedicated:
            record.failures = record.retry_us = record.away_us = 0
        parameters = tuple(opened.parameters)
        tls = opened.tls
        fd, session = opened.detach()
        try:
            server_id = self._engine.adopt_server(
                server,
                fd,
                backend_pid=opened.backend_pid,
                backend_key=opened.backend_key,
                parameters=parameters,
                unread=opened.unread,
                family_unix=opened.is_unix,
                host=opened.host.encode("utf-8", "surrogateescape"),
                port=opened.port,
                began=opened.began.settings,
                tls=session,
            )
        except Exception:
            os.close(fd)
            self._engine.abandon_server(server, INTERNAL_ERROR)
            logs.LOGGER.exception("%s", logs.line(str(record.key), "a server connection cannot be adopted"))
            return
        if not dedicated and not self._pools.is_there(opened):
            # its name has moved meanwhile
            self._engine.retire_servers(record.id, opened.host.encode(), dedicated=False)
        if opened.secured is not None:
            record.host_names[opened.host] = opened.secured.name
        tag = logs.server_tag(server_id, record.key.database, record.key.user, opened.host, opened.port)
        if (parameters, opened.began) != (record.welcome, record.began) and not dedicated:  # else they are one client's
            self._pools.greet(record, parameters, opened.began)
        if self._pools.config.log_connections:
            fields: dict[str, object] = {
                "backend_pid": opened.backend_pid,
                "took_ms": (self._now_us() - started_us) // 1000,
            }
            if tls:
                fields["tls"] = tls
            logs.LOGGER.info("%s", logs.line(tag, "new connection to server", fields))

    def _failed(self, record: PoolRecord, error: Exception, failures: int) -> None:
        """An attempt has failed, the `failures`-th in a row; attempts that ran side by side count as one."""
        again = failures <= record.failures
        record.failures = max(failures, record.failures)
        pause_s = self._pause_s(record, error)
        record.retry_us = self._now_us() + microseconds(pause_s)
        self._tell_pool(record, error)
        self._log(record, error, pause_s, again=again)

    def _tell_pool(self, record: PoolRecord, error: Exception) -> None:
        if isinstance(error, ServerLoginRefused) and error.cannot_connect_now:
            # Nobody is told: clients stay queued, each up to its own limit.
            self._engine.fail_pool(record.id, b"", b"", record.retry_us)
            record.away_us = 0
            return
        if isinstance(error, ServerUnavailable) and not isinstance(error, PasswordUnavailable):
            self._unreachable(record, error)
            return
        record.away_us = 0
        if isinstance(error, ServerLoginRefused):
            text, sqlstate, first = error.message, error.sqlstate, error.raw or error_response(error)
        elif isinstance(error, PgPoolError):
            text, sqlstate, first = error.message, error.sqlstate, error_response(error)
        else:
            text, sqlstate, first = "internal error", "XX000", error_response(error)
        # Those who wait now hear the server itself, those who come later that it is what was heard then.
        self._engine.fail_pool(record.id, first, _cached(text, sqlstate), record.retry_us)

    def _unreachable(self, record: PoolRecord, error: ServerUnavailable) -> None:
        """Those who waited before anybody could know stay in the queue, each up to its own limit; those who have come since are told."""
        since_us = record.away_us or self._now_us()
        cached = _cached(error.message, error.sqlstate)
        none = self._engine.fail_pool(record.id, b"", cached, record.retry_us, since_us)
        record.away_us = since_us if none else 0

    def _pause_s(self, record: PoolRecord, error: Exception) -> float:
        longest_s, failures = self._pools.config.server_login_retry, record.failures
        if isinstance(error, ServerLoginRefused) and error.hint == NO_CLIENT_KEYS:
            return SHORTEST_RETRY_S  # the next client may bring them
        may_change = record.target.password is not None  # it has, perhaps, since it was asked for
        if isinstance(error, ServerLoginRefused) and not error.cannot_connect_now and not may_change:
            return max(SHORTEST_RETRY_S, longest_s)
        return max(SHORTEST_RETRY_S, min(longest_s, FIRST_RETRY_S * 2.0 ** min(failures - 1, 30)))

    def _log(self, record: PoolRecord, error: Exception, pause_s: float | None, *, again: bool) -> None:
        """Say what went wrong; `pause_s` None where there will be no further attempt."""
        fields: dict[str, object] = {"for": "replication"} if pause_s is None else {"retry_in_s": pause_s}
        if not isinstance(error, PgPoolError):
            text = logs.line(str(record.key), "internal error while opening a server connection", fields)
            logs.LOGGER.error("%s", text, exc_info=error)
            return
        level = logging.DEBUG if again else logging.WARNING if record.failures > 1 or pause_s is None else logging.ERROR
        logs.LOGGER.log(level, "%s", logs.line(str(record.key), str(error), {"sqlstate": error.sqlstate, **fields}))
        if error.hint == NO_CLIENT_KEYS:
            logs.LOGGER.log(level, "%s", logs.line(str(record.key), NO_CLIENT_KEYS))
