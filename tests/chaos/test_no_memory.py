"""One allocation of a worker fails, whichever: an error for one client at most, and nobody waits, loses settings or sees what is not its own."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import psycopg
import pytest

from pgpool_core.testing import PostgresServer
from tests.chaos.conftest import Scene, scene_of
from tests.conftest import PoolerFactory
from tests.crowd import crowd

SOURCE = Path(__file__).with_name("no_memory.c")
ORDERS = struct.Struct("qq")
BROKEN = (psycopg.OperationalError, psycopg.InternalError)


@attrs.frozen
class Shortage:
    """What no_memory.c reads and writes."""

    memory: mmap.mmap

    def order(self, at: int) -> None:
        """From now on the allocation number `at` fails; 0: none."""
        self.memory[:] = ORDERS.pack(at, 0)

    @property
    def count(self) -> int:
        """How many there were since."""
        return int(ORDERS.unpack(self.memory[:])[1])


@pytest.fixture
def shortage(tmp_path: Path) -> Iterator[tuple[Shortage, dict[str, str]]]:
    """With the variables of a pooler that is to have it."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler here")
    library, orders = tmp_path / "no_memory.so", tmp_path / "orders"
    made = [compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE]  # optimized: LeakSanitizer sees who calls it
    if subprocess.run(made, check=False).returncode != 0:
        pytest.skip("another C library")
    orders.write_bytes(bytes(ORDERS.size))
    with orders.open("r+b") as file, mmap.mmap(file.fileno(), ORDERS.size) as memory:
        yield Shortage(memory), {"LD_PRELOAD": str(library), "NO_MEMORY": str(orders)}


def work(scene: Scene, number: int) -> bool:
    """Whether a client with settings and prepared statements of its own was served; where it was, it was served what it asked for."""
    mine = f"client {number}"
    url = scene.place.url("app", "app")
    try:
        with psycopg.connect(url, autocommit=True, prepare_threshold=0, application_name=mine) as connection:
            connection.execute(f"set app.tenant = '{mine}'")
            connection.execute(f"set statement_timeout = '{100 + number} s'")
            for turn in range(3):
                row = connection.execute("select %s::int, repeat('x', 3000)", (turn,)).fetchone()
                assert row == (turn, "x" * 3000)
                settings = connection.execute(
                    "select current_setting('app.tenant', true), current_setting('statement_timeout'),"
                    " current_setting('application_name')"
                ).fetchone()
                assert settings == (mine, f"{100 + number}s", mine)
    except BROKEN:
        return False
    return True


def rounds(scene: Scene, shortage: Shortage, step: int) -> None:
    at = 1
    while True:
        shortage.order(at)
        served = crowd(4, lambda number: work(scene, number))
        there_were = shortage.count
        shortage.order(0)
        assert there_were < at or sum(served) >= 2, f"at allocation {at}: {served}"
        if there_were < at:
            assert all(served)
            break
        if at % (16 * step) == 1:
            scene.check()
        at += step
    scene.check()


@pytest.mark.parametrize("io_backend", ["epoll", "auto"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_one_allocation_that_fails_costs_its_client_at_most(
    pooler: PoolerFactory,
    postgres: PostgresServer,
    shortage: tuple[Shortage, dict[str, str]],
    io_backend: str,
    step: int,
) -> None:
    memory, variables = shortage
    place = pooler(start=False, io_backend=io_backend, default_pool_size=2, query_wait_timeout=20, server_login_retry=1)
    place.env = variables
    place.start()
    scene = scene_of(place, postgres)
    rounds(scene, memory, step)
