"""A client of the benchmark's own: one socket, logged in, that asks and listens."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
import struct
from typing import Final

from benchmarks.macro.cases import Case
from benchmarks.macro.database import SCRAM_PASSWORD
from benchmarks.macro.errors import BenchError
from benchmarks.macro.targets import Target
from pgpool_core.control.scram_exchange import SCRAM_SHA_256, ScramExchange
from pgpool_core.policy.scram import derive_keys, new_nonce

PROTOCOL_3_0: Final = 3 << 16
ANSWER_TIMEOUT_S: Final = 20.0
IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux: the port is chosen when it is known where the connection goes, so that it may be used towards other places too."""

AUTH_OK: Final = 0
AUTH_MD5: Final = 5
AUTH_SASL: Final = 10
AUTH_SASL_CONTINUE: Final = 11
AUTH_SASL_FINAL: Final = 12

scram_keys = functools.lru_cache(derive_keys)


def md5_hex(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


class Client:
    """A TCP connection that has sent its startup packet; `owner` closes it. `source` is the address that it comes from, where it matters.

    Source: PostgreSQL docs, "Message Formats", StartupMessage, Authentication*; "SASL Authentication".
    """

    def __init__(self, target: Target, case: Case, owner: contextlib.ExitStack, *, source: str | None = None) -> None:
        self._target = target
        self._user = target.user(case)
        self._socket = owner.enter_context(socket.socket())
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        if source is not None:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            self._socket.bind((source, 0))
        self._socket.connect((target.host, target.port))
        self._unread = b""
        self._scram: ScramExchange | None = None
        options = ["user", self._user, "database", target.database(case), "application_name", "idle", ""]
        body = struct.pack("!i", PROTOCOL_3_0) + b"".join(word.encode() + b"\0" for word in options)
        self._socket.sendall(struct.pack("!i", len(body) + 4) + body)

    def log_in(self) -> None:
        """The whole login, up to the first ReadyForQuery."""
        while not self.step():
            pass

    def step(self) -> bool:
        """Take what the pooler has to say next and answer it; True once it is ready for queries."""
        kind, body = self._read()
        while kind != b"R":
            if kind == b"Z":
                return True
            kind, body = self._read()
        code, data = int.from_bytes(body[:4]), body[4:]
        if code == AUTH_SASL:
            self._scram = ScramExchange(new_nonce())
            first = self._scram.client_first()
            self._send(b"p", SCRAM_SHA_256 + b"\0" + struct.pack("!i", len(first)) + first)
        elif code == AUTH_SASL_CONTINUE and self._scram is not None:
            salt, iterations = self._scram.take_server_first(data)
            self._send(b"p", self._scram.client_final(scram_keys(SCRAM_PASSWORD.encode(), salt, iterations)))
        elif code == AUTH_SASL_FINAL and self._scram is not None:
            self._scram.check_server_final(data)
        elif code == AUTH_MD5:
            self._send(b"p", b"md5" + md5_hex(md5_hex(SCRAM_PASSWORD.encode() + self._user.encode()) + data) + b"\0")
        elif code != AUTH_OK:
            raise BenchError(f"{self._target.name} asks for authentication {code}")
        return False

    def ask(self, text: str = "SELECT 1") -> None:
        """Run `text` and read its answer to the end, and what comes before it."""
        self._send(b"Q", text.encode() + b"\0")
        while self._read()[0] != b"Z":
            pass

    def hear(self) -> None:
        """Wait for a NotificationResponse.

        Raises:
            BenchError: none came in time, or something else did.
        """
        kind, _ = self._read()
        if kind != b"A":
            raise BenchError(f"{self._target.name} sent {kind!r} where a notification was due")

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _read(self) -> tuple[bytes, bytes]:
        """One message: its type and its body.

        Raises:
            BenchError: ErrorResponse, end of stream or no answer in time.
        """
        target = self._target
        while len(self._unread) < 5 or len(self._unread) < 1 + int.from_bytes(self._unread[1:5]):
            try:
                part = self._socket.recv(65536)
            except TimeoutError as late:
                raise BenchError(f"{target.name} left a client without answer for {ANSWER_TIMEOUT_S:g} s") from late
            if not part:
                raise BenchError(f"{target.name} closed a client's connection\n{target.log_tail()}")
            self._unread += part
        kind, end = self._unread[:1], 1 + int.from_bytes(self._unread[1:5])
        body, self._unread = self._unread[5:end], self._unread[end:]
        if kind == b"E":
            text = body.replace(b"\0", b" ").decode(errors="replace")
            raise BenchError(f"{target.name} refused a client: {text}\n{target.log_tail()}")
        return kind, body
