"""SHOW FDS with descriptors: PgBouncer takes over from us with its own -R, and whom it could not know of goes on here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGTERM, SIGUSR2, Signals

import psycopg
import pytest

from pgpool_core.errors import ServerProtocolError
from pgpool_core.process.visit import Visit
from pgpool_core.testing import PoolerProcess, PostgresServer
from pgpool_core.testing.account import service_account
from tests.conftest import PoolerFactory, in_front_of
from tests.console import Console
from tests.integration.test_takeover_moves import client_of, pgbench, pid_of
from tests.programs import NEEDS_TAKEOVER, pgbouncer_before
from tests.watching import until


@pytest.fixture
def process(postgres: PostgresServer) -> Iterator[PoolerProcess]:
    """As the user that PgBouncer runs as. PgBouncer's -R waits for the old pid file to go away."""
    process = in_front_of(postgres, "pgpool_core", account=service_account(), default_pool_size=6)
    process.settings["pidfile"] = process.unix_dir / "pid"
    with process:
        yield process


async def test_descriptors_go_only_to_our_own_user_while_everybody_stands_still(pooler: PoolerFactory) -> None:
    process = pooler()
    with client_of(process) as client, client_of(process) as pinned, Console(process) as other, ExitStack() as visits:
        pinned.execute("create temp table t (a int)")
        client.execute("set timezone = 'Europe/Berlin'")
        server = pid_of(client)
        visit = await Visit.begin(str(process.unix_dir / f".s.PGSQL.{process.port}"))
        assert visit is not None
        visits.callback(visit.close)
        plain = await visit.ask(b"SHOW FDS")
        assert {fd for _, fd in plain.rows} == {-1}
        await visit.ask(b"SUSPEND")
        given = await visit.ask(b"SHOW FDS")
        assert all(fd >= 0 for _, fd in given.rows)
        by_task = {
            task: [row for row, _ in given.rows if row["task"] == task] for task in ("pooler", "client", "server")
        }
        assert len(by_task["pooler"]) == 2
        (told,) = by_task["client"]
        assert (told["user"], told["database"], told["timezone"], told["link"]) == ("app", "app", "Europe/Berlin", "0")
        (there,) = by_task["server"]
        assert (there["user"], there["database"], int(there["cancel"]) >> 32) == ("app", "app", server)
        assert {row["timezone"] for row in other.rows("SHOW FDS")} == {None}  # over TCP
        await visit.ask(b"RESUME")
        assert client.execute("show timezone").fetchone() == ("Europe/Berlin",)
        assert pinned.execute("select count(*) from t").fetchone() == (0,)
        assert (await visit.ask(b"SHOW FDS")).rows[0][1] == -1


@pytest.mark.parametrize("number", [SIGUSR2, pytest.param(SIGTERM, marks=pytest.mark.slow)])
async def test_a_shutdown_that_comes_when_everybody_goes_on_shuts_nothing_down(
    pooler: PoolerFactory, number: Signals
) -> None:
    """Its sender thinks that it has them all."""
    process = pooler()
    with client_of(process) as client, ExitStack() as visits:
        client.execute("select 1")
        visit = await Visit.begin(str(process.unix_dir / f".s.PGSQL.{process.port}"))
        assert visit is not None
        visits.callback(visit.close)
        await visit.ask(b"SUSPEND")
        for _, fd in (await visit.ask(b"SHOW FDS")).rows:
            os.close(fd)
        process.process.signal(number)
        assert client.execute("select 2").fetchone() == (2,)
        with pytest.raises(ServerProtocolError, match="RESUME came first"):
            await visit.ask(b"SHUTDOWN")
        assert client.execute("select 3").fetchone() == (3,)


@pytest.mark.pgbouncer
@NEEDS_TAKEOVER
def test_pgbouncer_takes_over_and_who_is_in_a_transaction_ends_it_here(process: PoolerProcess) -> None:
    with client_of(process) as idle, client_of(process) as busy:
        busy.execute("begin")
        busy_at = pid_of(busy)
        idle.execute("set datestyle = 'German'")
        server = pid_of(idle)
        old = process.succeed("pgbouncer")
        old.wait_for_log("LOG handed over, serving the clients that are here")
        assert idle.execute("show datestyle").fetchone() == ("German, DMY",)
        assert pid_of(idle) == server
        assert pid_of(busy) == busy_at
        busy.execute("commit")
        with client_of(process) as fresh:
            assert fresh.execute("select 1").fetchone() == (1,)
        assert old.returncode is None
        busy.close()
        assert old.wait() == 0
        assert (process.unix_dir / f".s.PGSQL.{process.port}").exists()


@pytest.mark.slow
@pytest.mark.pgbouncer
@NEEDS_TAKEOVER
def test_there_and_back_under_load_no_client_sees_an_error(
    process: PoolerProcess, postgres: PostgresServer, tmp_path: Path
) -> None:
    """Those of pgbench that PgBouncer finds in transactions stay here, all six perhaps; who is idle goes there and back."""
    with client_of(process) as idle, pgbench(postgres, process, tmp_path, "-M", "simple"):
        with Console(process) as console:
            until(lambda: console.pool().get("cl_active") == 7, patience_s=60)
        first = process.succeed("pgbouncer")
        first.wait_for_log("LOG handed over, serving the clients that are here")
        assert pid_of(idle)
        assert process.succeed("pgpool_core").wait() == 0
        assert pid_of(idle)
    assert first.wait() == 0


def test_a_console_that_leaves_with_descriptors_changes_nothing(pooler: PoolerFactory) -> None:
    process = pooler()
    with client_of(process) as client:
        client.execute("set timezone = 'Europe/Berlin'")
        with psycopg.connect(
            process.url("pgbouncer", "pgbouncer", unix=True),
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor,
        ) as console:
            console.execute("SUSPEND")
            assert console.execute("SHOW FDS").rowcount == 4
        process.wait_for_log("the console has left, RESUME")
        assert client.execute("show timezone").fetchone() == ("Europe/Berlin",)


def test_a_pgbouncer_that_hands_nothing_over_goes_on_and_that_is_told(pgbouncer: PoolerFactory) -> None:
    if pgbouncer_before(1, 26):
        pytest.skip("PgBouncer hands over before 1.26")
    process = pgbouncer()
    with client_of(process) as client:
        old = process.process
        process.kind = "pgpool_core"
        process.spawn("-R")
        assert process.process.wait() == 1
        assert "it hands nothing over, as PgBouncer from 1.26 on: end it first" in process.log
        assert client.execute("select 1").fetchone() == (1,)
        old.stop(SIGTERM)
