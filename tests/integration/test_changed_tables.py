"""Prepared statements whose table has changed: sent once more where the client cannot tell, refused where it must."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from itertools import count

import asyncpg
import psycopg
import pytest

from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, frontend
from tests.conftest import PoolerFactory
from tests.peers import letters, logged_in, values

NUMBERS = count(1)
SIZE = {"default_pool_size": 1, "function_check_period": 0}


@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[str]:
    """A table of one column and one row, under a name that nobody has prepared anything about."""
    name = f"changing_{next(NUMBERS)}"
    postgres.sql(f"create table {name} as select 1 as a; grant all on {name} to public", database="app")
    yield name
    postgres.sql(f"drop table {name}", database="app")


def change(postgres: PostgresServer, table: str) -> None:
    postgres.sql(f"alter table {table} add b int default 2", database="app")


async def ask(client: ScriptedPeer, *parts: bytes) -> list[Message]:
    await client.send(*parts, frontend.sync())
    return await client.until("Z")


def use(name: str, *given: str) -> bytes:
    """What libpq and node-postgres send to run a prepared statement."""
    return frontend.bind(name, values=given) + frontend.describe("", b"P") + frontend.execute()


def blind(name: str, *given: str) -> bytes:
    """What asyncpg sends, and the JDBC driver from the second time on."""
    return frontend.bind(name, values=given) + frontend.execute()


def said(messages: Sequence[Message]) -> tuple[str, list[list[bytes | None]]]:
    return letters(messages), values(messages)


async def test_a_group_that_describes_its_portal_is_sent_once_more(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        await ask(client, frontend.parse(f"select * from {table} where a > $1", "s"))
        assert said(await ask(client, use("s", "0"))) == ("2TDCZ", [[b"1"]])
        change(postgres, table)
        assert said(await ask(client, use("s", "0"))) == ("2TDCZ", [[b"1", b"2"]])
        assert said(await ask(client, blind("s", "0"))) == ("2DCZ", [[b"1", b"2"]])


async def test_the_table_of_another_database_is_another_one(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    postgres.sql(f"create table {table} as select 1 as a; grant all on {table} to public", database="other")
    place = pooler(**SIZE)
    async with logged_in(place) as client, logged_in(place, database="other") as other:
        for each in (client, other):
            await ask(each, frontend.parse(f"select * from {table}", "s"))
            await ask(each, blind("s"))
        change(postgres, table)
        assert said(await ask(client, use("s"))) == ("2TDCZ", [[b"1", b"2"]])
        assert said(await ask(other, blind("s"))) == ("2DCZ", [[b"1"]])
    postgres.sql(f"drop table {table}", database="other")


async def test_a_group_that_comes_byte_by_byte_too(pooler: PoolerFactory, postgres: PostgresServer, table: str) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        await ask(client, frontend.parse(f"select * from {table}", "s"))
        await ask(client, use("s"))
        change(postgres, table)
        await client.send_bytewise(use("s") + frontend.sync())
        assert said(await client.until("Z")) == ("2TDCZ", [[b"1", b"2"]])


async def test_a_group_that_does_not_say_what_it_reads_hears_the_error(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        await ask(client, frontend.parse(f"select * from {table}", "s"))
        await ask(client, blind("s"))
        change(postgres, table)
        (error, _) = await ask(client, blind("s"))
        assert error.fields["C"] == "0A000"
        assert said(await ask(client, blind("s"))) == ("2DCZ", [[b"1", b"2"]])


async def test_a_statement_that_is_described_again_and_used(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    """A driver that has just prepared a text would never hear that error from PostgreSQL."""
    async with logged_in(front := pooler(**SIZE)) as one, logged_in(front) as two:
        await ask(one, frontend.parse(f"select * from {table} where a > $1", "s"), blind("s", "0"))
        change(postgres, table)
        answer = await ask(two, frontend.parse(f"select * from {table} where a > $1", "t"), frontend.describe("t"))
        assert letters(answer) == "1tTZ"
        assert answer[2].body[:2] == b"\0\2", "columns"
        postgres.sql(f"alter table {table} add c int default 3", database="app")
        answer = await ask(two, frontend.describe("t"), blind("t", "0"))
        assert said(answer) == ("tT2DCZ", [[b"1", b"2", b"3"]])


async def test_before_its_sync_has_come(pooler: PoolerFactory, postgres: PostgresServer, table: str) -> None:
    """asyncpg prepares with a Flush; a client that says only later what it wants to read has said nothing yet."""
    async with logged_in(pooler(**SIZE)) as client:
        await ask(client, frontend.parse(f"select * from {table}", "s"), blind("s"))
        change(postgres, table)
        await client.send(frontend.describe("s"), frontend.flush())
        assert [(await client.receive()).body[:2] for _ in range(2)] == [b"\0\0", b"\0\2"]
        assert said(await ask(client, blind("s"))) == ("2DCZ", [[b"1", b"2"]])
        postgres.sql(f"alter table {table} add c int default 3", database="app")
        await client.send(frontend.bind("s"), frontend.flush())
        assert (await client.receive()).fields["C"] == "0A000"
        assert letters(await ask(client, frontend.execute())) == "Z"
        assert said(await ask(client, blind("s"))) == ("2DCZ", [[b"1", b"2", b"3"]])


async def test_every_client_that_does_not_say_what_it_reads_hears_the_error_once(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    async with logged_in(front := pooler(**SIZE)) as one, logged_in(front) as two, logged_in(front) as three:
        for client in (one, two, three):
            await ask(client, frontend.parse(f"select * from {table} where a > $1", "s"), blind("s", "0"))
        change(postgres, table)
        assert letters(await ask(one, use("s", "0"))) == "2TDCZ"
        (error, _) = await ask(two, blind("s", "0"))
        assert {key: error.fields[key] for key in "SVCMR"} == {
            "S": "ERROR",
            "V": "ERROR",
            "C": "0A000",
            "M": "cached plan must not change result type",
            "R": "RevalidateCachedQuery",
        }
        assert said(await ask(two, blind("s", "0"))) == ("2DCZ", [[b"1", b"2"]])
        assert letters(await ask(three, use("s", "0"), blind("s", "0"))) == "2TDC2DCZ"
        assert letters(await ask(one, blind("s", "0"))) == "2DCZ"


async def test_values_in_binary_need_a_declared_type(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        text = f"select * from {table} where a > $1"
        await ask(client, frontend.parse(text, "inferred"), frontend.parse(text, "declared", types=[23]))
        zero = frontend.describe("", b"P") + frontend.execute()
        for name in ("inferred", "declared"):
            assert letters(await ask(client, binary(name) + zero)) == "2TDCZ"
        change(postgres, table)
        assert letters(await ask(client, binary("inferred") + zero)) == "EZ"
        assert said(await ask(client, binary("declared") + zero)) == ("2TDCZ", [[b"1", b"2"]])


def binary(name: str) -> bytes:
    """A Bind of one int4, zero, in binary."""
    return bytes(Message(b"B", b"\0" + name.encode() + b"\0" + struct.pack("!HHHiiH", 1, 1, 1, 4, 0, 0)))


async def test_what_has_run_is_not_run_again(pooler: PoolerFactory, postgres: PostgresServer, table: str) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        await ask(client, frontend.parse(f"select * from {table}", "s"), frontend.parse("select 7", "seven"))
        await ask(client, use("s"), use("seven"))
        change(postgres, table)
        assert letters(await ask(client, use("seven"), use("s"))) == "2TDCEZ"
        assert letters(await ask(client, use("s"))) == "2TDCZ"
        change_again = f"alter table {table} add c int default 3"
        postgres.sql(change_again, database="app")
        await client.send(use("s"), frontend.sync(), use("seven"), frontend.sync())
        assert letters(await client.until("Z")) == "EZ", "something stands behind its Sync"
        assert letters(await client.until("Z")) == "2TDCZ"


async def test_the_first_group_of_a_transaction_block(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        await ask(client, frontend.parse(f"select * from {table}", "s"), use("s"))
        change(postgres, table)
        await client.query("begin isolation level repeatable read;")
        assert said(await ask(client, use("s"))) == ("2TDCZ", [[b"1", b"2"]])
        assert values(await client.query("show transaction_isolation")) == [[b"repeatable read"]]
        assert (await client.query("commit"))[0].text == "COMMIT"
        postgres.sql(f"alter table {table} add c int default 3", database="app")
        await client.query("begin")
        await client.query("select 1")
        assert letters(await ask(client, use("s"))) == "EZ", "not the first: the transaction has failed"
        assert (await client.query("commit"))[0].text == "ROLLBACK"
        assert letters(await ask(client, use("s"))) == "2TDCZ"


async def test_the_table_is_gone_when_it_is_tried_again(
    pooler: PoolerFactory, postgres: PostgresServer, table: str
) -> None:
    async with logged_in(pooler(**SIZE)) as client:
        await client.query(f"create view v_{table} as select * from {table}")
        await ask(client, frontend.parse(f"select * from v_{table}", "s"), use("s"))
        await client.query(f"drop view v_{table}")
        (error, _) = await ask(client, use("s"))
        assert error.fields["C"] == "42P01"
        await client.query(f"create view v_{table} as select a, a as b from {table}")
        assert said(await ask(client, use("s"))) == ("2TDCZ", [[b"1", b"1"]])
        await client.query(f"drop view v_{table}")


def test_psycopg_notices_nothing(pooler: PoolerFactory, postgres: PostgresServer, table: str) -> None:
    with psycopg.connect(pooler(**SIZE).url("app", "app"), prepare_threshold=0) as connection:
        text = f"select * from {table} where a > %s"
        for number in range(1, 4):
            assert len(connection.execute(text, (0,)).fetchone() or ()) == number
            connection.commit()
            assert len(connection.execute(text, (0,), binary=True).fetchone() or ()) == number
            connection.commit()
            postgres.sql(f"alter table {table} add c{number} int default 3", database="app")
            if number == 2:
                connection.autocommit = True


def test_asyncpg_heals_itself_on_every_connection(pooler: PoolerFactory, postgres: PostgresServer, table: str) -> None:
    async def use_it() -> None:
        url = pooler(**SIZE).url("app", "app")
        text = f"select * from {table} where a > $1"
        before = [await asyncpg.connect(url) for _ in range(3)]
        for connection in before:
            assert [len(row) for row in await connection.fetch(text, 0)] == [1]
        change(postgres, table)
        after = await asyncpg.connect(url)
        for connection in (after, *before, *before, after):
            assert [len(row) for row in await connection.fetch(text, 0)] == [2]
            assert [len(row) for row in await connection.fetch(text, 0)] == [2]
        for connection in (after, *before):
            await connection.close()

    asyncio.run(use_it())
