"""What a logged-in client that does nothing costs the pooler in memory."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

from benchmarks.macro.cases import Case
from benchmarks.macro.errors import BenchError
from benchmarks.macro.figures import Sample
from benchmarks.macro.procfs import read_rss_bytes
from benchmarks.macro.targets import Target

PROTOCOL_3_0: Final = 3 << 16
ANSWER_TIMEOUT_S: Final = 20.0
FIRST_CLIENTS: Final = 16
"""Clients that come, query and go before the first reading, so that fixed costs are not counted as theirs."""


def run_idle(case: Case, target: Target) -> Sample:
    """Log `case.idle_clients` clients in one after another, then let each run one query; memory before and after both.

    `target` must be fresh: memory that an earlier run has touched would hide the growth.
    Raises:
        BenchError: a client was refused or got no answer; the text names the target.
    """
    pid = target.pid
    if pid is None:
        raise BenchError(f"{target.name} is no pooler, so it has no memory per client")
    with contextlib.ExitStack() as first:
        for _ in range(FIRST_CLIENTS):
            ask(log_in(target, case, first), target)
    with contextlib.ExitStack() as open_clients:
        before = read_rss_bytes(pid)
        clients = [log_in(target, case, open_clients) for _ in range(case.idle_clients)]
        logged_in = read_rss_bytes(pid)
        for client in clients:
            ask(client, target)
        queried = read_rss_bytes(pid)
    return {
        "rss_mb": before / 1e6,
        "memory_kb": (logged_in - before) / 1e3 / case.idle_clients,
        "queried_kb": (queried - before) / 1e3 / case.idle_clients,
    }


def log_in(target: Target, case: Case, owner: contextlib.ExitStack) -> socket.socket:
    """A TCP connection past its login without a password, up to the first ReadyForQuery; `owner` closes it.

    Source: PostgreSQL docs, "Message Formats", StartupMessage.
    """
    client = owner.enter_context(socket.create_connection((target.host, target.port), timeout=ANSWER_TIMEOUT_S))
    options = ["user", target.user(case), "database", target.database(case), "application_name", "idle", ""]
    body = struct.pack("!i", PROTOCOL_3_0) + b"".join(word.encode() + b"\0" for word in options)
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    read_until_ready(client, target)
    return client


def ask(client: socket.socket, target: Target) -> None:
    """Run `SELECT 1` and read its answer to the end."""
    text = b"SELECT 1\0"
    client.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
    read_until_ready(client, target)


def read_until_ready(client: socket.socket, target: Target) -> None:
    """Read messages up to ReadyForQuery.

    Raises:
        BenchError: ErrorResponse, end of stream or no answer in time.
    """
    unread = b""
    while True:
        while len(unread) < 5 or len(unread) < 1 + int.from_bytes(unread[1:5]):
            try:
                part = client.recv(65536)
            except TimeoutError as late:
                raise BenchError(f"{target.name} left a client without answer for {ANSWER_TIMEOUT_S:g} s") from late
            if not part:
                raise BenchError(f"{target.name} closed a client's connection\n{target.log_tail()}")
            unread += part
        kind, end = unread[:1], 1 + int.from_bytes(unread[1:5])
        if kind == b"E":
            text = unread[5:end].replace(b"\0", b" ").decode(errors="replace")
            raise BenchError(f"{target.name} refused a client: {text}\n{target.log_tail()}")
        if kind == b"Z":
            return
        unread = unread[end:]
