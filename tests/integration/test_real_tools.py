"""PostgreSQL's own tools in transaction mode as they are: pgbench with prepared statements, pg_dump, psql."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpool_core.testing import PostgresServer
from tests.conftest import Target
from tests.crowd import crowd
from tests.programs import of_postgres

pytestmark = [
    pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True),
    pytest.mark.pooler(default_pool_size=2),
]
OWN = """\\set a random(1, 100000)
\\set b random(1, 1000)
select abalance from pgbench_accounts where aid = :a;
begin;
update pgbench_accounts set abalance = abalance + :b where aid = :a;
set local statement_timeout = '60s';
end;
\\startpipeline
select :a + 1;
select :b + 1;
\\endpipeline
"""
DUMPED = """
create schema dumped;
create type dumped.kind as enum ('one', 'two');
create table dumped.parts(id serial primary key, k dumped.kind, t text default E'a\\\\b') partition by range (id);
create table dumped.low partition of dumped.parts for values from (1) to (1000);
insert into dumped.parts(k, t) select 'two', repeat('é', n) from generate_series(1, 200) n;
create view dumped.seen as select k, count(*) from dumped.parts group by k;
create function dumped.f(int) returns int language sql as 'select $1 + 1';
"""


@pytest.fixture(scope="module")
def accounts(postgres: PostgresServer) -> Iterator[None]:
    """The tables of pgbench, small, and some things of other kinds to be dumped."""
    of_postgres(postgres, "pgbench", "-i", "-q", "-s", "1", postgres.dsn("app", "app"))
    of_postgres(postgres, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", postgres.dsn("app", "app"), stdin=DUMPED)
    yield
    of_postgres(
        postgres,
        "psql",
        "-Xq",
        postgres.dsn("app", "app"),
        stdin="set client_min_messages = error; drop schema dumped cascade",
    )


@pytest.mark.parametrize("script", ["select-only", "simple-update", "tpcb-like", "own"])
def test_pgbench_with_prepared_statements(
    target: Target, postgres: PostgresServer, accounts: None, script: str, tmp_path: Path
) -> None:
    (tmp_path / "own.sql").write_text(OWN)
    what = ["-f", str(tmp_path / "own.sql")] if script == "own" else ["-b", script]
    how = ["-n", "-M", "prepared", "-c", "8", "-j", "8", "-t", "50", *what]
    said = of_postgres(postgres, "pgbench", *how, target.url("app", "app")).stdout
    assert re.search(r"transactions actually processed: 400/400", said), said
    assert "number of failed transactions: 0" in said


def dump(postgres: PostgresServer, url: str, *options: str) -> str:
    """The dump, without the random word that newer versions put around it."""
    said = of_postgres(postgres, "pg_dump", *options, url).stdout
    return "\n".join(line for line in said.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_a_dump_is_the_same(target: Target, postgres: PostgresServer, accounts: None) -> None:
    expected = dump(postgres, postgres.dsn("app", "app"))
    assert "dumped.parts" in expected and "pgbench_accounts" in expected
    assert crowd(3, lambda _: dump(postgres, target.url("app", "app"))) == [expected] * 3
    inserts = dump(postgres, postgres.dsn("app", "app"), "--inserts", "-n", "dumped", "--enable-row-security")
    assert dump(postgres, target.url("app", "app"), "--inserts", "-n", "dumped", "--enable-row-security") == inserts


def psql(postgres: PostgresServer, url: str, script: str, *options: str) -> str:
    return of_postgres(postgres, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *options, url, stdin=script).stdout


def test_psql_describes_without_running(target: Target, postgres: PostgresServer, accounts: None) -> None:
    script = "select id, k, t from dumped.parts \\gdesc\n" * 10 + "select 1 as one \\gdesc\nselect 2;\n"
    described = "id|integer\nk|dumped.kind\nt|text\n" * 10 + "one|integer\n2\n"
    assert crowd(4, lambda _: psql(postgres, target.url("app", "app"), script)) == [described] * 4


def test_psql_repeats_a_query(target: Target, postgres: PostgresServer) -> None:
    def use(client: int) -> str:
        return psql(
            postgres,
            target.url("app", "app"),
            f"set application_name = 'watcher {client}';\nselect current_setting('application_name')\n" + "\\g\n" * 30,
        )

    assert crowd(4, use) == [f"watcher {client}\n" * 30 for client in range(4)]


@pytest.mark.pooler(default_pool_size=6)  # each of four keeps one for its PREPARE
def test_psql_reads_in_parts_and_goes_on_after_errors(target: Target, postgres: PostgresServer, accounts: None) -> None:
    script = """\\set FETCH_COUNT 50
select id from dumped.parts order by id;
\\set ON_ERROR_ROLLBACK on
begin;
create temp table psql_rows(a int) on commit drop;
\\unset FETCH_COUNT
\\unset ON_ERROR_STOP
select nothing;
\\set ON_ERROR_STOP on
insert into psql_rows values (1) returning a;
commit;
prepare p(int) as select $1 * 2;
execute p(21);
deallocate p;
\\copy (select count(*) from dumped.parts) to pstdout
\\set x 7
select :x as y \\gset
\\echo :y
select 'select ' || n from generate_series(1, 3) n \\gexec
"""
    expected = "".join(f"{n}\n" for n in range(1, 201)) + "1\n42\n200\n7\n1\n2\n3\n"
    script = script.replace("pstdout", "stdout")
    assert crowd(4, lambda _: psql(postgres, target.url("app", "app"), script)) == [expected] * 4
