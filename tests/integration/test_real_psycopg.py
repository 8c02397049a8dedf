"""psycopg 3 in transaction mode as it is: prepared statements, cursors, pipelines, types, LISTEN."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

from pgpool_core.testing import PostgresServer
from tests.conftest import Target
from tests.crowd import crowd, turns

pytestmark = [
    pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True),
    pytest.mark.pooler(default_pool_size=2),
]
PID = "select pg_backend_pid()"


def connect(target: Target, **options: object) -> psycopg.Connection:
    return psycopg.connect(target.url("app", "app"), prepare_threshold=0, **options)


@pytest.fixture
def kinds(postgres: PostgresServer) -> Iterator[None]:
    """Types of one's own and a table."""
    postgres.sql(
        "create type mood as enum ('sad', 'happy'); create type place as (street text, number int);"
        "create table psycopg_rows(id int primary key, t text); grant all on psycopg_rows to public",
        database="app",
    )
    yield
    postgres.sql("drop table psycopg_rows; drop type mood; drop type place", database="app")


def test_a_statement_prepared_on_one_server_is_used_on_the_other(target: Target) -> None:
    with turns(target.url("app", "app")) as turn, connect(target, autocommit=True) as connection:
        pids = []
        for number in range(10):
            assert connection.execute("select %s::int + 1", (number,)).fetchone() == (number + 1,)
            pids.append(connection.execute(PID).fetchone())
            turn()
        if not target.is_direct:
            assert len(set(pids)) == 2 and all(a != b for a, b in itertools.pairwise(pids))


def test_many_clients_prepare_the_same_and_their_own(target: Target) -> None:
    def use(client: int) -> None:
        with connect(target, autocommit=True) as connection:
            connection.prepared_max = 10
            for number in range(60):
                assert connection.execute("select %s::int", (number,)).fetchone() == (number,)
                own = f"select {client} * 1000 + {number % 15} + %s"
                assert connection.execute(own, (7,)).fetchone() == (client * 1000 + number % 15 + 7,)

    crowd(6, use)


def test_pipelines_of_many_clients(target: Target) -> None:
    def use(client: int) -> None:
        with connect(target, autocommit=True) as connection:
            for _ in range(5):
                with connection.pipeline():
                    cursors = [connection.execute("select %s::text", (f"{client} {n}",)) for n in range(40)]
                assert [cursor.fetchone() for cursor in cursors] == [(f"{client} {n}",) for n in range(40)]
                with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
                    connection.execute("select 1/%s::int", (0,))
                    pipeline.sync()
                with connection.pipeline(), connection.transaction():
                    connection.execute("set local work_mem = '9MB'")
                    assert connection.execute("show work_mem").fetchone() == ("9MB",)

    crowd(5, use)


def test_named_cursors(target: Target) -> None:
    def use(client: int) -> None:
        with connect(target) as connection:
            for _ in range(3):
                with connection.cursor("forward") as first, connection.cursor("both", scrollable=True) as second:
                    first.itersize = 7
                    first.execute("select generate_series(1, %s)", (100 + client,))
                    second.execute("select generate_series(1, 50)")
                    assert sum(row[0] for row in first) == (100 + client) * (101 + client) // 2
                    second.scroll(40)
                    assert second.fetchone() == (41,)
                    second.scroll(0, mode="absolute")
                    assert second.fetchmany(3) == [(1,), (2,), (3,)]
                connection.commit()

    crowd(4, use)


def test_a_cursor_that_outlives_its_transaction(target: Target) -> None:
    with connect(target, autocommit=True) as connection:
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("select generate_series(1, 30)")
            assert cursor.fetchmany(10) == [(n,) for n in range(1, 11)]
            crowd(4, lambda _: other_work(target))
            assert cursor.fetchmany(10) == [(n,) for n in range(11, 21)]
        with turns(target.url("app", "app")) as turn:  # closed: nothing is kept any more
            turn()
            assert connection.execute("select name from pg_cursors where name <> ''").fetchall() == []


def other_work(target: Target) -> None:
    with connect(target, autocommit=True) as connection:
        for number in range(10):
            assert connection.execute("select %s::int", (number,)).fetchone() == (number,)


def test_nested_transactions(target: Target, kinds: None) -> None:
    def use(client: int) -> None:
        with connect(target, autocommit=True) as connection:
            with connection.transaction():
                connection.execute("insert into psycopg_rows values (%s, 'kept')", (client * 10,))
                with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                    connection.execute("insert into psycopg_rows values (%s, 'twice')", (client * 10,))
                with connection.transaction(force_rollback=True):
                    connection.execute("insert into psycopg_rows values (%s, 'undone')", (client * 10 + 1,))
                with connection.transaction("named"), connection.cursor() as cursor:
                    cursor.executemany(
                        "insert into psycopg_rows values (%s, %s)", [(client * 10 + n, "many") for n in (2, 3)]
                    )
            rows = connection.execute("select t from psycopg_rows where id / 10 = %s order by id", (client,))
            assert rows.fetchall() == [("kept",), ("many",), ("many",)]

    crowd(6, use)


def test_settings_follow_and_the_driver_sees_them(target: Target) -> None:
    with (
        turns(target.url("app", "app")) as turn,
        connect(target, autocommit=True) as one,
        connect(target, autocommit=True) as two,
    ):
        one.execute("set time zone 'Asia/Tokyo'")
        two.execute("select set_config('timezone', 'America/Lima', false)")
        two.execute(sql.SQL("set search_path = {}, public").format(sql.Identifier('odd "name"')))
        for _ in range(4):
            for connection, zone in ((one, "Asia/Tokyo"), (two, "America/Lima")):
                row = connection.execute("select '2024-01-01 00:00Z'::timestamptz").fetchone()
                assert row == (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),)
                assert row[0].tzinfo == ZoneInfo(zone)
            assert two.execute("show search_path").fetchone() == ('"odd ""name""", public',)
            assert one.execute("show search_path").fetchone() == ('"$user", public',)
            turn()


def test_types_of_ones_own(target: Target, kinds: None) -> None:
    def use(client: int) -> None:
        with connect(target, autocommit=True) as connection:
            mood = EnumInfo.fetch(connection, "mood")
            place = CompositeInfo.fetch(connection, "place")
            assert mood is not None and place is not None
            register_enum(mood, connection)
            register_composite(place, connection)
            assert mood.enum is not None and place.python_type is not None
            for _ in range(5):
                row = connection.execute(
                    "select %s::mood, %s::mood[], %s::place",
                    (mood.enum["sad"], [mood.enum["happy"]], place.python_type("Hill", client)),
                ).fetchone()
                assert row == (mood.enum["sad"], [mood.enum["happy"]], ("Hill", client))

    crowd(4, use)


def test_copy_both_ways(target: Target, kinds: None) -> None:
    def use(client: int) -> None:
        with connect(target) as connection, connection.cursor() as cursor:
            with cursor.copy("copy psycopg_rows from stdin") as into:
                for number in range(200):
                    into.write_row((client * 1000 + number, f"{client}"))
            connection.commit()
            with cursor.copy("copy (select t from psycopg_rows where id / 1000 = %s) to stdout", (client,)) as out:
                assert list(out.rows()) == [(f"{client}",)] * 200

    crowd(4, use)


def test_a_table_that_changes_under_a_prepared_statement(target: Target, kinds: None) -> None:
    with (
        turns(target.url("app", "app")) as turn,
        connect(target, autocommit=True) as reader,
        connect(target, autocommit=True) as other,
    ):
        other.execute("create table changing as select 1 as a")
        try:
            for _ in range(4):
                assert reader.execute("select a from changing where a > %s", (0,)).fetchall() == [(1,)]
                turn()
            other.execute("alter table changing add b int default 2, alter a type bigint")
            for _ in range(4):
                turn()
                assert other.execute("select a from changing where a > %s", (0,)).fetchall() == [(1,)]
        finally:
            other.execute("drop table changing")


def test_notifications_reach_their_listener(target: Target) -> None:
    with connect(target, autocommit=True) as listener:
        listener.execute("listen crowd")

        def speak(client: int) -> None:
            with connect(target, autocommit=True) as speaker:
                for number in range(5):
                    speaker.execute("select pg_notify('crowd', %s)", (f"{client}.{number}",))

        crowd(4, speak)
        heard = [said.payload for said in listener.notifies(timeout=20, stop_after=20)]
        assert sorted(heard) == sorted(f"{client}.{number}" for client in range(4) for number in range(5))
        listener.execute("unlisten *")
    with turns(target.url("app", "app")) as turn, connect(target, autocommit=True) as later:
        for _ in range(3):
            assert later.execute("select pg_listening_channels()").fetchall() == []
            turn()


def test_a_client_knows_its_own_notifications(target: Target) -> None:
    with connect(target, autocommit=True) as listener:
        listener.execute("listen own")
        listener.execute("notify own, 'mine'")
        said = next(listener.notifies(timeout=20, stop_after=1))
        assert (said.channel, said.payload, said.pid) == ("own", "mine", listener.info.backend_pid)
