"""Drivers of both protocols read the console: psycopg 3 and asyncpg with parameters and in binary, psycopg2, and bare messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest

from pgpool_core.testing import Message, PoolerProcess, frontend
from tests.conftest import in_front_of
from tests.peers import letters, logged_in, values

TABLES = (
    *("STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "POOLS", "PEER_POOLS", "CLIENTS", "SERVERS", "SOCKETS"),
    *("ACTIVE_SOCKETS", "DATABASES", "PEERS", "USERS", "LISTS", "CONFIG", "MEM", "DNS_HOSTS", "DNS_ZONES", "VERSION"),
    *("STATE", "FDS", "PINS", "LEAKS", "CHANNELS", "HOSTS", "LOGINS"),
)
EMPTY = {"PEER_POOLS", "PEERS", "DNS_HOSTS", "DNS_ZONES", "PINS", "LEAKS", "CHANNELS"}


@pytest.fixture(scope="module")
def place(postgres: Any) -> Iterator[PoolerProcess]:
    """A pooler with a client that has a server."""
    process = in_front_of(postgres, "pgpool_core", workers=2)
    with process, psycopg.connect(process.url("app", "app"), autocommit=True, application_name="reader") as client:
        client.execute("select 1")
        yield process


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_psycopg_prepares_every_show(place: PoolerProcess, binary: bool) -> None:
    url = place.url("admin", "pgbouncer")
    with (
        psycopg.connect(url, autocommit=True) as plain,
        psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection,
    ):
        for what in TABLES:
            simple = plain.execute(f"SHOW {what}".encode())
            extended = connection.execute(f"SHOW {what}".encode(), prepare=True, binary=binary)
            assert simple.description
            assert extended.description
            columns = [(column.name, column.type_code) for column in simple.description]
            assert [(column.name, column.type_code) for column in extended.description] == columns
            assert bool(extended.fetchall()) == (what not in EMPTY), what


def test_asyncpg_reads_every_show(place: PoolerProcess) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(place.url("admin", "pgbouncer"))
        try:
            for what in TABLES:
                rows = await connection.fetch(f"SHOW {what}")
                assert bool(rows) == (what not in EMPTY), what
            (row,) = await connection.fetch("SHOW POOLS WHERE database = $1 AND cl_active >= $2", "app", 1)
            assert (row["user"], row["cl_active"], row["pool_mode"]) == ("app", 1, "transaction")
            total = await connection.fetchval("SELECT total_query_count FROM stats WHERE database = 'app'")
            assert isinstance(total, Decimal)
            assert await connection.fetchval("SELECT 1") == 1
            with pytest.raises(asyncpg.exceptions.PostgresError, match="invalid command"):
                await connection.fetch("SHOW nonsense")
            assert await connection.execute("RELOAD") == "RELOAD"
            async with connection.transaction():
                assert await connection.fetch("SHOW VERSION")
            await connection.reset()
        finally:
            await connection.close()

    asyncio.run(main())


def test_drivers_that_begin_transactions_keep_their_bearings(place: PoolerProcess) -> None:
    with psycopg.connect(place.url("stats", "pgbouncer")) as connection:
        status = psycopg.pq.TransactionStatus
        assert connection.execute(b"SHOW VERSION").fetchone()
        assert connection.info.transaction_status == status.INTRANS
        connection.commit()
        assert connection.info.transaction_status == status.IDLE
        with pytest.raises(psycopg.Error):
            connection.execute(b"SHOW NONSENSE")
        assert connection.info.transaction_status == status.INERROR
        connection.rollback()
        assert connection.info.transaction_status == status.IDLE
    old = psycopg2.connect(place.url("stats", "pgbouncer"))
    try:
        with old, old.cursor() as cursor:
            cursor.execute("SHOW POOLS WHERE database = %s", ("app",))
            assert len(cursor.fetchall()) == 1
    finally:
        old.close()


@pytest.mark.parametrize(
    ("query", "tag", "answer"),
    [
        ("SELECT 1", "SELECT 1", [[b"1"]]),
        ("select 'x' as ping;", "SELECT 1", [[b"x"]]),
        ("SELECT version()", "SELECT 1", [[b"PgBouncer 1.26.1"]]),
        ("select pg_catalog.version()", "SELECT 1", [[b"PgBouncer 1.26.1"]]),
        ("SHOW server_version", "SHOW", [[b"1.26.1/bouncer"]]),
        ("SHOW TRANSACTION ISOLATION LEVEL", "SHOW", [[b"read committed"]]),
        ("SET extra_float_digits = 3", "SET", []),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET", []),
        ("SET application_name = 'PostgreSQL JDBC Driver'", "SET", []),
        ("SET client_encoding TO 'UTF8'", "SET", []),
        ("DISCARD ALL", "DISCARD ALL", []),
        ("SHOW LISTS WHERE list = 'pools' AND items > 0", "SHOW", [[b"pools", b"2"]]),
        ("SHOW LISTS WHERE list LIKE '%clients' ORDER BY list DESC LIMIT 1", "SHOW", [[b"used_clients", b"2"]]),
        ("SELECT key FROM state ORDER BY key OFFSET 1", "SHOW", [[b"paused"], [b"suspended"]]),
    ],
)
async def test_what_drivers_and_tools_say_is_answered(
    place: PoolerProcess, query: str, tag: str, answer: list[list[bytes | None]]
) -> None:
    async with logged_in(place, "stats", "pgbouncer") as peer:
        simple = await peer.query(query)
        (complete,) = [m for m in simple if m.type == b"C"]
        assert complete.body == tag.encode() + b"\0"
        assert values(simple) == answer


async def test_several_commands_in_one_message_are_answered_in_turn_up_to_the_first_error(place: PoolerProcess) -> None:
    async with logged_in(place, "stats", "pgbouncer") as peer:
        answer = await peer.query("SHOW VERSION; SHOW STATE -- ; not here\n; SHOW NOTHING; SHOW VERSION")
        assert letters(answer) == "TDCTDDDCEZ"
        assert letters(await peer.query(" ; -- nothing\n")) == "IZ"


async def test_a_client_that_breaks_off_in_an_error_is_heard_again_after_sync(place: PoolerProcess) -> None:
    async with logged_in(place, "stats", "pgbouncer") as peer:
        parse = Message(b"P", b"\0SHOW NOTHING\0\0\0")
        rest = [Message(b"B", b"\0\0\0\0\0\0\0\0"), Message(b"E", b"\0\0\0\0\0"), Message(b"Q", b"SHOW VERSION\0")]
        await peer.send(parse, *rest, Message(b"S", b""))
        assert letters(await peer.until("Z")) == "EZ"
        assert letters(await peer.query("SHOW VERSION")) == "TDCZ"


async def test_a_portal_gives_its_rows_in_parts(place: PoolerProcess) -> None:
    async with logged_in(place, "stats", "pgbouncer") as peer:
        await peer.send(
            Message(b"P", b"s\0SHOW STATE\0\0\0"),
            Message(b"B", b"p\0s\0\0\0\0\0\0\0"),
            Message(b"E", b"p\0\0\0\0\2"),
            Message(b"E", b"p\0\0\0\0\2"),
            Message(b"C", b"Ss\0"),
            Message(b"D", b"Ss\0"),
            Message(b"S", b""),
        )
        assert letters(await peer.until("Z")) == "12DDsDC3EZ"


async def test_the_jdbc_drivers_way_reads_a_table(place: PoolerProcess) -> None:
    login = {"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "Asia/Tokyo", "extra_float_digits": "2"}
    async with logged_in(place, "stats", "pgbouncer", parameters=login) as peer:

        async def ask(sql: str) -> list[Message]:
            describe = frontend.describe(kind=b"P")
            await peer.send(frontend.parse(sql), frontend.bind(), describe, frontend.execute(), frontend.sync())
            return await peer.until("Z")

        for setting in ("SET extra_float_digits = 3", "SET application_name = 'PostgreSQL JDBC Driver'"):
            assert letters(await ask(setting)) == "12nNCZ"
        rows = values(await ask("SHOW DATABASES"))
        assert [row[0] for row in rows] == [b"*", b"app", b"pgbouncer"]
        assert letters(await ask("SHOW TRANSACTION ISOLATION LEVEL")) == "12TDCZ"


def test_psycopg2_reads_every_show(place: PoolerProcess) -> None:
    connection = psycopg2.connect(place.url("admin", "pgbouncer"))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for what in TABLES:
                cursor.execute(f"SHOW {what};")
                assert bool(cursor.fetchall()) == (what not in EMPTY), what
    finally:
        connection.close()
