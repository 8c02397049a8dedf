"""A PostgreSQL that cannot be reached for a while: who waits for it, and who is told. Real PgBouncer does the same."""

from __future__ import annotations

import psycopg
import pytest
import trio

from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, connect_peer, frontend
from pgpool_core.testing.ports import free_port
from tests.conftest import PASSWORDS, PoolerFactory
from tests.console import Console
from tests.peers import logged_in, values
from tests.watching import until

CANNOT = "cannot connect to server at|connect failed"


async def told(peer: ScriptedPeer) -> Message:
    """The error that ends the session."""
    while (came := await peer.receive()) is not None:
        if came.type == b"E":
            return came
    raise AssertionError("the connection ended without a word")


def is_away(server: PostgresServer, console: Console) -> None:
    """Stop it, and wait until its connections are known to have gone."""
    server.stop()
    until(lambda: console.lists()["used_servers"] == 0)


async def test_who_waits_when_it_goes_is_served_when_it_is_back_and_who_comes_meanwhile_is_told(
    any_pooler: PoolerFactory, own_postgres: PostgresServer
) -> None:
    place = any_pooler(server=own_postgres, server_login_retry=1)
    async with logged_in(place) as first, logged_in(place) as late:
        await first.query("select 1")
        with Console(place) as console:
            await trio.to_thread.run_sync(is_away, own_postgres, console)
        await first.send(frontend.query("select 'served'"))
        await trio.to_thread.run_sync(place.wait_for_log, CANNOT)
        await late.send(frontend.query("select 1"))
        assert "server login has been failing" in (await told(late)).fields["M"]
        await trio.to_thread.run_sync(own_postgres.start)
        assert values(await first.until("Z")) == [[b"served"]]


async def test_who_logs_in_before_it_is_up_waits_for_it(
    any_pooler: PoolerFactory, own_postgres: PostgresServer
) -> None:
    place = any_pooler(server=own_postgres, server_login_retry=1)
    await trio.to_thread.run_sync(own_postgres.stop)
    answers: list[list[list[bytes | None]]] = []

    async def ask() -> None:
        async with logged_in(place) as peer:
            answers.append(values(await peer.query("select 'served'")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.to_thread.run_sync(place.wait_for_log, CANNOT)
        nursery.start_soon(ask)  # as long as none has ever been there, nobody is told
        await trio.to_thread.run_sync(own_postgres.start)
    assert answers == [[[b"served"]], [[b"served"]]]


@pytest.mark.parametrize(
    "entry",
    ["host=127.0.0.1 port={}", "host=/nowhere port={}", "host=no.such.host.invalid"],
    ids=["TCP", "unix", "name"],
)
async def test_a_login_for_which_it_does_not_come_in_time_ends(any_pooler: PoolerFactory, entry: str) -> None:
    place = any_pooler(databases={"app": entry.format(free_port())}, client_login_timeout=1)
    async with await connect_peer((place.host, place.port)) as peer:
        with pytest.raises(Exception, match=r"client_login_timeout \(server down\)"):
            await peer.log_in("app", "app", PASSWORDS["app"])


@pytest.mark.parametrize("paused", [False, True])
async def test_a_login_waits_no_longer_than_a_query(any_pooler: PoolerFactory, paused: bool) -> None:
    place = any_pooler(
        query_wait_timeout=1, **({} if paused else {"databases": {"app": f"host=127.0.0.1 port={free_port()}"}})
    )
    if paused:
        with Console(place) as console:
            await trio.to_thread.run_sync(console.run, "PAUSE app")
    async with await connect_peer((place.host, place.port)) as peer:
        with pytest.raises(Exception, match="query_wait_timeout"):
            await peer.log_in("app", "app", PASSWORDS["app"])


async def test_a_replication_client_waits_no_longer_than_a_query(pooler: PoolerFactory) -> None:
    place = pooler(query_wait_timeout=1)
    with Console(place) as console:
        await trio.to_thread.run_sync(console.run, "PAUSE app")
        async with await connect_peer((place.host, place.port)) as peer:
            with pytest.raises(Exception, match="query_wait_timeout"):
                await peer.log_in("app", "app", PASSWORDS["app"], replication="database")
        assert console.pool()["cl_waiting"] == 0
        await trio.to_thread.run_sync(console.run, "RESUME app")
    async with logged_in(place) as other:
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_who_has_waited_in_vain_is_told_why(pooler: PoolerFactory, own_postgres: PostgresServer) -> None:
    place = pooler(server=own_postgres, query_wait_timeout=1, client_login_timeout=1)
    async with logged_in(place) as waits:
        await waits.query("select 1")
        with Console(place) as console:
            await trio.to_thread.run_sync(is_away, own_postgres, console)
        await waits.send(frontend.query("select 1"))
        fields = (await told(waits)).fields
        assert (fields["C"], fields["M"]) == ("53000", "query_wait_timeout")
        assert "Connection refused" in fields["D"]


def test_a_refused_login_is_told_at_once(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = any_pooler(databases={"app": f"host=127.0.0.1 port={postgres.port} dbname=nope"})
    with pytest.raises(psycopg.OperationalError, match='database "nope" does not exist'):
        psycopg.connect(place.url("app", "app"))
