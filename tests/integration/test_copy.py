"""COPY in and out, by both protocols, with everything that can go wrong in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgpool_core.testing import PostgresServer, frontend
from tests.conftest import PoolerFactory, Target
from tests.peers import letters, logged_in, values
from tests.programs import pgbouncer_before

pytestmark = pytest.mark.pooler(default_pool_size=1)  # who leaves a server in COPY is found out by the next client

MIB = 2**20


@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[str]:
    """An empty table `copied(x int, t text)`."""
    postgres.sql("create table copied(x int, t text); grant all on copied to public", database="app")
    yield "copied"
    postgres.sql("drop table copied", database="app")


async def test_copy_out(target: Target) -> None:
    async with logged_in(target) as peer:
        answer = await peer.query("copy (select generate_series(1, 3)) to stdout")
        assert letters(answer) == "HdddcCZ"
        assert b"".join(message.body for message in answer if message.type == b"d") == b"1\n2\n3\n"
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_copy_in(target: Target, table: str) -> None:
    async with logged_in(target) as peer, logged_in(target) as other:
        await peer.send(frontend.query(f"copy {table} from stdin"))
        await peer.expect("G")
        await peer.send(frontend.copy_data(b"1\tone\n2\tt"), frontend.copy_data(b"wo\n"), frontend.copy_done())
        answer = await peer.until("Z")
        assert letters(answer) == "CZ"
        assert answer[0].text == "COPY 2"
        assert values(await other.query(f"select x, t from {table} order by x")) == [[b"1", b"one"], [b"2", b"two"]]


async def test_the_client_may_give_up_a_copy(target: Target, table: str) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.query(f"copy {table} from stdin"))
        await peer.expect("G")
        await peer.send(frontend.copy_data(b"1\tone\n"), frontend.copy_fail("changed my mind"))
        answer = await peer.until("Z")
        assert letters(answer) == "EZ"
        assert answer[0].fields["C"] == "57014"
        assert "changed my mind" in answer[0].fields["M"]
        assert values(await peer.query(f"select count(*) from {table}")) == [[b"0"]]


async def test_bad_data_ends_a_copy_and_what_comes_late_is_dropped(target: Target, table: str) -> None:
    if target.kind == "pgbouncer" and pgbouncer_before(1, 26) and not pgbouncer_before(1, 24):
        pytest.skip("PgBouncer leaves the server with its client, up to 1.25")
    async with logged_in(target) as peer, logged_in(target) as other:
        await peer.send(frontend.query(f"copy {table} from stdin"))
        await peer.expect("G")
        await peer.send(frontend.copy_data(b"not a number\tone\n"))
        await peer.expect_error("22P02")
        await peer.expect("Z")
        # Sent before the client could know; PostgreSQL drops CopyData, CopyDone and CopyFail outside a COPY.
        await peer.send(frontend.copy_data(b"2\ttwo\n"), frontend.copy_data(b"3\tthree\n"), frontend.copy_done())
        assert values(await peer.query(f"select count(*) from {table}")) == [[b"0"]]
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_bad_data_found_while_more_is_on_its_way(target: Target, table: str) -> None:
    if target.kind == "pgbouncer" and not pgbouncer_before(1, 24):
        pytest.skip("PgBouncer leaves the server with its client, 1.26.1 too")
    async with logged_in(target) as peer, logged_in(target) as other:
        rows = frontend.copy_data(b"nonsense\tx\n") + frontend.copy_data(b"1\tx\n" * 1000) * 50 + frontend.copy_done()
        await peer.send(frontend.query(f"copy {table} from stdin") + rows + frontend.query("select 'next'"))
        assert letters(await peer.until("Z")) == "GEZ"
        assert values(await peer.until("Z")) == [[b"next"]]
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_two_copies_in_one_query(target: Target, table: str) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.query(f"copy {table} from stdin; copy {table} from stdin; copy {table} to stdout"))
        await peer.expect("G")
        await peer.send(frontend.copy_data(b"1\ta\n"), frontend.copy_done())
        await peer.expect("CG")
        await peer.send(frontend.copy_data(b"2\tb\n"), frontend.copy_done())
        assert letters(await peer.until("Z")) == "CHddcCZ"
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_a_copy_inside_a_transaction(target: Target, table: str) -> None:
    async with logged_in(target) as peer:
        await peer.query("begin")
        await peer.send(frontend.query(f"copy {table} from stdin"))
        await peer.expect("G")
        await peer.send(frontend.copy_data(b"1\ta\n"), frontend.copy_done())
        assert (await peer.until("Z"))[-1].body == b"T"
        assert values(await peer.query(f"select count(*) from {table}")) == [[b"1"]]
        assert (await peer.query("rollback"))[-1].body == b"I"
        assert values(await peer.query(f"select count(*) from {table}")) == [[b"0"]]


async def test_an_extended_copy_whose_first_sync_postgres_ignores(target: Target, table: str) -> None:
    async with logged_in(target) as peer, logged_in(target) as other:
        await peer.send(
            frontend.parse(f"copy {table} from stdin"), frontend.bind(), frontend.execute(), frontend.sync()
        )
        await peer.expect("12G")
        await peer.send(frontend.copy_data(b"1\ta\n"), frontend.sync(), frontend.flush(), frontend.copy_data(b"2\tb\n"))
        await peer.send(frontend.copy_done(), frontend.sync())
        answer = await peer.until("Z")
        assert letters(answer) == "CZ"  # one ReadyForQuery: the Syncs inside the COPY have no answer
        assert values(await peer.query(f"select count(*) from {table}")) == [[b"2"]]
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_an_extended_copy_sent_in_one_go(target: Target, table: str) -> None:
    if target.kind == "pgbouncer" and not pgbouncer_before(1, 26):
        pytest.skip(
            "PgBouncer 1.26.1 leaves the server with its client: the Sync inside the COPY, which PostgreSQL does not answer, is waited for"
        )
    async with logged_in(target) as peer, logged_in(target) as other:
        await peer.send(
            frontend.parse(f"copy {table} from stdin")
            + frontend.bind()
            + frontend.execute()
            + frontend.sync()
            + frontend.copy_data(b"1\ta\n")
            + frontend.copy_done()
            + frontend.sync()
        )
        assert letters(await peer.until("Z")) == "12GCZ"
        assert values(await other.query(f"select count(*) from {table}")) == [[b"1"]]
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_an_extended_copy_that_fails_skips_to_the_sync_after_it(target: Target, table: str) -> None:
    async with logged_in(target) as peer, logged_in(target) as other:
        await peer.send(frontend.parse(f"copy {table} from stdin"), frontend.bind(), frontend.execute())
        await peer.send(frontend.flush())
        await peer.expect("12G")
        await peer.send(frontend.copy_data(b"nonsense\ta\n"))
        await peer.expect_error("22P02")
        await peer.send(frontend.copy_data(b"2\tb\n"), frontend.copy_done(), frontend.sync())
        assert letters(await peer.until("Z")) == "Z"
        assert values(await other.query(f"select count(*) from {table}")) == [[b"0"]]


async def test_an_extended_copy_out(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(
            frontend.parse("copy (select 1) to stdout"), frontend.bind(), frontend.execute(), frontend.sync()
        )
        assert letters(await peer.until("Z")) == "12HdcCZ"


async def test_a_copy_out_that_fails_in_the_middle(target: Target) -> None:
    async with logged_in(target) as peer, logged_in(target) as other:
        answer = await peer.query("copy (select 1/(500 - x) from generate_series(1, 1000) x) to stdout")
        assert letters(answer) == "H" + "d" * 499 + "EZ"
        assert values(await peer.query("select 1")) == [[b"1"]]
        assert values(await other.query("select 1")) == [[b"1"]]


def test_a_big_copy_both_ways(target: Target, table: str) -> None:
    line = "text " * 200
    with psycopg.connect(target.url("app", "app"), autocommit=True) as connection:
        with connection.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
            for number in range(20_000):
                copy.write_row((number, line))
        assert connection.execute(f"select count(*), sum(length(t)) from {table}").fetchone() == (20_000, 20_000_000)
        with connection.cursor() as cursor, cursor.copy(f"copy (select t from {table}) to stdout") as copy:
            assert sum(len(block) for block in copy) == 20_000 * (len(line) + 1)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_copy_that_psycopg_breaks_off(target: Target, table: str) -> None:
    class ChangedMyMind(Exception): ...

    with psycopg.connect(target.url("app", "app"), autocommit=True) as connection:
        with (
            pytest.raises(ChangedMyMind),
            connection.cursor() as cursor,
            cursor.copy(f"copy {table} from stdin") as copy,
        ):
            copy.write_row((1, "one"))
            raise ChangedMyMind
        assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
        with connection.cursor() as cursor, cursor.copy("copy (select generate_series(1, 1000000)) to stdout") as copy:
            assert copy.read()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.cancel()
                while copy.read():
                    pass
        assert connection.execute("select 1").fetchone() == (1,)


async def test_a_copy_that_fails_with_a_sync_in_it_leaves_its_server_to_others(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    """libpq sends a Sync behind Execute, which PostgreSQL reads as part of the COPY."""
    place = pooler(default_pool_size=1)
    copying = [frontend.parse(f"copy {table} from stdin", "into"), frontend.bind("into"), frontend.execute()]
    async with logged_in(place) as peer, logged_in(place) as other:
        pid = values(await other.query("select pg_backend_pid()"))
        await peer.send(*copying, frontend.sync())
        await peer.expect("12G")
        await peer.send(frontend.copy_data(b"nonsense\ta\n"))
        await peer.expect_error("22P02")
        assert values(await other.query("select pg_backend_pid()")) == pid  # it waits for nobody
        await peer.send(frontend.copy_data(b"2\tb\n"), frontend.copy_done())
        await peer.send(frontend.parse("skipped", "x"), frontend.sync())
        assert letters(await peer.until("Z")) == "Z"
        await peer.send(*copying[:1], frontend.sync())
        assert (await peer.expect_error("42P05")).fields["M"] == 'prepared statement "into" already exists'
        await peer.expect("Z")
        await peer.send(*copying[1:], frontend.copy_data(b"nonsense\ta\n"), frontend.sync(), frontend.sync())
        assert letters(await peer.until("Z")) == "2GEZ"
        await peer.expect("Z")
        assert values(await other.query("select pg_backend_pid()")) == pid


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_good_bye_in_the_middle_of_a_copy_ends_it(pooler: PoolerFactory, table: str, at_once: bool) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as other:
        async with logged_in(place) as peer:
            begin = frontend.query(f"copy {table} from stdin")
            if at_once:
                await peer.send(begin + frontend.terminate())
            else:
                await peer.send(begin)
                await peer.expect("G")
                await peer.send(frontend.copy_data(b"1\ta\n"), frontend.terminate())
        assert values(await other.query(f"select count(*) from {table}")) == [[b"0"]]


async def test_who_sends_the_rest_of_a_copy_that_has_failed_keeps_no_server(pooler: PoolerFactory, table: str) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as peer, logged_in(place) as other:
        late = frontend.copy_data(b"2\ttwo\n")
        await peer.send(frontend.query(f"copy {table} from stdin"))
        await peer.expect("G")
        await peer.send(frontend.copy_data(b"nonsense\ta\n") + late[:7])
        await peer.expect_error("22P02")
        await peer.expect("Z")
        await peer.send(late[7:], frontend.copy_done())
        assert values(await other.query("select 1")) == [[b"1"]]
        assert values(await peer.query(f"select count(*) from {table}")) == [[b"0"]]


async def test_a_flush_alone_keeps_no_server(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as peer, logged_in(place) as other:
        await peer.send(frontend.flush())
        assert values(await other.query("select 1")) == [[b"1"]]
        assert values(await peer.query("select 2")) == [[b"2"]]


async def test_what_may_not_come_in_a_copy_ends_its_client_alone(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as peer, logged_in(place) as other:
        await peer.send(frontend.parse(f"copy {table} from stdin"), frontend.bind(), frontend.execute())
        await peer.send(frontend.copy_data(b"1\ta\n"), frontend.sync(), frontend.query("select 1"))
        await peer.expect("12G")
        error = await peer.expect_error("08P01")
        assert error.fields["S"] == "FATAL"
        assert await peer.receive() is None
        assert values(await other.query(f"select count(*) from {table}")) == [[b"0"]]


@pytest.mark.parametrize("behind", [frontend.query("deallocate s"), frontend.parse("select 3", "s")])
async def test_what_would_wait_for_the_end_of_a_copy_ends_its_client_alone(
    pooler: PoolerFactory, postgres: PostgresServer, table: str, behind: bytes
) -> None:
    place = pooler(default_pool_size=1, max_prepared_statements=1)
    async with logged_in(place) as peer, logged_in(place) as other:
        for name in "st":  # the first is not at the server any more
            await peer.send(frontend.parse(f"select '{name}'", name), frontend.sync())
            await peer.expect("1Z")
        await peer.send(frontend.query(f"copy {table} from stdin") + behind)
        await peer.expect("G")
        error = await peer.expect_error("08P01")
        assert error.fields["S"] == "FATAL"
        assert await peer.receive() is None
        assert values(await other.query(f"select count(*) from {table}")) == [[b"0"]]
