"""Programs with a proxy inside that fork, are killed, leave in the middle of their work or stand still: nothing hangs, nothing is left behind.

Each is a process of its own. Its backends are told by their user, whom nobody else here logs in as.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from pgpool_core.testing import PostgresServer
from tests.watching import until

ROOT = Path(__file__).parents[2]
BACKENDS = "select pid, state, query from pg_stat_activity where usename = 'legacy'"
PATIENCE_S = 60.0
SLOW = pytest.mark.slow


@pytest.fixture
def dsn(postgres: PostgresServer) -> Iterator[str]:
    """A URL of the user of these tests; afterwards PostgreSQL has no backend of theirs."""
    yield postgres.dsn("legacy", "app")
    until(lambda: not postgres.sql(BACKENDS), what="no backend is left", patience_s=PATIENCE_S)


@contextmanager
def program(text: str, dsn: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A program of Python, whose standard output is ours; it is in a session of its own, and nothing of that session outlives the block."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", *options, "-c", text],
        cwd=ROOT,
        env={**os.environ, "URL": dsn, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it has ended: status {process.wait(PATIENCE_S)}"
    return line.strip()


# -- an interpreter that stands still ----------------------------------------------------------------------------------

FROZEN = """
import ctypes, os
import pgpool_core
with pgpool_core.run_proxy_in_thread(os.environ["URL"], default_pool_size=2) as proxy:
    print(proxy.url, flush=True)
    os.read(0, 1)
    byte = ctypes.create_string_buffer(1)
    os.write(1, b"frozen\\n")
    ctypes.PyDLL(None).read(0, byte, 1)  # PyDLL keeps the GIL: no Python runs in this process until a byte has come
    print("thawed", flush=True)
"""


def test_queries_of_others_go_on_while_the_program_keeps_the_gil(dsn: str) -> None:
    with program(FROZEN, dsn) as process:
        assert process.stdin is not None
        url = line_of(process)
        with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as other:
            with one.transaction(), other.transaction():
                one.execute("select 1")  # both servers are open now, and the login is known
            process.stdin.write("x")
            process.stdin.flush()
            assert line_of(process) == "frozen"
            for number in range(200):
                assert one.execute("select %s::int", (number,)).fetchone() == (number,)
                assert other.execute("select %s::int", (-number,)).fetchone() == (-number,)
            with psycopg.connect(url) as third, third.transaction():  # who comes only now
                assert third.execute("select 'late'").fetchone() == ("late",)
            with one.transaction(), other.transaction():
                one.execute("select 1")
                other.execute("select 1")
                waiting = threading.Thread(target=lambda: third_of(url))
                waiting.start()
            waiting.join(PATIENCE_S)
            assert not waiting.is_alive(), "who waited for a server has got one"
        process.stdin.write("x")
        process.stdin.flush()
        assert line_of(process) == "thawed"
        assert process.wait(PATIENCE_S) == 0


def third_of(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("select 3")


# -- forks ---------------------------------------------------------------------------------------------------------------

STORM = """
import gc, multiprocessing, os, signal, sys, warnings
from collections import Counter
import psycopg
import pgpool_core
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)

def descriptors():
    gc.collect()
    there = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return Counter(os.readlink(path) for path in there if os.path.lexists(path))

def work(number, url, listening):
    held = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    assert not listening & set(held), "a child holds a socket that listens"
    with psycopg.connect(url, autocommit=True) as connection:
        for turn in range(5):
            assert connection.execute("select %s::int", (number + turn,)).fetchone() == (number + turn,)
        if number % 4 == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number % 4 == 2:
            connection.execute("begin")
            connection.execute("select pg_sleep(0)")
            os._exit(7)
        if number % 4 == 3:
            sys.exit(7)

def sockets_of(proxy):
    import socket
    found = set()
    for name in os.listdir("/proc/self/fd"):
        where = os.readlink(f"/proc/self/fd/{name}") if os.path.exists(f"/proc/self/fd/{name}") else ""
        if where.startswith("socket:"):
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(where)
    return found

fork = multiprocessing.get_context("fork")
before = descriptors()
with pgpool_core.HOST(os.environ["URL"], default_pool_size=4) as proxy:
    with psycopg.connect(proxy.url) as connection:
        connection.execute("select 1")
    listening = sockets_of(proxy)
    assert bool(listening) is ("HOST" == "run_proxy_in_thread")
    for storm in range(4):
        children = [fork.Process(target=work, args=(number, proxy.url, listening)) for number in range(16)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        expected = [{0: 0, 1: -9, 2: 7, 3: 7}[number % 4] for number in range(16)]
        assert [child.exitcode for child in children] == expected, [child.exitcode for child in children]
        for child in children:
            child.close()
    with psycopg.connect(proxy.url) as connection:
        said = connection.execute("select 'all is well'").fetchone()[0]
del connection, children, child
print(said if not descriptors() - before else descriptors() - before, flush=True)
"""


@pytest.mark.parametrize("host", ["run_proxy_in_thread", pytest.param("run_proxy_process", marks=SLOW)])
def test_a_storm_of_forks(dsn: str, host: str) -> None:
    with program(STORM.replace("HOST", host), dsn) as process:
        assert line_of(process) == "all is well"
        assert process.wait(PATIENCE_S) == 0


PRELOADED = """
import contextlib, os, psycopg
import pgpool_core
stack = contextlib.ExitStack()
proxy = stack.enter_context(pgpool_core.HOST(os.environ["URL"], default_pool_size=3))

def application(environ, start_response):
    with psycopg.connect(proxy.url) as connection:
        server = connection.execute("select pg_backend_pid()").fetchone()[0]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {server}".encode()]
"""


@pytest.mark.parametrize("host", [pytest.param("run_proxy_in_thread", marks=SLOW), "run_proxy_process"])
def test_gunicorn_preload_with_workers_that_are_killed_and_a_reload(
    dsn: str, tmp_path: Path, postgres: PostgresServer, host: str
) -> None:
    tmp_path.joinpath("site_of_test.py").write_text(PRELOADED.replace("HOST", host))
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--bind", "127.0.0.1:0"]
    command += [
        "--chdir",
        str(tmp_path),
        "--worker-tmp-dir",
        str(tmp_path),
        "site_of_test:application",
    ]
    env = {**os.environ, "URL": dsn, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as master:
        assert master.stderr is not None
        said: list[str] = []
        try:
            for line in master.stderr:
                said.append(line)
                if found := re.search(r"Listening at: (http://127\.0\.0\.1:\d+)", line):
                    break
            assert found, "".join(said)
            reader = threading.Thread(target=lambda: said.extend(master.stderr or ()))
            reader.start()
            seen, servers = set[int](), set[int]()

            def ask() -> int:
                with urlopen(found[1], timeout=PATIENCE_S) as answer:
                    worker, server = map(int, answer.read().split())
                seen.add(worker)
                servers.add(server)
                return worker

            def survives(first: int) -> int:
                """A worker that answers, though connections to the one that was killed may break."""
                return until(lambda: answered(ask, not_from=first), patience_s=PATIENCE_S)

            for _ in range(3):
                worker = survives(0)
                os.kill(worker, signal.SIGKILL)
                survives(worker)
            if host == "run_proxy_process":  # a reload without preloading again: new workers, the same pooler
                master.send_signal(signal.SIGHUP)
                before = frozenset(seen)
                until(lambda: answered(ask) not in (0, *before), patience_s=PATIENCE_S)
            assert len(seen) > 3
            assert len(servers) <= 3
            master.send_signal(signal.SIGTERM)
            assert master.wait(PATIENCE_S) == 0, "".join(said)
            reader.join(PATIENCE_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(master.pid, signal.SIGKILL)


def answered(ask: Callable[[], int], not_from: int = 0) -> int:
    """The worker that answered; 0 where none did, or that one."""
    try:
        worker = ask()
    except OSError:
        return 0
    return 0 if worker == not_from else worker


# -- the end, in the middle of everything --------------------------------------------------------------------------------

BUSY_ASYNCIO = """
import asyncio, os, signal, sys
import asyncpg
import pgpool_core

async def ask(url, begun):
    connection = await asyncpg.connect(url)
    while True:
        await connection.fetchval("select 1")
        begun.set()

async def main():
    async with pgpool_core.open_proxy_asyncio(os.environ["URL"], default_pool_size=3) as proxy:
        async with asyncio.TaskGroup() as group:
            begun = [asyncio.Event() for _ in range(10)]
            for event in begun:
                group.create_task(ask(proxy.url, event))
            for event in begun:
                await event.wait()
            print("busy", flush=True)
            END

asyncio.run(main())
"""
BUSY_THREADS = """
import os, signal, sys, threading
import psycopg
import pgpool_core

def ask(url, begun):
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                connection.execute("select 1")
                begun.set()
    except psycopg.Error:
        begun.set()

def main(proxy):
    begun = [threading.Event() for _ in range(10)]
    for event in begun:
        threading.Thread(target=ask, args=(proxy.url, event), daemon=True).start()
    for event in begun:
        event.wait()
    print("busy", flush=True)
    END

WITH
"""
BLOCK = """with pgpool_core.HOST(os.environ["URL"], default_pool_size=3) as proxy:
    main(proxy)"""
NO_BLOCK = """context = pgpool_core.HOST(os.environ["URL"], default_pool_size=3)
main(context.__enter__())"""
ENDS = {
    "leaves": ("sys.exit(5)", None, 5),
    "raises": ("raise LookupError('mine')", None, 1),
    "interrupted": ("AWAIT", signal.SIGINT, -2),
    "terminated": ("AWAIT", signal.SIGTERM, -15),
    "killed": ("AWAIT", signal.SIGKILL, -9),
    "exits hard": ("os._exit(6)", None, 6),
}


@pytest.mark.parametrize(
    "end",
    [
        "leaves",
        "interrupted",
        "killed",
        *(pytest.param(end, marks=SLOW) for end in ("raises", "terminated", "exits hard")),
    ],
)
def test_asyncio_ends_in_the_middle_of_its_queries(dsn: str, end: str) -> None:
    code, number, status = ENDS[end]
    assert_ends(BUSY_ASYNCIO.replace("END", code.replace("AWAIT", "await asyncio.Event().wait()")), dsn, number, status)


@pytest.mark.parametrize("end", ["leaves", pytest.param("interrupted", marks=SLOW), pytest.param("killed", marks=SLOW)])
@pytest.mark.parametrize("host", ["run_proxy_in_thread", "run_proxy_process"])
@pytest.mark.parametrize("block", [pytest.param(BLOCK, marks=SLOW), NO_BLOCK], ids=["block", "atexit"])
def test_a_program_of_threads_ends_in_the_middle_of_its_queries(dsn: str, end: str, host: str, block: str) -> None:
    code, number, status = ENDS[end]
    text = BUSY_THREADS.replace("END", code.replace("AWAIT", "threading.Event().wait()"))
    assert_ends(text.replace("WITH", block.replace("HOST", host)), dsn, number, status)


def assert_ends(text: str, dsn: str, number: signal.Signals | None, status: int) -> None:
    with program(text, dsn) as process:
        assert line_of(process) == "busy"
        if number is not None:
            process.send_signal(number)
        assert process.wait(PATIENCE_S) == status


# -- signals -------------------------------------------------------------------------------------------------------------

RINGING = """
import os, signal, sys
import psycopg
import pgpool_core
rung = 0
def ring(number, frame):
    global rung
    rung += 1
for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
    signal.signal(number, ring)
before = {number: signal.getsignal(number) for number in signal.valid_signals()}
with pgpool_core.HOST(os.environ["URL"], default_pool_size=2) as proxy:
    assert before == {number: signal.getsignal(number) for number in signal.valid_signals()}, "a handler was changed"
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        number = 0
        while rung < 500 or number < 200:
            number += 1
            os.kill(os.getpid(), (signal.SIGUSR1, signal.SIGUSR2)[number % 2])
            assert connection.execute("select %s::int", (number,)).fetchone() == (number,)
            proxy.statistics()
    signal.setitimer(signal.ITIMER_REAL, 0)
print("all is well", flush=True)
"""


@pytest.mark.parametrize("host", ["run_proxy_in_thread", pytest.param("run_proxy_process", marks=SLOW)])
def test_signals_of_the_program_disturb_nothing_and_are_its_own(dsn: str, host: str) -> None:
    with program(RINGING.replace("HOST", host), dsn) as process:
        assert line_of(process) == "all is well"
        assert process.wait(PATIENCE_S) == 0
