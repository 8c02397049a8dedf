"""The kernel refuses a send on a connection that is as well as before."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer, ScriptedPeer, frontend
from tests import refused_sends
from tests.chaos.conftest import scene_of
from tests.conftest import PoolerFactory
from tests.has_io_uring import refusal
from tests.peers import logged_in, values
from tests.watching import until, until_async

QUERY = "select 'not to be sent', repeat('x', 8000)"
RING_SOURCE = Path(__file__).with_name("refused_ring_sends.c")
BUFFER = 65536  # bytes that a worker receives at once


def refusing(place: PoolerProcess, error: int, length: int) -> None:
    place.command = (sys.executable, "-m", refused_sends.__name__, str(error), str(length), "serve")
    place.env = {"PYTHONPATH": ":".join(sys.path)}
    place.start()


async def ends_with(peer: ScriptedPeer, asked: bytes) -> None:
    """What `peer` asks cannot be sent to its server: both end."""
    await peer.send(asked)
    told = await peer.until("E")
    assert (told[-1].fields["C"], told[-1].fields["M"]) == ("08006", "server conn crashed?")
    assert await peer.receive() is None


@pytest.mark.parametrize("refusal", [errno.ENOBUFS, errno.ENOMEM, errno.EHOSTUNREACH])
async def test_what_cannot_be_sent_to_a_server_ends_both_and_nobody_waits(
    pooler: PoolerFactory, postgres: PostgresServer, refusal: int
) -> None:
    """Nothing ever came of it: the server did not know that it was asked, its socket had nothing to say."""
    asked = frontend.query(QUERY)
    place = pooler(start=False, io_backend="epoll", default_pool_size=1, server_login_retry=1)
    refusing(place, refusal, len(asked))
    scene = scene_of(place, postgres)
    async with logged_in(place) as peer, logged_in(place) as other:
        assert values(await peer.query("select 1")) == [[b"1"]]
        await ends_with(peer, asked)
        assert values(await other.query("select 2")) == [[b"2"]]
    scene.check()


async def test_a_server_that_could_not_be_sent_to_counts_as_long_as_it_runs(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """PostgreSQL does not look at the connection of a query that runs: what was asked before is cancelled."""
    asked = frontend.query(QUERY)
    place = pooler(start=False, io_backend="epoll", default_pool_size=1, server_login_retry=1)
    refusing(place, errno.ENOBUFS, len(asked))
    scene = scene_of(place, postgres)
    with psycopg.connect(postgres.dsn("boss", "app")) as holder:
        holder.execute("select pg_advisory_xact_lock(7)")
        async with logged_in(place) as peer, logged_in(place) as other:
            await peer.send(frontend.query("select pg_advisory_xact_lock(7)"))
            await until_async(
                lambda: postgres.sql("select count(*) from pg_locks where locktype = 'advisory' and not granted") == "1"
            )
            await ends_with(peer, asked)
            assert values(await other.query("select count(*) from pg_stat_activity where usename = 'app'")) == [[b"1"]]
        scene.check()


@pytest.fixture
def refusing_ring(tmp_path: Path) -> str:
    """A library to be preloaded."""
    if (why := refusal()) or (compiler := shutil.which("cc")) is None:
        pytest.skip(why or "no C compiler here")
    library = tmp_path / "refused_ring_sends.so"
    made = [compiler, "-shared", "-fPIC", "-o", library, RING_SOURCE, "-Wl,--no-as-needed", "-luring", "-ldl"]
    if subprocess.run(made, check=False).returncode != 0:
        pytest.skip("no liburing to compile against")
    return str(library)


@pytest.mark.parametrize("workers", [1, 2])  # with one, servers are streams of the ring
async def test_what_a_ring_cannot_send_to_a_server_ends_both(
    pooler: PoolerFactory, postgres: PostgresServer, refusing_ring: str, workers: int
) -> None:
    asked = frontend.query(f"select 'not to be sent', '{'x' * 1000}'")
    place = pooler(start=False, io_backend="io_uring", workers=workers, default_pool_size=1, server_login_retry=1)
    place.env = {"LD_PRELOAD": refusing_ring, "REFUSED_LENGTH": str(len(asked))}
    place.start()
    scene = scene_of(place, postgres)
    async with logged_in(place) as peer, logged_in(place) as other:
        for _ in range(50):  # until it is a stream
            await peer.query("select 1")
        await ends_with(peer, asked)
        assert values(await other.query("select count(*) from pg_stat_activity where usename = 'app'")) == [[b"1"]]
    scene.check()


def test_nothing_follows_what_could_not_be_sent(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    """What stands in the middle of a message would be the beginning of one."""
    inside = frontend.copy_done() + frontend.query("create table sent_from_the_middle (); commit")
    asked = frontend.copy_data(b"x" * (BUFFER - 5) + inside)
    place = pooler(start=False, io_backend="epoll", default_pool_size=1, server_login_retry=1, sbuf_loopcnt=100)
    refusing(place, errno.ENOBUFS, BUFFER)
    scene = scene_of(place, postgres)
    with psycopg.connect(place.url("app", "app", unix=True), autocommit=True) as connection:
        connection.execute("begin; create temp table t (x text) on commit drop")
        assert connection.pgconn.exec_(b"copy t from stdin").status == psycopg.pq.ExecStatus.COPY_IN
        place.process.signal(SIGSTOP)
        until(lambda: _is_stopped(place.process.pid), what="it is stopped")
        with socket.socket(fileno=connection.pgconn.socket) as raw:
            raw.settimeout(20)
            raw.sendall(asked)
            place.process.signal(SIGCONT)
            told = b""
            while not told.endswith(b"Z\0\0\0\5I") and (came := raw.recv(BUFFER)):
                told += came
            raw.detach()
        connection.close()
    assert postgres.sql("select count(*) from pg_class where relname = 'sent_from_the_middle'", database="app") == "0"
    assert b"08006" in told
    scene.check()


def _is_stopped(pid: int) -> bool:
    """Whether no thread of `pid` runs. Source: proc(5), /proc/pid/stat, third field."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)
