"""Lines of the log that alerts and shippers look for, in the original's words."""

from __future__ import annotations

import re
import socket
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer, frontend
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.programs import pgbouncer_before

LINE = r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC \[\d+\] "
CLIENT = r"C-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ "
SERVER = r"S-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ "
WANTED = (
    r"LOG kernel file descriptor limit: \d+ \(hard: \d+\); max_client_conn: \d+, max expected fd use: \d+",
    r"LOG listening on 127\.0\.0\.1:\d+$",
    r"LOG listening on unix:/tmp/\S+/\.s\.PGSQL\.\d+$",
    r"LOG process up: PgBouncer 1\.\d+\.\d+",
    f"LOG {CLIENT}login attempt: db=app user=app tls=no( replication=no)?",
    f"LOG {SERVER}new connection to server",
    rf"LOG {CLIENT}closing because: client close request \(age=\d+s\)",
    r"LOG stats: \d+ xacts/s, \d+ queries/s, .*in \d+ B/s, out \d+ B/s, xact \d+ us, query \d+ us, wait \d+ us",
    r"LOG got SIGHUP, re-reading config",
    r"LOG got SIGUSR1, pausing all activity",
    r"LOG got SIGUSR2, continuing",
    r"LOG got SIGINT, shutting down",
)


def test_lines_are_as_they_were(any_pooler: PoolerFactory) -> None:
    """Of the start, of one client, of a period of statistics, of signals."""
    process = any_pooler(stats_period=1)
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
    process.wait_for_log("closing because: client close request")
    process.wait_for_log("LOG stats: ")
    for number in (SIGHUP, SIGUSR1, SIGUSR2, SIGINT):
        process.process.signal(number)
        process.wait_for_log(f"got {number.name}")
    process.process.wait()
    missing = [pattern for pattern in WANTED if not re.search(LINE + pattern, process.log)]
    assert missing == [], process.log


def use(process: PoolerProcess) -> None:
    """Have a server opened, and leave it idle."""
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")


def test_why_an_idle_server_is_closed_is_told(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    with psycopg.connect(process.url("admin", "pgbouncer"), autocommit=True) as console:
        for orders, reason in (
            (("PAUSE", "RESUME"), "pause mode"),
            (("RECONNECT",), "database configuration changed"),
            (("SET server_idle_timeout = '0.2'",), "server idle timeout"),
            (("SET server_idle_timeout = 0", "SET server_lifetime = '0.2'"), "server lifetime over"),
        ):
            use(process)
            for order in orders:
                console.execute(order)
            process.wait_for_log(rf"LOG {SERVER}closing because: {reason} \(age=\d+s\)")
        console.execute("SET server_lifetime = 3600")
        use(process)
    process.process.signal(SIGTERM)
    process.process.wait()
    assert "database removed" not in process.log


def test_who_is_sent_away_is_named_with_the_database_that_was_asked_for(
    any_pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    process = any_pooler(databases={"app": f"host={postgres.host} port={postgres.port}"})
    for user, database, password, said in (
        ("app", "app", "wrong", r".*authentication failed\b.*"),
        ("app", "nowhere", None, "no such database: nowhere"),
        ("app", "pgbouncer", None, "not allowed"),
    ):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(process.url(user, database, password=password))
        # PgBouncer knows no name for a database that it does not have
        who = rf"C-0x[0-9a-f]+: ({database}|\(nodb\))/{user}@127\.0\.0\.1:\d+ "
        process.wait_for_log(rf"WARNING {who}pooler error: {said}$")
        process.wait_for_log(rf"LOG {who}closing because: {said} \(age=\d+s\)")
    psycopg.connect(process.url("admin", "pgbouncer")).close()
    process.wait_for_log(r"LOG C-0x[0-9a-f]+: pgbouncer/admin@127\.0\.0\.1:\d+ closing because: client close request")
    psycopg.connect(process.url("app", "app", unix=True)).close()
    process.wait_for_log(
        rf"LOG C-0x[0-9a-f]+: app/app@unix\(\d+\):{process.port} closing because: client close request"
    )


def test_who_only_looks_whether_somebody_is_there_is_no_line(any_pooler: PoolerFactory) -> None:
    """Balancers do every other second, and psql hangs up to ask for a password."""
    process = any_pooler(tcp_defer_accept=0)
    place = process.host, process.port
    socket.create_connection(place).close()
    with socket.create_connection(place) as asker:
        asker.sendall(frontend.ssl_request())
        assert asker.recv(1) == b"N"
    with socket.create_connection(place) as caller:
        caller.sendall(frontend.startup("app", "app"))
        assert caller.recv(1) == b"R"
    use(process)
    process.wait_for_log("closing because: client close request")
    assert "client unexpected eof" not in process.log


def test_who_breaks_off_in_the_middle_of_its_first_packet_is_told_of(pooler: PoolerFactory) -> None:
    process = pooler()
    with socket.create_connection((process.host, process.port)) as torn:
        torn.sendall(b"\0\0")
    who = r"C-0x[0-9a-f]+: \(nodb\)/\(nouser\)@127\.0\.0\.1:\d+ "
    process.wait_for_log(f"LOG {who}closing because: client unexpected eof")


@pytest.mark.parametrize("limit", ["max_db_connections", "max_user_connections"])
def test_for_which_limit_an_idle_server_is_closed_is_told(any_pooler: PoolerFactory, limit: str) -> None:
    process = any_pooler(**{limit: 1})
    use(process)
    user, database = ("legacy", "app") if limit == "max_db_connections" else ("app", "other")
    with psycopg.connect(process.url(user, database)) as client:
        client.execute("select 1")
    newest = process.kind == "pgpool_core" or not pgbouncer_before(1, 26)
    process.wait_for_log(f"{SERVER}closing because: evicted{f' for {limit}' if newest else ''} ")


def test_a_reload_by_the_console_is_told(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    with Console(process) as console:
        assert console.run("RELOAD") == "RELOAD"
    process.wait_for_log("LOG RELOAD command issued$")
