"""The console of the database `pgbouncer`, read with the tools that operators have."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import psycopg
import psycopg2
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer, frontend
from tests.conftest import PoolerFactory, in_front_of
from tests.console import Console
from tests.peers import letters, logged_in
from tests.programs import of_postgres, pgbouncer_before
from tests.watching import until

SHOWS = (
    *("POOLS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "CLIENTS", "SERVERS"),
    *("DATABASES", "USERS", "LISTS", "CONFIG", "VERSION", "STATE"),
)
# The columns that dashboards and exporters read by name, in PgBouncer since 1.12 and later.
READ_BY_TOOLS = {
    "POOLS": {"database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_tested", "maxwait"},
    "STATS": {"database", "total_xact_count", "total_query_count", "total_received", "total_sent", "avg_query_time"},
    "CLIENTS": {"type", "user", "database", "state", "addr", "port", "connect_time", "request_time", "link"},
    "SERVERS": {"type", "user", "database", "state", "addr", "port", "connect_time", "request_time", "remote_pid"},
    "DATABASES": {"name", "host", "port", "database", "force_user", "pool_size", "current_connections"},
    "LISTS": {"list", "items"},
    "CONFIG": {"key", "value", "default", "changeable"},
}


@contextlib.contextmanager
def clients_of(process: PoolerProcess) -> Iterator[None]:
    """One in a transaction and one that is idle, so that there are clients and servers to be shown."""
    with (
        psycopg.connect(process.url("app", "app"), application_name="reader") as one,
        psycopg.connect(process.url("legacy", "other"), autocommit=True) as two,
    ):
        one.execute("select 1")
        two.execute("select 1")
        yield


@pytest.fixture
def place(pooler: PoolerFactory) -> Iterator[PoolerProcess]:
    """A pooler with a client of each kind and a server, and nobody else."""
    process = pooler(default_pool_size=2)
    with clients_of(process):
        yield process


@pytest.fixture(scope="module")
def shown(postgres: PostgresServer) -> Iterator[PoolerProcess]:
    """The same for tests that only look, and not at each other."""
    with in_front_of(postgres, "pgpool_core", default_pool_size=2) as process:
        with clients_of(process):
            yield process
        assert process.stop() == 0, process.log[-4000:]


@pytest.mark.parametrize("what", SHOWS)
def test_psql_reads_every_show(shown: PoolerProcess, postgres: PostgresServer, what: str) -> None:
    command = f"show {what.lower()};"
    done = of_postgres(postgres, "psql", "-Xv", "ON_ERROR_STOP=1", shown.url("admin", "pgbouncer"), "-c", command)
    assert done.stderr == ""
    assert "row" in done.stdout


def test_psql_reads_help_and_many_commands_at_once(shown: PoolerProcess, postgres: PostgresServer) -> None:
    script = "SHOW HELP;\nshow version;\nSHOW POOLS\\gx\n"
    done = of_postgres(postgres, "psql", "-X", shown.url("admin", "pgbouncer"), stdin=script)
    assert "Console usage" in done.stderr
    assert "PgBouncer" in done.stdout
    assert "cl_active" in done.stdout


def test_servers_have_the_name_of_the_application_that_used_them(place: PoolerProcess) -> None:
    with Console(place) as console:
        names = {row["database"]: row["application_name"] for row in console.rows("SHOW SERVERS")}
    assert names == {"app": "reader", "other": ""}


def test_a_server_is_shown_until_postgresql_has_closed_it(pooler: PoolerFactory, own_postgres: PostgresServer) -> None:
    process = pooler(server=own_postgres, server_idle_timeout=1)
    with psycopg.connect(process.url("app", "app"), autocommit=True) as client, Console(process) as console:
        row = client.execute("select pg_backend_pid()").fetchone()
        assert row
        own_postgres.pause()
        try:
            until(lambda: [r["state"] for r in console.rows("SHOW SERVERS")] == ["closing"])
            assert [r["remote_pid"] for r in console.rows("SHOW SERVERS")] == list(row)
            assert {r["name"]: r["current_connections"] for r in console.rows("SHOW DATABASES")}["app"] == 1
        finally:
            own_postgres.resume()
        until(lambda: console.rows("SHOW SERVERS") == [])


@pytest.mark.parametrize("what", SHOWS)
def test_psycopg_reads_every_show(shown: PoolerProcess, what: str) -> None:
    with Console(shown) as console:
        rows = console.rows(f"SHOW {what}")
        assert rows
        assert set(rows[0]) >= READ_BY_TOOLS.get(what, set())


@pytest.mark.parametrize("what", SHOWS)
def test_psycopg2_reads_every_show(shown: PoolerProcess, what: str) -> None:
    connection = psycopg2.connect(shown.url("stats", "pgbouncer"))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SHOW {what};")
            assert cursor.fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("what", ["POOLS", "CLIENTS", "SERVERS", "DATABASES", "LISTS", "STATS", "TOTALS", "USERS"])
def test_columns_that_pgbouncer_has_are_ours_in_the_same_order(
    shown: PoolerProcess, pgbouncer: PoolerFactory, what: str
) -> None:
    other = pgbouncer()
    with Console(shown) as ours, Console(other) as theirs:
        names = [
            list(console.rows(f"SHOW {what}")[0]) if console.rows(f"SHOW {what}") else [] for console in (ours, theirs)
        ]
    common = [name for name in names[1] if name in names[0]]
    assert [name for name in names[0] if name in common] == common


def test_show_tells_what_is_there(place: PoolerProcess) -> None:
    with Console(place) as console:
        app, other = console.pool(), console.pool("legacy", "other")
        assert (app["cl_active"], app["sv_active"], app["pool_mode"]) == (1, 1, "transaction")  # in a transaction
        assert (other["cl_active"], other["sv_idle"], other["sv_active"]) == (1, 1, 0)
        clients = {row["user"]: row for row in console.rows("SHOW CLIENTS")}
        assert clients.keys() == {"app", "legacy", "admin"}
        assert clients["app"]["application_name"] == "reader"
        servers = {row["user"]: row for row in console.rows("SHOW SERVERS")}
        assert (servers["app"]["state"], servers["legacy"]["state"]) == ("active", "idle")
        assert clients["app"]["link"] == servers["app"]["ptr"]
        assert servers["app"]["link"] == clients["app"]["ptr"]
        assert console.lists()["used_servers"] == 2


def test_the_record_of_a_client_takes_half_a_kilobyte(place: PoolerProcess) -> None:
    """It is all that an idle client costs the process, so whoever makes it longer is to know."""
    with Console(place) as console:
        [row] = [row for row in console.rows("SHOW MEM") if row["name"] == "client_cache"]
    assert 0 < row["size"] <= 500


def test_show_servers_names_the_backends_of_postgres(place: PoolerProcess, postgres: PostgresServer) -> None:
    with Console(place) as console:
        named = {row["remote_pid"] for row in console.rows("SHOW SERVERS")}
    there = postgres.sql("select pid from pg_stat_activity where usename in ('app', 'legacy')").split()
    assert named <= {int(pid) for pid in there}
    assert len(named) == 2


def test_statistics_count_what_went_through(pooler: PoolerFactory) -> None:
    process = pooler()
    with psycopg.connect(process.url("app", "app")) as connection:
        for _ in range(5):
            connection.execute("select 1")
            connection.execute("select repeat('x', 1000)")
            connection.commit()
        with Console(process) as console:

            def totals() -> dict[str, int]:
                rows = [row for row in console.rows("SHOW STATS") if row["database"] == "app"]
                return (
                    {name: int(value) for name, value in rows[0].items() if name.startswith("total_")} if rows else {}
                )

            assert until(lambda: totals().get("total_xact_count") == 5)
            seen = totals()
    assert seen["total_query_count"] == 5 * 4  # begin, two selects, commit
    assert seen["total_sent"] > 5000
    assert seen["total_received"] > 5 * 50


def test_logins_to_the_console_are_counted(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    if process.kind == "pgbouncer" and pgbouncer_before(1, 26):
        pytest.skip("PgBouncer counts logins since 1.26")
    with Console(process) as console:
        for _ in range(3):
            Console(process).close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(process.url("admin", "pgbouncer", password="wrong"))
        (found,) = [row for row in console.rows("SHOW STATS_TOTALS") if row["database"] == "pgbouncer"]
        assert found["client_login_count"] == 4


def test_clients_without_a_server_are_idle_those_of_the_console_too(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    if process.kind == "pgbouncer" and pgbouncer_before(1, 25):
        pytest.skip("PgBouncer tells who is idle since 1.25")
    with Console(process) as console, psycopg.connect(process.url("app", "app"), autocommit=True) as client:
        client.execute("select 1")
        with psycopg.connect(process.url("app", "app")) as holder:
            holder.execute("select 1")
            states = sorted((row["database"], row["state"]) for row in console.rows("SHOW CLIENTS"))
            assert states == [("app", "active"), ("app", "idle"), ("pgbouncer", "idle")]


def test_the_console_is_called_what_the_newest_pgbouncers_is(pooler: PoolerFactory, pgbouncer: PoolerFactory) -> None:
    if pgbouncer_before(1, 26):
        pytest.skip("PgBouncer tells its version at login since 1.26")

    def told(process: PoolerProcess) -> list[str | None]:
        with psycopg.connect(process.url("admin", "pgbouncer")) as connection:
            return [connection.info.parameter_status(name) for name in ("pgbouncer.version", "server_version")]

    assert told(pooler()) == told(pgbouncer())


async def test_a_console_command_on_another_database_is_sql(pooler: PoolerFactory) -> None:
    process = pooler(databases=None)
    async with logged_in(process) as peer:
        answer = await peer.query("SHOW POOLS")
        assert letters(answer) == "EZ"
        assert answer[0].fields["C"] == "42704"  # PostgreSQL: unrecognized configuration parameter
        assert answer[0].fields["M"] == 'unrecognized configuration parameter "pools"'
        assert letters(await peer.query("RELOAD")) == "EZ"
        assert letters(await peer.query("SHUTDOWN")) == "EZ"
        assert letters(await peer.query("select 1")) == "TDCZ"


@pytest.mark.parametrize("user", ["app", "legacy"])
def test_who_is_not_an_admin_does_not_reach_the_console(any_pooler: PoolerFactory, user: str) -> None:
    process = any_pooler()
    with pytest.raises(psycopg.OperationalError, match="not allowed"):
        psycopg.connect(process.url(user, "pgbouncer"))


@pytest.mark.parametrize("user", ["admin", "stats"])
def test_the_console_asks_for_a_password_too(any_pooler: PoolerFactory, user: str) -> None:
    process = any_pooler()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(process.url(user, "pgbouncer", password="wrong"))


def test_who_may_only_look_changes_nothing(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    with Console(process, "stats") as console:
        assert console.rows("SHOW POOLS")
        for command in ("RELOAD", "SHUTDOWN"):
            with pytest.raises(psycopg.Error, match="admin access needed"):
                console.run(command)
    assert process.running


def test_an_unknown_command_is_an_error_and_no_more(any_pooler: PoolerFactory) -> None:
    with Console(any_pooler()) as console:
        for command in ("NONSENSE", "SHOW NONSENSE", "select now()", "'"):
            with pytest.raises(psycopg.Error):
                console.run(command)
        assert console.rows("SHOW VERSION")


def test_reload_applies_what_changed(any_pooler: PoolerFactory) -> None:
    process = any_pooler(default_pool_size=1)
    with Console(process) as console, psycopg.connect(process.url("app", "app")) as holder:
        holder.execute("select 1")
        process.settings["default_pool_size"] = 2
        process.write()
        assert console.run("RELOAD") == "RELOAD"
        with psycopg.connect(process.url("app", "app")) as second:
            assert second.execute("select 1").fetchone() == (1,)
        config = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
        assert config["default_pool_size"] == "2"


def test_what_is_not_set_has_no_value(any_pooler: PoolerFactory) -> None:
    with Console(any_pooler()) as console:
        config = {row["key"]: (row["value"], row["default"]) for row in console.rows("SHOW CONFIG")}
    assert (config["auth_user"], config["user"]) == ((None, None), (None, None))
    assert config["auth_hba_file"] == ("", "")


def test_a_signal_reloads_too(any_pooler: PoolerFactory) -> None:
    process = any_pooler(default_pool_size=1)
    process.passwords = {**process.passwords, "admin": "changed"}
    process.reload()

    def admitted() -> bool:
        try:
            psycopg.connect(process.url("admin", "pgbouncer")).close()
        except psycopg.OperationalError:
            return False
        return True

    until(admitted)


def test_a_reload_that_fails_changes_nothing(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=3)
    with Console(process) as console:
        process.settings["default_pool_size"] = 5
        process.ini_tail = "[pgbouncer]\nno_such_setting = 1"
        process.write()
        with pytest.raises(psycopg.Error, match="RELOAD failed"):
            console.run("RELOAD")
        config = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
        assert config["default_pool_size"] == "3"
        with psycopg.connect(process.url("app", "app")) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_a_database_that_reload_removes_sends_its_clients_away(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    process = pooler(databases={"app": at, "gone": f"{at} dbname=other"})
    with (
        Console(process) as console,
        psycopg.connect(process.url("app", "app"), autocommit=True) as stays,
        psycopg.connect(process.url("app", "gone"), autocommit=True) as goes,
    ):
        ((pid,),) = goes.execute("select pg_backend_pid()").fetchall()
        process.databases = {"app": at}
        process.write()
        console.run("RELOAD")
        with pytest.raises(psycopg.OperationalError):
            goes.execute("select 1")
        assert stays.execute("select 1").fetchone() == (1,)
        until(lambda: postgres.sql(f"select count(*) from pg_stat_activity where pid = {pid}") == "0")


def test_shutdown_ends_it(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    process = any_pooler()
    with psycopg.connect(process.url("app", "app"), autocommit=True) as connection:
        ((pid,),) = connection.execute("select pg_backend_pid()").fetchall()
        console = psycopg.connect(process.url("admin", "pgbouncer"), autocommit=True)
        try:
            console.execute("SHUTDOWN")
        except psycopg.OperationalError:
            pass  # the connection may end before the answer
        finally:
            console.close()
        assert process.process.wait() == 0
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    until(lambda: postgres.sql(f"select count(*) from pg_stat_activity where pid = {pid}") == "0")


def test_a_server_that_is_being_opened_has_a_row(any_pooler: PoolerFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        place = any_pooler(auth_type="trust", databases={"app": f"host=127.0.0.1 port={port} user=app"})
        with Console(place) as console:
            with socket.create_connection((place.host, place.port)) as client:
                client.sendall(frontend.startup("app", "app"))
                (row,) = until(lambda: console.rows("SHOW SERVERS"))
                shown = {
                    name: row[name] for name in ("type", "user", "database", "state", "addr", "port", "remote_pid")
                }
                assert shown == {
                    **{"type": "S", "user": "app", "database": "app", "state": "new"},
                    **{"addr": "127.0.0.1", "port": port, "remote_pid": 0},
                }
                assert console.lists()["used_servers"] == 1
                assert console.pool()["sv_login"] == 1
            silent.close()  # and with it what has been opened
            until(lambda: not console.rows("SHOW SERVERS"))
