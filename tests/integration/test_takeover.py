"""-R: another process takes the listening sockets; nobody who talks to the pooler sees an error."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGHUP, SIGKILL, SIGTERM

import psycopg
import pytest
import trio

from pgpool_core.process.takeover import HELLO, UP
from pgpool_core.testing import PoolerProcess
from pgpool_core.testing.ports import free_port
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.peers import letters, logged_in
from tests.watching import until


class Crowd:
    """Threads that work on a pooler until they are told to stop; what went wrong is kept."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.done = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, work: Callable[[], None]) -> None:
        def run() -> None:
            while not self._stop.is_set():
                try:
                    work()
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                self.done += 1

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def more(self, count: int) -> None:
        """Wait until so many further pieces of work are done."""
        wanted = self.done + count
        until(lambda: self.done >= wanted, patience_s=30)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@contextmanager
def crowd(process: PoolerProcess) -> Iterator[Crowd]:
    """Clients that come for a query, over TCP and the unix socket, and clients that stay for many."""
    made = Crowd()
    stayers = [psycopg.connect(process.url("app", "app"), autocommit=True) for _ in range(3)]

    def comes(unix: bool) -> Callable[[], None]:
        def work() -> None:
            with psycopg.connect(process.url("app", "app", unix=unix), autocommit=True) as client:
                assert client.execute("select 1").fetchone() == (1,)

        return work

    def stays(client: psycopg.Connection) -> Callable[[], None]:
        return lambda: client.execute("select 1").fetchone() and None

    for unix in (False, True):
        made.add(comes(unix))
    for client in stayers:
        made.add(stays(client))
    try:
        yield made
    finally:
        made.stop()
        for client in stayers:
            client.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_under_load_no_client_sees_an_error(pooler: PoolerFactory, workers: int) -> None:
    process = pooler(workers=workers)
    with crowd(process) as clients:
        clients.more(50)
        first = process.replace()
        clients.more(100)
        second = process.replace()
        clients.more(100)
        assert first.wait(30) == second.wait(30) == 0  # those who stay for many have moved
        clients.more(50)
        assert clients.errors == []
    assert "handed over, and no client is left" in first.log


def test_who_is_in_a_transaction_is_with_the_old_process_and_who_comes_is_with_the_new(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=1)
    with psycopg.connect(process.url("app", "app")) as before:
        before.execute("set application_name = 'kept'")
        old = process.replace()
        with psycopg.connect(process.url("app", "app"), autocommit=True) as after:
            after.execute("select 1")
            assert before.execute("show application_name").fetchone() == ("kept",)
        with psycopg.connect(process.url("admin", "pgbouncer"), autocommit=True, prepare_threshold=None) as console:
            console.execute("SHOW VERSION")
        assert old.returncode is None
    assert old.wait() == 0
    with psycopg.connect(process.url("app", "app", unix=True)) as still:
        still.execute("select 1")


def test_queries_of_the_old_process_can_be_cancelled_through_the_new_ones(pooler: PoolerFactory) -> None:
    process = pooler(workers=2)
    with (
        psycopg.connect(process.url("app", "app"), autocommit=True) as first,
        psycopg.connect(process.url("app", "app"), autocommit=True) as other,
    ):
        process.replace()
        with psycopg.connect(process.url("app", "app"), autocommit=True) as second:
            process.replace()
            for client in (first, second, other):
                canceller = threading.Thread(target=cancel_once_it_sleeps, args=(process, client))
                canceller.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    client.execute("select pg_sleep(60)")
                canceller.join()
                assert client.execute("select 1").fetchone() == (1,)


def test_a_process_without_clients_stays_as_long_as_the_one_before(pooler: PoolerFactory) -> None:
    """Cancel requests go through it, and who moves comes to it first."""
    process = pooler()
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
        first, second = process.replace(), process.replace()
        canceller = threading.Thread(target=cancel_once_it_sleeps, args=(process, client))
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(60)")
        canceller.join()
        client.rollback()
        assert first.wait() == second.wait() == 0
        assert client.execute("select 1").fetchone() == (1,)


def cancel_once_it_sleeps(process: PoolerProcess, client: psycopg.Connection) -> None:
    asked = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(60)'"
    with psycopg.connect(process.url("app", "app"), autocommit=True) as looking:
        until(lambda: looking.execute(asked).fetchone() == (1,))
    client.cancel_safe()


@pytest.mark.parametrize("order", ["PAUSE", "PAUSE app", "SUSPEND"])
def test_a_pause_of_the_old_process_ends(pooler: PoolerFactory, order: str) -> None:
    """Nobody could say RESUME to it any more."""
    process = pooler()
    with psycopg.connect(process.url("app", "app"), autocommit=True) as client, Console(process) as console:
        client.execute("select 1")
        console.run(order)
        answers: list[object] = []
        waiting = threading.Thread(target=lambda: answers.append(client.execute("select 2").fetchone()))
        waiting.start()
        process.replace()
        waiting.join(20)
        assert answers == [(2,)]


async def test_with_a_drain_timeout_those_who_can_move_are_not_sent_away(pooler: PoolerFactory) -> None:
    process = pooler(client_drain_timeout=60)
    async with logged_in(process) as idle, logged_in(process) as busy:
        await busy.query("begin")
        old = await trio.to_thread.run_sync(process.replace)
        assert letters(await idle.query("select 1")) == "TDCZ"
        assert letters(await busy.query("select 2")) == "TDCZ"  # its transaction goes on
        assert old.returncode is None
        assert letters(await busy.query("commit")) == "CZ"
        assert await trio.to_thread.run_sync(old.wait) == 0
        assert letters(await busy.query("select 3")) == "TDCZ"


async def test_where_the_new_process_takes_no_clients_they_are_drained(pooler: PoolerFactory) -> None:
    """As one of another version: it says that it is up, and not how clients may come."""
    process = pooler(client_drain_timeout=60)
    path = process.unix_dir / f".s.PGSQL.{process.port}.takeover"
    process.process.wait_for_file(path)
    async with logged_in(process) as idle, logged_in(process) as busy:
        await busy.query("begin")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as new:
            new.connect(str(path))
            new.send(HELLO)
            for fd in socket.recv_fds(new, 4096, 8)[1]:
                os.close(fd)
            new.send(UP)
            await idle.expect_error("57P01")
            await idle.expect_end()
            assert letters(await busy.query("select 2")) == "TDCZ"
            assert process.process.returncode is None
            assert letters(await busy.query("commit")) == "CZ"
            await busy.expect_error("57P01")
    assert await trio.to_thread.run_sync(process.process.wait) == 0


@pytest.mark.parametrize("handed_over", [True, False])
def test_a_process_that_listens_no_more_reads_its_file_again(pooler: PoolerFactory, handed_over: bool) -> None:
    """It has been taken over, or waits for its clients at SIGTERM."""
    port = free_port()
    process = pooler(metrics_listen=f"127.0.0.1:{port}")
    with psycopg.connect(process.url("app", "app")) as client, Console(process) as console:
        client.execute("select 1")
        if handed_over:
            old = process.replace()
        else:
            old = process.process
            old.signal(SIGTERM)
            until(lambda: [row["task"] for row in console.rows("SHOW FDS")].count("pooler") == 1)
        process.settings["metrics_listen"] = f"127.0.0.1:{free_port()}"
        process.write()
        old.signal(SIGHUP)
        old.wait_for_log("configuration reloaded")
        assert client.execute("select 2").fetchone() == (2,)
        assert old.returncode is None
    assert old.wait() == 0


def test_after_the_drain_timeout_the_others_go_too(pooler: PoolerFactory) -> None:
    process = pooler(client_drain_timeout=0.5)
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
        old = process.replace()
        assert old.wait() == 0
        with pytest.raises(psycopg.OperationalError, match="pooler is shutting down"):
            client.execute("select 2")


def test_the_place_for_metrics_is_taken_too(pooler: PoolerFactory) -> None:
    port = free_port()
    process = pooler(metrics_listen=f"127.0.0.1:{port}")
    process.process.wait_for_listener(("127.0.0.1", port))
    with psycopg.connect(process.url("app", "app")):
        old = process.replace()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert answer.status == 200
        assert old.returncode is None
    assert old.wait() == 0


def test_the_pid_file_goes_over(pooler: PoolerFactory) -> None:
    process = pooler(start=False)
    process.settings["pidfile"] = process.folder / "pid"
    process.start()
    old = process.replace()
    until(lambda: (process.folder / "pid").read_text() == f"{process.process.pid}\n")
    assert old.wait() == 0
    assert (process.folder / "pid").exists()
    assert process.stop() == 0
    assert not (process.folder / "pid").exists()
    assert list(process.folder.glob(".s.PGSQL.*")) == []


def test_where_nobody_runs_it_starts_as_usual(pooler: PoolerFactory) -> None:
    process = pooler(start=False)
    process.spawn("-R")
    process.wait_for_log("old process not found, try to continue normally")
    process.process.wait_for_listener((process.host, process.port))


def test_a_new_process_that_dies_before_it_is_up_changes_nothing(pooler: PoolerFactory) -> None:
    process = pooler()
    path = process.unix_dir / f".s.PGSQL.{process.port}.takeover"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as knocking:
        until(lambda: knocking.connect_ex(str(path)) == 0)  # it is there a moment before somebody listens
        knocking.send(HELLO)
        _, fds, _, _ = socket.recv_fds(knocking, 4096, 8)
        assert len(fds) == 2
        for fd in fds:
            os.close(fd)
    process.wait_for_log("not taken over, going on")
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
    process.replace()


def test_a_new_process_with_a_broken_file_changes_nothing(pooler: PoolerFactory) -> None:
    process = pooler()
    good = process.process
    process.ini_tail = "pool_mode = fast"
    process.spawn("-R")
    assert process.process.wait() == 1
    process.ini_tail = ""
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
    assert good.stop(SIGTERM) == 0


def test_one_that_is_shutting_down_already_is_not_taken_over(pooler: PoolerFactory) -> None:
    """It listens on the unix socket only: who took that would listen nowhere else."""
    process = pooler()
    with psycopg.connect(process.url("app", "app")) as client, Console(process) as console:
        client.execute("select 1")
        old = process.process
        old.wait_for_file(process.unix_dir / f".s.PGSQL.{process.port}.takeover")
        old.signal(SIGTERM)
        until(lambda: [row["task"] for row in console.rows("SHOW FDS")].count("pooler") == 1)
        process.spawn("-R")
        assert process.process.wait() == 1
        assert "it does not hand over, for it is shutting down" in process.log
        assert client.execute("select 1").fetchone() == (1,)
    assert old.wait() == 0


def test_a_pid_file_that_cannot_be_written_changes_nothing(pooler: PoolerFactory) -> None:
    process = pooler()
    good = process.process
    process.settings["pidfile"] = process.folder / "nowhere" / "pid"
    process.spawn("-R")
    assert process.process.wait() == 1
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
    assert good.stop(SIGTERM) == 0


def test_an_old_process_that_is_killed_meanwhile_leaves_the_new_one_whole(pooler: PoolerFactory) -> None:
    process = pooler()
    with psycopg.connect(process.url("app", "app")):
        old = process.replace()
        old.signal(SIGKILL)
        old.wait()
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
