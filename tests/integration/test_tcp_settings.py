"""Settings of sockets, as the kernel has them: the descriptors of the running pooler are looked at themselves.

Source: pidfd_getfd(2), tcp(7), socket(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from pgpool_core.testing import PoolerProcess, connect_peer, frontend
from tests.conftest import PoolerFactory
from tests.peers import logged_in, values
from tests.watching import until_async

PIDFD_GETFD = 438  # of every architecture


@contextlib.contextmanager
def tcp_sockets(pid: int) -> Iterator[list[socket.socket]]:
    """Duplicates of all TCP sockets that a process has open."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as opened:
        process = os.pidfd_open(pid)
        opened.callback(os.close, process)
        found = []
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
                fd = libc.syscall(PIDFD_GETFD, process, int(name), 0)
                if fd < 0 and ctypes.get_errno() == 1:
                    pytest.skip("this machine lets nobody look at the descriptors of a process")
                if fd >= 0:
                    found.append(opened.enter_context(socket.socket(fileno=fd)))
        yield [each for each in found if each.family == socket.AF_INET and each.type == socket.SOCK_STREAM]


def options(place: PoolerProcess, level: int, option: int) -> dict[str, int]:
    """An option of the listener, of the client's connection and of the server's."""
    with tcp_sockets(place.process.pid) as sockets:
        values = {}
        for each in sockets:
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                kind = "listener"
            else:
                kind = "client" if each.getsockname()[1] == place.port else "server"
            values[kind] = each.getsockopt(level, option)
        return values


async def test_user_timeout_is_set_on_both_sides(pooler: PoolerFactory) -> None:
    place = pooler(tcp_user_timeout=12345, pool_mode="session")
    async with logged_in(place) as peer:
        await peer.query("select 1")
        seen = options(place, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert (seen["client"], seen["server"]) == (12345, 12345)
    place.settings["tcp_user_timeout"] = 0
    place.reload()
    await until_async(lambda: "configuration reloaded" in place.log)
    async with logged_in(place, "plain") as peer:
        await until_async(lambda: options(place, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT).get("client") == 0)


async def test_socket_buffers_are_set_on_both_sides(pooler: PoolerFactory) -> None:
    place = pooler(tcp_socket_buffer=20000, pool_mode="session")
    async with logged_in(place) as peer:
        await peer.query("select 1")
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            seen = options(place, socket.SOL_SOCKET, option)
            assert (seen["client"], seen["server"]) == (40000, 40000)  # Linux doubles it for its own needs


async def test_the_backlog_is_what_was_asked_for(pooler: PoolerFactory) -> None:
    place = pooler(listen_backlog=17)
    with tcp_sockets(place.process.pid) as sockets:
        (listener,) = [each for each in sockets if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("=I", info, 28)[0] == 17  # tcpi_sacked: of a listening socket, its backlog


async def test_who_connects_and_says_nothing_is_the_kernels_matter(pooler: PoolerFactory) -> None:
    place = pooler(tcp_defer_accept=1, client_login_timeout=60)
    assert options(place, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)["listener"] > 0
    async with await connect_peer((place.host, place.port)) as silent, logged_in(place) as peer:
        assert values(await peer.query("select 1")) == [[b"1"]]  # accepted after the silent one, if that was at all
        with tcp_sockets(place.process.pid) as sockets:
            mine = silent.stream.socket.getsockname()
            there = [each.getpeername() for each in sockets if _connected(each)]
            assert mine not in there
        await silent.send(frontend.startup("app", "app"))
        await silent.expect("R")
    place.settings["tcp_defer_accept"] = 0
    place.reload()
    await until_async(lambda: "configuration reloaded" in place.log)
    assert options(place, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)["listener"] == 0


def _connected(each: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        each.getpeername()
        return True
    return False


async def test_a_connection_that_has_much_to_say_lets_the_others_have_their_turn(pooler: PoolerFactory) -> None:
    for loops in (1, 0):
        place = pooler(sbuf_loopcnt=loops, default_pool_size=2)
        async with logged_in(place) as much, logged_in(place) as little:
            await much.send(frontend.query("select repeat('x', 1000) from generate_series(1, 20000)"))
            assert values(await little.query("select 1")) == [[b"1"]]
            assert len(values(await much.until("Z"))) == 20000


def test_what_has_no_effect_is_told(pooler: PoolerFactory) -> None:
    place = pooler(pkt_buf=8192)
    place.wait_for_log("pkt_buf = 8192 has no effect")
    assert "pkt_buf" not in pooler(pkt_buf=4096).log
