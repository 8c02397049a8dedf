"""The server and the poolers that the oracles compare: one of each for the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.oracle.stage import POOLED, STRAIGHT, USERS, Address, furnish, pooler_before

Places = Callable[[int], tuple[Address, Address]]


@pytest.fixture(scope="session")
def oracle_postgres() -> Iterator[PostgresServer]:
    """A server of our own: its catalogues are looked at."""
    with PostgresServer(users=USERS, databases=(POOLED, STRAIGHT), owner="boss", max_connections=60) as server:
        furnish(server)
        yield server


@pytest.fixture(scope="session")
def places(oracle_postgres: PostgresServer) -> Iterator[Places]:
    """`places(servers)`: where to connect for PostgreSQL itself, and for a pooler that has so many servers."""
    running: dict[int, PoolerProcess] = {}

    def at(servers: int) -> tuple[Address, Address]:
        if servers not in running:
            running[servers] = pooler_before(oracle_postgres, servers=servers).__enter__()
        pooler = running[servers]
        return (
            Address(oracle_postgres.host, oracle_postgres.port, STRAIGHT),
            Address(pooler.host, pooler.port, POOLED),
        )

    yield at
    bad = [process.log[-4000:] for process in running.values() if process.close() != 0]
    assert not bad, "\n".join(bad)


@pytest.fixture(scope="session")
def layered_places(oracle_postgres: PostgresServer, places: Places) -> Iterator[Places]:
    """The same where the pooler stands in front of another of the same kind."""
    running: dict[int, PoolerProcess] = {}

    def at(servers: int) -> tuple[Address, Address]:
        straight, inner = places(servers)
        if servers not in running:
            running[servers] = pooler_before(inner, servers=servers).__enter__()
        return straight, Address(running[servers].host, running[servers].port, POOLED)

    yield at
    bad = [process.log[-4000:] for process in running.values() if process.close() != 0]
    assert not bad, "\n".join(bad)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"oracle_postgres", "places", "layered_places"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("postgres")
