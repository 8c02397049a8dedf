"""max_logins: many clients that log in at once take turns."""

from __future__ import annotations

from signal import SIGCONT, SIGSTOP
from urllib.request import urlopen

import trio
from trio.testing import wait_all_tasks_blocked

from pgpool_core.testing import PoolerProcess, ScriptedPeer, connect_peer, frontend
from pgpool_core.testing.ports import free_port
from tests.conftest import PASSWORDS, PoolerFactory
from tests.console import Console
from tests.peers import values
from tests.watching import until, until_async


def logins(port: int) -> dict[str, int]:
    """The metrics about logins: in_progress, waiting, queued_total."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    prefix = "pgpool_core_logins_"
    return {
        line.removeprefix(prefix).partition(" ")[0]: int(float(line.partition(" ")[2]))
        for line in lines
        if line.startswith(prefix) and "_created" not in line and "failed" not in line
    }


async def begun(place: PoolerProcess) -> ScriptedPeer:
    """A client that has sent its startup packet."""
    peer = await connect_peer((place.host, place.port))
    await peer.send(frontend.startup("app", "app"))
    return peer


async def test_who_has_no_turn_waits_for_one(pooler: PoolerFactory) -> None:
    port = free_port()
    place = pooler(max_logins=1, workers=1, metrics_listen=f"127.0.0.1:{port}")
    async with await begun(place) as first:
        await first.expect("R")
        others = [await begun(place) for _ in range(3)]
        assert await until_async(lambda: logins(port)["queued_total"] == 3)
        for peer in others:  # the first one dawdles: it keeps nobody out, and nobody out of order
            await peer.expect("R")
            await peer.aclose()
        await until_async(lambda: logins(port) == {"in_progress": 0, "waiting": 0, "queued_total": 3})


async def test_a_wave_of_logins_gets_in_and_the_console_does_not_wait(pooler: PoolerFactory) -> None:
    place = pooler(max_logins=2, max_client_conn=200, workers=2)
    done: list[bool] = []

    async def log_in() -> None:
        async with await connect_peer((place.host, place.port), patience_s=60) as peer:
            await peer.log_in("app", "app", PASSWORDS["app"])
            done.append(values(await peer.query("select 1")) == [[b"1"]])

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(log_in)
        async with await connect_peer((place.host, place.port)) as peer:
            await peer.log_in("admin", "pgbouncer", PASSWORDS["admin"])
    assert done == [True] * 60


async def test_who_leaves_while_it_waits_is_forgotten(pooler: PoolerFactory) -> None:
    port = free_port()
    place = pooler(max_logins=1, workers=1, metrics_listen=f"127.0.0.1:{port}", client_login_timeout="60")
    first = await begun(place)
    await first.expect("R")
    others = [await begun(place) for _ in range(2)]
    await until_async(lambda: logins(port)["waiting"] == 2)
    for peer in others:
        await peer.aclose()
    await first.aclose()
    await until_async(lambda: logins(port) == {"in_progress": 0, "waiting": 0, "queued_total": 2})
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.log_in("app", "app", PASSWORDS["app"])


async def test_the_number_changes_with_a_reload(pooler: PoolerFactory) -> None:
    place = pooler(max_logins=1, workers=1)
    peers = [await begun(place) for _ in range(5)]
    place.settings["max_logins"] = 0
    place.reload()
    for peer in peers:
        await peer.expect("R")
        await peer.aclose()
    until(lambda: "configuration reloaded" in place.log)


async def test_a_wave_that_comes_in_one_turn_is_served_and_who_has_left_is_passed_over(pooler: PoolerFactory) -> None:
    """More come and go at once than have a share of a turn: that of a client who is in already goes on."""
    place = pooler(max_client_conn=400, workers=1)
    assert place.process is not None
    done: list[bool] = []

    async def log_in(peer: ScriptedPeer) -> None:
        await peer.log_in("app", "app", PASSWORDS["app"])
        done.append(values(await peer.query("select 1")) == [[b"1"]])

    async with await connect_peer((place.host, place.port)) as settled:
        await log_in(settled)
        place.process.signal(SIGSTOP)
        leaving = [await begun(place) for _ in range(100)]
        staying = [await connect_peer((place.host, place.port), patience_s=60) for _ in range(200)]
        async with trio.open_nursery() as nursery:
            for peer in staying:
                nursery.start_soon(log_in, peer)
            await wait_all_tasks_blocked()
            for peer in leaving:
                await peer.aclose()
            place.process.signal(SIGCONT)
            nursery.start_soon(settled.query, "select 1")
        assert done == [True] * 201
        place.process.signal(SIGSTOP)
        for peer in staying:
            await peer.aclose()
        place.process.signal(SIGCONT)
        assert values(await settled.query("select 1")) == [[b"1"]]
        with Console(place) as console:
            until(lambda: len(console.rows("SHOW CLIENTS")) == 2)
