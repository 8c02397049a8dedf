"""A host's name that loses an address: its servers go, those at other addresses stay."""

from __future__ import annotations

import pgpool_core
from pgpool_core.control.names import Moved
from pgpool_core.testing import PostgresServer
from tests.in_process import Place, config
from tests.peers import logged_in, values


async def test_servers_at_an_address_that_has_gone_are_closed(postgres: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(postgres)) as proxy:
        pools = proxy._pooler._pools
        async with logged_in(Place(proxy)) as client:

            async def backend() -> bytes | None:
                return values(await client.query("select pg_backend_pid()"))[0][0]

            first = await backend()
            pools.moved([Moved(postgres.host, postgres.port, frozenset({"127.0.0.77"}))])
            assert await backend() == first
            pools.moved([Moved(postgres.host, postgres.port, frozenset({postgres.host}))])
            assert await backend() != first
