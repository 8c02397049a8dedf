"""-R where PgBouncer runs: its listening sockets, clients and servers, by the words that it uses among its own.

    we   connect to its unix socket as user pgbouncer of database pgbouncer, twice
    we   SUSPEND        it answers when it stands still between messages
    we   SHOW CLIENTS   what SHOW FDS does not tell: application_name, prepared statements, TLS
    we   SHOW FDS       a row for each socket, with its descriptor
    we   SHUTDOWN       it ends without a word to anybody, and leaves its unix socket in place

A client that waits for a server keeps SUSPEND from being answered, while those who have one are not read; after suspend_timeout
PgBouncer drops it. So it is told to RESUME after a moment, by the second connection, for it reads no more from the first, and
SUSPEND is tried again, until there is a moment at which nobody waits.

Should we end before SHUTDOWN, in whatever way, it goes on: "admin disappeared when suspended, doing RESUME".
Source: the system calls of PgBouncer 1.18 and 1.24 that take over from each other; PgBouncer docs, SHOW FDS.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError, ServerProtocolError
from pgpool_core.process.rows import Row
from pgpool_core.process.takeover import Sockets
from pgpool_core.process.visit import Visit, close_all

STEP_S: Final = 10.0
FDS_S: Final = 60.0
HAS_NONE: Final = "it hands nothing over, as PgBouncer from 1.26 on: end it first, or let both listen side by side meanwhile (so_reuseport)"
SUSPEND_S: Final = 0.3  # for everybody to come to rest between messages
PAUSE_S: Final = 0.2  # in which it works, before the next try
TRIES: Final = 40


@attrs.define(eq=False)
class Predecessor:
    """A PgBouncer that stands still for us, from `knock` to `come_up` or `close`."""

    _visit: Visit
    _other: Visit
    sockets: Sockets = attrs.field(factory=lambda: Sockets([], "", [], moves=0))
    clients: Sequence[Row] = ()  # SHOW CLIENTS
    fds: list[tuple[Row, int]] = attrs.field(factory=list)  # clients and servers of SHOW FDS; the descriptors are ours

    @classmethod
    async def knock(cls, config: Config) -> Self | None:
        """Have the PgBouncer that listens where we are to listen stand still, and take copies of its sockets; None where there is none.

        Raises:
            ConfigError: it does not hand them over.
        """
        if not config.unix_socket_dir:
            return None
        path = f"{config.unix_socket_dir}/.s.PGSQL.{config.listen_port}"
        try:
            visit = await Visit.begin(path)
            if visit is None:
                return None
            found = await cls._stands_still(path, visit)
        except (OSError, trio.TooSlowError, PgPoolError) as error:
            raise _failed(path, error) from error
        try:
            await found._ask_everything()
        except (OSError, trio.TooSlowError, PgPoolError) as error:
            found.close()
            raise _failed(path, error) from error
        except BaseException:
            found.close()
            raise
        return found

    @classmethod
    async def _stands_still(cls, path: str, visit: Visit) -> Self:
        """Have it stand still at a moment when nobody waits for a server; both connections are closed where that fails."""
        try:
            for _ in range(TRIES):
                other = await Visit.begin(path)
                if other is None:
                    raise OSError("it has ended")
                try:
                    with trio.move_on_after(SUSPEND_S):
                        await _suspend(visit)
                        return cls(visit, other)
                    with trio.fail_after(STEP_S):
                        await other.ask(b"RESUME")
                except BaseException:
                    other.close()
                    raise
                visit.close()
                visit = other
                await trio.sleep(PAUSE_S)
        except BaseException:
            visit.close()
            raise
        visit.close()
        raise ServerProtocolError("clients wait for a server all the time (cl_waiting in SHOW POOLS)")

    @property
    def pid(self) -> int:
        return self._visit.pid

    async def _ask_everything(self) -> None:
        with trio.fail_after(STEP_S):
            self.clients = [row for row, _ in (await self._visit.ask(b"SHOW CLIENTS")).rows]
        with trio.fail_after(FDS_S):
            rows = (await self._visit.ask(b"SHOW FDS")).rows
        self.fds = [(row, fd) for row, fd in rows if row.get("task") != "pooler"]
        listening = [socket.socket(fileno=fd) for row, fd in rows if row.get("task") == "pooler" and fd >= 0]
        self.sockets = Sockets(listening, "", [], moves=0)
        if not listening or any(fd < 0 for _, fd in rows):
            for sock in listening:
                sock.close()
            raise ServerProtocolError("it sends no descriptors")
        for sock in listening:
            sock.setblocking(False)

    async def come_up(self) -> None:
        """We accept clients: let it end, without a word to anybody.

        Raises:
            ConfigError: it does not; it goes on when the connections are closed.
        """
        try:
            with trio.fail_after(STEP_S):
                await self._visit.last_words(b"SHUTDOWN")
        except trio.TooSlowError as error:
            raise _failed("its unix socket", error) from None
        except OSError:
            pass  # it has ended
        logs.LOGGER.info("%s", logs.line("", "taken over", {"pid": self.pid}))

    def close(self) -> None:
        """Close the connections, and what has not been taken; where it has not ended, it goes on as if nothing had been."""
        close_all(fd for _, fd in self.fds)
        self.fds.clear()
        for visit in (self._visit, self._other):
            with suppress(OSError):
                visit.close()


async def _suspend(visit: Visit) -> None:
    try:
        await visit.ask(b"SUSPEND")
    except ServerProtocolError as error:
        raise ServerProtocolError(HAS_NONE) if "invalid command" in str(error) else error from None


def _failed(path: str, error: BaseException) -> ConfigError:
    reason = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
    text = f"cannot take over from the process at {path}, which goes on: {reason}"
    return ConfigError([ConfigProblem(text, section="pgbouncer", key="unix_socket_dir")])
