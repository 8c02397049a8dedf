"""psycopg2 in transaction mode as it is: sessions with characteristics, cursors that are held, notifications by poll."""

from __future__ import annotations

import io
import select
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import pytest

from pgpool_core.testing import PostgresServer
from tests.conftest import Target
from tests.crowd import crowd, turns

pytestmark = [
    pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True),
    pytest.mark.pooler(default_pool_size=2),
]


def connect(target: Target, **options: Any) -> closing[Any]:
    return closing(psycopg2.connect(target.url("app", "app"), **options))


@pytest.fixture
def rows(postgres: PostgresServer) -> Iterator[str]:
    """An empty table."""
    postgres.sql(
        "create table psycopg2_rows(id int, t text); grant all on psycopg2_rows to public;"
        "create type pair as (a int, b text)",
        database="app",
    )
    yield "psycopg2_rows"
    postgres.sql("drop table psycopg2_rows; drop type pair", database="app")


def test_named_cursors_within_transactions(target: Target) -> None:
    def use(client: int) -> None:
        with connect(target) as connection:
            for _ in range(5):
                with connection, connection.cursor("portal") as cursor:
                    cursor.itersize = 9
                    cursor.execute("select generate_series(1, %s)", (100 + client,))
                    assert len(list(cursor)) == 100 + client

    crowd(5, use)


def test_a_cursor_with_hold(target: Target) -> None:
    with connect(target) as connection, connect(target) as other:
        with connection.cursor("held", withhold=True) as held:
            held.execute("select generate_series(1, 50)")
            assert held.fetchmany(5) == [(n,) for n in range(1, 6)]
            connection.commit()
            for number in range(5):
                with other, other.cursor() as cursor:
                    cursor.execute("select %s", (number,))
                    assert cursor.fetchone() == (number,)
            assert held.fetchmany(5) == [(n,) for n in range(6, 11)]
            connection.commit()
            assert len(held.fetchall()) == 40
        connection.commit()
        with turns(target.url("app", "app")) as turn, connection.cursor() as cursor:
            turn()
            cursor.execute("select name from pg_cursors where name <> ''")
            assert cursor.fetchall() == []


@pytest.mark.parametrize("autocommit", [False, True])
def test_the_characteristics_of_a_session(target: Target, rows: str, autocommit: bool) -> None:
    with turns(target.url("app", "app")) as turn, connect(target) as reader, connect(target) as writer:
        reader.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=autocommit)
        writer.set_session(autocommit=autocommit)
        for _ in range(4):
            with reader, reader.cursor() as cursor:
                cursor.execute(
                    "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
                )
                assert cursor.fetchone() == ("serializable", "on")
            turn()
            with writer, writer.cursor() as cursor:
                cursor.execute(f"insert into {rows}(id) values (1)")
            with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), reader, reader.cursor() as cursor:
                cursor.execute(f"insert into {rows}(id) values (2)")
            turn()
        reader.set_session(isolation_level="DEFAULT", readonly="DEFAULT")
        for _ in range(2):
            with reader, reader.cursor() as cursor:
                cursor.execute(
                    "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
                )
                assert cursor.fetchone() == ("read committed", "off")
            turn()


def test_the_encoding_of_a_client(target: Target) -> None:
    with turns(target.url("app", "app")) as turn, connect(target) as one, connect(target) as two:
        one.set_client_encoding("LATIN1")
        for _ in range(3):
            for connection in (one, two):
                with connection, connection.cursor() as cursor:
                    cursor.execute("select %s || chr(252)", ("é",))
                    assert cursor.fetchone() == ("éü",)
            turn()


def test_notifications_by_poll(target: Target) -> None:
    with connect(target) as listener, connect(target) as speaker:
        listener.autocommit = speaker.autocommit = True
        with listener.cursor() as cursor, speaker.cursor() as other:
            cursor.execute("listen poll")
            for number in range(3):
                other.execute("select pg_notify('poll', %s)", (str(number),))
            while len(listener.notifies) < 3:
                assert select.select([listener], [], [], 20)[0], "nothing was heard"
                listener.poll()
            assert [(said.channel, said.payload) for said in listener.notifies] == [("poll", str(n)) for n in range(3)]
            cursor.execute("unlisten poll")


def test_statements_prepared_in_sql(target: Target) -> None:
    with connect(target) as one, connect(target) as two:
        one.autocommit = two.autocommit = True
        with one.cursor() as cursor, two.cursor() as other:
            cursor.execute("prepare plan as select $1::int * 2")
            psycopg2.extras.execute_batch(cursor, "execute plan (%s)", [(n,) for n in range(20)])
            for number in range(5):
                other.execute("select name from pg_prepared_statements where from_sql")
                assert other.fetchall() == []
                cursor.execute("execute plan (%s)", (number,))
                assert cursor.fetchone() == (number * 2,)
            cursor.execute("deallocate plan")
            with pytest.raises(psycopg2.errors.InvalidSqlStatementName):
                cursor.execute("execute plan (1)")


def test_copies_composites_and_large_objects(target: Target, rows: str) -> None:
    def use(client: int) -> None:
        with connect(target) as connection:
            with connection, connection.cursor() as cursor:
                lines = "".join(f"{client}\trow {n}\n" for n in range(300))
                cursor.copy_expert(f"copy {rows} from stdin", io.StringIO(lines))
            with connection, connection.cursor() as cursor:
                out = io.StringIO()
                cursor.copy_expert(f"copy (select * from {rows} where id = {client}) to stdout", out)
                assert sorted(out.getvalue().splitlines()) == sorted(
                    lines.splitlines()
                )  # where rows land is the server's affair
            with connection, connection.cursor() as cursor:
                psycopg2.extras.register_composite("pair", cursor)
                cursor.execute("select (%s, 'b')::pair", (client,))
                assert cursor.fetchone()[0] == (client, "b")
            with connection:
                large = connection.lobject(mode="wb")
                large.write(b"x" * 100_000)
            with connection:
                again = connection.lobject(large.oid, "rb")
                assert len(again.read()) == 100_000
                again.unlink()

    crowd(4, use)
