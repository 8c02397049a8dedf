"""Replication through the pooler: PostgreSQL's own programs, a driver, a subscription, and everything about limits."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import psycopg2.extras
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser
from tests.conftest import PASSWORDS as EVERYBODY
from tests.conftest import USERS, PoolerFactory, in_front_of
from tests.console import Console
from tests.programs import of_postgres
from tests.watching import until

STANDBY = PostgresUser(name="standby", password="standby-secret", options="superuser replication")
PASSWORDS = {**EVERYBODY, STANDBY.name: STANDBY.password}
WALSENDERS = "select count(*) from pg_stat_activity where backend_type = 'walsender'"
WAL_SEGMENT_LEN = 16 * 2**20
pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def source() -> Iterator[PostgresServer]:
    """A server that may be replicated; `app` has the table `copied(x int)`, published as `everything`."""
    settings = {
        "wal_level": "logical",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
        "synchronous_commit": "on",
    }
    with PostgresServer(users=(*USERS, STANDBY), databases=("app", "other"), owner="app", settings=settings) as server:
        server.sql(
            "create table copied(x int primary key); create publication everything for table copied", database="app"
        )
        server.sql("create table copied(x int primary key)", database="other")
        yield server


@pytest.fixture(scope="module", params=["session", "transaction", "statement"])
def front(request: pytest.FixtureRequest, source: PostgresServer) -> Iterator[PoolerProcess]:
    """A pooler in each mode."""
    with in_front_of(source, "pgpool_core", passwords=PASSWORDS, pool_mode=request.param) as process:
        yield process
        process.close()


def start(pooler: PoolerFactory, source: PostgresServer, **settings: object) -> PoolerProcess:
    return pooler(server=source, passwords=PASSWORDS, **settings)


def url(front: PoolerProcess, user: str = "standby", database: str = "app", **parameters: str) -> str:
    more = "&".join(f"{name}={value}" for name, value in parameters.items())
    return front.url(user, database, password=PASSWORDS[user]) + ("?" + more if more else "")


def program(source: PostgresServer, name: str, *arguments: str | Path) -> str:
    """What one of PostgreSQL's programs printed; it must have succeeded."""
    return of_postgres(source, name, *arguments).stdout


def psql(source: PostgresServer, where: str, command: str) -> str:
    return program(source, "psql", "-XAtc", command, where).strip()


def wal_end(source: PostgresServer) -> str:
    return source.sql("select pg_current_wal_lsn()")


def nobody_replicates(source: PostgresServer) -> None:
    until(lambda: source.sql(WALSENDERS) == "0", what="no walsender is left")


def streaming(front: PoolerProcess) -> psycopg2.extras.LogicalReplicationConnection:
    """A driver's connection that can stream."""
    return psycopg2.connect(url(front), connection_factory=psycopg2.extras.LogicalReplicationConnection)


@pytest.fixture
def slot(source: PostgresServer) -> Iterator[str]:
    """A logical slot of `app` that nobody uses when it is dropped."""
    source.sql("select pg_create_logical_replication_slot('watched', 'test_decoding')", database="app")
    yield "watched"
    until(lambda: source.sql("select active from pg_replication_slots where slot_name = 'watched'") == "f")
    source.sql("select pg_drop_replication_slot('watched')")


@pytest.mark.parametrize("how", ["database", "true", "on", "YES", "1", "t"])
def test_psql_identifies_the_system(source: PostgresServer, front: PoolerProcess, how: str) -> None:
    direct = psql(source, source.dsn("standby", "app") + f"?replication={how}", "IDENTIFY_SYSTEM").split("|")
    through = psql(source, url(front, replication=how), "IDENTIFY_SYSTEM").split("|")
    assert through[:2] == direct[:2]
    assert through[3] == direct[3] == ("app" if how == "database" else "")
    nobody_replicates(source)


@pytest.mark.parametrize("how", ["false", "off", "no", "0"])
def test_a_client_that_says_no_is_like_any_other(source: PostgresServer, front: PoolerProcess, how: str) -> None:
    assert psql(source, url(front, "app", replication=how), "select 1") == "1"
    kind = psql(
        source,
        url(front, "app", replication=how),
        "select backend_type from pg_stat_activity where pid = pg_backend_pid()",
    )
    assert kind == "client backend"


def test_a_base_backup_with_its_wal(source: PostgresServer, front: PoolerProcess, tmp_path: Path) -> None:
    """Two connections at once: one streams WAL while the other copies files."""
    program(source, "pg_basebackup", "-d", url(front), "-D", tmp_path / "copy", "-X", "stream", "-c", "fast")
    program(source, "pg_verifybackup", tmp_path / "copy")
    nobody_replicates(source)


def test_received_wal_is_the_servers_own(source: PostgresServer, front: PoolerProcess, tmp_path: Path) -> None:
    receive = ("pg_receivewal", "-d", url(front), "-D", tmp_path, "--slot", "archive", "--no-loop")
    program(source, *receive, "--create-slot")
    try:
        begin = source.sql("select restart_lsn from pg_replication_slots where slot_name = 'archive'") or wal_end(
            source
        )
        source.sql("select pg_logical_emit_message(false, 'test', repeat('wal ', 100000)); select pg_switch_wal()")
        source.sql("select pg_logical_emit_message(false, 'test', 'in the next segment')")
        program(source, *receive, "--endpos", wal_end(source))
        name = source.sql(f"select pg_walfile_name('{begin}')")
        whole = sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size == WAL_SEGMENT_LEN)
        assert whole
        assert source.data_dir is not None
        for path in tmp_path.iterdir():
            if path.suffix != ".partial":
                assert path.name >= name
                assert path.read_bytes() == (source.data_dir / "pg_wal" / path.name).read_bytes()
    finally:
        nobody_replicates(source)
        source.sql("select pg_drop_replication_slot('archive')")


def test_decoded_changes_by_pg_recvlogical(source: PostgresServer, front: PoolerProcess) -> None:
    where = ("pg_recvlogical", "-d", url(front), "--slot", "decoded", "--no-loop")
    program(source, *where, "--create-slot", "-P", "test_decoding")
    source.sql("insert into copied values (1001), (1002); delete from copied where x > 1000", database="app")
    said = program(source, *where, "--start", "--endpos", wal_end(source), "-f", "-")
    assert [line for line in said.splitlines() if "INSERT" in line] == [
        f"table public.copied: INSERT: x[integer]:{x}" for x in (1001, 1002)
    ]
    program(source, *where, "--drop-slot")
    nobody_replicates(source)


def test_a_driver_streams_and_breaks_off(source: PostgresServer, front: PoolerProcess, slot: str) -> None:
    """Both ends send at any time: changes one way, feedback the other. Its end is a Terminate in mid-stream."""
    with contextlib.closing(streaming(front)) as connection, connection.cursor() as cursor:
        cursor.start_replication(slot_name=slot, decode=True, options={"include-xids": "0"})
        for x in (1, 2, 3):
            source.sql(f"begin; insert into copied values ({x}); delete from copied; commit", database="app")
            seen: list[str] = []
            while len(seen) < 4:
                message = until(cursor.read_message)
                seen.append(message.payload)
                cursor.send_feedback(flush_lsn=message.data_start, reply=True)
            told = [f"table public.copied: {what}: x[integer]:{x}" for what in ("INSERT", "DELETE")]
            assert seen == ["BEGIN", *told, "COMMIT"]
        connection.close()
        nobody_replicates(source)


def test_who_replicates_is_no_idle_server_that_makes_room(
    source: PostgresServer, pooler: PoolerFactory, slot: str
) -> None:
    """The statement names the database; PostgreSQL refuses it at once."""
    place = start(pooler, source)
    with contextlib.closing(streaming(place)) as connection, connection.cursor() as cursor:
        cursor.start_replication(slot_name=slot, decode=True)
        other = psycopg.connect(url(place, database="other"), autocommit=True)
        with other, pytest.raises(psycopg.errors.DuplicateDatabase):
            other.execute("create database app template template0")
        source.sql("insert into copied values (1); delete from copied", database="app")
        assert until(cursor.read_message).payload.startswith("BEGIN")
    nobody_replicates(source)


def test_a_subscription(source: PostgresServer, front: PoolerProcess) -> None:
    """Its walreceiver passes `options`, and copies each table over a connection of its own."""
    source.sql("insert into copied select generate_series(1, 100)", database="app")
    source.sql("select pg_create_logical_replication_slot('subscribed', 'pgoutput')", database="app")
    password = STANDBY.password
    conninfo = f"host={front.host} port={front.port} user=standby dbname=app password={password}"
    source.sql(
        f"create subscription copies connection '{conninfo}' publication everything"
        " with (create_slot = false, slot_name = 'subscribed')",
        database="other",
    )
    try:
        until(lambda: source.sql("select count(*) from copied", database="other") == "100", patience_s=30)
        source.sql("insert into copied values (101)", database="app")
        until(lambda: source.sql("select max(x) from copied", database="other") == "101", patience_s=30)
    finally:
        source.sql("drop subscription copies", database="other")  # and the slot with it, over another connection
        source.sql("truncate copied", database="app")
        source.sql("truncate copied", database="other")
    nobody_replicates(source)


def test_startup_parameters_reach_the_server_as_they_are(source: PostgresServer, front: PoolerProcess) -> None:
    """Such as no pooled client may use; the client is greeted by that very server."""
    where = url(
        front, replication="database", options="-c%20work_mem%3D7MB", application_name="mine", client_encoding="LATIN1"
    )
    shown = "select current_setting('work_mem'), current_setting('application_name'), pg_backend_pid()"
    with psycopg.connect(where, autocommit=True, cursor_factory=psycopg.ClientCursor) as client:
        assert client.info.parameter_status("client_encoding") == "LATIN1"
        assert client.info.parameter_status("application_name") == "mine"
        assert client.info.parameter_status("pgbouncer.pool_mode") == "session"
        row = client.execute(shown).fetchone()
        assert row is not None
        assert row[:2] == ("7MB", "mine")
        other = psql(source, url(front, replication="database"), shown).split("|")
        assert other[:2] == ["4MB", "psql"]
        assert client.execute(shown).fetchone() == row
    nobody_replicates(source)


def test_the_console_tells_who_replicates(source: PostgresServer, front: PoolerProcess) -> None:
    with Console(front) as console:
        for how, word in (("true", "physical"), ("database", "logical")):
            with psycopg.connect(url(front, replication=how), autocommit=True, cursor_factory=psycopg.ClientCursor):
                rows = console.rows("SHOW SERVERS")
                mine = [row for row in rows if row["replication"] != "none"]
                clients = [row for row in console.rows("SHOW CLIENTS") if row["user"] == "standby"]
                assert [(row["replication"], row["state"]) for row in (*mine, *clients)] == [(word, "active")] * 2
                assert mine[0]["link"] == clients[0]["ptr"]
                assert clients[0]["link"] == mine[0]["ptr"]
                assert console.pool("standby")["sv_active"] == 1
            until(lambda: not [row for row in console.rows("SHOW SERVERS") if row["replication"] != "none"])


def test_a_query_of_a_logical_client_can_be_cancelled(source: PostgresServer, front: PoolerProcess) -> None:
    where = url(front, replication="database")
    with psycopg.connect(where, autocommit=True, cursor_factory=psycopg.ClientCursor) as client:
        client.execute("set statement_timeout = 0")
        asleep = "select count(*) from pg_stat_activity where backend_type = 'walsender' and wait_event = 'PgSleep'"

        def cancel() -> None:
            until(lambda: source.sql(asleep) == "1")
            client.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(60)")
        thread.join()
        assert client.execute("select 1").fetchone() == (1,)


def ordinary(front: PoolerProcess) -> psycopg.Connection[Any]:
    return psycopg.connect(url(front), autocommit=True)


def replicating(front: PoolerProcess, **more: str) -> psycopg.Connection[Any]:
    where = url(front, replication="database", **more)
    return psycopg.connect(where, autocommit=True, cursor_factory=psycopg.ClientCursor)


@pytest.mark.parametrize(
    "limits",
    [{"default_pool_size": 1}, {"max_db_connections": 1}, {"max_user_connections": 1}],
    ids=lambda limits: next(iter(limits)),
)
def test_it_counts_against_every_limit(
    pooler: PoolerFactory, source: PostgresServer, limits: Mapping[str, int]
) -> None:
    front = start(pooler, source, **limits)
    backends = "select count(*) from pg_stat_activity where usename = 'standby'"
    with Console(front) as console, ordinary(front) as client:
        client.execute("select 1")  # leaves an idle server, which has to go
        with replicating(front) as first:
            assert source.sql(backends) == "1"
            waiting = subprocess.Popen(
                [source.binaries.program("psql"), "-XAtc", "select 'second'", url(front, replication="database")],
                stdout=subprocess.PIPE,
            )
            until(lambda: console.waiting("standby") == 1)
            assert first.execute("select 1").fetchone() == (1,)
            assert source.sql(backends) == "1"
        said, _ = waiting.communicate(timeout=20)
        assert said.strip() == b"second"
        assert client.execute("select 1").fetchone() == (1,)


def test_who_waits_is_served_when_a_busy_server_is_released(pooler: PoolerFactory, source: PostgresServer) -> None:
    front = start(pooler, source, default_pool_size=1)
    with Console(front) as console, ordinary(front) as client:
        client.execute("begin")
        waiting = subprocess.Popen(
            [source.binaries.program("psql"), "-XAtc", "select 'mine'", url(front, replication="database")],
            stdout=subprocess.PIPE,
        )
        until(lambda: console.waiting("standby") == 1)
        client.execute("commit")
        said, _ = waiting.communicate(timeout=20)
        assert said.strip() == b"mine"
        assert client.execute("select 1").fetchone() == (1,)


def test_a_refused_client_disturbs_nobody(pooler: PoolerFactory, source: PostgresServer) -> None:
    front = start(pooler, source)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match="must be superuser or replication role to start walsender"):
            psycopg.connect(url(front, "app", replication="true"))
        with psycopg.connect(url(front, "app")) as client:
            assert client.execute("select 1").fetchone() == (1,)


def test_what_is_refused_before_a_server_is_asked(pooler: PoolerFactory, source: PostgresServer) -> None:
    front = start(pooler, source, databases={"app": f"host={source.host} port={source.port}"})
    with pytest.raises(psycopg.OperationalError, match='invalid value for parameter "replication": "maybe"'):
        psycopg.connect(url(front, replication="maybe"))
    with pytest.raises(psycopg.OperationalError, match="the console takes no replication connections"):
        psycopg.connect(url(front, "admin", "pgbouncer", replication="true"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(front.url("standby", "app", password="wrong") + "?replication=true")
    with pytest.raises(psycopg.OperationalError, match=r"(?s)no such database: replication.*named replication, or"):
        psycopg.connect(url(front, database="replication", replication="true"))
    assert source.sql(WALSENDERS) == "0"


def test_a_moved_database_sends_its_replication_clients_away(pooler: PoolerFactory, source: PostgresServer) -> None:
    entry = f"host={source.host} port={source.port}"
    front = start(pooler, source, databases={"app": entry})
    with replicating(front) as client, Console(front) as console:
        client.execute("select 1")
        front.databases = {"app": f"{entry} dbname=other"}
        front.write()
        console.run("RELOAD")
        with pytest.raises(psycopg.OperationalError, match="database configuration changed"):
            until(lambda: client.execute("select 1").fetchone() != (1,))
        with replicating(front) as again:
            assert again.execute("select current_database()").fetchone() == ("other",)
