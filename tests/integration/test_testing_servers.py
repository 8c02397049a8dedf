"""The servers and poolers that other tests trust: they start, stop, break and leave nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pgpool_core.testing import GuardedProcess, PostgresServer, PostgresUser, ProcessFailed, can_connect, connect_peer
from pgpool_core.testing.account import service_account
from tests.conftest import DATABASES, USERS, PoolerFactory, Target

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("user", USERS, ids=lambda user: f"{user.name}-{user.method}")
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_every_user_gets_in_by_their_method(postgres: PostgresServer, user: PostgresUser, unix: bool) -> None:
    assert postgres.socket_dir is not None
    address = postgres.socket_dir / f".s.PGSQL.{postgres.port}" if unix else (postgres.host, postgres.port)
    async with await connect_peer(address) as peer:
        await peer.log_in(user.name, "app", user.password)
        answer = await peer.query("select current_user")
    assert answer[1].values == [user.name.encode()]


@pytest.mark.parametrize("name", ["app", "legacy", "plain"])
def test_a_wrong_password_is_refused(postgres: PostgresServer, name: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=postgres.host, port=postgres.port, user=name, password="no", dbname="app")


def test_a_statement_that_fails_is_told(postgres: PostgresServer) -> None:
    with pytest.raises(ProcessFailed, match='column "nope" does not exist'):
        postgres.sql("select nope")


def test_a_server_comes_back_on_its_port_after_each_kind_of_end(own_postgres: PostgresServer) -> None:
    port = own_postgres.port
    own_postgres.sql("create table kept(x int)", database="app")
    for end in (own_postgres.stop, own_postgres.terminate, own_postgres.kill):
        end()
        assert not own_postgres.running
        assert not can_connect((own_postgres.host, port))
        own_postgres.start()
        assert own_postgres.port == port
        assert own_postgres.sql("select count(*) from kept", database="app") == "0"


def test_a_paused_server_accepts_and_says_nothing(own_postgres: PostgresServer) -> None:
    own_postgres.pause()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(own_postgres.dsn("app", "app"), connect_timeout=2)
    own_postgres.resume()
    assert own_postgres.sql("select 1") == "1"


def test_backends_are_counted_and_ended_by_user(own_postgres: PostgresServer) -> None:
    with psycopg.connect(own_postgres.dsn("app", "app")) as ours, psycopg.connect(own_postgres.dsn("legacy", "app")):
        assert (own_postgres.backends(), own_postgres.backends(user="app")) == (2, 1)
        assert own_postgres.terminate_backends(user="app") == 1
        with pytest.raises(psycopg.OperationalError):
            ours.execute("select 1")


def test_a_setting_that_postgres_refuses_is_told(own_postgres: PostgresServer) -> None:
    own_postgres.settings["nonsense"] = "1"
    with pytest.raises(ProcessFailed, match='unrecognized configuration parameter "nonsense"'):
        own_postgres.restart()


def test_a_server_leaves_no_folder_behind() -> None:
    with PostgresServer() as server:
        assert server.data_dir is not None
        assert server.socket_dir is not None
        folders = [server.data_dir, server.socket_dir]
        assert all(folder.exists() for folder in folders)
    assert not any(folder.exists() for folder in folders)


def test_a_child_ends_when_the_one_who_started_it_is_killed() -> None:
    script = (
        "import sys; from pgpool_core.testing import GuardedProcess\n"
        "from pgpool_core.testing.account import service_account\n"
        "child = GuardedProcess(['sleep', '600'], account=service_account())\n"
        "print(child.pid, flush=True); sys.stdin.read()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    try:
        assert select.select([child], [], [], 10)[0], "the child outlived its parent by 10 s"
    finally:
        os.close(child)


def test_a_child_that_ends_early_says_why() -> None:
    child = GuardedProcess(["sh", "-c", "echo oh no; exit 3"], account=service_account())
    with pytest.raises(ProcessFailed, match="oh no"):
        child.wait_for_log("never said")
    assert child.wait() == 3


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("user", ["app", "legacy", "plain", "trusted"])
def test_pgbouncer_serves_every_user(pgbouncer: PoolerFactory, user: str, database: str) -> None:
    bouncer = pgbouncer(default_pool_size=1)
    for unix in (False, True):
        with psycopg.connect(bouncer.url(user, database, unix=unix)) as connection:
            assert connection.execute("select current_user").fetchone() == (user,)
    bouncer.wait_for_log(f"{database}/{user}@")


def test_every_target_answers(target: Target) -> None:
    with psycopg.connect(target.url("app", "app")) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)
    assert (target.pooler is None) == target.is_direct
