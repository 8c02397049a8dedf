"""Poolers that are made from environment variables: in a container, and beside a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import SIGKILL, SIGTERM

import psycopg
import pytest

import pgpool_core
from pgpool_core.testing import PostgresServer
from pgpool_core.testing.account import Account
from pgpool_core.testing.ports import free_port
from pgpool_core.testing.process import GuardedProcess

Start = Callable[..., GuardedProcess]

ASK = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    print("answer", connection.execute("select 6 * 7").fetchone(), flush=True)
raise SystemExit(3)
"""
WAIT = """
import os, psycopg, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM])
    print("answer", connection.execute("select 6 * 7").fetchone(), flush=True)
raise SystemExit(7)
"""
WAIT_ALONE = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
raise SystemExit(9)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*arguments, env=...)` runs `pgpool-core`; what runs at the end is killed."""
    running: list[GuardedProcess] = []

    def run(*arguments: str, env: Mapping[str, str]) -> GuardedProcess:
        source = str(Path(pgpool_core.__file__).parents[1])
        path = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH")) if part)
        process = GuardedProcess(
            [sys.executable, "-m", "pgpool_core", *arguments],
            account=Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid()),
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": path, **env},
            cwd=tmp_path,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.stop(SIGKILL, timeout_s=10.0)


def test_a_container_serves_what_its_variables_name(start: Start, postgres: PostgresServer, tmp_path: Path) -> None:
    port = free_port()
    env = {
        "DB_HOST": postgres.host,
        "DB_PORT": str(postgres.port),
        "DB_USER": "app",
        "DB_PASSWORD": "app-secret",
        "LISTEN_ADDR": "127.0.0.1",
        "LISTEN_PORT": str(port),
        "POOL_MODE": "transaction",
        "ADMIN_USERS": "app",
    }
    process = start("serve", "--from-env", "docker", "--config-dir", str(tmp_path), env=env)
    process.wait_for_listener(("127.0.0.1", port))
    with psycopg.connect(f"postgresql://app:app-secret@127.0.0.1:{port}/other") as connection:
        assert connection.execute("select current_database()").fetchone() == ("other",)
    assert "app-secret" not in process.log
    assert process.stop(SIGTERM, timeout_s=10.0) == 0


def children(pid: int) -> list[int]:
    """The processes that `pid` has started, with any of its threads. Source: proc(5), /proc/pid/task/tid/children."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(number) for text in lists for number in text.split()]


@pytest.fixture
def dyno(postgres: PostgresServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a process on a platform that names its database by a URL."""
    return {
        "DATABASE_URL": f"postgres://app:app-secret@{postgres.host}:{postgres.port}/app?sslmode=disable",
        "PGBOUNCER_CONFIG_DIR": str(tmp_path),
        "PGBOUNCER_LISTEN_PORT": str(free_port()),
        "PGBOUNCER_SERVER_TLS_SSLMODE": "disable",
        "DYNO": "web.1",
    }


def test_a_command_runs_beside_its_pooler_and_both_end_together(start: Start, dyno: dict[str, str]) -> None:
    process = start("run", "--", sys.executable, "-c", ASK, env=dyno)
    process.wait_for_log(r"answer \(42,\)")
    assert process.wait(timeout_s=10.0) == 3
    assert "got SIGINT" in process.log
    assert f"listening on 127.0.0.1:{dyno['PGBOUNCER_LISTEN_PORT']}" in process.log


def test_a_sigterm_to_everybody_leaves_the_command_its_pooler(start: Start, dyno: dict[str, str]) -> None:
    process = start("run", "--", sys.executable, "-c", WAIT, env=dyno)
    process.wait_for_log("ready")
    process.signal_group(SIGTERM)
    process.wait_for_log(r"answer \(42,\)")
    assert process.wait(timeout_s=10.0) == 7


def test_the_command_is_asked_to_end_when_its_pooler_has(start: Start, dyno: dict[str, str]) -> None:
    process = start("run", "--", sys.executable, "-c", WAIT_ALONE, env=dyno)
    process.wait_for_log("ready")
    os.kill(min(children(process.pid)), SIGKILL)  # the pooler was started first
    assert process.wait(timeout_s=10.0) == 9
    assert "the pooler has ended" in process.log


def test_an_ini_that_is_there_is_used_and_the_url_left_alone(
    start: Start, dyno: dict[str, str], tmp_path: Path
) -> None:
    port = dyno["PGBOUNCER_LISTEN_PORT"]
    settings = f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
    (tmp_path / "pgbouncer.ini").write_text(f"[databases]\napp = host=127.0.0.1\n[pgbouncer]\n{settings}")
    show = "import os; print('url', os.environ['DATABASE_URL'])"
    process = start("run", "--", sys.executable, "-c", show, env=dyno)
    assert process.wait(timeout_s=10.0) == 0
    assert f"url {dyno['DATABASE_URL']}\n" in process.log


def test_without_a_pooler_there_is_no_command(start: Start, dyno: dict[str, str]) -> None:
    process = start("run", "--", "echo", "ran", env={**dyno, "PGBOUNCER_POOL_MODE": "fast"})
    assert process.wait(timeout_s=10.0) == 1
    assert "pool_mode" in process.log
    assert "ran\n" not in process.log


def test_a_command_that_is_not_there_is_named(start: Start, dyno: dict[str, str]) -> None:
    process = start("run", "--", "no-such-command", env=dyno)
    assert process.wait(timeout_s=10.0) == 127
    assert "no-such-command: no such command" in process.log


def test_the_pooler_may_be_switched_off(start: Start, dyno: dict[str, str]) -> None:
    show = "import os; print(os.environ['DATABASE_URL'], os.environ.get('DATABASE_URL_PGBOUNCER'))"
    process = start("run", "--", sys.executable, "-c", show, env={**dyno, "PGBOUNCER_ENABLED": "0"})
    assert process.wait(timeout_s=10.0) == 0
    assert process.log.split() == [dyno["DATABASE_URL"], "None"]
