"""A visit to the console of another pooler: over its unix socket as user pgbouncer, which needs the same user id and no password."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable
from typing import Final, Self

import attrs
import trio

from pgpool_core.control.messages import FE_QUERY, message, startup_message
from pgpool_core.errors import ServerProtocolError
from pgpool_core.process.rows import Answer, Reader
from pgpool_core.process.takeover import peer_of

LOGIN_S: Final = 10.0
ROOM: Final = 65536
FDS_AT_ONCE: Final = 16


@attrs.define(eq=False)
class Visit:
    """One connection, until `close`."""

    pid: int  # who listens there, or did when it was opened
    _connection: trio.socket.SocketType
    _reader: Reader = attrs.field(factory=lambda: Reader(os.close))

    @classmethod
    async def begin(cls, path: str) -> Self | None:
        """Log in at `path`; None where nobody listens.

        Raises:
            OSError: it is of another user.
            ServerProtocolError, trio.TooSlowError: it does not let us in.
        """
        connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await connection.connect(b"\0" + os.fsencode(path[1:]) if path.startswith("@") else os.fsencode(path))
        except OSError:
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        visit: Self | None = None
        try:
            visit = cls(peer_of(connection), connection)
            with trio.fail_after(LOGIN_S):
                await visit._log_in()
        except BaseException:
            connection.close()
            raise
        return visit

    async def _log_in(self) -> None:
        await self._send(startup_message([(b"user", b"pgbouncer"), (b"database", b"pgbouncer")]))
        answer = await self._answer()
        if answer.asks_password:
            raise ServerProtocolError("it asks for a password: be the same user as it")
        if answer.error is not None:
            raise ServerProtocolError(answer.error.message)

    async def ask(self, sql: bytes) -> Answer:
        """The rows that it answers; their descriptors are the caller's.

        Raises:
            OSError, ServerProtocolError: it does not answer, or with an error.
        """
        await self._send(message(FE_QUERY, sql + b";\0"))
        answer = await self._answer()
        if answer.error is not None:
            close_all(fd for _, fd in answer.rows)
            raise ServerProtocolError(f"{sql.decode()}: {answer.error.message}")
        return answer

    async def last_words(self, sql: bytes) -> None:
        """Say what it does not answer but by its end; wait for that.

        Raises:
            OSError: it has ended otherwise.
        """
        await self._send(message(FE_QUERY, sql + b";\0"))
        while (await self._receive())[0]:
            pass

    def close(self) -> None:
        """End the connection; descriptors that nobody has asked for are closed."""
        self._reader.close()
        self._connection.close()

    async def _answer(self) -> Answer:
        while (answer := self._reader.answer()) is None:
            data, fds = await self._receive()
            self._reader.receive(data, fds)
            if not data:
                raise ServerProtocolError("it has closed the connection")
        return answer

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[await self._connection.send(left) :]

    async def _receive(self) -> tuple[bytes, list[int]]:
        numbers = array.array("i")
        space = socket.CMSG_SPACE(FDS_AT_ONCE * numbers.itemsize)
        data, ancillary, _, _ = await self._connection.recvmsg(ROOM, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
        return data, list(numbers)


def close_all(fds: Iterable[int]) -> None:
    """Close those that there are (-1: none)."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
