"""What connect_query sets, and a role that a login has by default: clients begin with it, and nobody takes it from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

import pgpool_core
from pgpool_core.testing import PoolerProcess, PostgresServer, ScriptedPeer
from tests.conftest import PoolerFactory
from tests.in_process import config
from tests.integration.test_session_state import codes
from tests.peers import Place, logged_in, values

STANDING = "select current_user, current_setting('work_mem'), current_setting('app.began', true), current_setting('search_path')"
BEGAN = [b"limited", b"64MB", b"as a fleet", b"pg_catalog"]
CONNECT_QUERY = "SET work_mem = '64MB'; SELECT set_config('app.began', 'as a fleet', false); SET search_path TO pg_catalog; SET ROLE limited"


@pytest.fixture
def limited(postgres: PostgresServer) -> Iterator[None]:
    """A role that app may be."""
    postgres.sql("create role limited nologin; grant limited to app", database="app")
    yield
    postgres.sql("alter role app reset role; revoke limited from app; drop role limited", database="app")


def place(pooler: PoolerFactory, postgres: PostgresServer, **settings: object) -> PoolerProcess:
    query = CONNECT_QUERY.replace("'", "''")
    entry = f"host={postgres.host} port={postgres.port} connect_query='{query}'"
    return pooler(databases={"app": entry}, default_pool_size=1, **settings)


async def stands(peer: ScriptedPeer) -> list[bytes | None]:
    [row] = values(await peer.query(STANDING))
    return row


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize(
    "text",
    [
        *("set work_mem = '1MB'", "set role none", "reset role", "reset all", "discard all", "reset work_mem"),
        *(
            "set app.began = 'mine'",
            "create temp table t (i int); drop table t",
            "select pg_advisory_lock(1)",
            "set search_path = public",
        ),
    ],
)
async def test_what_connect_query_has_set_stays_for_everybody_else(
    pooler: PoolerFactory, postgres: PostgresServer, text: str
) -> None:
    front = place(pooler, postgres)
    async with logged_in(front) as other:
        assert await stands(other) == BEGAN
        async with logged_in(front) as one:
            assert not codes(await one.query(text))
            await one.query("select pg_advisory_unlock_all()")
            assert await stands(other) == BEGAN
        assert await stands(other) == BEGAN
        async with logged_in(front) as late:
            assert await stands(late) == BEGAN


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_reset_goes_back_to_what_connect_query_has_set(
    pooler: PoolerFactory, postgres: PostgresServer, mode: str
) -> None:
    front = place(pooler, postgres, pool_mode=mode)
    async with logged_in(front) as one:
        await one.query("set work_mem = '1MB'; set search_path = public")
        if mode == "transaction":
            await one.query("reset all")
            assert await stands(one) == BEGAN
            await one.query("begin")
            await one.query("reset work_mem")
            assert await stands(one) == BEGAN
            await one.query("commit")
    async with logged_in(front) as next_one:  # in session mode DISCARD ALL has run
        assert await stands(next_one) == BEGAN


async def keep_their_roles(front: Place) -> None:
    """Clients that have a role by default, one of which gives it up."""
    async with logged_in(front) as one, logged_in(front) as other:
        assert values(await other.query("select current_user")) == [[b"limited"]]
        await one.query("set role none")
        for _ in range(2):
            assert values(await other.query("select current_user")) == [[b"limited"]]
            assert values(await one.query("select current_user")) == [[b"app"]]
        await one.query("reset role")
        assert values(await one.query("select current_user")) == [[b"limited"]]


@pytest.mark.usefixtures("limited")
async def test_no_role_of_a_client_is_the_role_that_others_have_by_default(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    postgres.sql("alter role app set role = 'limited'", database="app")
    front = pooler(default_pool_size=1)
    await keep_their_roles(front)


@pytest.mark.usefixtures("limited")
async def test_drain_has_servers_asked_anew(postgres: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(postgres)) as proxy, proxy.open_pool("app", "app") as pool:
        assert await pool.fetchval("select current_user::text") == "app"
        postgres.sql("alter role app set role = 'limited'", database="app")
        await pool.drain()
        await keep_their_roles(proxy)


async def test_drain_leaves_those_who_have_a_server_of_their_own(postgres: PostgresServer) -> None:
    postgres.sql("alter role app replication")
    try:
        async with (
            pgpool_core.open_proxy(config(postgres, default_pool_size=2)) as proxy,
            proxy.open_pool("app", "app") as pool,
            logged_in(proxy, replication="database") as standby,
        ):
            await pool.drain()
            assert await pool.fetchval("select 1") == 1
            assert not codes(await standby.query("IDENTIFY_SYSTEM"))
    finally:
        postgres.sql("alter role app noreplication")


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("before", [{"pool_mode": "session"}, {"session_state": "off"}], ids=str)
@pytest.mark.parametrize("next_process", [False, True], ids=["reload", "takeover"])
async def test_what_nobody_has_asked_while_it_did_not_matter_is_asked_when_it_does(
    pooler: PoolerFactory, postgres: PostgresServer, before: dict[str, str], next_process: bool
) -> None:
    postgres.sql("alter role app set role = 'limited'", database="app")
    front = pooler(default_pool_size=1, **before)
    async with logged_in(front) as other:
        assert values(await other.query("select current_user")) == [[b"limited"]]
    front.settings |= {"pool_mode": "transaction", "session_state": "auto"}
    if next_process:
        old = await trio.to_thread.run_sync(front.replace)
        assert await trio.to_thread.run_sync(old.wait) == 0
    else:
        front.reload()
        await trio.to_thread.run_sync(front.process.wait_for_log, "configuration reloaded")
    await keep_their_roles(front)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("connect_query", ["", " connect_query='SET work_mem = 65536'"])
async def test_what_cleans_a_server_gives_it_the_role_by_default(
    pooler: PoolerFactory, postgres: PostgresServer, connect_query: str
) -> None:
    postgres.sql("alter role app set role = 'limited'", database="app")
    front = pooler(databases={"app": f"host={postgres.host} port={postgres.port}{connect_query}"}, default_pool_size=1)
    asked = "select current_user"
    async with logged_in(front) as one, logged_in(front) as other:
        await one.query("set role none")
        for asks, role in ((one, b"app"), (other, b"limited"), (one, b"app")):
            async with logged_in(front) as kept:
                assert not codes(await kept.query("create temp table t (i int)"))
            assert values(await asks.query(asked)) == [[role]]


async def test_what_a_client_sets_to_the_default_of_the_server_stays(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    default = postgres.sql("show timezone", database="app").strip()
    connect_query = "connect_query='SET timezone = ''Asia/Tokyo''' "
    entry = f"host={postgres.host} port={postgres.port} {connect_query}"
    async with (
        logged_in(front := pooler(databases={"app": entry}, default_pool_size=1)) as one,
        logged_in(front) as other,
    ):
        await one.query(f"set timezone = '{default}'")
        await other.query("reset timezone")
        assert values(await one.query("select 1")) == [[b"1"]]  # on a server where nobody has set it
        await one.query("set work_mem = '5MB'")
        assert values(await one.query("show timezone")) == [[default.encode()]]
        assert values(await other.query("show timezone")) == [[b"Asia/Tokyo"]]


@pytest.mark.usefixtures("limited")
async def test_it_goes_along_to_the_next_process(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    """Clients that come to it before it has opened a server begin with it, too."""
    front = place(pooler, postgres)
    async with logged_in(front) as one:
        assert await stands(one) == BEGAN
        front.replace()
        async with logged_in(front) as other:
            assert not codes(await other.query("set work_mem = '2MB'"))
            assert await stands(one) == BEGAN
            async with logged_in(front) as late:
                assert await stands(late) == BEGAN


@pytest.fixture
def with_rights(postgres: PostgresServer) -> Iterator[str]:
    """A connect_query that sets, with rights of its own, what the login cannot set."""
    postgres.sql(
        """create function with_rights() returns text language sql security definer
        as 'select set_config(''log_min_duration_statement'', ''12345'', false)'""",
        database="app",
    )
    yield "select with_rights()"
    postgres.sql("drop function with_rights", database="app")


SHOW = "select current_setting('log_min_duration_statement')"


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("text", ["create temp table t (i int)", "reset all", "discard all", "select 1"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_what_the_login_cannot_set_again_ends_nobody(
    pooler: PoolerFactory, postgres: PostgresServer, with_rights: str, mode: str, text: str, replaced: bool
) -> None:
    entry = f"host={postgres.host} port={postgres.port} connect_query='{with_rights}'"
    front = pooler(databases={"app": entry}, default_pool_size=1, pool_mode=mode)
    for _ in range(3):
        async with logged_in(front) as one:
            assert values(await one.query(SHOW)) == [[b"12345ms"]]
            if replaced:
                front.replace()
            assert not codes(await one.query(text))
            if mode == "transaction":
                assert values(await one.query(SHOW)) == [[b"12345ms"]]


async def test_a_connect_query_that_names_too_much_is_used_all_the_same(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    names = "; ".join(f"SET app.n{number} = 1" for number in range(80))
    entry = f"host={postgres.host} port={postgres.port} connect_query='{names}'"
    front = pooler(databases={"app": entry}, default_pool_size=1)
    async with logged_in(front) as one:
        assert values(await one.query("select current_setting('app.n79')")) == [[b"1"]]
