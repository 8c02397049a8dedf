"""-R where PgBouncer runs: its sockets, its clients and its servers become ours, and no client notices."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from signal import SIGTERM

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.integration.test_takeover_moves import client_of, go_on, pgbench, pid_of, taken
from tests.programs import NEEDS_TAKEOVER
from tests.watching import until

pytestmark = NEEDS_TAKEOVER

ASLEEP = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(60)'"


def backends(process: PoolerProcess) -> int:
    with Console(process) as console:
        return sum(int(row["sv_active"]) + int(row["sv_idle"]) for row in console.rows("SHOW POOLS"))


def test_idle_clients_and_servers_come_with_their_settings(pgbouncer: PoolerFactory) -> None:
    process = pgbouncer(default_pool_size=3)
    with client_of(process, application_name="thinker") as client, client_of(process) as other:
        client.execute("set timezone = 'Europe/Berlin'")
        client.execute("set datestyle = 'German'")
        server = pid_of(client)
        old = process.succeed("pgpool_core")
        assert old.wait() == 0
        assert taken(process) == (2, 1)
        assert client.execute("show timezone").fetchone() == ("Europe/Berlin",)
        assert client.execute("show datestyle").fetchone() == ("German, DMY",)
        assert client.execute("show application_name").fetchone() == ("thinker",)
        assert other.execute("show timezone").fetchone() != ("Europe/Berlin",)
        assert pid_of(other) == server
        with client_of(process) as fresh:
            assert fresh.execute("select 1").fetchone() == (1,)


def test_in_mid_transaction_a_client_keeps_its_server_until_it_is_known_to_be_at_rest(pgbouncer: PoolerFactory) -> None:
    process = pgbouncer(default_pool_size=1)
    with client_of(process) as busy, client_of(process) as other:
        busy.execute("begin")
        server = pid_of(busy)
        busy.execute("create temp table left_behind (a int)")
        old = process.succeed("pgpool_core")
        assert old.wait() == 0
        assert taken(process) == (2, 1)
        assert pid_of(busy) == server
        assert busy.execute("select count(*) from left_behind").fetchone() == (0,)
        busy.execute("commit")
        assert pid_of(other) == server  # and nobody else's: there is only one
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute("select 1 from left_behind")


def test_a_query_under_way_is_answered_and_a_cancel_request_with_its_old_key_finds_it(pgbouncer: PoolerFactory) -> None:
    process = pgbouncer(default_pool_size=2)
    with client_of(process) as client:
        said: list[str | None] = []

        def sleep() -> None:
            try:
                client.execute("select pg_sleep(60)")
            except psycopg.Error as error:
                said.append(error.sqlstate)

        sleeping = threading.Thread(target=sleep)
        sleeping.start()
        with client_of(process) as looking:
            until(lambda: looking.execute(ASLEEP).fetchone() == (1,), patience_s=60)
        assert process.succeed("pgpool_core").wait() == 0
        assert taken(process)[0] == 1
        client.cancel_safe()
        sleeping.join(60)
        assert said == ["57014"]
        with Console(process) as console:
            until(lambda: not console.rows("SHOW PINS"), patience_s=60)  # it has nothing to wait for
        assert client.execute("select 1").fetchone() == (1,)


def test_where_the_new_process_cannot_start_pgbouncer_goes_on(pgbouncer: PoolerFactory) -> None:
    process = pgbouncer(default_pool_size=2)
    with client_of(process) as client, socket.create_server(("127.0.0.1", 0)) as occupied:
        client.execute("set timezone = 'Europe/Berlin'")
        old = process.process
        process.kind = "pgpool_core"
        process.settings["metrics_listen"] = f"127.0.0.1:{occupied.getsockname()[1]}"
        process.spawn("-R")
        assert process.process.wait(60) == 1
        assert "taking over from PgBouncer" in process.log
        assert client.execute("show timezone").fetchone() == ("Europe/Berlin",)
        with client_of(process) as fresh:
            assert fresh.execute("select 1").fetchone() == (1,)
        old.wait_for_log("admin disappeared when suspended, doing RESUME")
        old.stop(SIGTERM)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_under_load_no_client_sees_an_error(
    pgbouncer: PoolerFactory, postgres: PostgresServer, tmp_path: Path, workers: int
) -> None:
    """As many servers as clients: PgBouncer does not stand still while somebody waits for one."""
    process = pgbouncer(default_pool_size=6)
    with pgbench(postgres, process, tmp_path, "-M", "simple"):
        until(lambda: backends(process) == 6, patience_s=60)
        process.settings["workers"] = workers
        assert process.succeed("pgpool_core").wait() == 0
        assert taken(process) == (6, 6)
        with Console(process) as console:
            until(lambda: not console.rows("SHOW PINS"), patience_s=60)
        go_on(process)
