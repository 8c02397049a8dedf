"""io_backend: what is chosen, what is said about it, and what io_uring could do differently from epoll."""

from __future__ import annotations

import errno
import itertools
import sys
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
import trio
from trio import to_thread

from pgpool_core.testing import Messages, PoolerProcess, PostgresServer, frontend
from tests.conftest import PoolerFactory, in_front_of
from tests.console import Console
from tests.has_io_uring import refusal
from tests.peers import letters, logged_in, values
from tests.watching import rss_bytes, until_async
from tests.without_io_uring import LATER

WITHOUT = Path(__file__).parents[1] / "without_io_uring.py"
MIB = 2**20


@pytest.fixture(params=["epoll", "io_uring"])
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "io_uring" and (why := refusal()):
        pytest.skip(f"no io_uring here: {why}")
    return name


def chosen(place: PoolerProcess) -> str:
    """The line of SHOW CONFIG."""
    with Console(place) as console:
        return str(next(row["value"] for row in console.rows("SHOW CONFIG") if row["key"] == "io_backend"))


def test_what_is_asked_for_is_what_there_is(pooler: PoolerFactory, backend: str) -> None:
    place = pooler(io_backend=backend)
    place.wait_for_log(f"io_backend={backend}$")
    assert chosen(place) == backend


def without_io_uring(
    server: PostgresServer, error: int, io_backend: str, *, when: str = "", **settings: object
) -> PoolerProcess:
    place = in_front_of(server, "pgpool_core", io_backend=io_backend, **settings)
    place.command = (sys.executable, str(WITHOUT), f"{when}:{error}", "serve")
    return place


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.ENOMEM])
async def test_where_the_system_refuses_io_uring_auto_is_epoll(postgres: PostgresServer, error: int) -> None:
    with without_io_uring(postgres, error, "auto") as place:
        place.wait_for_log("io_backend=epoll")
        assert chosen(place) == "auto (epoll)"
        async with logged_in(place) as peer:
            assert values(await peer.query("select 1")) == [[b"1"]]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_where_the_system_refuses_io_uring_asking_for_it_is_an_error(postgres: PostgresServer, error: int) -> None:
    place = without_io_uring(postgres, error, "io_uring")
    try:
        place.spawn()
        place.wait_for_log(r"io_uring cannot be had: .*\(io_backend\)")
        assert place.process.wait() == 1
    finally:
        place.close()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOMEM])
async def test_where_the_system_refuses_io_uring_later_on_epoll_goes_on(postgres: PostgresServer, error: int) -> None:
    """Nobody notices, in whatever they were."""
    if why := refusal():
        pytest.skip(f"no io_uring here: {why}")
    with without_io_uring(postgres, error, "io_uring", when="later", default_pool_size=2) as place:
        place.wait_for_log("io_backend=io_uring")
        async with trio.open_nursery() as nursery:
            under_way, refused = trio.Event(), trio.Event()

            async def work(number: int) -> None:
                async with logged_in(place, patience_s=60) as peer:
                    for turn in itertools.count():
                        asked = f"{number}-{turn}"
                        assert values(await peer.query(f"select '{asked}', repeat('r', {turn % 5 * 4000})")) == [
                            [asked.encode(), b"r" * (turn % 5 * 4000)]
                        ]
                        if turn == 50:
                            under_way.set()
                        if refused.is_set():
                            break
                    for turn in range(20):
                        assert values(await peer.query(f"select {turn}")) == [[str(turn).encode()]]

            for number in range(8):
                nursery.start_soon(work, number)
            await under_way.wait()
            place.process.signal(LATER)
            await to_thread.run_sync(lambda: place.wait_for_log("refuses io_uring by now"))
            refused.set()
        assert chosen(place) == "io_uring (epoll)"


async def test_what_a_waiting_client_sends_meanwhile_is_answered_in_order(pooler: PoolerFactory, backend: str) -> None:
    place = pooler(default_pool_size=1, io_backend=backend)
    queries = 3000
    async with logged_in(place) as holder, logged_in(place, patience_s=60) as waiter:
        for _ in range(5):  # so that nothing about it is new
            await waiter.query("select 1")
        await holder.query("begin")
        await waiter.send(frontend.query("select 0"))
        with Console(place) as console:
            await until_async(lambda: console.waiting() == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                waiter.send, b"".join(frontend.query(f"select {number}") for number in range(1, queries))
            )
            await holder.query("commit")
            came = []
            for _ in range(queries):
                came += values(await waiter.until("Z"))
        assert came == [[str(number).encode()] for number in range(queries)]


async def test_a_client_that_floods_while_it_waits_is_not_read(pooler: PoolerFactory, backend: str) -> None:
    place = pooler(default_pool_size=1, io_backend=backend)
    async with logged_in(place) as holder, logged_in(place) as waiter:
        for _ in range(5):
            await waiter.query("select 1")
        await holder.query("begin")
        await waiter.send(frontend.query("select 0"))
        with Console(place) as console:
            await until_async(lambda: console.waiting() == 1)
        before = rss_bytes(place.process.pid)
        message, sent = frontend.query("select '" + "x" * 1000 + "'"), 0
        with trio.move_on_after(30) as patience:
            while sent < 64 * MIB:
                with trio.move_on_after(0.5) as stuck:  # nothing could be written for so long: it is not read
                    await waiter.stream.send_all(message * 64)
                    sent += 64 * len(message)
                if stuck.cancelled_caught:
                    break
        assert not patience.cancelled_caught
        assert sent < 64 * MIB, "everything was taken from a client that waits"
        assert rss_bytes(place.process.pid) - before < 8 * MIB
        await holder.query("commit")
        assert letters(await waiter.until("Z")) == "TDCZ"


async def test_a_client_that_leaves_while_it_waits_leaves_the_queue(pooler: PoolerFactory, backend: str) -> None:
    place = pooler(default_pool_size=1, io_backend=backend)
    with Console(place) as console:
        async with logged_in(place) as holder:
            await holder.query("begin")
            async with logged_in(place) as waiter:
                for _ in range(2):
                    await waiter.send(frontend.query("select 1"))
                await until_async(lambda: console.waiting() == 1)
            await until_async(lambda: console.waiting() == 0)
            assert values(await holder.query("select 2")) == [[b"2"]]


async def test_short_and_long_answers_take_turns(pooler: PoolerFactory, backend: str) -> None:
    """A connection goes from one way of receiving to the other and back."""
    place = pooler(default_pool_size=1, io_backend=backend)
    async with logged_in(place, patience_s=60) as peer:
        for size in (1, 1, 1, 8_192, 1, 1, 1, 100_000, 1, 1, 1, 1, 8_180, 8_181, 8_182, 1, 1, 1, 3_000_000, 1, 1):
            await peer.send(frontend.query(f"select repeat('r', {size})"))
            assert values(await peer.until("Z")) == [[b"r" * size]]
        for size in (1, 1, 1, 8_192, 1, 1, 1, 1_000_000, 1, 1, 1, 8_170, 8_180, 1):
            await peer.send(frontend.query("select length('" + "q" * size + "')"))
            assert values(await peer.until("Z")) == [[str(size).encode()]]


@pytest.mark.parametrize("workers", [1, 2])
async def test_many_at_once_get_their_own_answers(pooler: PoolerFactory, backend: str, workers: int) -> None:
    place = pooler(default_pool_size=4, io_backend=backend, workers=workers)
    clients, rounds = 100, 20

    async def work(number: int) -> None:
        async with logged_in(place, patience_s=60) as peer:
            for turn in range(rounds):
                text = f"{number}-{turn}"
                assert values(await peer.query(f"select '{text}', repeat('{text}', {turn * 50})")) == [
                    [text.encode(), text.encode() * (turn * 50)]
                ]

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(work, number)


async def test_more_at_once_than_there_are_buffers(pooler: PoolerFactory, backend: str) -> None:
    """All have sent before any is looked at: the pooler is stopped meanwhile."""
    place = pooler(default_pool_size=8, io_backend=backend, max_client_conn=700)
    clients = 600
    peers = []
    async with trio.open_nursery() as nursery:
        ready = trio.Event()

        async def one() -> None:
            async with logged_in(place, patience_s=60) as peer:
                for _ in range(4):
                    await peer.query("select 1")
                peers.append(peer)
                await ready.wait()
                await peer.until("Z")

        for _ in range(clients):
            nursery.start_soon(one)
        await until_async(lambda: len(peers) == clients, patience_s=120)
        place.process.signal(SIGSTOP)
        for peer in peers:
            await peer.send(frontend.query("select 2"))
        place.process.signal(SIGCONT)
        ready.set()


async def test_a_server_that_ends_while_idle_is_seen(
    pooler: PoolerFactory, own_postgres: PostgresServer, backend: str
) -> None:
    place = pooler(server=own_postgres, default_pool_size=1, io_backend=backend)
    async with logged_in(place) as peer:
        for _ in range(5):
            first = values(await peer.query("select pg_backend_pid()"))
        pid = (first[0][0] or b"").decode()
        with Console(place) as console:
            own_postgres.sql(f"select pg_terminate_backend({pid})")
            await until_async(
                lambda: not [row for row in console.rows("SHOW SERVERS") if str(row["remote_pid"]) == pid]
            )
        assert values(await peer.query("select pg_backend_pid()")) != first


async def test_a_result_is_whole_for_who_reads_late(pooler: PoolerFactory, backend: str) -> None:
    """What was to be sent at the end of a turn, and did not fit, comes in its place."""
    place = pooler(default_pool_size=1, io_backend=backend)
    rows = 20_000
    async with logged_in(place, patience_s=60) as peer:
        for _ in range(4):
            await peer.query("select 1")
        await peer.send(frontend.query(f"select g, repeat('s', 400) from generate_series(1, {rows}) g"))
        with Console(place) as console:
            await until_async(lambda: console.pool()["sv_active"] == 1)
        cutter, seen, done = Messages(), 0, False
        while not done:
            for message in cutter.feed(await peer.stream.receive_some(3_001)):
                if message.type == b"D":
                    seen += 1
                    assert message.values[0] == str(seen).encode()
                done = message.type == b"Z"
        assert seen == rows


async def test_auto_goes_without_its_ring_for_one_client_and_back_for_many(pooler: PoolerFactory) -> None:
    """A worker changes after some hundred turns; here it does so with requests under way."""
    place = pooler(io_backend="auto", default_pool_size=4)

    async def ask(times: int, length: int) -> None:
        async with logged_in(place) as peer:
            for number in range(times):
                assert values(await peer.query(f"select repeat('{number % 10}', {length})")) == [
                    [str(number % 10).encode() * length]
                ]

    for _ in range(2):
        await ask(700, 10)
        async with trio.open_nursery() as nursery:
            for number in range(24):
                nursery.start_soon(ask, 30, 1 + 3000 * (number % 4))
    with Console(place) as console:
        (row,) = (row for row in console.rows("SHOW STATS_TOTALS") if row["database"] == "app")
    assert row["xact_count"] == 2 * (700 + 24 * 30)


def polled(pid: int) -> set[int]:
    """The descriptors in the poll sets of a process. Source: proc(5), /proc/PID/fdinfo, "tfd" of an epoll descriptor."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = entry.read_text().splitlines()
        except FileNotFoundError:
            continue  # closed since the folder was read
        found |= {int(line.split()[1]) for line in lines if line.startswith("tfd:")}
    return found


async def test_who_asks_once_stays_in_the_poll_set_and_who_goes_on_asking_leaves_it(pooler: PoolerFactory) -> None:
    """A login is several short messages, and says nothing about what comes after it: a stream costs more than one query saves."""
    if why := refusal():
        pytest.skip(f"no io_uring here: {why}")
    place = pooler(io_backend="io_uring")
    pid = place.process.pid
    with Console(place) as console:
        async with logged_in(place) as peer:
            await peer.query("select 1")
            (fd,) = (
                row["fd"] for row in console.rows("SHOW FDS") if row["database"] == "app" and row["task"] == "client"
            )
            assert fd in polled(pid)
            await peer.query("select 1")
            await until_async(lambda: fd not in polled(pid))
            assert values(await peer.query("select 2")) == [[b"2"]]
