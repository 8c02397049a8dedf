"""Mistakes that are easily made with a pool: each error names the cause and the cure, and nothing is spoilt by it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

import pgpool_core
from pgpool_core import ConfigError, ConnectionLost, EncodeError, Pool, PoolClosed, PoolError
from pgpool_core.client import sqlstate
from pgpool_core.testing import PostgresServer
from tests.in_process import own_or_lent

Mistake = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def dsn(postgres: PostgresServer) -> str:
    return postgres.dsn("app", "app")


@pytest.fixture(params=["own", "lent"])
async def pool(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Pool]:
    """A pool with a connection of its own, then one that borrows that of a proxy."""
    async with own_or_lent(request.param, dsn, 1) as pool:
        yield pool


async def commit_inside(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await connection.execute("commit")


async def two_at_once(pool: Pool) -> None:
    async with pool.acquire() as connection, trio.open_nursery() as nursery:
        nursery.start_soon(connection.fetch, "select pg_sleep(20)")
        await trio.lowlevel.checkpoint()
        try:
            await connection.fetch("select 1")
        finally:
            nursery.cancel_scope.cancel("the test")


async def result_too_soon(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.pipeline() as pipeline:
        pipeline.fetch("select 1").result()


async def result_awaited(pool: Any) -> None:
    async with pool.acquire() as connection, connection.pipeline() as pipeline:
        await pipeline.fetch("select 1")


async def records_of_texts(pool: Any) -> None:
    async with pool.transaction() as connection:
        await connection.execute("create temp table mistaken (word text) on commit drop")
        await connection.copy_records("mistaken", ["one", "two"])


async def copy_in_a_pipeline(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("create temp table mistaken (word text)")
        async with connection.pipeline() as pipeline:
            pipeline.execute("copy mistaken from stdin")
            pipeline.fetch("select 1")


async def copy_of_many(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("create temp table mistaken (word text)")
        await connection.executemany("copy mistaken from stdin", [(), ()])


async def more_arguments_than_fit(pool: Pool) -> None:
    numbers = range(1, 65_537)
    await pool.fetch(f"select 1 where 1 in ({','.join(f'${number}::int' for number in numbers)})", *numbers)


async def listen_to_a_list(pool: Any) -> None:
    async with pool.listen(["one", "two"]):
        pass


MISTAKES: list[tuple[str, Mistake, type[Exception], str]] = [
    ("a query in bytes", lambda pool: pool.fetch(b"select 1"), TypeError, "a query is a str, not bytes"),
    ("no query", lambda pool: pool.execute(None), TypeError, "a query is a str, not NoneType"),
    ("arguments as a tuple", lambda pool: pool.fetch("select $1::int + $2::int", (1, 2)), EncodeError, r"takes 2 arguments, and 1 was given: .* \*args"),
    ("too few arguments", lambda pool: pool.fetch("select $1::int"), EncodeError, "takes 1 argument, and 0 were given"),
    ("in ($1)", lambda pool: pool.fetch("select 1 where 1 in ($1)", [1, 2]), EncodeError, r"as int4: .*= any\(\$1\)"),
    ("no type", lambda pool: pool.fetch("select $1", 5), EncodeError, r"as text: a str is expected, not int .*\$1::int8"),
    ("values for rows", lambda pool: pool.executemany("select $1::int", [1, 2]), TypeError, r"not int: one value is \(value,\)"),
    ("texts for rows", lambda pool: pool.executemany("select $1::text", ["ab"]), TypeError, "not str"),
    ("dicts for rows", lambda pool: pool.executemany("select $1::int", [{"id": 1}]), TypeError, "not dict"),
    ("texts as records", records_of_texts, TypeError, "not str"),
    ("COPY without a stream", lambda pool: pool.fetch("copy (select 1) to stdout"), PoolError, r"use copy_out\(\)"),
    ("COPY in a script", lambda pool: pool.execute("copy (select 1) to stdout"), PoolError, r"use copy_out\(\)"),
    ("COPY in a pipeline", copy_in_a_pipeline, PoolError, r"use copy_in\(\)"),
    ("COPY of many", copy_of_many, PoolError, r"use copy_in\(\)"),
    ("BEGIN of its own", lambda pool: pool.execute("begin"), PoolError, r"use pool\.transaction\(\)"),
    ("more arguments than fit", more_arguments_than_fit, EncodeError, r"65536 parameters, and at most 65535 can be sent .*any\(\$1\)"),
    ("COMMIT of its own", commit_inside, PoolError, "leave COMMIT and ROLLBACK to the block"),
    ("two at once", two_at_once, trio.BusyResourceError, r"acquire\(\) one for each task"),
    ("a result too soon", result_too_soon, PoolError, "behind the block"),
    ("a query of a pipeline awaited", result_awaited, TypeError, r"its result\(\) is there"),
    ("a list of channels", listen_to_a_list, TypeError, "one argument each"),
    ("acquire awaited", lambda pool: pool.acquire().__await__(), TypeError, r"`async with pool\.acquire\(\) as connection`"),
    ("acquire not entered", lambda pool: pool.acquire().fetch("select 1"), AttributeError, r"then connection\.fetch"),
    ("transaction not entered", lambda pool: pool.transaction().execute("select 1"), AttributeError, r"then connection\.execute"),
    ("a cursor not entered", lambda pool: pool.cursor("select 1").receive(), AttributeError, r"then rows\.receive"),
]  # fmt: skip


async def test_a_mistake_is_told_with_its_cure(pool: Pool) -> None:
    for name, mistake, error, text in MISTAKES:
        with trio.fail_after(20), pytest.raises((error, ExceptionGroup)) as caught:
            await mistake(pool)
        raised = caught.value
        if isinstance(raised, ExceptionGroup):
            (raised,) = raised.exceptions
        assert isinstance(raised, error), name
        assert re.search(text, str(raised)), f"{name}: {raised}"
        assert await pool.fetchval("select 1") == 1, f"after {name}"
        assert pool.statistics().in_use == 0, f"after {name}"


async def test_some_syntax_errors_come_with_advice(pool: Pool) -> None:
    for sql, advice in (("select %s", "$1"), ("select :id", "$1"), ("select 1; select 2", "execute()")):
        with pytest.raises(sqlstate.SyntaxOrAccessError) as caught:
            await pool.fetch(sql)
        (note,) = caught.value.__notes__
        assert advice in note


async def test_a_row_says_which_columns_it_has(pool: Pool) -> None:
    row: Any = await pool.fetchrow("select 1 as id, 'x' as name")
    with pytest.raises(KeyError, match="no column 'nam': it has id, name"):
        row["nam"]
    with pytest.raises(AttributeError, match="no column 'nam': it has id, name"):
        _ = row.nam
    with pytest.raises(AttributeError, match="cannot be changed"):
        row.name = "y"
    assert dict(row) == {"id": 1, "name": "x"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"max_size": "5"}, "max_size must be a whole number"),
        ({"min_size": 11}, "min_size must be between"),
        ({"acquire_timeout": None}, "acquire_timeout must be a number greater than 0"),
        ({"check_after_idle": -1}, "check_after_idle must be a number from 0 on"),
        ({"leak_after": 0}, "leak_after must be"),
        ({"statement_cache_size": 1.5}, "statement_cache_size must be a whole number"),
        ({"server_settings": {"statement_timeout": 5000}}, 'statement_timeout must be text, such as "5000"'),
        ({"server_settings": "work_mem=5MB"}, "server_settings is a mapping"),
        ({"on_acquire": "hello"}, "on_acquire must be a function"),
        ({"on_connect": lambda connection: None}, "on_connect must be an async function"),
    ],
)
async def test_an_argument_that_cannot_be_used_is_named(arguments: dict[str, Any], text: str, dsn: str) -> None:
    with trio.fail_after(20), pytest.raises(ConfigError, match=text):
        async with pgpool_core.open_pool(dsn, **arguments):
            pass


async def test_a_hook_that_is_not_async_is_named(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = lambda connection: None  # noqa: E731 (what users write)
    async with pgpool_core.open_pool(dsn, on_acquire=wrong) as pool:
        with pytest.raises(ConfigError, match="on_acquire must be an async function"):
            await pool.fetch("select 1")
        assert pool.statistics().in_use == 0
    async with pgpool_core.open_pool(dsn, on_release=wrong) as pool:
        assert await pool.fetchval("select 1") == 1
    assert "on_release must be an async function" in caplog.text


async def test_the_pool_of_a_proxy_refuses_what_is_the_proxys_affair(dsn: str) -> None:
    async with pgpool_core.open_proxy(dsn) as proxy:
        arguments: dict[str, Any]
        for arguments, cure in (
            ({"max_size": 5}, "default_pool_size"),
            ({"on_connect": None}, "connect_query"),
            ({"max_lifetime": 5}, "server_lifetime"),
        ):
            with pytest.raises(ConfigError, match=f"has no {next(iter(arguments))}: .*{cure}"):
                proxy.open_pool(**arguments)
        with pytest.raises(TypeError, match="unexpected keyword argument 'maxsize'"):
            proxy.open_pool(maxsize=5)  # type: ignore[arg-type]


def test_a_proxy_in_a_thread_says_that_it_lends_nothing(dsn: str) -> None:
    with pgpool_core.run_proxy_in_thread(dsn) as proxy:
        apart: Any = proxy
        with pytest.raises(PoolError, match=r"use a driver with proxy\.url here"):
            apart.open_pool("app")


async def test_a_connection_is_of_no_use_in_another_run(pool: Pool) -> None:
    async with pool.acquire() as connection:

        def elsewhere() -> None:
            with pytest.raises(PoolError, match="belongs to the trio"):
                trio.run(connection.fetch, "select 1")

        await trio.to_thread.run_sync(elsewhere)
        assert await connection.fetchval("select 1") == 1


async def test_a_connection_is_of_no_use_in_a_forked_child(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.fetchval("select 1")
        pid = os.fork()
        if pid == 0:
            seen = 0
            for use in (lambda: connection.fetch("select 1"), lambda: pool.fetch("select 1")):
                try:
                    use().send(None)
                except (ConnectionLost, PoolClosed) as error:
                    seen += "forked child" in str(error)
                except BaseException:
                    pass
            os._exit(seen)
        status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status[1]) == 2
        assert await connection.fetchval("select 1") == 1
