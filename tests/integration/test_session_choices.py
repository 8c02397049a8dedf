"""Whose `session_state` counts, which server a client gets, and the state that nothing but the end of a server takes away."""

from __future__ import annotations

from pgpool_core.testing import PostgresServer, frontend
from tests.conftest import PoolerFactory
from tests.integration.test_prepared_statements import ask, use
from tests.integration.test_session_state import codes, one_value
from tests.peers import letters, logged_in, values
from tests.watching import until_async


async def test_the_users_value_goes_before_the_databases_and_that_before_the_one_for_all(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = f"host={postgres.host} port={postgres.port}"
    front = pooler(
        databases={"app": f"{place} session_state=off", "other": place},
        users={"boss": "session_state=auto"},
        session_state="refuse",
        default_pool_size=1,
    )

    async def set_by_another(user: str, database: str) -> tuple[list[str], bytes | None]:
        async with logged_in(front, user, database) as one, logged_in(front, user, database) as two:
            refused = codes(await one.query("set work_mem = '9MB'"))
            return refused, await one_value(two, "show work_mem")

    assert await set_by_another("app", "other") == (["0A000"], b"4MB")
    assert await set_by_another("app", "app") == ([], b"9MB")
    assert await set_by_another("boss", "app") == ([], b"4MB")
    assert await set_by_another("boss", "other") == ([], b"4MB")


async def test_who_is_only_warned_does_not_forget_what_others_know_of_a_text(pooler: PoolerFactory) -> None:
    """`dynamic_library_path` is hidden from most roles: that a text names it has to be known when its statement runs."""
    place = pooler(users={"app": "session_state=warn"}, default_pool_size=1)
    async with logged_in(place, "boss") as one, logged_in(place) as warned, logged_in(place, "boss") as two:
        for client in (one, warned):
            parsed = await ask(client, frontend.parse("set dynamic_library_path = '/nowhere'", "s"))
            assert letters(parsed).startswith("1")
        assert codes(await one.query("begin")) == codes(await ask(one, use("s"))) == []
        assert codes(await one.query("set role app; commit")) == []
        assert await one_value(two, "show dynamic_library_path") == b"$libdir"


async def test_a_client_gets_the_server_that_stands_as_it_does(pooler: PoolerFactory) -> None:
    """Though another was used last: nothing has to be set there."""
    place = pooler(default_pool_size=2)
    async with logged_in(place) as one, logged_in(place) as two:
        pids: list[bytes | None] = []
        for client, value in ((one, "8MB"), (two, "9MB")):
            await client.query(f"begin; set work_mem = '{value}'")
            pids.append(await one_value(client, "select pg_backend_pid()"))
        for client in (one, two):
            await client.query("commit")
            await client.query("show work_mem")  # behind the question
        assert pids[0] != pids[1]
        for client, pid in ((one, pids[0]), (two, pids[1]), (two, pids[1]), (one, pids[0])) * 2:
            assert await one_value(client, "select pg_backend_pid()") == pid


async def test_who_has_loaded_a_library_keeps_the_server_and_nobody_gets_it_afterwards(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(default_pool_size=2, admin_users="boss")
    async with logged_in(place, "boss", database="pgbouncer") as console:
        async with logged_in(place, "boss") as one, logged_in(place, "boss") as two:
            await one.query("load 'auto_explain'")
            pid = await one_value(one, "select pg_backend_pid()")
            for text in ("select 1", "discard all", "select 1"):
                await one.query(text)
                assert await one_value(two, "select current_setting('auto_explain.log_analyze', true)") is None
            assert await one_value(one, "select pg_backend_pid()") == pid
            assert [row[5] for row in values(await console.query("show pins"))] == [b"load"]
        gone = f"select count(*) from pg_stat_activity where pid = {int(pid or b'0')}"
        await until_async(lambda: postgres.sql(gone) == "0")
        assert values(await console.query("show pins")) == []


async def test_what_was_asked_in_front_of_one_pin_too_many_is_still_asked(pooler: PoolerFactory) -> None:
    """The server owes the answer, and would wait for the question until server_drain_timeout."""
    place = pooler(session_state="pin", default_pool_size=2, max_pinned_connections=1, server_drain_timeout=60)
    async with logged_in(place) as one, logged_in(place) as two, logged_in(place, patience_s=15.0) as three:
        assert not codes(await one.query("set work_mem = '5MB'"))
        await two.send(frontend.query("select 1") + frontend.query("set work_mem = '6MB'"))
        while (came := await two.receive()) is not None and came.type != b"E":
            pass
        assert came is not None
        assert came.fields["C"] == "53400"
        assert await one_value(three, "select 'at once'") == b"at once"


async def test_a_database_has_its_own_limit_of_pins(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = f"host={postgres.host} port={postgres.port}"
    front = pooler(databases={"app": f"{place} max_pinned_connections=1", "other": place}, default_pool_size=3)
    async with logged_in(front, database="other") as one, logged_in(front, database="other") as two:
        for client in (one, two):
            assert not codes(await client.query("prepare p as select 1"))
            assert await one_value(client, "execute p") == b"1"
    async with logged_in(front) as one, logged_in(front) as two:
        assert not codes(await one.query("prepare p as select 1"))
        assert await one_value(one, "execute p") == b"1"
        await two.query("prepare p as select 1")
        error = await two.expect_error("53400")
        assert "max_pinned_connections" in error.fields["M"]
