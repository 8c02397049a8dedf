"""Clients with TLS that are cut off at every step, orderly and not: nothing of them stays, and nobody else notices."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from pathlib import Path

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess
from tests.certificates import Authority
from tests.conftest import PoolerFactory
from tests.has_io_uring import refusal
from tests.watching import descriptors, until

SSL_REQUEST = struct.pack("!II", 8, 80877103)
PACKET = struct.pack("!I", 196608) + b"user\0trusted\0database\0app\0\0"
STARTUP = struct.pack("!I", len(PACKET) + 4) + PACKET
QUERY = b"select repeat('x', 3000000)\0"


def hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def leaves(process: PoolerProcess, context: ssl.SSLContext, step: int, *, reset: bool) -> None:
    """Go so far, then vanish; `reset`: with a TCP reset instead of an end."""
    raw = socket.create_connection((process.host, process.port), timeout=10)
    if reset:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.closing(raw):
        raw.sendall(SSL_REQUEST)
        if step == 0:
            return
        assert raw.recv(1) == b"S"
        if step < 3:
            raw.sendall(hello(context)[: 100 if step == 1 else None])
            return
        with context.wrap_socket(raw, server_hostname="localhost") as stream:
            if step > 3:
                stream.sendall(STARTUP)
                assert stream.recv(1) == b"R"
            if step > 4:
                stream.sendall(b"Q" + struct.pack("!I", len(QUERY) + 4) + QUERY)
            if step > 5:
                stream.recv(1)
            if step > 6:
                stream.sendall(b"Q" + struct.pack("!I", 1000) + b"half of a message")


@pytest.mark.parametrize("io_backend", ["epoll", "io_uring"])
@pytest.mark.parametrize("reset", [False, True])
def test_nothing_stays_of_a_client_that_vanishes(
    pooler: PoolerFactory, tmp_path: Path, io_backend: str, reset: bool
) -> None:
    if io_backend == "io_uring" and (why := refusal()):
        pytest.skip(f"no io_uring here: {why}")
    authority = Authority(tmp_path / "ca")
    own = authority.issue("pooler", alternatives=["DNS:localhost"])
    context = ssl.create_default_context(cafile=authority.ca_file)
    process = pooler(
        io_backend=io_backend,
        auth_type="trust",
        client_tls_sslmode="require",
        client_tls_cert_file=own.cert_file,
        client_tls_key_file=own.key_file,
        default_pool_size=3,
    )
    with psycopg.connect(process.url("app", "app") + "?sslmode=require", autocommit=True) as stays:
        assert stays.execute("select 1").fetchone() == (1,)

        def sockets() -> int:
            return sum("socket:" in each for each in descriptors(process.process.pid))

        before = sockets()
        for _ in range(3):
            for step in range(8):
                leaves(process, context, step, reset=reset)
            assert stays.execute("select 2").fetchone() == (2,)
        until(lambda: sockets() <= before + 3, what="no more sockets than servers of a second pool account for")
        with psycopg.connect(process.url("trusted", "app") + "?sslmode=require") as another:
            assert another.execute("select length(repeat('y', 1000000))").fetchone() == (1000000,)
