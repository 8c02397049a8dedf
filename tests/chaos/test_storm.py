"""Everything at once on two workers: what has a race in it shows it here, above all in `make test-tsan`."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import attrs
import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.chaos.conftest import scene_of
from tests.conftest import DATABASES, PoolerFactory
from tests.console import Console

ROUNDS = 40
USERS = ("app", "legacy")
BROKEN = (psycopg.OperationalError, psycopg.errors.QueryCanceled)
"""What a client may meet where servers are killed: the end of its connection, an error, somebody's cancel request."""
KILL_ONE = """select count(pg_terminate_backend(pid)) from (
    select pid from pg_stat_activity where usename in ('app', 'legacy') order by random() limit 1) as victim"""


def next_result(connection: psycopg.Connection) -> psycopg.pq.abc.PGresult | None:
    """libpq's own waiting would keep the interpreter from everybody else, also from those who have the server that is waited for."""
    while connection.pgconn.is_busy():
        select.select([connection.pgconn.socket], [], [])
        connection.pgconn.consume_input()
    return connection.pgconn.get_result()


@attrs.define
class Storm:
    """Clients of all kinds on one pooler, and what their queries have come to."""

    place: PoolerProcess
    server: PostgresServer
    answered: int = 0
    broken: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def url(self, source: random.Random) -> str:
        return self.place.url(source.choice(USERS), source.choice(DATABASES))

    def count(self, *, answered: int = 0, broken: int = 0) -> None:
        with self._lock:
            self.answered += answered
            self.broken += broken

    def ask(self, source: random.Random) -> None:
        """Log in, ask some things that only this client would be answered so, leave."""
        with psycopg.connect(self.url(source), application_name=f"storm {source.random()}") as connection:
            for _ in range(source.randrange(1, 6)):
                mine = source.random()
                with connection.transaction():
                    size = source.choice((1, 200_000))
                    rows = connection.execute("select %s::float8, repeat('x', %s)", (mine, size)).fetchall()
                    assert rows == [(mine, "x" * size)]
                    assert connection.execute("select %s::float8", (mine,)).fetchall() == [(mine,)]
                self.count(answered=1)

    def vanish(self, source: random.Random) -> None:
        """Leave without a word, in a transaction, with a query under way."""
        connection = psycopg.connect(self.url(source))
        try:
            connection.execute("select 1")
            connection.pgconn.send_query(b"select pg_sleep(61), repeat('x', 100000)")
        finally:
            with contextlib.suppress(OSError), socket.socket(fileno=connection.pgconn.socket) as cut:
                cut.shutdown(socket.SHUT_RDWR)
                cut.detach()
            connection.close()

    def cancel(self, source: random.Random) -> None:
        """Cancel a query, which then runs, waits for a server, or has not even arrived."""
        with psycopg.connect(self.url(source), autocommit=True) as connection:
            connection.pgconn.send_query(b"select pg_sleep(0.05)")
            connection.cancel()
            while (result := next_result(connection)) is not None:
                assert result.status in (psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.FATAL_ERROR)
            self.count(answered=1)

    def kill(self, _: random.Random) -> None:
        """End a server of the pools."""
        self.server.sql(KILL_ONE)

    def watch(self, _: random.Random) -> None:
        """Look at everything and change settings under way."""
        with Console(self.place) as console:
            for command in ("POOLS", "CLIENTS", "SERVERS", "STATS", "LISTS", "DATABASES", "CONFIG"):
                console.rows(f"SHOW {command}")
            console.run("RELOAD")

    def repeat(self, action: Callable[[random.Random], None], seed: int, rounds: int) -> None:
        source = random.Random(f"{action.__name__}/{seed}")
        for _ in range(rounds):
            try:
                action(source)
            except BROKEN:
                self.count(broken=1)


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_a_storm_leaves_everything_as_it_was(pooler: PoolerFactory, postgres: PostgresServer, pool_mode: str) -> None:
    place = pooler(
        workers=2,
        pool_mode=pool_mode,
        default_pool_size=3,
        min_pool_size=1,
        max_db_connections=5,
        server_check_delay=0,
        server_login_retry=1,
        server_drain_timeout=1,
        server_lifetime=1,
        server_idle_timeout=1,
    )
    scene = scene_of(place, postgres)
    storm = Storm(place, postgres)
    work = [(storm.ask, ROUNDS)] * 6 + [(storm.vanish, ROUNDS // 4), (storm.cancel, ROUNDS)] * 2
    work += [(storm.kill, ROUNDS // 4), (storm.watch, ROUNDS // 4)]
    with ThreadPoolExecutor(len(work)) as threads:
        running = [threads.submit(storm.repeat, action, seed, rounds) for seed, (action, rounds) in enumerate(work)]
    for done in running:
        done.result()
    assert storm.answered > storm.broken
    scene.check()
