"""Settings whose effect no other test is about, each seen from outside; where every setting's test is, says tests/unit/test_config_effects.py."""

from __future__ import annotations

import grp
import os
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer, free_port
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.integration.test_process import spawn_with
from tests.integration.test_tcp_settings import options
from tests.watching import PATIENCE_S, until


def client_of(process: PoolerProcess, user: str = "app", database: str = "app") -> psycopg.Connection:
    return psycopg.connect(process.url(user, database), autocommit=True)


@pytest.mark.parametrize("mode", ["0600", "0770"])
def test_the_unix_socket_has_its_mode_and_group(pooler: PoolerFactory, mode: str) -> None:
    own = os.getgroups() or [os.getegid()]
    group = grp.getgrgid(own[-1])
    process = pooler(unix_socket_mode=mode, unix_socket_group=group.gr_name)
    found = os.stat(process.unix_dir / f".s.PGSQL.{process.port}")
    assert oct(stat.S_IMODE(found.st_mode)) == oct(int(mode, 8))
    assert found.st_gid == group.gr_gid


def test_the_log_tells_of_connections_ends_and_errors_as_it_is_told(pooler: PoolerFactory) -> None:
    """Off at first: what comes after the reload is logged, so what came before would have been too."""
    process = pooler(log_connections=0, log_disconnections=0, log_pooler_errors=0, max_client_conn=1)

    def once(user: str) -> None:
        with client_of(process, user), pytest.raises(psycopg.OperationalError, match="max_client_conn"):
            client_of(process, user)

    once("app")
    process.settings |= {"log_connections": 1, "log_disconnections": 1, "log_pooler_errors": 1}
    with Console(process) as console:
        process.write()
        console.run("RELOAD")
    once("legacy")
    for what in (
        "login attempt: db=app user=legacy",
        "new connection to server",
        "closing because",
        "pooler error: no more",
    ):
        process.wait_for_log(what)
    before = process.log.partition("configuration reloaded")[0]
    for what in ("login attempt", "new connection to server", "closing because", "pooler error"):
        assert what not in before
    assert "login attempt: db=app user=app" not in process.log


@pytest.mark.parametrize("wanted", [0, 1])
def test_the_line_of_statistics_is_written_where_it_is_wanted(pooler: PoolerFactory, wanted: int) -> None:
    process = pooler(log_stats=wanted, stats_period=0.2)
    with client_of(process) as client, Console(process) as console:

        def a_period_is_over() -> bool:
            client.execute("select 1")
            return any(row["database"] == "app" and int(row["avg_query_count"]) for row in console.rows("SHOW STATS"))

        until(a_period_is_over)
        if wanted:
            process.wait_for_log("stats: ")
        else:
            assert "stats: " not in process.log


def test_a_shorter_stats_period_does_not_wait_for_the_end_of_the_longer_one(pooler: PoolerFactory) -> None:
    process = pooler(stats_period=3600)
    with Console(process) as console:
        console.run("SET stats_period = '0.2'")
        process.wait_for_log("LOG stats: ")


@pytest.mark.parametrize("before", ["0", "60"])
def test_a_new_client_login_timeout_is_also_that_of_clients_that_log_in_already(
    pooler: PoolerFactory, before: str
) -> None:
    """One has said nothing, one waits for a server that is not there."""
    process = pooler(databases={"app": f"host=127.0.0.1 port={free_port()}"}, client_login_timeout=before)
    with (
        Console(process) as console,
        ThreadPoolExecutor(1) as aside,
        socket.create_connection((process.host, process.port), timeout=PATIENCE_S) as silent,
    ):
        waits = aside.submit(psycopg.connect, process.url("app", "app"), connect_timeout=int(PATIENCE_S))
        until(lambda: console.waiting() and console.lists()["login_clients"])
        console.run("SET client_login_timeout = '0.1'")
        assert b"client_login_timeout" in silent.recv(1000)
        with pytest.raises(psycopg.OperationalError, match=r"client_login_timeout \(server down\)"):
            waits.result(timeout=PATIENCE_S)


def test_stats_users_may_look_and_nothing_else(pooler: PoolerFactory) -> None:
    process = pooler(stats_users="stats, legacy")
    for user in ("stats", "legacy"):
        with Console(process, user) as console:
            assert console.rows("SHOW POOLS")
            with pytest.raises(psycopg.Error, match="admin access needed"):
                console.run("PAUSE")
    with pytest.raises(psycopg.OperationalError, match="not allowed"):
        Console(process, "app")


def test_keepalive_is_set_on_both_sides(pooler: PoolerFactory) -> None:
    process = pooler(tcp_keepalive=1, tcp_keepidle=71, tcp_keepintvl=72, tcp_keepcnt=3, pool_mode="session")
    with client_of(process) as client:
        client.execute("select 1")
        for option, value in (
            (socket.TCP_KEEPIDLE, 71),
            (socket.TCP_KEEPINTVL, 72),
            (socket.TCP_KEEPCNT, 3),
        ):
            seen = options(process, socket.IPPROTO_TCP, option)
            assert (seen["client"], seen["server"]) == (value, value)
        seen = options(process, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert (seen["client"], seen["server"]) == (1, 1)


def test_who_has_come_before_the_process_has_the_options_too(pooler: PoolerFactory) -> None:
    """On a socket of systemd, whose clients wait until we are there."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        process = pooler(start=False, tcp_keepidle=71)
        process.port = listener.getsockname()[1]
        process.command = (sys.executable, "-c", ACTIVATE, str(listener.fileno()), *process.command)
        spawn_with(process, listener)
        process.wait_for_log("process up")
        until(lambda: "client" in options(process, socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 71),
        ):
            until(lambda at=(level, option), wanted=value: options(process, *at)["client"] == wanted)  # type: ignore[misc]


ACTIVATE = """
import os, sys
listener, *command = sys.argv[1:]
os.dup2(os.dup2(int(listener), 100), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(command[0], command)
"""


def test_without_keepalive_there_is_none(pooler: PoolerFactory) -> None:
    process = pooler(tcp_keepalive=0, pool_mode="session")
    with client_of(process) as client:
        client.execute("select 1")
        seen = options(process, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert (seen["client"], seen["server"]) == (0, 0)


def test_a_server_is_checked_before_reuse_with_the_query_that_is_named(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """The check notifies us; a delay of 0 means before each use but the first."""
    process = pooler(server_check_query="notify checked_by_the_pooler", server_check_delay=0, default_pool_size=1)
    with psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as listener, client_of(process) as client:
        listener.execute("listen checked_by_the_pooler")
        for _ in range(3):
            client.execute("select 1")
        seen: list[str] = []
        while len(seen) < 2:
            seen += [notify.payload for notify in listener.notifies(timeout=10, stop_after=1)]
        assert set(seen) == {""}


def test_a_server_that_has_just_been_used_is_not_checked(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    process = pooler(server_check_query="notify checked_in_vain", server_check_delay=1000, default_pool_size=1)
    with psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as listener, client_of(process) as client:
        listener.execute("listen checked_in_vain")
        for _ in range(3):
            client.execute("select 1")
        client.execute("notify checked_in_vain, 'the end'")
        seen = [notify.payload for notify in listener.notifies(timeout=10, stop_after=1)]
        assert seen == ["the end"]


def test_what_an_entry_says_of_its_servers_their_clients_have(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    at = f"host={postgres.host} port={postgres.port} dbname=other"
    shown = {"client_encoding": "LATIN1", "datestyle": "German", "timezone": "Asia/Tokyo", "application_name": "entry"}
    process = pooler(databases={"app": f"{at} " + " ".join(f"{name}={value}" for name, value in shown.items())})
    with client_of(process) as client:
        assert client.execute("select current_database()").fetchone() == ("other",)
        for name, value in shown.items():
            row = client.execute(f"show {name}".encode()).fetchone()
            assert row is not None
            assert row[0].startswith(value), name


def test_names_of_hosts_are_remembered_for_as_long_as_is_said(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    databases = {"app": f"host=localhost port={postgres.port}", "gone": f"host=nobody.invalid port={postgres.port}"}
    times = {"dns_max_ttl": 5000, "dns_nxdomain_ttl": 700, "server_login_retry": 1, "client_login_timeout": 1}
    process = pooler(databases=databases, **times)
    with Console(process) as console, client_of(process):
        with pytest.raises(psycopg.OperationalError, match="DNS lookup failed"):
            client_of(process, database="gone")
        left = {row["hostname"]: int(row["ttl"]) for row in console.rows("SHOW DNS_HOSTS")}
        assert 4000 < left["localhost"] <= 5000
        assert 600 < left["nobody.invalid"] <= 700


def test_so_many_servers_are_opened_at_once(pooler: PoolerFactory) -> None:
    """A server that lets everybody connect and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=32) as silent:
        process = pooler(
            databases={"app": f"host=127.0.0.1 port={silent.getsockname()[1]} user=app password=x"},
            auth_type="any",
            server_connect_parallel=3,
            default_pool_size=10,
            min_pool_size=8,
        )
        with Console(process) as console:
            until(lambda: console.pool()["sv_login"] == 3)
            for _ in range(20):  # the pool wants 8 from the start
                assert console.pool()["sv_login"] == 3
