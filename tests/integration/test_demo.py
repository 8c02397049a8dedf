"""`make run`: a pooler and, without DATABASE_URL, a server; Ctrl-C ends both."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from pgpool_core.testing import GuardedProcess, PostgresServer, can_connect, free_port
from pgpool_core.testing.account import Account

ROOT = Path(__file__).parents[2]
MYSELF = Account(name="me", uid=os.geteuid(), gid=os.getegid())


@contextmanager
def demo(folder: Path, port: int, url: str | None = None) -> Iterator[GuardedProcess]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    env.pop("DATABASE_URL", None)
    if url is not None:
        env["DATABASE_URL"] = url
    command = [sys.executable, "-m", "pgpool_core", "demo", "--port", str(port)]
    process = GuardedProcess(command, account=MYSELF, env=env, cwd=folder)
    try:
        yield process
    finally:
        process.stop()


def _url(process: GuardedProcess) -> str:
    process.wait_for_log("Ctrl-C stops it", timeout_s=60)
    found = re.search(r"pooler +(\S+)", process.log)
    assert found
    return found.group(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_brings_its_own_server_and_takes_it_away(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with demo(tmp_path, port) as process:
        with psycopg.connect(_url(process), autocommit=True) as connection:
            assert connection.execute("select current_user, current_database()").fetchone() == ("app", "app")
        server = re.search(r"on port (\d+)", process.log)
        assert server
        process.signal(number)
        assert process.wait(20) == 0, process.log
    process.wait_for_silence()
    assert not can_connect(("127.0.0.1", port))
    assert not can_connect(("127.0.0.1", int(server.group(1))))


def test_the_demo_goes_in_front_of_the_server_it_is_given(tmp_path: Path, postgres: PostgresServer) -> None:
    with demo(tmp_path, free_port(), postgres.dsn("app", "other")) as process:
        with psycopg.connect(_url(process)) as connection:
            assert connection.execute("select current_database()").fetchone() == ("other",)
        process.signal(signal.SIGINT)
        assert process.wait() == 0, process.log
    assert not (tmp_path / ".postgres").exists()


@pytest.mark.parametrize(
    ("user", "database", "told"),
    [
        ("app:wrong", "app", 'server login failed at HOST:PORT: FATAL password authentication failed for user "app"'),
        ("trusted", "nowhere", 'server login failed at HOST:PORT: FATAL database "nowhere" does not exist'),
        ("trusted", "pgbouncer", 'database name "pgbouncer" is reserved for the console'),
    ],
)
def test_a_url_that_leads_nowhere_is_told_at_once(
    tmp_path: Path, postgres: PostgresServer, user: str, database: str, told: str
) -> None:
    url = f"postgresql://{user}@{postgres.host}:{postgres.port}/{database}"
    with demo(tmp_path, free_port(), url) as process:
        assert process.wait() == 1
        process.wait_for_silence()
        place = f"{postgres.host}:{postgres.port}"
        assert f"DATABASE_URL: {told.replace('HOST:PORT', place)}" in process.log


def test_any_name_and_password_can_stand_in_the_url(tmp_path: Path, own_postgres: PostgresServer) -> None:
    name, password, database = "odd, name@x/y", "p@ss:w/rd%\"q' ü", "d b/é"
    own_postgres.sql(
        'create role :"name" login password :\'password\'; create database :"database" owner :"name";',
        variables={"name": name, "password": password, "database": database},
    )
    assert own_postgres.data_dir is not None
    with (own_postgres.data_dir / "pg_hba.conf").open("r+") as hba:
        rules = hba.read()
        hba.seek(0)
        hba.write(f'host all "{name}" all scram-sha-256\n{rules}')
    own_postgres.sql("select pg_reload_conf()")
    place = f"{own_postgres.host}:{own_postgres.port}"
    url = f"postgresql://{quote(name, safe='')}:{quote(password, safe='')}@{place}/{quote(database, safe='')}"
    with demo(tmp_path, free_port(), url) as process, psycopg.connect(_url(process)) as connection:
        assert connection.execute("select current_user, current_database()").fetchone() == (name, database)


def test_a_taken_port_is_told(tmp_path: Path, postgres: PostgresServer) -> None:
    with demo(tmp_path, postgres.port, postgres.dsn("app", "app")) as process:
        assert process.wait() == 1
        process.wait_for_silence()
        assert f"cannot listen on 127.0.0.1:{postgres.port}: Address already in use" in process.log


def test_a_url_nobody_can_read_is_told_without_its_password(tmp_path: Path) -> None:
    with demo(tmp_path, free_port(), "postgres://u:tops3cret@h/d?nonsense=1") as process:
        assert process.wait() == 1
        process.wait_for_silence()
        assert "DATABASE_URL: unknown connection parameter nonsense" in process.log
        assert "tops3cret" not in process.log
