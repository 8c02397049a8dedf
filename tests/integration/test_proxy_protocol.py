"""Clients behind a load balancer: their own address counts for rules, SHOW CLIENTS and the log."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from pgpool_core.testing import Message, PoolerProcess, PostgresServer, ScriptedPeer, connect_peer, frontend
from tests.conftest import PoolerFactory
from tests.integration.test_hba import ruled
from tests.peers import values

LINE = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 6432\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, 12) + bytes([203, 0, 113, 9] * 2) + b"\x12\x67\0\1"
MAPPED = b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 4711 6432\r\n"  # of a balancer that listens to both families at once
HEALTH = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)


@asynccontextmanager
async def balanced(place: PoolerProcess, header: bytes) -> AsyncGenerator[ScriptedPeer]:
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(header)
        yield peer


@pytest.mark.parametrize("header", [LINE, BINARY, MAPPED], ids=["1", "2", "mapped"])
async def test_a_client_is_known_by_its_own_address(pooler: PoolerFactory, header: bytes) -> None:
    place = pooler(proxy_protocol_networks="10.0.0.0/8, 127.0.0.0/8")
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send_bytewise(header)
        await peer.log_in("app", "app", "app-secret")
        assert values(await peer.query("select 1")) == [[b"1"]]
    place.wait_for_log(r"app/app@203.0.113.9:4711 login attempt: db=app")


async def test_a_network_of_mapped_addresses_is_one_of_ipv4(pooler: PoolerFactory) -> None:
    place = pooler(proxy_protocol_networks="::ffff:10.0.0.0/104, ::ffff:127.0.0.0/104")
    async with balanced(place, LINE) as peer:
        await peer.log_in("app", "app", "app-secret")


async def test_a_health_check_has_the_address_of_the_balancer(pooler: PoolerFactory) -> None:
    place = pooler(proxy_protocol_networks="127.0.0.1")
    async with balanced(place, HEALTH) as peer:
        await peer.log_in("app", "app", "app-secret")
    place.wait_for_log(r"app/app@127.0.0.1:\d+ login attempt: db=app")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", HEALTH[:12] + b"\x21\x00\x00\x00"], ids=["1", "2"])
async def test_who_comes_by_way_of_the_balancer_has_not_its_account(pooler: PoolerFactory, header: bytes) -> None:
    """Our own account needs no password for the console, on the unix socket."""
    place = pooler(unix=True, proxy_protocol_networks="unix")
    socket_path = place.unix_dir / f".s.PGSQL.{place.port}"
    async with await connect_peer(socket_path) as peer:
        await peer.send(HEALTH, frontend.startup("pgbouncer", "pgbouncer"))
        await peer.until("Z")
    async with await connect_peer(socket_path) as peer:
        await peer.send(header, frontend.startup("pgbouncer", "pgbouncer"))
        await peer.expect_error("28000")  # as for everybody else


def column_names(messages: Sequence[Message]) -> list[str]:
    """Of a RowDescription: each name, and 18 bytes that are no matter here."""
    body = next(message.body for message in messages if message.type == b"T")[2:]
    names = []
    while body:
        name, _, body = body.partition(b"\0")
        names.append(name.decode())
        body = body[18:]
    return names


async def test_rules_and_the_console_go_by_the_address_behind_the_balancer(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    rules = "host all app 203.0.113.0/24 trust\nhost all admin 127.0.0.1/32 trust\nhost all all all reject\n"
    place = ruled(pooler, postgres, rules, proxy_protocol_networks="unix, 127.0.0.1", admin_users="app")
    async with balanced(place, LINE) as peer:
        await peer.send(frontend.startup("app", "pgbouncer"))
        await peer.until("Z")
        rows = await peer.query("show clients")
        shown = dict(zip(column_names(rows), values(rows)[0], strict=True))
        assert (shown["addr"], shown["port"]) == (b"203.0.113.9", b"4711")
    async with balanced(place, HEALTH) as peer:
        await peer.send(frontend.startup("app", "app"))
        await peer.expect_error("28000")


@pytest.mark.parametrize("header", [b"", b"PROXY TCP4 nonsense\r\n"], ids=["none", "broken"])
async def test_a_header_is_demanded_where_it_is_trusted(pooler: PoolerFactory, header: bytes) -> None:
    place = pooler(proxy_protocol_networks="127.0.0.0/8")
    async with balanced(place, header) as peer:
        await peer.send(frontend.startup("app", "app"))
        assert (await peer.expect_error("08P01")).fields["M"].startswith("a PROXY header has to come first")


async def test_a_header_from_anybody_else_is_no_login(pooler: PoolerFactory) -> None:
    place = pooler(proxy_protocol_networks="10.0.0.0/8, ::1, unix")
    async with balanced(place, LINE) as peer:
        await peer.expect_error("08P01")
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.log_in("app", "app", "app-secret")


async def test_the_networks_change_with_a_reload(pooler: PoolerFactory) -> None:
    place = pooler()
    place.settings["proxy_protocol_networks"] = "127.0.0.1"
    place.reload()
    place.wait_for_log("configuration reloaded")
    async with balanced(place, LINE) as peer:
        await peer.log_in("app", "app", "app-secret")
