"""`pgpool-core check-app`: a program runs through a pool that changes servers, and what it needs of one is told."""

from __future__ import annotations

import sys

import pytest

from pgpool_core.cli import main
from pgpool_core.testing import PostgresServer

CONNECTED = (
    "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL'], autocommit=True, prepare_threshold=None);"
)
PLAIN = CONNECTED + " [c.execute('select 1') for _ in range(5)]"
TURNS = CONNECTED + (
    " pids = {c.execute('select pg_backend_pid()').fetchone()[0] for _ in range(6)};"
    " raise SystemExit(0 if len(pids) == 3 else 9)"
)
SETS = CONNECTED + (
    " c.execute(\"set work_mem = '77MB'\");"
    " raise SystemExit(0 if {c.execute('show work_mem').fetchone()[0] for _ in range(6)} == {'77MB'} else 9)"
)
PINS = (
    CONNECTED
    + " c.execute('create temp table mine (a int)'); c.execute('insert into mine values (1)'); c.execute('listen a')"
)
NAMED = CONNECTED + " c.prepare_threshold = 0; [c.execute('select %s', (1,)) for _ in range(6)]"
HIDES = CONNECTED + " c.execute('select quiet()')"
QUIET = """
    create or replace function quiet() returns void language plpgsql as
    $$begin execute 'select set_' || 'config(''maintenance_work_mem'', ''42MB'', false)'; end$$
"""
VARIABLES = (
    "import os, psycopg; v = os.environ; assert v['PGPORT'] in v['DATABASE_URL'];"
    " c = psycopg.connect(''); raise SystemExit(0 if c.info.user == v['PGUSER'] and c.info.dbname == 'app' else 9)"
)


def run(postgres: PostgresServer, program: str) -> int:
    return main(["check-app", postgres.dsn("app", "app"), "--", sys.executable, "-c", program])


@pytest.mark.parametrize(
    ("program", "said", "mode"),
    [
        (PLAIN, "none: plain", "session_state = off, max_prepared_statements = 0"),
        (TURNS, "none: plain", "session_state = off, max_prepared_statements = 0"),
        (
            SETS,
            "settings changed (SET, set_config, SET ROLE ...): 1; ",
            "pool_mode = transaction, session_state = auto",
        ),
        (PINS, "temporary object: 1; ", "pool_mode = transaction, session_state = auto"),
        (NAMED, "named prepared statements: 1; ", "pool_mode = transaction, session_state = off"),
        (HIDES, "left behind unseen: setting maintenance_work_mem", "pool_mode = session"),
    ],
    ids=["plain", "turns", "sets", "pins", "named", "hides"],
)
def test_what_a_program_needs_is_told(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str], program: str, said: str, mode: str
) -> None:
    postgres.sql(QUIET, database="app")
    assert run(postgres, program) == 0
    postgres.sql("drop function quiet()", database="app")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.strip().startswith(said) for line in lines), lines
    assert any(line == f"cheapest safe mode: {mode}" or line.endswith(f", {mode}") for line in lines), lines


def test_only_the_programs_own_transactions_count(postgres: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(postgres, PLAIN) == 0
    assert "used in 5 transactions:" in capsys.readouterr().err
    assert run(postgres, "") == 0
    assert "used in 0 transactions:" in capsys.readouterr().err


def test_the_command_finds_the_pool_and_its_status_is_handed_on(postgres: PostgresServer) -> None:
    assert run(postgres, VARIABLES) == 0
    assert run(postgres, "raise SystemExit(7)") == 7
    assert run(postgres, "import os; os.kill(os.getpid(), 15)") == 128 + 15


def test_what_cannot_be_run_is_told(postgres: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-app", postgres.dsn("app", "app"), "--", "/no/such/command"]) == 127
    assert main(["check-app", postgres.dsn("app", "app"), "--", "/etc/passwd"]) == 126
    assert main(["check-app", postgres.dsn("app", "app"), "--", ""]) == 127
    assert "/no/such/command" in capsys.readouterr().err
    assert main(["check-app", f"postgresql://app:wrong@127.0.0.1:{postgres.port}/app", "--", "true"]) == 2
    assert "wrong" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", 'FATAL password authentication failed for user "app"'),
        ("127.0.0.9", "Connection refused"),
    ],
)
def test_a_server_that_lets_nobody_in_is_told_as_what_it_is(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str], host: str, said: str
) -> None:
    assert main(["check-app", f"postgresql://app:wrong@{host}:{postgres.port}/app", "--", "true"]) == 2
    told = capsys.readouterr().err
    assert f"{host}:{postgres.port}" in told
    assert said in told
    assert "server_login_retry" not in told
