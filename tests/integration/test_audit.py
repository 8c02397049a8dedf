"""`pgpool-core audit`: nothing leaks on PostgreSQL itself, what is known to leak through poolers is found, nothing is left behind."""

from __future__ import annotations

import json

import psycopg
import pytest

from pgpool_core.audit.auditor import BETWEEN_CLIENTS, BETWEEN_TRANSACTIONS, NEVER, Audit
from pgpool_core.audit.kinds import KINDS
from pgpool_core.audit.report import Finding, Report
from pgpool_core.cli import main
from pgpool_core.testing import PostgresServer
from tests.conftest import PoolerFactory
from tests.programs import pgbouncer_before

WAIT_S = 1.0
CONTROLS = {kind.about for kind in KINDS if not kind.lasts}
STAYS_BEHIND = {kind.about for kind in KINDS if kind.lasts} - {"setting that PostgreSQL reports"}
"""What transaction pooling without a ledger leaves on the server."""
NOT_FOLLOWED = {
    "setting in a function",
    "currval()",
    "lastval() after an INSERT",
}
"""What session_state = auto need not keep apart."""


async def audit(url: str, *, limit: int = 8) -> Report:
    return await Audit(url=url, wait_s=WAIT_S, limit=limit).run()


def verdicts(report: Report) -> dict[str, str]:
    assert [finding.kind for finding in report.findings] == [kind.about for kind in KINDS]
    return {finding.kind: finding.verdict for finding in report.findings}


def with_verdict(report: Report, *wanted: str) -> set[str]:
    return {kind for kind, verdict in verdicts(report).items() if verdict in wanted}


def left_behind(postgres: PostgresServer) -> list[str]:
    """What the database has by the name that the audit uses."""
    with psycopg.connect(postgres.dsn("boss", "app")) as connection:
        rows = connection.execute(
            "select relname from pg_class where relname like 'pgpool_audit%' and relpersistence <> 't'"
            " union all select proname from pg_proc where proname like 'pgpool_audit%'"
        )
        return [name for (name,) in rows]


async def test_postgresql_itself_keeps_everything_apart(postgres: PostgresServer) -> None:
    report = await audit(postgres.dsn("boss", "app"))
    assert report.changes == NEVER
    assert with_verdict(report, "kept") == STAYS_BEHIND | {"setting that PostgreSQL reports"}
    assert with_verdict(report, "ended") == CONTROLS
    assert not report.bad
    assert left_behind(postgres) == []


async def test_a_user_without_rights_is_told_what_was_not_tested(postgres: PostgresServer) -> None:
    report = await audit(postgres.dsn("plain", "app"))
    untested = {finding.kind: finding.reason for finding in report.findings if finding.verdict == "not tested"}
    assert set(untested) == {"role", "session authorization", "LOAD"}
    assert untested["role"] == "there is no role to change to"
    assert "auto_explain" in untested["LOAD"]
    assert not report.bad


async def test_pgbouncers_leaks_are_found(postgres: PostgresServer, pgbouncer: PoolerFactory) -> None:
    report = await audit(pgbouncer(default_pool_size=2).url("boss", "app"))
    assert report.changes == BETWEEN_TRANSACTIONS
    leaked = with_verdict(report, "leaked", "lost")
    # named statements are renamed by a PgBouncer that can, and the newest follow what PostgreSQL reports, such as session_authorization
    assert leaked >= STAYS_BEHIND - {"named statement of the protocol", "session authorization"}
    assert pgbouncer_before(1, 26) == ("session authorization" in leaked)
    assert verdicts(report)["setting that PostgreSQL reports"] == "kept"
    assert with_verdict(report, "ended") == CONTROLS
    assert left_behind(postgres) == []


async def test_pgbouncers_session_pooling_keeps_everything_apart(pgbouncer: PoolerFactory) -> None:
    report = await audit(pgbouncer(default_pool_size=2, pool_mode="session").url("app", "app"))
    assert report.changes == BETWEEN_CLIENTS
    assert not report.bad
    assert "nothing" in {finding.stranger for finding in report.findings}


@pytest.mark.parametrize("state", ["auto", pytest.param("pin", marks=pytest.mark.slow)])
async def test_a_server_that_changes_hands_in_transaction_mode_is_clean(
    state: str, postgres: PostgresServer, pooler: PoolerFactory
) -> None:
    report = await audit(pooler(default_pool_size=3, session_state=state).url("boss", "app"))
    assert report.changes == BETWEEN_TRANSACTIONS
    assert with_verdict(report, "leaked", "lost") <= NOT_FOLLOWED
    assert with_verdict(report, "kept") >= STAYS_BEHIND - NOT_FOLLOWED
    assert with_verdict(report, "ended") == CONTROLS
    assert left_behind(postgres) == []


async def test_without_a_ledger_everything_leaks(pooler: PoolerFactory) -> None:
    report = await audit(pooler(default_pool_size=2, session_state="off", max_prepared_statements=0).url("boss", "app"))
    assert with_verdict(report, "leaked", "lost") == STAYS_BEHIND - {"session authorization"}  # PostgreSQL reports it
    assert verdicts(report)["session authorization"] == "kept"


async def test_what_is_refused_is_said_to_be(pooler: PoolerFactory) -> None:
    report = await audit(pooler(default_pool_size=2, session_state="refuse").url("app", "app"))
    refused = {finding.kind: finding.reason for finding in report.findings if finding.verdict == "refused"}
    assert {"temporary table", "LISTEN", "PREPARE", "session advisory lock", "setting with a list"} <= set(refused)
    assert "session_state = refuse" in refused["temporary table"]


@pytest.mark.parametrize("mode", ["session", "statement"])
async def test_the_other_modes(mode: str, pooler: PoolerFactory) -> None:
    report = await audit(pooler(default_pool_size=2, pool_mode=mode, session_state="off").url("app", "app"))
    if mode == "session":
        assert report.changes == BETWEEN_CLIENTS
        assert not report.bad
    else:
        assert report.changes == BETWEEN_TRANSACTIONS
        assert {"temporary table", "LISTEN", "custom setting"} <= with_verdict(report, "leaked", "lost")


async def test_a_single_server_is_enough(pooler: PoolerFactory) -> None:
    report = await audit(pooler(default_pool_size=1, session_state="off").url("app", "app"))
    assert "temporary table" in with_verdict(report, "leaked")


def test_the_command_prints_json_and_says_by_its_status(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", postgres.dsn("app", "app"), "--json", "--wait", "1", "--connections", "4"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["changes"], said["bad"], len(said["findings"])) == (NEVER, False, len(KINDS))
    assert main(["audit", f"postgresql://app:wrong@127.0.0.1:{postgres.port}/app"]) == 2
    assert "wrong" not in capsys.readouterr().err


def test_the_table_counts_and_shouts_what_is_bad() -> None:
    findings = (
        Finding(kind="role", owner="its own", stranger="nothing", verdict="kept"),
        Finding(kind="LISTEN", owner="nothing", stranger="the owner's", verdict="leaked"),
        Finding(kind="LOAD", verdict="not tested", reason="no such file"),
    )
    report = Report(changes=BETWEEN_TRANSACTIONS, findings=findings)
    lines = report.table().splitlines()
    assert report.bad
    assert lines[0] == "servers change hands between transactions"
    assert lines[2].split("  ")[0] == "kind"
    assert any(line.startswith("LISTEN") and line.endswith("LEAKED") for line in lines)
    assert any(line.startswith("LOAD") and line.endswith("not tested: no such file") for line in lines)
    assert lines[-1] == "1 kept, 1 leaked, 1 not tested"
