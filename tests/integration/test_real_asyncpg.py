"""asyncpg in transaction mode as it is: its statement cache, its questions about types, its pool and what that resets."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import asyncpg
import pytest

from pgpool_core.testing import PostgresServer
from tests.conftest import Target
from tests.crowd import turns

pytestmark = [
    pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True),
    pytest.mark.pooler(default_pool_size=2),
]


@pytest.fixture
def kinds(postgres: PostgresServer) -> Iterator[None]:
    """Types that the driver has to ask about."""
    postgres.sql(
        "create type colour as enum ('red', 'green'); create domain small as int check (value < 100);"
        "create type thing as (name text, colours colour[], size small); create type span as range (subtype = float8);"
        "create table asyncpg_rows(id int, t text); grant all on asyncpg_rows to public",
        database="app",
    )
    yield
    postgres.sql(
        "drop table asyncpg_rows; drop type thing; drop type colour; drop domain small; drop type span", database="app"
    )


def together(target: Target, size: int, use: Callable[[Any, int], Coroutine[Any, Any, None]]) -> None:
    """`use(connection, number)` for `size` connections at once."""

    async def one(number: int) -> None:
        connection = await asyncpg.connect(target.url("app", "app"))
        try:
            await use(connection, number)
        finally:
            await connection.close()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(size):
                group.create_task(one(number))

    asyncio.run(run())


def test_the_statement_cache(target: Target) -> None:
    async def use(connection: Any, client: int) -> None:
        for number in range(60):
            assert await connection.fetchval("select $1::int + 1", number) == number + 1
            assert await connection.fetchval(f"select {client * 100 + number % 20}") == client * 100 + number % 20
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchval("select 1 / $1::int", 0)

    together(target, 6, use)


def test_a_statement_goes_from_server_to_server(target: Target) -> None:
    async def use(connection: Any, _: int) -> None:
        with turns(target.url("app", "app")) as turn:
            statement = await connection.prepare("select $1::text || '!', pg_backend_pid()")
            assert [part.name for part in statement.get_attributes()] == ["?column?", "pg_backend_pid"]
            pids = []
            for number in range(6):
                said, pid = await statement.fetchrow(str(number))
                assert said == f"{number}!"
                pids.append(pid)
                turn()
            assert target.is_direct or len(set(pids)) == 2
            assert await statement.explain("x")

    together(target, 1, use)


def test_types_are_asked_about(target: Target, kinds: None) -> None:
    async def use(connection: Any, client: int) -> None:
        for size in range(client, client + 5):
            row = await connection.fetchrow(
                "select $1::thing as t, $2::thing[] as a, $3::span as s, $4::colour as c",
                ("one", ["red", "green"], size),
                [("two", [], 1), None],
                (1.5, 2.5),
                "green",
            )
            assert tuple(row["t"]) == ("one", ["red", "green"], size)
            assert (row["a"][0]["name"], row["a"][1], row["c"]) == ("two", None, "green")
            assert (row["s"].lower, row["s"].upper) == (1.5, 2.5)
        assert await connection.fetchval("show jit") == "on"
        await connection.set_type_codec("colour", encoder=str.lower, decoder=str.upper, format="text")
        assert await connection.fetchval("select $1::colour", "RED") == "RED"
        await connection.reload_schema_state()
        assert await connection.fetchval("select 'red'::colour") == "RED"

    together(target, 6, use)


def test_cursors_in_transactions(target: Target) -> None:
    async def use(connection: Any, client: int) -> None:
        for _ in range(4):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                found = [row[0] async for row in connection.cursor("select generate_series(1, $1)", 120, prefetch=25)]
                assert found == [*range(1, 121)]
                cursor = await connection.cursor("select generate_series(1, 100)")
                assert await cursor.forward(90) == 90
                assert [row[0] for row in await cursor.fetch(20)] == [*range(91, 101)]
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    async with connection.transaction():
                        await connection.execute("create table never(a int)")
                assert await connection.fetchval("select $1::int", client) == client

    together(target, 5, use)


def test_a_listener_and_those_who_speak(target: Target) -> None:
    async def run() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener = await asyncpg.connect(target.url("app", "app"))
        await listener.add_listener("asyncpg_channel", lambda *said: heard.put_nowait(said[-1]))

        async def speak(client: int) -> None:
            speaker = await asyncpg.connect(target.url("app", "app"))
            for number in range(5):
                await speaker.execute("select pg_notify('asyncpg_channel', $1)", f"{client}.{number}")
            await speaker.close()

        await asyncio.gather(*(speak(client) for client in range(4)))
        said = [await asyncio.wait_for(heard.get(), 20) for _ in range(20)]
        assert sorted(said) == sorted(f"{client}.{number}" for client in range(4) for number in range(5))
        assert await listener.fetchval("select $1::int", 5) == 5
        await listener.reset()
        assert await listener.fetchval("select count(*) from pg_listening_channels()") == 0
        await listener.close()

    asyncio.run(run())


def test_a_pool_that_resets_what_is_given_back(target: Target) -> None:
    async def run() -> None:
        async with asyncpg.create_pool(
            target.url("app", "app"),
            min_size=6,
            max_size=6,
            server_settings={"application_name": "pooled", "work_mem": "5MB"},
        ) as pool:

            async def request(number: int) -> None:
                async with pool.acquire() as connection:
                    assert await connection.fetchval("show work_mem") == "5MB"
                    await connection.execute(f"set work_mem = '{6 + number % 5}MB'")
                    async with connection.transaction():
                        assert await connection.fetchval("show work_mem") == f"{6 + number % 5}MB"
                        assert await connection.fetchval("select $1::int", number) == number
                    assert await connection.fetchval("show application_name") == "pooled"

            await asyncio.gather(*(request(number) for number in range(60)))

    asyncio.run(run())


def test_copies(target: Target, kinds: None) -> None:
    async def use(connection: Any, client: int) -> None:
        rows = [(client, f"row {number}") for number in range(500)]
        assert await connection.copy_records_to_table("asyncpg_rows", records=rows) == "COPY 500"
        out = io.BytesIO()
        await connection.copy_from_query("select t from asyncpg_rows where id = $1", client, output=out)
        assert out.getvalue().count(b"\n") == 500
        await connection.copy_to_table("asyncpg_rows", source=io.BytesIO(out.getvalue()), columns=["t"])
        await connection.executemany(
            "update asyncpg_rows set t = $2 where id = $1 and t = $3", [(client, "x", "row 1")]
        )

    together(target, 4, use)


def test_a_table_that_changes_under_the_cache(target: Target, kinds: None) -> None:
    async def use(connection: Any, _: int) -> None:
        other = await asyncpg.connect(target.url("app", "app"))
        await other.execute("create table asyncpg_changing as select 1 as a")
        try:
            with turns(target.url("app", "app")) as turn:
                for kind in ("bigint", "text", "int using a::int"):
                    for _ in range(3):
                        assert str(await connection.fetchval("select a from asyncpg_changing")) == "1"
                        turn()
                    await other.execute(f"alter table asyncpg_changing alter a type {kind}")
                    assert str(await connection.fetchval("select a from asyncpg_changing")) == "1"
        finally:
            await other.execute("drop table asyncpg_changing")
            await other.close()

    together(target, 1, use)
