"""Thousands of clients on twenty servers, and nobody refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pgpool_core.testing import Message, Messages, PostgresServer, frontend
from tests.conftest import PASSWORDS, PoolerFactory
from tests.console import Console
from tests.crowd import room_for
from tests.watching import rss_bytes, until

CLIENTS = 5_000
SERVERS = 20


@pytest.fixture
def descriptors() -> Iterator[None]:
    with room_for(CLIENTS):
        yield


def until_ready(client: socket.socket) -> list[Message]:
    cutter, found = Messages(), list[Message]()
    while not found or found[-1].type != b"Z":
        data = client.recv(65536)
        assert data, f"the connection ended after {found[-3:]}"
        found += cutter.feed(data)
        assert not any(message.type == b"E" for message in found), found[-1].fields
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("descriptors")
def test_five_thousand_clients_share_twenty_servers(
    pooler: PoolerFactory, postgres: PostgresServer, workers: int
) -> None:
    place = pooler(
        auth_type="trust",
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        default_pool_size=SERVERS,
        max_client_conn=CLIENTS + 100,
        workers=workers,
        log_connections=False,
        log_disconnections=False,
    )
    empty = rss_bytes(place.process.pid)
    clients = []
    try:
        for _ in range(CLIENTS):
            client = socket.create_connection((place.host, place.port), timeout=60)
            clients.append(client)
            client.sendall(frontend.startup("app", "app"))
            until_ready(client)
        with Console(place) as console:
            assert console.pool()["cl_active"] == CLIENTS
        print(f"{(rss_bytes(place.process.pid) - empty) / CLIENTS:.0f} bytes for each idle client")
        for _ in range(2):
            for number, client in enumerate(clients):
                client.sendall(frontend.query(f"select {number}"))
            for number, client in enumerate(clients):
                rows = [message.values for message in until_ready(client) if message.type == b"D"]
                assert rows == [[str(number).encode()]]
        with Console(place) as console:
            assert console.lists()["used_servers"] <= SERVERS
    finally:
        for client in clients:
            client.close()
    with Console(place) as console:
        until(lambda: console.lists()["used_clients"] == 1)
