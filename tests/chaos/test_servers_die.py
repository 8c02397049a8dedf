"""PostgreSQL ends one connection, all of them, or itself."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
import trio

from pgpool_core.testing import PeerMismatch, PostgresServer, frontend
from tests.chaos.conftest import Scene
from tests.peers import letters, logged_in, values
from tests.watching import until, until_async

PID = "select pg_backend_pid()"


def terminate(server: PostgresServer, pid: bytes | None) -> None:
    """pg_terminate_backend, and wait until the backend has gone."""
    assert pid is not None
    assert server.sql(f"select pg_terminate_backend({pid.decode()})") == "t"
    until(lambda: server.sql(f"select count(*) from pg_stat_activity where pid = {pid.decode()}") == "0")


async def test_an_idle_server_that_dies_is_replaced_unnoticed(scene: Scene) -> None:
    async with logged_in(scene) as peer:
        for _ in range(3):
            pid = values(await peer.query(PID))[0][0]
            await trio.to_thread.run_sync(terminate, scene.server, pid)
            assert values(await peer.query(PID)) != [[pid]]


async def test_a_server_that_dies_in_a_query_ends_its_client_with_a_reason(scene: Scene) -> None:
    async with logged_in(scene) as peer, logged_in(scene) as other:
        pid = values(await peer.query("begin; " + PID))[0][0]
        await peer.send(frontend.query("select pg_sleep(61)"))
        await trio.to_thread.run_sync(terminate, scene.server, pid)
        told = await peer.until("E")
        assert told[-1].fields["C"] in ("57P01", "08P01", "08006")
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_a_server_that_dies_in_an_idle_transaction_ends_its_client_and_no_other(scene: Scene) -> None:
    async with logged_in(scene) as peer, logged_in(scene) as other:
        pid = values(await peer.query("begin; " + PID))[0][0]
        await trio.to_thread.run_sync(terminate, scene.server, pid)
        with contextlib.suppress(PeerMismatch, trio.BrokenResourceError):
            await peer.send(frontend.query("select 1"))
            while (came := await peer.receive()) is not None:
                assert came.type in b"E"
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_a_server_that_dies_in_a_copy(scene: Scene) -> None:
    async with logged_in(scene) as peer:
        pid = values(await peer.query(f"begin; create temp table t(x int) on commit drop; {PID}"))[0][0]
        await peer.send(frontend.query("copy t from stdin"))
        await peer.expect("G")
        await trio.to_thread.run_sync(terminate, scene.server, pid)
        with contextlib.suppress(PeerMismatch, trio.BrokenResourceError):
            await peer.send(frontend.copy_data(b"1\n"), frontend.copy_done())
            while await peer.receive() is not None:
                pass


def test_all_servers_die_again_and_again_under_load(scene: Scene) -> None:
    ends = 0
    for _ in range(15):
        with psycopg.connect(scene.place.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
            connection.execute("select 1")
            scene.server.terminate_backends(user="app")
            try:
                connection.execute("select 1")
            except psycopg.OperationalError:
                ends += 1  # the signal came in the middle of this query
    assert ends < 15


@pytest.mark.parametrize("how", ["kill", "terminate", "stop"])
async def test_postgres_comes_back(own_scene: Scene, how: str) -> None:
    async with logged_in(own_scene) as idle, logged_in(own_scene) as busy:
        await idle.query("select 1")
        await busy.query("begin")
        await busy.send(frontend.query("select pg_sleep(61)"))
        await trio.to_thread.run_sync(getattr(own_scene.server, how))
        with contextlib.suppress(PeerMismatch, trio.BrokenResourceError):
            while await busy.receive() is not None:
                pass
        await trio.to_thread.run_sync(own_scene.server.start)
        # Who had no server does not have to notice; who asked while it was down may have been told.
        with contextlib.suppress(PeerMismatch):
            assert letters(await idle.query("select 1")) in ("TDCZ", "EZ", "E")


async def test_while_postgres_is_down_clients_wait_and_those_who_come_later_are_told(own_scene: Scene) -> None:
    await trio.to_thread.run_sync(own_scene.server.stop)
    async with logged_in(own_scene) as first, logged_in(own_scene) as late:
        await first.send(frontend.query("select 'after all'"))
        await trio.to_thread.run_sync(own_scene.place.wait_for_log, "cannot connect to server at")
        await late.send(frontend.query("select 1"))
        await late.expect_error("08001")
        await trio.to_thread.run_sync(own_scene.server.start)
        assert values(await first.until("Z")) == [[b"after all"]]


async def test_a_server_that_stands_still_is_given_up_when_its_client_leaves(own_scene: Scene) -> None:
    async with logged_in(own_scene) as peer:
        await peer.query("begin")
        own_scene.server.pause()
        await peer.send(frontend.query("select 1"))
        await peer.cut()
    # The cancel cannot be delivered and nothing answers: after server_drain_timeout the server is closed.
    await until_async(lambda: "drain" in own_scene.place.log or "closing" in own_scene.place.log, patience_s=15)
    own_scene.server.resume()


async def test_clients_wait_for_a_server_that_stands_still_and_goes_on(own_scene: Scene) -> None:
    async with logged_in(own_scene) as peer, logged_in(own_scene) as other:
        await peer.query("select 1")
        own_scene.server.pause()
        await peer.send(frontend.query("select 'after all'"))
        await other.send(frontend.query("select 'me too'"))
        own_scene.server.resume()
        assert values(await peer.until("Z")) == [[b"after all"]]
        assert values(await other.until("Z")) == [[b"me too"]]
