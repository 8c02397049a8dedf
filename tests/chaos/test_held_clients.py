"""Clients that end while the pooler asks their server what they have left: their servers go to others, on other workers too."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import psycopg

from pgpool_core.testing import PostgresServer, frontend
from tests.chaos.conftest import scene_of
from tests.conftest import PoolerFactory
from tests.crowd import crowd

ROUNDS = 60
ASKED = frontend.query("set app.tenant = 'mine'")


def test_who_ends_while_its_server_is_asked_is_not_mixed_up_with_the_next(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """What it has sent behind its query is looked at when the server has answered: here it is nothing that a client may say."""
    place = pooler(default_pool_size=1, workers=3, server_login_retry=1)
    scene = scene_of(place, postgres)
    over = threading.Event()

    def ends() -> None:
        for number in range(ROUNDS):
            connection = psycopg.connect(place.url("app", "app"), autocommit=True, application_name=f"one {number}")
            with socket.socket(fileno=connection.pgconn.socket) as raw, suppress(OSError):
                raw.settimeout(20)
                raw.sendall(ASKED)
                raw.recv(4096)
                raw.sendall(b"\xff" * 5)
                while raw.recv(4096):
                    pass
                raw.detach()
            connection.close()

    def waits(number: int) -> None:
        with psycopg.connect(place.url("app", "app"), autocommit=True) as connection:
            while not over.is_set():
                row = connection.execute("select %s::int, current_setting('app.tenant', true)", (number,)).fetchone()
                assert row in ((number, None), (number, ""))

    def one(number: int) -> None:
        if number:
            waits(number)
            return
        try:
            ends()
        finally:
            over.set()

    crowd(7, one)
    scene.check()
