"""What clients are told about their session state: session_state = warn, pin_notice, and servers that are all kept."""

from __future__ import annotations

from collections.abc import Sequence

from pgpool_core.testing import Message, ScriptedPeer, frontend
from tests.conftest import PoolerFactory
from tests.peers import letters, logged_in, values


def told(messages: Sequence[Message]) -> list[tuple[str, str, str]]:
    """Severity, SQLSTATE and HINT of every NoticeResponse."""
    return [(m.fields["V"], m.fields["C"], m.fields.get("H", "")) for m in messages if m.type == b"N"]


async def one_value(client: ScriptedPeer, sql: str) -> bytes | None:
    return values(await client.query(sql))[0][0]


async def test_warn_does_nothing_but_says_so_once_for_each_kind(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="warn", admin_users="app")
    async with logged_in(place) as one, logged_in(place) as two, logged_in(place, database="pgbouncer") as console:
        answer = await one.query("set work_mem = '77MB'")
        assert letters(answer) == "CNZ"
        ((severity, sqlstate, hint),) = told(answer)
        assert (severity, sqlstate) == ("WARNING", "01000")
        assert "SET LOCAL" in hint
        assert not told(await one.query("set work_mem = '78MB'"))
        assert await one_value(two, "show work_mem") == b"78MB"
        assert "pg_advisory_xact_lock" in told(await one.query("select pg_advisory_lock(1)"))[0][2]
        for text in ("begin; set local work_mem = '1MB'; commit", "set application_name = 'x'", "select 1"):
            assert not told(await one.query(text))
        assert (
            "pg_advisory_xact_lock"
            in told(await two.query("select pg_advisory_unlock(1), pg_try_advisory_lock(2)"))[0][2]
        )
        totals = {row[1]: row[3] for row in values(await console.query("show pin_totals")) if row[0] == b"app"}
        assert (totals[b"setting"], totals[b"advisory lock"], totals[b"LOAD"]) == (b"2", b"2", b"0")
        assert values(await console.query("show pins")) == []
    assert place.log.count("stays on the server") == 1
    assert "78MB" not in place.log


async def test_a_warning_in_a_block_comes_between_messages(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="warn")
    async with logged_in(place) as one:
        assert letters(await one.query("begin; create temp table t (a int)")) == "CCNZ"
        assert letters(await one.query("select repeat('x', 200000) from generate_series(1, 3)")) == "TDDDCZ"
        assert letters(await one.query("rollback")) == "CZ"


async def test_a_client_that_is_pinned_is_told_once_if_wanted(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2, pin_notice=1)
    async with logged_in(place) as one:
        assert letters(await one.query("select pg_advisory_lock(1)")) == "TDCZ"
        notice = await one.expect("N")
        assert (notice.type, notice.fields["V"]) == (b"N", "NOTICE")
        assert "pg_advisory_xact_lock" in notice.fields["H"]
        assert not told(await one.query("select pg_advisory_unlock(1)"))
        assert not told(await one.query("create temp table mine (a int)"))
        assert not told(await one.query("select 1"))


async def test_nobody_is_told_of_pins_by_default(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2)
    async with logged_in(place) as one:
        await one.query("select pg_advisory_lock(1)")
        assert letters(await one.query("select 1")) == "TDCZ"


async def test_every_server_of_a_small_pool_may_be_kept(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2, query_wait_timeout=1)
    async with logged_in(place) as one, logged_in(place) as two, logged_in(place) as three:
        for client in (one, two):
            assert letters(await client.query("prepare p as select 7")) == "CZ"
        for client in (one, two):
            assert await one_value(client, "execute p") == b"7"
        await three.send(frontend.query("select 1"))
        assert "SHOW PINS" in (await three.expect_error("53000")).fields["M"]
        await one.query("deallocate p")
        async with logged_in(place) as four:
            assert await one_value(four, "select 1") == b"1"
        assert await one_value(two, "execute p") == b"7"
