"""Bytes to and from one server: over a bare socket, or through TLS."""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Protocol

import trio

from pgpool_core.errors import TlsError
from pgpool_core.tls.face import Session

RECEIVE_LEN: Final = 16 * 1024  # bytes per receive; a whole login fits


class BytePipe(Protocol):
    """What a login needs of a connection; memory streams of trio.testing fit too."""

    async def send_all(self, data: bytes, /) -> None: ...
    async def receive_some(self) -> bytes | bytearray: ...


class SocketPipe:
    """A bare trio socket as a BytePipe. trio.SocketStream would leave TCP_NOTSENT_LOWAT on the descriptor we hand over.

    A failing send is not raised: the server may have said why in bytes that wait to be received.
    """

    session: None = None

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.socket = sock

    async def send_all(self, data: bytes, /) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[await self.socket.send(left) :]
        except OSError:
            await trio.lowlevel.checkpoint()

    async def receive_some(self) -> bytes:
        return await self.socket.recv(RECEIVE_LEN)

    def close(self, last: bytes = b"") -> None:
        """Say `last` if the socket takes it at once, and close."""
        descriptor = socket.socket(fileno=self.socket.detach())
        with descriptor, contextlib.suppress(OSError):  # full or gone: closing says the same
            descriptor.send(last, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class TlsPipe(SocketPipe):
    """The same through a TLS session, whose handshake comes first."""

    session: Session  # type: ignore[assignment]

    def __init__(self, sock: trio.socket.SocketType, session: Session) -> None:
        super().__init__(sock)
        self.session = session
        self._plain = b""
        self._sending = trio.Lock()

    async def shake_hands(self) -> None:
        """
        Raises:
            TlsError: there is no session; the server has been told.
            OSError: the connection broke.
        """
        session = self.session
        session.begin()
        while not session.established:
            await super().send_all(session.take())
            data = await super().receive_some()
            if not data:
                raise TlsError("the server closed the connection in the middle of the TLS handshake", part="peer")
            self._plain += await self._taken(data)
        await super().send_all(session.take())

    async def send_all(self, data: bytes, /) -> None:
        async with self._sending:
            await super().send_all(self.session.send(data))

    async def receive_some(self) -> bytes:
        """
        Raises:
            TlsError: TLS is broken.
            OSError: the connection broke.
        """
        while not self._plain and not self.session.closed:
            data = await super().receive_some()
            if not data:
                return b""
            self._plain = await self._taken(data)
        plain, self._plain = self._plain, b""
        return plain

    async def _taken(self, data: bytes) -> bytes:
        try:
            return self.session.receive(data)
        finally:
            async with self._sending:
                await super().send_all(self.session.take())

    def unread(self) -> bytes:
        """What has come and nobody has received."""
        plain, self._plain = self._plain, b""
        return plain

    def close(self, last: bytes = b"") -> None:
        secret = b""
        with contextlib.suppress(TlsError, RuntimeError):  # it has failed, or never began
            secret = self.session.send(last)
            self.session.close()
            secret += self.session.take()
        super().close(secret)
