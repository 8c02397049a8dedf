"""What every test of this folder ends with: after the damage, everything is as it was."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.conftest import PoolerFactory, copy_of
from tests.console import Console
from tests.watching import descriptors, until

BUSY = (
    *("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req"),
    *("sv_active", "sv_active_cancel", "sv_being_canceled", "sv_tested", "sv_login"),
)
FOREIGN_STATE = """select pid, state, left(query, 60) from pg_stat_activity
    where usename = 'app' and (state like 'idle in transaction%' or state = 'active')"""


@pytest.fixture(scope="session")
def postgres(furnished: PostgresServer) -> Iterator[PostgresServer]:
    """A server that no pooler of another test is connected to, since connections are counted here."""
    with copy_of(furnished, max_connections=200) as server:
        yield server


@attrs.frozen
class Scene:
    """A pooler whose health was noted before the damage.

    Attributes:
        place: the pooler, transaction mode.
        server: the PostgreSQL behind it.
        idle_descriptors: how many descriptors it has beside those of servers and clients.
    """

    place: PoolerProcess
    server: PostgresServer
    idle_descriptors: int

    @property
    def host(self) -> str:
        return self.place.host

    @property
    def port(self) -> int:
        return self.place.port

    def check(self) -> None:
        """A fresh client can work; no slot, descriptor or transaction is left of what happened."""
        assert self.place.running, self.place.log[-4000:]
        until(self._fresh_client_works, what="a fresh client works")
        with Console(self.place) as console:
            until(
                lambda: not any(console.pool()[name] for name in BUSY),
                what=f"nothing of the pool is busy: {console.pool()}",
            )
            until(lambda: console.lists()["used_clients"] == 1, what="every client but the console is forgotten")
            assert console.lists()["login_clients"] == 0
            until(
                lambda: len(descriptors(self.place.process.pid)) == self._expected(console),
                what=f"no descriptor is left over: {descriptors(self.place.process.pid)}, {console.lists()}",
            )
            until(lambda: self._counted(console), what="PostgreSQL counts the servers that we count")
        until(lambda: not self.server.sql(FOREIGN_STATE), what="no server is left in a transaction or a query")

    def _fresh_client_works(self) -> bool:
        try:
            with psycopg.connect(self.place.url("app", "app"), autocommit=True, connect_timeout=5) as connection:
                row = connection.execute("select 1, pg_current_xact_id_if_assigned() is null").fetchone()
                assert row == (1, True)
                assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                return True
        except psycopg.OperationalError:
            return False

    def _expected(self, console: Console) -> int:
        lists = console.lists()
        return self.idle_descriptors + lists["used_servers"] + lists["used_clients"]

    def _counted(self, console: Console) -> bool:
        return console.lists()["used_servers"] == self.server.backends(user="app")


def scene_of(place: PoolerProcess, server: PostgresServer) -> Scene:
    """Use `place` once, so that whatever is opened on first use is open, and note its descriptors."""
    with psycopg.connect(place.url("app", "app"), autocommit=True) as connection:
        connection.execute("select 1")
    with Console(place) as console:
        until(lambda: console.lists()["used_clients"] == 1)
        lists = console.lists()
        idle = len(descriptors(place.process.pid)) - lists["used_servers"] - lists["used_clients"]
    return Scene(place=place, server=server, idle_descriptors=idle)


@pytest.fixture
def scene(pooler: PoolerFactory, postgres: PostgresServer) -> Iterator[Scene]:
    """Two servers in transaction mode on the session's PostgreSQL; checked at the end of the test."""
    made = scene_of(pooler(default_pool_size=2, server_drain_timeout=3, server_login_retry=1), postgres)
    yield made
    made.check()


@pytest.fixture
def own_scene(pooler: PoolerFactory, own_postgres: PostgresServer) -> Iterator[Scene]:
    """The same on a PostgreSQL that may be killed."""
    place = pooler(
        server=own_postgres,
        default_pool_size=2,
        server_drain_timeout=2,
        server_login_retry=1,
        server_connect_timeout=2,
    )
    made = scene_of(place, own_postgres)
    yield made
    made.check()
