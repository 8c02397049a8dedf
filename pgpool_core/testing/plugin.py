"""pytest fixtures for programs that use `pgpool_core`; installed with it, and idle until one of them is asked for.

pgpool_postgres   a PostgreSQL server for the whole test session, with a user and a database `app`
pgpool_proxy      a pooler inside this process, in front of that server (or of the one in `PGPOOL_TEST_DATABASE_URL`)
pgpool_url        its URL, for any driver
pgpool_pool       a pool of `open_pool` through that proxy, for async tests: of pytest-trio, or of anyio with its back end trio

The first three work with plain pytest.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pgpool_core.client.pool import Pool
    from pgpool_core.embedded.thread import ThreadedProxy
    from pgpool_core.testing.postgres import PostgresServer

URL_VARIABLE = "PGPOOL_TEST_DATABASE_URL"


@pytest.fixture(scope="session")
def pgpool_postgres() -> Iterator[PostgresServer]:
    """A real server: found by `find_postgres`, on a free port, gone at the end of the session."""
    from pgpool_core.testing.postgres import PostgresServer, PostgresUser

    user = PostgresUser(name="app", password=secrets.token_urlsafe(12))
    with PostgresServer(users=[user], databases=["app"], owner="app") as server:
        yield server


@pytest.fixture(scope="session")
def pgpool_proxy(request: pytest.FixtureRequest) -> Iterator[ThreadedProxy]:
    """A pooler in a thread of this process, in transaction mode."""
    import pgpool_core

    url = os.environ.get(URL_VARIABLE)
    if url is None:
        server: PostgresServer = request.getfixturevalue("pgpool_postgres")
        url = server.dsn("app", "app")
    with pgpool_core.run_proxy_in_thread(url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def pgpool_url(pgpool_proxy: ThreadedProxy) -> str:
    """Where tests connect: `postgresql://...` through the pooler."""
    return pgpool_proxy.url


@pytest.fixture
async def pgpool_pool(pgpool_url: str) -> AsyncIterator[Pool]:
    """A pool of this test's own, closed at its end; the servers behind the proxy stay open from test to test."""
    import pgpool_core

    async with pgpool_core.open_pool(pgpool_url, max_size=5, name="pgpool_pool") as pool:
        yield pool
