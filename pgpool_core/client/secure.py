"""A TLS session in the place of a link's socket: the same few calls, which never block."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from pgpool_core.errors import TlsError
from pgpool_core.tls.face import Session

SLACK: Final = (
    17408  # plain text that may come beyond as many bytes as were received: the rest of a record that came before
)
CHUNK: Final = 65536


class TlsSocket:
    """Owns the socket below it.

    `recv_into` receives no more than what fits when it is decrypted, so that nothing readable ever waits in here, unseen by whoever waits
    for the descriptor. `send` keeps what the kernel does not take and then counts one byte less than it has encrypted: whoever
    sends the rest comes again, until all has gone.
    """

    def __init__(self, sock: socket.socket, session: Session) -> None:
        self._socket = sock
        self._session = session
        self._pending = b""
        self._ahead = 0  # bytes, 0 or 1, that are encrypted already and come again

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def give(self) -> Session | None:
        """Close the socket; the session moves to the caller. None: something is left that it has not sent."""
        self._socket.close()
        return None if self._pending or self._ahead else self._session

    def recv_into(self, window: memoryview | bytearray) -> int:
        """
        Raises:
            BlockingIOError: nothing has come that makes any sense yet.
            ConnectionResetError: TLS is broken.
        """
        view = memoryview(window)
        data = self._socket.recv(len(view) - SLACK)
        if not data:
            return 0
        try:
            plain = self._session.receive(data)
        except TlsError as error:
            raise ConnectionResetError(f"TLS: {error}") from error
        finally:
            self._pending += self._session.take()
        if self._pending:
            self._flush()
        if not plain:
            if self._session.closed:
                return 0
            raise BlockingIOError
        view[: len(plain)] = plain
        return len(plain)

    def send(self, data: bytes | memoryview, flags: int) -> int:
        """
        Raises:
            BlockingIOError: the socket takes nothing now.
        """
        view = memoryview(data)
        if self._pending and not self._flush(flags):
            raise BlockingIOError
        done, self._ahead = self._ahead, 0
        part = bytes(view[done : done + CHUNK])
        if part:
            try:
                self._pending = self._session.send(part)
            except TlsError as error:
                raise ConnectionResetError(f"TLS: {error}") from error
        if not self._flush(flags):
            self._ahead = 1
        return done + len(part) - self._ahead

    def _flush(self, flags: int = socket.MSG_NOSIGNAL) -> bool:
        """Send what is left; whether nothing is left any more."""
        with contextlib.suppress(BlockingIOError):
            self._pending = self._pending[self._socket.send(self._pending, flags) :]
        return not self._pending
