"""A host's name that loses an address: its servers go, those at other addresses stay."""

from __future__ import annotations

import pgpool_core
from pgpool_core.control.names import Moved
from pgpool_core.testing import PostgresServer
from tests.conftest import PASSWORDS
from tests.integration.test_session_outcomes import Place
from tests.peers import logged_in, values


async def test_servers_at_an_address_that_has_gone_are_closed(postgres: PostgresServer) -> None:
    config = pgpool_core.Config.of(
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        listen_addr="127.0.0.1",
        listen_port=0,
        unix_socket_dir="",
        auth_type="any",
        pool_mode="transaction",
        default_pool_size=1,
    )
    async with pgpool_core.open_proxy(config) as proxy:
        pools = proxy._pooler._pools
        async with logged_in(Place(proxy)) as client:

            async def backend() -> bytes | None:
                return values(await client.query("select pg_backend_pid()"))[0][0]

            first = await backend()
            pools.moved([Moved(postgres.host, postgres.port, frozenset({"127.0.0.77"}))])
            assert await backend() == first
            pools.moved([Moved(postgres.host, postgres.port, frozenset({postgres.host}))])
            assert await backend() != first
