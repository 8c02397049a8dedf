"""The drivers and tools that people use, doing what people do with them."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import asyncpg
import psycopg
import psycopg2
import psycopg2.extras
import pytest

from pgpool_core.testing import PostgresServer
from tests.conftest import Target
from tests.programs import of_postgres
from tests.watching import until

SESSION = pytest.mark.pooler(pool_mode="session")


@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[str]:
    """An empty table `driven`."""
    postgres.sql(
        "create table driven(id serial primary key, t text, at date); grant all on driven to public;"
        "grant all on sequence driven_id_seq to public",
        database="app",
    )
    yield "driven"
    postgres.sql("drop table driven", database="app")


# -- psycopg -----------------------------------------------------------------------------------------------------------


def test_psycopg_runs_transactions(target: Target, table: str) -> None:
    with psycopg.connect(target.url("app", "app"), prepare_threshold=None) as connection:
        with connection.transaction():
            connection.cursor().executemany(
                f"insert into {table}(t, at) values (%s, %s)",
                [(f"row {n}", datetime.date(2024, 1, 1 + n)) for n in range(20)],
            )
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute(f"insert into {table}(id) values (1)")
        assert connection.execute(f"select count(*), max(at) from {table}").fetchone() == (
            20,
            datetime.date(2024, 1, 20),
        )


def test_psycopg_reads_with_a_server_side_cursor(target: Target) -> None:
    with psycopg.connect(target.url("app", "app")) as connection, connection.cursor("portal") as cursor:
        cursor.execute("select generate_series(1, 1000)")
        assert sum(row[0] for row in cursor) == 500_500


@SESSION
def test_psycopg_prepares_in_session_mode(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True, prepare_threshold=0) as connection:
        for number in range(20):
            assert connection.execute("select %s::int + 1", (number,)).fetchone() == (number + 1,)
        assert connection.execute("select count(*) > 0 from pg_prepared_statements").fetchone() == (True,)


@SESSION
def test_psycopg_hears_notifications(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True) as listener:
        listener.execute("listen channel")
        with psycopg.connect(target.url("app", "app"), autocommit=True) as speaker:
            speaker.execute("notify channel, 'hello'")
        heard = next(listener.notifies(timeout=10))
        assert (heard.channel, heard.payload) == ("channel", "hello")


def test_psycopg_on_the_unix_socket(target: Target) -> None:
    with psycopg.connect(target.url("app", "app", unix=True), autocommit=True) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_psycopg_asynchronously(target: Target) -> None:
    async def run() -> int:
        async def one(number: int) -> int:
            async with await psycopg.AsyncConnection.connect(target.url("app", "app")) as connection:
                cursor = await connection.execute("select %s::int", (number,))
                row = await cursor.fetchone()
                assert row is not None
                return int(row[0])

        return sum(await asyncio.gather(*(one(number) for number in range(30))))

    assert asyncio.run(run()) == sum(range(30))


# -- psycopg2 ----------------------------------------------------------------------------------------------------------


def test_psycopg2_runs_transactions(target: Target, table: str) -> None:
    connection = psycopg2.connect(target.url("app", "app"))
    try:
        with connection, connection.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor, f"insert into {table}(t) values %s", [(f"row {n}",) for n in range(500)]
            )
        with connection, connection.cursor() as cursor:
            cursor.execute(f"select count(*) from {table} where t = %s", ("row 7",))
            assert cursor.fetchone() == (1,)
        with pytest.raises(psycopg2.errors.DivisionByZero), connection, connection.cursor() as cursor:
            cursor.execute("select 1/0")
        with connection, connection.cursor("portal") as cursor:
            cursor.execute(f"select id from {table}")
            assert len(cursor.fetchall()) == 500
    finally:
        connection.close()


@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
def test_psycopg2_polls_for_notifications(target: Target) -> None:
    connection = psycopg2.connect(target.url("app", "app"))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("listen psycopg2")
            cursor.execute("notify psycopg2, 'own'")

        def polled() -> bool:
            connection.poll()
            return bool(connection.notifies)

        until(polled)
        (note,) = connection.notifies
        assert (note.pid, note.channel, note.payload) == (connection.info.backend_pid, "psycopg2", "own")
    finally:
        connection.close()


# -- asyncpg -----------------------------------------------------------------------------------------------------------


def with_asyncpg(target: Target, use: Callable[[Any], Coroutine[Any, Any, Any]], **options: object) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(target.url("app", "app"), **options)
        try:
            return await use(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_asyncpg_without_its_statement_cache(target: Target, table: str) -> None:
    async def use(connection: Any) -> None:
        for number in range(20):
            assert await connection.fetchval("select $1::int + 1", number) == number + 1
        async with connection.transaction():
            await connection.executemany(f"insert into {table}(t) values ($1)", [(f"row {n}",) for n in range(100)])
            assert len(await connection.fetch(f"select * from {table}")) == 100
            async with connection.transaction():
                assert [row["x"] async for row in connection.cursor("select generate_series(1, 120) x")] == [
                    *range(1, 121)
                ]
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("select 1/0")
        assert await connection.execute(f"delete from {table}") == "DELETE 100"
        await connection.copy_records_to_table(table, records=[("copied",)] * 1000, columns=["t"])
        assert await connection.fetchval(f"select count(*) from {table}") == 1000

    with_asyncpg(target, use, statement_cache_size=0)


@SESSION
def test_asyncpg_with_everything_it_has_in_session_mode(target: Target) -> None:
    async def use(connection: Any) -> None:
        heard: asyncio.Queue[object] = asyncio.Queue()
        await connection.add_listener("channel", lambda *said: heard.put_nowait(said[-1]))
        statement = await connection.prepare("select $1::text || '!'")
        assert [await statement.fetchval(word) for word in ("one", "two")] == ["one!", "two!"]
        await connection.execute("notify channel, 'hello'")
        assert await asyncio.wait_for(heard.get(), 10) == "hello"
        await connection.reset()

    with_asyncpg(target, use)


@pytest.mark.parametrize("cache", [0, 100])
@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
def test_asyncpg_listens(target: Target, cache: int) -> None:
    async def use(connection: Any) -> None:
        heard: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()

        def hear(_: object, pid: int, channel: str, payload: str) -> None:
            heard.put_nowait((pid, channel, payload))

        await connection.add_listener("asyncpg channel", hear)
        for number in range(3):
            await connection.execute("select pg_notify($1, $2)", "asyncpg channel", f"n{number}")
        for number in range(3):
            found = await asyncio.wait_for(heard.get(), 10)
            assert found == (connection.get_server_pid(), "asyncpg channel", f"n{number}")
        await connection.remove_listener("asyncpg channel", hear)
        await connection.execute("select pg_notify($1, $2)", "asyncpg channel", "nobody")
        assert heard.empty()

    with_asyncpg(target, use, statement_cache_size=cache)


def test_asyncpg_cancels_by_timeout_and_goes_on(target: Target) -> None:
    async def use(connection: Any) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("select pg_sleep(63)", timeout=0.2)
        assert await connection.fetchval("select 1") == 1

    with_asyncpg(target, use, statement_cache_size=0)


def test_a_pool_of_asyncpg_on_a_small_pool_of_ours(target: Target) -> None:
    async def run() -> int:
        async with asyncpg.create_pool(
            target.url("app", "app"), min_size=10, max_size=10, statement_cache_size=0
        ) as pool:
            return sum(await asyncio.gather(*(pool.fetchval("select $1::int", number) for number in range(200))))

    assert asyncio.run(run()) == sum(range(200))


# -- psql and pgbench ----------------------------------------------------------------------------------------------------


def test_psql_describes_copies_and_recovers(target: Target, postgres: PostgresServer, table: str) -> None:
    script = f"""\\d {table}
\\copy {table}(t) from pstdin
from psql
\\.
select t from {table} \\gdesc
begin; insert into {table}(t) values ('rolled back'); rollback;
select nope;
\\copy {table}(t) to pstdout
\\conninfo
"""
    said = of_postgres(postgres, "psql", "-X", target.url("app", "app"), stdin=script.replace("pstdin", "stdin"))
    assert "Table" in said.stdout
    assert 'column "nope" does not exist' in said.stderr
    assert said.stdout.count("from psql") == 1


def test_psql_runs_a_file_as_one_transaction(target: Target, postgres: PostgresServer) -> None:
    said = of_postgres(postgres, "psql", "-XAtq1", target.url("app", "app"), stdin="select txid_current();\n" * 3)
    assert len(set(said.stdout.split())) == 1


@pytest.fixture(scope="session")
def accounts(postgres: PostgresServer) -> str:
    """The tables of pgbench, small."""
    of_postgres(postgres, "pgbench", "-i", "-q", "-s", "1", postgres.dsn("app", "app"))
    return "app"


def bench(target: Target, postgres: PostgresServer, *options: str, each: int = 50) -> None:
    command = ("pgbench", "-n", "-c", "8", "-t", str(each), *options, target.url("app", "app"))
    said = of_postgres(postgres, *command).stdout
    assert f"transactions actually processed: {8 * each}/{8 * each}" in said, said
    assert "number of failed transactions: 0" in said


@pytest.mark.pooler(default_pool_size=3)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("script", ["select-only", "simple-update", "tpcb-like"])
def test_pgbench_in_transaction_mode(
    target: Target, postgres: PostgresServer, accounts: str, protocol: str, script: str
) -> None:
    bench(target, postgres, "-M", protocol, "-b", script)


@pytest.mark.pooler(pool_mode="session")
def test_pgbench_with_prepared_statements_in_session_mode(
    target: Target, postgres: PostgresServer, accounts: str
) -> None:
    bench(target, postgres, "-M", "prepared", "-S")


@pytest.mark.pooler(default_pool_size=3)
def test_pgbench_that_connects_for_every_transaction(target: Target, postgres: PostgresServer, accounts: str) -> None:
    bench(target, postgres, "-C", "-S", each=10)


@pytest.mark.pooler(default_pool_size=3)
def test_pgbench_in_pipelines(target: Target, postgres: PostgresServer, accounts: str) -> None:
    script = "\\startpipeline\n" + "select 1;\n" * 10 + "\\endpipeline\n"
    said = of_postgres(
        postgres,
        "pgbench",
        "-n",
        "-M",
        "extended",
        "-c",
        "8",
        "-t",
        "50",
        "-f",
        "/dev/stdin",
        target.url("app", "app"),
        stdin=script,
    ).stdout
    assert "transactions actually processed: 400/400" in said
