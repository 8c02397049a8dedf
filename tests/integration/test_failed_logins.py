"""auth_failure_delay: who fails again and again from one address is answered later and later; nobody else is."""

from __future__ import annotations

import re

import trio

from pgpool_core.testing import PoolerProcess, ScriptedPeer, connect_peer, frontend
from tests.conftest import PASSWORDS, PoolerFactory

OTHER = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 6432\r\n"


async def failing(place: PoolerProcess, header: bytes) -> ScriptedPeer:
    """A client that has sent a wrong password."""
    peer = await connect_peer((place.host, place.port))
    await peer.send(header + frontend.startup("app", "app"))
    await peer.expect("R")
    await peer.send(frontend.password("wrong"))
    return peer


async def test_the_eleventh_failure_waits_and_a_right_password_does_not(pooler: PoolerFactory) -> None:
    place = pooler(auth_type="plain", auth_failure_delay=3600, max_client_conn=2, proxy_protocol_networks="127.0.0.1")
    local = b"PROXY UNKNOWN\r\n"
    for _ in range(10):
        async with await failing(place, OTHER) as peer:
            await peer.expect_error("28P01")
    held = [await failing(place, OTHER) for _ in range(3)]  # more than max_client_conn: they take nobody's place
    found = place.wait_for_log(r"app/app@203.0.113.9:4711 .*answers are delayed")
    assert "11 failed logins from this address" in found.string
    for header in (OTHER, local):
        async with await connect_peer((place.host, place.port)) as peer:
            await peer.send(header)
            await peer.log_in("app", "app", PASSWORDS["app"])
    async with await failing(place, local) as peer:
        await peer.expect_error("28P01")
    for peer in held:
        await peer.aclose()
    assert len(re.findall("answers are delayed", place.log)) == 1


async def test_an_answer_that_was_held_back_comes(pooler: PoolerFactory) -> None:
    place = pooler(auth_type="plain", auth_failure_delay="10ms")
    said: list[str] = []

    async def fail() -> None:
        async with await failing(place, b"") as peer:
            came = await peer.receive()
            said.append(came.fields["C"] if came is not None else "nothing")

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(fail)
    assert said.count("28P01") == 20
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.log_in("app", "app", PASSWORDS["app"])


async def test_failures_without_end_are_not_answered(pooler: PoolerFactory) -> None:
    place = pooler(auth_type="plain", auth_failure_delay=3600)
    for _ in range(10):
        async with await failing(place, b"") as peer:
            await peer.expect_error("28P01")
    held = [await failing(place, b"") for _ in range(16)]
    async with await failing(place, b"") as peer:
        await peer.expect_end()
    for peer in held:
        await peer.aclose()
