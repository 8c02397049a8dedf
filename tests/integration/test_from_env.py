"""Poolers that are made from environment variables, as in a container."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import psycopg
import pytest

import pgpool_core
from pgpool_core.testing import PostgresServer
from pgpool_core.testing.account import Account
from pgpool_core.testing.ports import free_port
from pgpool_core.testing.process import GuardedProcess

Start = Callable[..., GuardedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*arguments, env=...)` runs `pgpool-core`; what runs at the end is killed."""
    running: list[GuardedProcess] = []

    def run(*arguments: str, env: Mapping[str, str], shell: str = "exec") -> GuardedProcess:
        source = str(Path(pgpool_core.__file__).parents[1])
        path = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH")) if part)
        process = GuardedProcess(
            ["/bin/sh", "-c", f'{shell} "$@"', "sh", sys.executable, "-m", "pgpool_core", *arguments],
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


def test_a_sigterm_that_was_ignored_at_the_start_stays_ignored(
    start: Start, postgres: PostgresServer, tmp_path: Path
) -> None:
    """So the buildpack starts its pooler: the platform sends SIGTERM to every process, and the application leaves first."""
    port = free_port()
    settings = f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {tmp_path}/users\n"
    (tmp_path / "users").write_text('"app" "app-secret"\n')
    (tmp_path / "p.ini").write_text(
        f"[databases]\napp = host={postgres.host} port={postgres.port}\n[pgbouncer]\n{settings}"
    )
    process = start("serve", str(tmp_path / "p.ini"), env={}, shell="trap '' TERM; exec")
    process.wait_for_listener(("127.0.0.1", port))
    process.signal(SIGTERM)
    with psycopg.connect(f"postgresql://app@127.0.0.1:{port}/app") as connection:
        assert connection.execute("select 6 * 7").fetchone() == (42,)
    assert process.stop(SIGINT, timeout_s=10.0) == 0
    process.wait_for_silence()
    assert "got SIGINT" in process.log
    assert "got SIGTERM" not in process.log
