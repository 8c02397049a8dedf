"""Two workers and one server: what each tells of the other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, frontend
from pgpool_core.testing.ports import free_port
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.integration.test_metrics import sample
from tests.peers import logged_in, values
from tests.watching import until, until_async

Client = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def place(pooler: PoolerFactory) -> Iterator[tuple[PoolerProcess, int]]:
    port = free_port()
    process = pooler(workers=2, default_pool_size=1, metrics_listen=f"127.0.0.1:{port}")
    process.process.wait_for_listener(("127.0.0.1", port))
    yield process, port


def worker_of(client: Client) -> int:
    """The upper byte of the process id that the pooler gives a client."""
    return (client.info.backend_pid >> 24) - 1


@pytest.fixture
def two(place: tuple[PoolerProcess, int]) -> Iterator[tuple[Client, Client]]:
    """A client of either worker: a worker that has two more than the other gets no third."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(psycopg.connect(place[0].url("app", "app"), autocommit=True)) for _ in range(3)]
        by_worker = {worker_of(client): client for client in clients}
        yield by_worker[0], by_worker[1]


def told(process: PoolerProcess, column: str) -> list[int]:
    """A column of SHOW WORKERS, in the order of the workers."""
    with Console(process) as console:
        return [int(row[column]) for row in sorted(console.rows("SHOW WORKERS"), key=lambda row: int(row["worker"]))]


def waiting(process: PoolerProcess) -> int:
    with Console(process) as console:
        return sum(int(row["cl_waiting"]) for row in console.rows("SHOW POOLS"))


def test_workers_say_who_they_are_what_they_take_over_and_what_they_hand_on(
    place: tuple[PoolerProcess, int], two: tuple[Client, Client]
) -> None:
    process, port = place
    first, second = two
    threads = told(process, "thread")
    assert len(set(threads)) == 2
    assert all(Path(f"/proc/{process.process.pid}/task/{thread}").is_dir() for thread in threads)
    assert all(used > 0 for used in told(process, "cpu_us"))

    first.execute("select 1")  # the server is idle, and worker 0 has it
    before = {name: told(process, name) for name in ("steals", "handoffs", "wakeups", "xact_count", "locks")}

    second.execute("select 1")
    assert told(process, "steals") == [before["steals"][0], before["steals"][1] + 1]

    first.execute("begin")
    other = threading.Thread(target=lambda: second.execute("select 1"))
    other.start()
    until(lambda: waiting(process) == 1)
    first.execute("commit")
    other.join()
    assert told(process, "steals") == [before["steals"][0] + 1, before["steals"][1] + 1]
    assert told(process, "handoffs") == [before["handoffs"][0] + 1, before["handoffs"][1]]
    assert told(process, "wakeups") == [before["wakeups"][0] + 1, before["wakeups"][1]]
    assert told(process, "xact_count") == [before["xact_count"][0] + 1, before["xact_count"][1] + 2]
    assert told(process, "locks") == [before["locks"][0] + 2, before["locks"][1] + 4]

    assert sample(port, "pgpool_core_worker_handoffs_total", worker="0") == told(process, "handoffs")[0]
    assert sample(port, "pgpool_core_worker_steals_total", worker="1") == told(process, "steals")[1]
    assert sample(port, "pgpool_core_worker_pool_locks_total", worker="1") == told(process, "locks")[1]


async def test_who_has_waited_longest_is_served_first_wherever_it_lives(pooler: PoolerFactory) -> None:
    """Twelve clients of three workers ask one after the other while the one server is taken."""
    place = pooler(workers=3, default_pool_size=1)
    async with contextlib.AsyncExitStack() as stack:
        holder, *queue = [await stack.enter_async_context(logged_in(place)) for _ in range(13)]
        assert all(clients > 0 for clients in told(place, "clients"))
        await holder.query("begin")
        with Console(place) as console:
            for number, peer in enumerate(queue, 1):
                await peer.send(frontend.query("select txid_current()"))
                await until_async(lambda number=number: console.waiting() == number)
        await holder.query("commit")
        served = [values(await peer.until("Z"))[0][0] for peer in queue]
    assert served == sorted(served, key=lambda xid: int(xid or 0))
    assert len(set(served)) == len(queue)
