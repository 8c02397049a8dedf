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
from tests.certificates import Authority

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


def test_bitnamis_variables_with_tls(start: Start, postgres: PostgresServer, tmp_path: Path) -> None:
    """Every client is app at the server, in the database that it asks for."""
    authority = Authority(tmp_path / "authority")
    paper = authority.issue("localhost", alternatives=["DNS:localhost", "IP:127.0.0.1"])
    port = free_port()
    (tmp_path / "secret").write_text("app-secret\n")
    env = {
        "POSTGRESQL_HOST": postgres.host,
        "POSTGRESQL_PORT": str(postgres.port),
        "POSTGRESQL_USERNAME": "app",
        "POSTGRESQL_PASSWORD_FILE": str(tmp_path / "secret"),
        "PGBOUNCER_DATABASE": "*",
        "PGBOUNCER_LISTEN_ADDRESS": "127.0.0.1",
        "PGBOUNCER_PORT": str(port),
        "PGBOUNCER_SOCKET_DIR": str(tmp_path),
        "PGBOUNCER_POOL_MODE": "transaction",
        "PGBOUNCER_USERLIST": '"somebody" "else"',
        "PGBOUNCER_SET_DATABASE_USER": "yes",
        "PGBOUNCER_SET_DATABASE_PASSWORD": "yes",
        "PGBOUNCER_CONNECT_QUERY": "select set_config(''app.way'', ''bitnami'', false)",
        "PGBOUNCER_CLIENT_TLS_SSLMODE": "require",
        "PGBOUNCER_CLIENT_TLS_CERT_FILE": str(paper.cert_file),
        "PGBOUNCER_CLIENT_TLS_KEY_FILE": str(paper.key_file),
        "PGBOUNCER_CLIENT_TLS_CIPHERS": "fast",
        "PGBOUNCER_SERVER_TLS_CIPHERS": "fast",
    }
    process = start("serve", "--from-env", "bitnami", "--config-dir", str(tmp_path), env=env)
    process.wait_for_listener(("127.0.0.1", port))
    place = f"127.0.0.1:{port}/other?sslmode=verify-full&sslrootcert={authority.ca_file}"
    with psycopg.connect(f"postgresql://somebody:else@{place}") as connection:
        found = connection.execute("select current_database(), current_user, current_setting('app.way')").fetchone()
        assert found == ("other", "app", "bitnami")
    assert "app-secret" not in process.log and "not read" not in process.log
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
