"""Logins over TLS that resume a session: libpq, and so pgbench, never does, so the client is our own, one login after another.

Python's ssl hands a session on; with TLS 1.3 each connection leaves a fresh ticket for the next.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Final

from benchmarks.macro.cases import Case
from benchmarks.macro.client import ANSWER_TIMEOUT_S, PROTOCOL_3_0
from benchmarks.macro.errors import BenchError
from benchmarks.macro.figures import Sample
from benchmarks.macro.load import WARM_UP_S, percentile
from benchmarks.macro.procfs import cpu_spent
from benchmarks.macro.targets import Target

SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
QUERY: Final = b"Q" + struct.pack("!I", 13) + b"SELECT 1\0"
TERMINATE: Final = b"X\0\0\0\4"


class Visitor:
    """Comes, runs one query and goes, each time with the session of the time before."""

    def __init__(self, case: Case, target: Target) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._session: ssl.SSLSession | None = None
        words = ["user", target.user(case), "database", target.database(case), ""]
        body = struct.pack("!i", PROTOCOL_3_0) + b"".join(word.encode() + b"\0" for word in words)
        self._startup = struct.pack("!i", len(body) + 4) + body
        self.resumed = 0

    def visit(self) -> None:
        """One connection.

        Raises:
            BenchError: no TLS, or no answer.
        """
        where = (self._target.host, self._target.port)
        with socket.create_connection(where, ANSWER_TIMEOUT_S) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.sendall(SSL_REQUEST)
            if raw.recv(1) != b"S":
                raise BenchError(f"{self._target.name} has no TLS")
            with self._context.wrap_socket(raw, session=self._session) as stream:
                self.resumed += bool(stream.session_reused)
                stream.sendall(self._startup)
                self._until_ready(stream)
                stream.sendall(QUERY)
                self._until_ready(stream)
                self._session = stream.session
                stream.sendall(TERMINATE)

    def _until_ready(self, stream: ssl.SSLSocket) -> None:
        said = b""
        while said[-6:-1] != b"Z\0\0\0\5":
            data = stream.recv(65536)
            if not data:
                raise BenchError(
                    f"{self._target.name} closed a client's connection: {said[-200:]!r}\n{self._target.log_tail()}"
                )
            said += data


def run_resumed(case: Case, target: Target, *, pgbench: Path, seconds: int) -> Sample:
    """Come and go for `seconds` after the warm-up, without `pgbench`; `resumed` is the share of handshakes that were none in full.

    Raises:
        BenchError: a login failed; the text names the target.
    """
    visitor = Visitor(case, target)
    end = time.monotonic() + WARM_UP_S
    while time.monotonic() < end:
        visitor.visit()
    visitor.resumed = 0
    before, begun = target.read_cpu(), time.monotonic()
    latencies: list[float] = []
    while (now := time.monotonic()) < begun + seconds:
        visitor.visit()
        latencies.append((time.monotonic() - now) * 1e3)
    elapsed_s, after = time.monotonic() - begun, target.read_cpu()
    latencies.sort()
    sample = {
        "rate": len(latencies) / elapsed_s,
        "p50_ms": percentile(latencies, 0.50),
        "p99_ms": percentile(latencies, 0.99),
        "resumed": visitor.resumed / len(latencies),
    }
    if before is not None and after is not None:
        spent = cpu_spent(before, after)
        sample["cost"] = spent.total_us / len(latencies)
        sample["cost_user"] = spent.user_us / len(latencies)
        sample["cost_system"] = spent.system_us / len(latencies)
    return sample
