"""A pooler in front of another one: ours before ours, before PgBouncer and behind it."""

from __future__ import annotations

import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.conftest import PoolerFactory
from tests.peers import logged_in, values

LAYERED = r"WARNING app/app its servers are another pooler's: unless that one is in session mode, .* \(session_state\)"


def before(inner: PoolerProcess) -> dict[str, str]:
    """[databases] of a pooler in front of `inner`."""
    return {"app": f"host={inner.host} port={inner.port}"}


async def test_a_pooler_whose_servers_are_anothers_says_so_once(
    any_pooler: PoolerFactory, pooler: PoolerFactory
) -> None:
    inner = any_pooler()
    outer = pooler(databases=before(inner), default_pool_size=2)
    async with logged_in(outer) as one, logged_in(outer) as two:
        for peer in (one, two):  # on a server each
            await peer.query("begin")
        outer.wait_for_log(LAYERED)
        for peer in (one, two):
            await peer.query("commit")
        async with logged_in(outer, "admin", "pgbouncer") as console:
            await console.query("reconnect")
        assert values(await one.query("select 1")) == [[b"1"]]
    assert outer.log.count("another pooler's") == 1


@pytest.mark.parametrize("session_state", ["off", "warn"])
async def test_where_nothing_is_promised_nothing_is_said_of_the_other_pooler(
    pooler: PoolerFactory, session_state: str
) -> None:
    outer = pooler(databases=before(pooler()), session_state=session_state)
    async with logged_in(outer) as peer:
        await peer.query("select 1")
    assert "another pooler's" not in outer.log


async def test_postgresql_is_not_taken_for_a_pooler(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    entry = f"host={postgres.host} port={postgres.port} connect_query='set work_mem = ''5MB'''"
    place = pooler(databases={"app": entry, "app2": f"host={postgres.host} port={postgres.port} dbname=app"})
    for database in ("app", "app2"):
        async with logged_in(place, database=database) as peer:
            await peer.query("select 1")
    assert "another pooler's" not in place.log
