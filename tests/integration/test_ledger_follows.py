"""However a transaction ends, what its client has afterwards is what PostgreSQL says; the same tests run on PostgreSQL itself."""

from __future__ import annotations

import pytest

from pgpool_core.testing import PostgresServer, ScriptedPeer, frontend
from tests.conftest import Target
from tests.integration.test_cancel import RUNNING, cancel_until_told
from tests.integration.test_session_state import ONE_SERVER, SAME, codes, one_value
from tests.peers import letters, logged_in
from tests.watching import until_async

LEAVES = "set work_mem = '9MB'; set app.tenant = 'nine'; create temp table mine (n int)"
ENDS = {
    "commit of a failed transaction": ("begin", LEAVES, "select 1/0", "commit"),
    "commit that fails": (
        "begin",
        "create temp table a (n int primary key deferrable initially deferred)",
        LEAVES,
        "insert into a values (1), (1)",
        "commit",
    ),
    "rollback": ("begin", LEAVES, "rollback"),
    "rollback to a savepoint": ("begin", "savepoint s", LEAVES, "rollback to s", "commit"),
    "rollback to a savepoint after an error": ("begin", "savepoint s", LEAVES, "select 1/0", "rollback to s", "commit"),
    "a savepoint released and rolled back": ("begin", "savepoint s", LEAVES, "release s", "rollback"),
    "rollback and chain": ("begin", LEAVES, "rollback and chain", "select 1", "commit"),
    "a failed statement of several": (LEAVES + "; select 1/0",),
    "a timeout": ("begin; set local statement_timeout = 10", LEAVES, "select pg_sleep(60)", "commit"),
    "a timeout in a text of several": ("set local statement_timeout = 1; " + LEAVES + "; select pg_sleep(60)",),
}


async def is_as_it_was(client: ScriptedPeer) -> bool:
    """Whether nothing of LEAVES is there."""
    return (
        await one_value(client, "show work_mem") == b"4MB"
        and await one_value(client, "select current_setting('app.tenant', true)") in (None, b"")
        and codes(await client.query("select * from mine")) == ["42P01"]
    )


@SAME
@ONE_SERVER
@pytest.mark.parametrize("texts", ENDS.values(), ids=ENDS.keys())
async def test_what_is_undone_is_left_to_nobody_and_keeps_nobody(target: Target, texts: tuple[str, ...]) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for text in texts:
            await one.query(text)
        assert await is_as_it_was(two)
        assert await is_as_it_was(one)


@SAME
@ONE_SERVER
async def test_what_is_cancelled_is_undone(target: Target, postgres: PostgresServer) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("begin")
        await one.query(LEAVES)
        await one.send(frontend.query("select pg_sleep(61)"))
        await until_async(lambda: postgres.sql(RUNNING) == "1")
        assert await cancel_until_told(target, one) == "TEZ"
        assert letters(await one.query("commit")) == "CZ"
        assert await is_as_it_was(two)
        assert await is_as_it_was(one)


@SAME
@ONE_SERVER
@pytest.mark.parametrize("how", ["closed", "cut"])
async def test_a_client_gone_in_the_middle_leaves_nothing(target: Target, how: str) -> None:
    async with logged_in(target) as one:
        await one.query("begin")
        await one.query(LEAVES + "; select pg_advisory_lock(1)")
        if how == "cut":
            await one.cut()
    async with logged_in(target) as two:
        assert await is_as_it_was(two)
        assert await one_value(two, "select pg_advisory_lock(1)") == b""


@ONE_SERVER
@pytest.mark.parametrize("target", ["pgpool_core"], indirect=True)
async def test_a_client_gone_in_a_query_leaves_nothing(target: Target) -> None:
    """PostgreSQL itself would find out at its end; the pooler cancels it."""
    async with logged_in(target) as one:
        await one.query("begin")
        await one.query(LEAVES + "; select pg_advisory_lock(1)")
        await one.send(frontend.query("select pg_sleep(61)"))
        await one.cut()
    async with logged_in(target) as two:
        assert await is_as_it_was(two)
        assert await one_value(two, "select pg_advisory_lock(1)") == b""


@SAME
@ONE_SERVER
@pytest.mark.parametrize(
    "texts",
    [
        ("begin", "savepoint s", "set work_mem = '9MB'", "release s", "commit"),
        ("begin", "set work_mem = '9MB'", "savepoint s", "set work_mem = '8MB'", "rollback to s", "commit"),
        ("begin", "set work_mem = '9MB'", "commit and chain", "set work_mem = '8MB'", "rollback"),
        ("begin; set work_mem = '9MB'; commit; select 1/0",),
        ("do $$begin perform set_config('work_mem', '9MB', false); commit; perform 1/0; end$$",),
        ("begin; set local work_mem = '8MB'; set work_mem = '9MB'; commit",),
        ("begin; set work_mem = '9MB'; set local work_mem = '8MB'; commit",),
    ],
)
async def test_what_was_committed_stays_its_clients(target: Target, texts: tuple[str, ...]) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for text in texts:
            await one.query(text)
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"9MB"
