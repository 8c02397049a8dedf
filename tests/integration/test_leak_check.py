"""leak_check: what a client leaves on its server without anybody knowing is found, told, and the server closed."""

from __future__ import annotations

import psycopg
import pytest
import trio

from pgpool_core.testing import PoolerProcess, PostgresServer, ScriptedPeer, frontend
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.peers import logged_in, values
from tests.watching import until_async

LEFT = {
    "setting": ("set work_mem = '77MB'", "setting", b"work_mem"),
    "custom setting": ("set app.secret_of_mine = 'hush'", "setting", b"app.secret_of_mine"),
    "set_config": ("select set_config('app.other', 'hush', false)", "setting", b"app.other"),
    "temporary table": ("create temp table mine as select 'hush' as a", "temporary object", None),
    "cursor": ("begin; declare mine cursor with hold for select 'hush'; commit", "cursor with hold", None),
    "prepared": ("prepare mine as select 'hush'", "prepared statement", None),
    "listen": ("listen hush", "listen", None),
    "lock": ("select pg_advisory_lock(7)", "advisory lock", None),
}


async def value(client: ScriptedPeer, sql: str) -> bytes | None:
    return values(await client.query(sql))[0][0]


async def leaks(pooler: PoolerProcess) -> list[list[bytes | None]]:
    async with logged_in(pooler, "admin", "pgbouncer") as console:
        return values(await console.query("show leaks"))


@pytest.mark.parametrize(("text", "kind", "name"), LEFT.values(), ids=LEFT.keys())
async def test_what_is_left_is_told_and_its_server_closed(
    pooler: PoolerFactory, text: str, kind: str, name: bytes | None
) -> None:
    place = pooler(default_pool_size=1, session_state="off", leak_check="always")
    async with logged_in(place, application_name="shop") as one, logged_in(place) as two:
        pid = await value(one, "select pg_backend_pid()")
        assert await value(two, "select pg_backend_pid()") == pid
        assert await leaks(place) == []
        await one.query(text)
        assert await value(two, "select pg_backend_pid()") != pid
        ((*where, found, what, app, fingerprint, age, server_pid, client, server),) = await leaks(place)
        assert (where, found, what, app, server_pid) == ([b"app", b"app"], kind.encode(), name, b"shop", pid)
        assert fingerprint is not None and len(fingerprint) == 16
        assert age is not None and client is not None and server is not None
    (line,) = [line for line in place.log.splitlines() if "(leak_check)" in line]
    assert f"left behind in the session: {kind}" in line
    assert "application_name=shop" in line
    assert f"client=C-0x{int(client):x}" in line
    assert f"fingerprint={fingerprint.decode()}" in line
    assert "hush" not in place.log


async def test_named_statements_are_leaks_where_they_are_not_tracked(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="off", max_prepared_statements=0, leak_check="always")
    async with logged_in(place) as one, logged_in(place) as two:
        await one.send(frontend.parse("select 1", "mine") + frontend.sync())
        await one.until("Z")
        await two.query("select 1")
        assert [row[2] for row in await leaks(place)] == [b"named statement"]


async def test_a_sample_is_every_so_manieth_return(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="off", leak_check="sample:3")
    async with logged_in(place) as one, logged_in(place) as two:
        await one.query("set work_mem = '77MB'")
        assert await value(two, "show work_mem") == b"77MB"
        assert await leaks(place) == []
        assert await value(one, "show work_mem") == b"77MB"
        assert await value(two, "show work_mem") == b"4MB"
        assert [row[3] for row in await leaks(place)] == [b"work_mem"]


async def test_the_values_of_a_bind_are_looked_at(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="off", leak_check="always")
    async with logged_in(place) as one, logged_in(place) as two:
        await one.send(
            frontend.parse("select set_config($1, $2, false)")
            + frontend.bind(values=[b"app.name", b"value"])
            + frontend.execute()
            + frontend.sync()
        )
        await one.until("Z")
        await two.query("select 1")
        assert [row[3] for row in await leaks(place)] == [b"app.name"]


async def test_what_servers_begin_with_is_no_leak(postgres: PostgresServer, pooler: PoolerFactory) -> None:
    query = "set work_mem = '5MB'; set app.city = 'here'; create temp table ours (a int)"
    place = pooler(
        databases={
            "app": f"host={postgres.host} port={postgres.port} connect_query='{query.replace(chr(39), chr(39) * 2)}'"
        },
        default_pool_size=1,
        session_state="off",
        leak_check="always",
    )
    async with logged_in(place) as one, logged_in(place) as two:
        pid = await value(one, "select pg_backend_pid()")
        await one.query("begin; set local app.city = 'there'; commit")
        assert await value(two, "select current_setting('app.city')") == b"here"
        assert await value(two, "show work_mem") == b"5MB"
        assert await leaks(place) == []
        await one.query("set work_mem = '6MB'")
        assert await value(two, "select pg_backend_pid()") != pid
        assert [row[3] for row in await leaks(place)] == [b"work_mem"]


async def test_session_pooling_is_checked_behind_its_reset_query(pooler: PoolerFactory) -> None:
    async def leave_something(place: PoolerProcess) -> list[list[bytes | None]]:
        async with logged_in(place) as one:
            await one.query("set work_mem = '77MB'; listen news")
        async with logged_in(place) as two:
            assert await value(two, "show work_mem") == b"4MB"
        return await leaks(place)

    discards = pooler(pool_mode="session", default_pool_size=1, leak_check="always")
    assert await leave_something(discards) == []
    keeps = pooler(pool_mode="session", default_pool_size=1, leak_check="always", server_reset_query="")
    assert {row[2] for row in await leave_something(keeps)} == {b"setting", b"listen"}


async def test_reload_switches_it_on_and_off(postgres: PostgresServer, pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="off")
    async with logged_in(place) as one, logged_in(place) as two:

        async def leave_something() -> bytes | None:
            await one.query("set work_mem = '77MB'")
            return await value(two, "show work_mem")

        assert await leave_something() == b"77MB"
        with Console(place) as console:
            place.settings["leak_check"] = "always"
            place.write()
            console.run("RELOAD")
            assert await leave_something() == b"4MB"
            assert len(await leaks(place)) == 1
            place.settings["leak_check"] = "off"
            place.write()
            console.run("RELOAD")
            assert await leave_something() == b"77MB"
            assert len(await leaks(place)) == 1


BUSY = (
    "set work_mem = '{n}MB'",
    "select set_config('app.tenant', '{n}', false)",
    'set search_path = public, "schema {n}"',
    "set timezone = 'Asia/Tokyo'",
    "begin; set local lock_timeout = {n}; commit",
    "create temp table t{n} (a int)",
    "drop table t{n}",
    "select pg_advisory_lock({n})",
    "select pg_advisory_unlock({n})",
    "prepare p as select {n}",
    "deallocate p",
    "listen c{n}",
    "unlisten *",
    "begin; create temp table d on commit drop as select {n} as a; commit",
    "begin; set statement_timeout = '9s'; rollback",
    "reset work_mem",
    "discard all",
)


async def test_a_followed_session_leaves_nothing_under_a_mixed_load(pooler: PoolerFactory) -> None:
    # One server more than clients: all of them may be pinned. Nothing is known of functions, so that the check finds something.
    place = pooler(default_pool_size=6, leak_check="always", function_check_period=0)

    async def client(number: int) -> None:
        async with logged_in(place) as mine:
            for step in range(3 * len(BUSY)):
                text = BUSY[(step + number) % len(BUSY)].format(n=number)
                await mine.query(text)
                await mine.query("select count(*) from pg_class")

    async with trio.open_nursery() as nursery:
        for number in range(1, 6):
            nursery.start_soon(client, number)
    assert await leaks(place) == []
    async with logged_in(place) as one:  # the check was awake: of a text that says nothing, something is found
        await one.query(
            "create or replace function quietly() returns text language sql as"
            " $$select set_config('maintenance_work_mem', '42MB', false)$$"
        )
        await one.query("select quietly()")
        await one.query("drop function quietly()")
    await until_async(lambda: "setting maintenance_work_mem" in place.log)


@pytest.mark.parametrize("leaves", ["at once", "when it is answered", "without a word"])
@pytest.mark.parametrize("pinned", [False, True], ids=["", "pinned"])
async def test_what_the_last_query_has_left_is_counted_and_no_leak(
    pooler: PoolerFactory, leaves: str, pinned: bool
) -> None:
    place = pooler(default_pool_size=2, leak_check="always")
    lock, clients = "select pg_advisory_lock(7)", 4

    def counted() -> dict[str, int]:
        with Console(place) as console:
            return {row["reason"]: row["pins"] for row in console.rows("show pin_totals") if row["database"] == "app"}

    before = counted()
    for _ in range(clients):
        async with logged_in(place) as one:
            if pinned:
                await one.query("create temp table mine (a int)")
            if leaves == "at once":
                await one.send(frontend.query(lock), frontend.terminate())
                while await one.receive() is not None:
                    pass
                continue
            await one.query(lock)
            if leaves == "when it is answered":
                await one.send(frontend.terminate())
                await one.expect_end()
    await until_async(lambda: counted().get("advisory lock", 0) == before.get("advisory lock", 0) + clients)
    assert counted().get("temporary object", 0) == before.get("temporary object", 0) + pinned * clients
    with Console(place) as console:
        assert console.rows("show leaks") == []


def servers(place: PoolerProcess, state: str) -> int:
    with Console(place) as console:
        return sum(row["state"] == state for row in console.rows("show servers"))


def locks(place: PoolerProcess) -> int:
    with Console(place) as console:
        rows = console.rows("show pin_totals")
    return sum(row["pins"] for row in rows if (row["database"], row["reason"]) == ("app", "advisory lock"))


@pytest.mark.parametrize("pinned", [False, True], ids=["", "pinned"])
async def test_the_question_of_who_has_hung_up_is_not_cancelled(
    pooler: PoolerFactory, postgres: PostgresServer, pinned: bool
) -> None:
    place = pooler(default_pool_size=2, leak_check="always")
    with psycopg.connect(postgres.dsn("boss", "app")) as keeper:
        async with logged_in(place) as two:
            await two.query("begin")
            async with logged_in(place) as one:
                await one.query("create temp table mine (a int)" if pinned else "select 1")
                await until_async(lambda: pinned or servers(place, "idle"))  # it has been asked what is left
                keeper.execute("lock table pg_catalog.pg_locks")  # of which the question asks
                await one.query("select pg_advisory_lock(7)")
            await until_async(lambda: servers(place, "being_canceled"))
            await two.send(frontend.query("select pg_sleep(600)"))
        await until_async(
            lambda: servers(place, "tested")
        )  # that one has been cancelled, later than the first would have been
        assert servers(place, "being_canceled") == 1
    await until_async(lambda: not servers(place, "being_canceled"))
    assert locks(place) == 1
    assert await leaks(place) == []


async def test_a_query_behind_the_question_is_cancelled_when_its_client_has_hung_up(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(default_pool_size=1, leak_check="always", server_drain_timeout=600)
    with psycopg.connect(postgres.dsn("boss", "app")) as keeper:
        async with logged_in(place) as one:
            await one.query("select 1")
            await until_async(lambda: servers(place, "idle"))
            keeper.execute("lock table pg_catalog.pg_locks")
            await one.query("select pg_advisory_lock(7)")
            await one.send(frontend.query("select pg_sleep(600)"))
        await until_async(lambda: servers(place, "being_canceled"))
    await until_async(lambda: servers(place, "idle"))
    assert locks(place) == 1
