"""Control that does not read its mail: what it must hear all the same. The engine alone, control is the test."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import attrs

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.config.words import AUTH_TYPES
from pgpool_core.control import routing
from pgpool_core.engine.plane import VERDICT_RETRY
from pgpool_core.testing import frontend
from tests.bare_engine import bare_engine
from tests.watching import until

RING = 4096  # letters that fit


@contextlib.contextmanager
def engine_with_a_listener(auth_type: str = "trust") -> Iterator[tuple[Any, tuple[str, int]]]:
    engine = bare_engine(auth_type=AUTH_TYPES.index(auth_type))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setblocking(False)
        engine.start()
        try:
            engine.add_listener(listener.fileno(), is_unix=False, port=listener.getsockname()[1])
            yield engine, listener.getsockname()
        finally:
            engine.stop()


def open_pool(engine: Any) -> int:
    """A pool of one server for app/app."""
    groups = {"database_group": engine.add_group(0), "user_group": engine.add_group(0)}
    pool: int = engine.add_pool(b"app", b"app", **groups)
    entry = DatabaseConfig()
    config = Config(databases={"app": entry}, default_pool_size=1, min_pool_size=1, pool_mode="transaction")
    settings = routing.pool_settings(config, routing.PoolKey("app", "app"), entry)
    engine.configure_pool(pool, **attrs.asdict(attrs.evolve(settings, prewarm=True)))
    engine.add_route(b"app", b"app", pool)
    return pool


def adopt(engine: Any) -> tuple[int, socket.socket]:
    """The one server that the pool wants, and PostgreSQL's end of it."""
    [(server, *_)] = engine.plan(time.monotonic_ns() // 1000)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    engine.adopt_server(
        server,
        ours.detach(),
        backend_pid=4711,
        backend_key=b"key!",
        parameters=[(b"server_version", b"15.4")],
        unread=b"",
        family_unix=True,
        host=b"/tmp",
        port=5432,
    )
    theirs.settimeout(10)
    return server, theirs


def read_until(sock: socket.socket, end: bytes) -> bytes:
    came = b""
    while not came.endswith(end):
        more = sock.recv(4096)
        assert more, came
        came += more
    return came


def test_a_password_that_control_was_to_check_is_refused_when_its_ring_is_full() -> None:
    with engine_with_a_listener("plain") as (engine, address):
        open_pool(engine)
        engine.set_credential(b"app", scram=(20_000, b"salt", bytes(32), bytes(32)))
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(frontend.startup("app", "app"))
            read_until(client, b"R\0\0\0\x08\0\0\0\x03")
            for _ in range(RING + 10):
                leave_a_log_line(address)
            client.sendall(frontend.password("secret"))
            said = b"".join(iter(lambda: client.recv(4096), b""))
            assert b"C53300\0Mtoo many logins wait for a decision\0" in said
            assert "policy" not in {letter[0] for letter in engine.take_mail()}


def leave_a_log_line(address: tuple[str, int]) -> None:
    """Say something that is no startup packet: that is refused, and logged by mail, before the worker ends its side."""
    with socket.create_connection(address, timeout=10) as garbage:
        garbage.sendall(struct.pack("!II", 8, 0))
        came = b"".join(iter(lambda: garbage.recv(4096), b""))
        assert came[:1] == b"E"


def test_a_cancel_request_that_finds_controls_ring_full_is_carried_when_the_ring_is_read() -> None:
    with engine_with_a_listener() as (engine, address):
        engine.set_welcome(open_pool(engine), [(b"server_version", b"15.4")])
        server, theirs = adopt(engine)
        with theirs, socket.create_connection(address, timeout=10) as client:
            client.sendall(frontend.startup("app", "app"))
            came: list[tuple[Any, ...]] = []
            until(lambda: came.extend(engine.take_mail()) or [letter for letter in came if letter[0] == "policy"])
            [asking] = [letter[1] for letter in came if letter[0] == "policy"]
            engine.set_credential(b"app", plain=b"secret")
            engine.answer_policy(asking, VERDICT_RETRY)
            greeting = read_until(client, b"Z\0\0\0\x05I")
            key = greeting[greeting.index(b"K\0\0\0\x0c") + 5 :][:8]
            client.sendall(frontend.query("select pg_sleep(61)"))
            read_until(theirs, b"select pg_sleep(61)\0")

            engine.take_mail()
            for _ in range(RING + 10):
                leave_a_log_line(address)
            with socket.create_connection(address, timeout=10) as cancel:
                cancel.sendall(frontend.cancel(*struct.unpack("!II", key)))
                assert cancel.recv(1) == b""
            for _ in range(3):  # the worker has then read its own mail too
                leave_a_log_line(address)

            letters = engine.take_mail()
            assert [letter[0] for letter in letters] == ["log"] * RING + ["cancel"]
            assert letters[-1][1] == server
            assert letters[-1][3:] == (4711, b"key!", b"/tmp", 5432, 0, False)
            assert engine.take_mail() == []
