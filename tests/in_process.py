"""A pooler inside the test's process, in front of one server: what goes on in it can be counted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pgpool_core
from pgpool_core.testing import PostgresServer
from tests.conftest import PASSWORDS

__all__ = ["Place", "config", "own_or_lent"]


class Place:
    """Where its clients connect, and what its engine has counted."""

    def __init__(self, proxy: pgpool_core.Proxy) -> None:
        self.host, self.port = proxy.host, proxy.port
        self._engine = proxy._pooler.engine

    def counted(self, name: str) -> int:
        """One of the engine's counters, of all pools."""
        return sum(row[name] for row in self._engine.counters().values())


def config(server: PostgresServer, *, users: Sequence[str] = ("app",), **settings: object) -> pgpool_core.Config:
    """Transaction mode, one server connection, nobody asked for a password. An entry for each of `users`, by its name, leads to `app`."""
    entry = {"host": server.host, "port": server.port, "dbname": "app"}
    return pgpool_core.Config.of(
        databases={user: {**entry, "user": user, "password": PASSWORDS[user]} for user in users},
        listen_addr="127.0.0.1",
        listen_port=0,
        unix_socket_dir="",
        auth_type="any",
        pool_mode="transaction",
        **{"default_pool_size": 1, **settings},
    )


@asynccontextmanager
async def own_or_lent(kind: str, dsn: str, size: int) -> AsyncIterator[pgpool_core.Pool]:
    """A pool of `size` connections: "own" ones, or "lent" ones, which are a proxy's."""
    if kind == "own":
        async with pgpool_core.open_pool(dsn, max_size=size, acquire_timeout=20) as pool:
            yield pool
        return
    backend = os.environ.get("PGPOOL_TEST_IO_BACKEND", "auto")
    async with (
        pgpool_core.open_proxy(dsn, default_pool_size=size, io_backend=backend) as proxy,
        proxy.open_pool(acquire_timeout=20) as pool,
    ):
        yield pool
        assert proxy._pooler.engine.invariants() == []
