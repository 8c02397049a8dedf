"""A pooler that has no file descriptor left goes on with those it has, and recovers."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys

import pytest

from pgpool_core.errors import error_response
from pgpool_core.testing import PostgresServer
from tests.chaos.conftest import scene_of
from tests.conftest import PoolerFactory
from tests.peers import logged_in, values
from tests.watching import descriptors, until_async

LIMIT = 64


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit (util-linux) is not installed")
async def test_without_descriptors_the_old_clients_go_on_and_new_ones_come_later(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(start=False, default_pool_size=2, max_client_conn=1000, server_login_retry=1)
    place.command = ("prlimit", f"--nofile={LIMIT}:{LIMIT}", sys.executable, "-m", "pgpool_core", "serve")
    place.start()
    scene = scene_of(place, postgres)
    async with logged_in(place) as old:
        crowd = []
        try:
            for _ in range(LIMIT + 40):  # more than it can accept; the rest stays in the kernel's queue
                sock = socket.socket()
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect((place.host, place.port))
                crowd.append(sock)
            await until_async(lambda: len(descriptors(place.process.pid)) >= LIMIT - 4, what="descriptors are used up")
            told = await until_async(lambda: next(filter(None, map(_said, crowd)), None), what="one is turned away")
            assert told == error_response({"C": "53300", "M": "too many open file descriptors"})
            for _ in range(20):
                assert values(await old.query("select 1")) == [[b"1"]]
        finally:
            for sock in crowd:
                sock.close()
    scene.check()
    cpu_before = _cpu_ticks(place.process.pid)
    await until_async(lambda: place.running)
    assert _cpu_ticks(place.process.pid) - cpu_before < 50, "it spins"


def _said(sock: socket.socket) -> bytes | None:
    with contextlib.suppress(OSError):
        return sock.recv(1000)
    return None


def _cpu_ticks(pid: int) -> int:
    """User and system time of `pid` in clock ticks. Source: proc(5), /proc/pid/stat, fields 14 and 15."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
