"""Where the load goes: one PostgreSQL with TLS, and a pooler before it in one of many ways."""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import attrs

from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser, ServerTls, frontend
from tests.certificates import Authority
from tests.has_io_uring import refusal
from tests.oracle.load.line import Gate, Line

__all__ = [
    "Place",
    "answers_of",
    "clients_tls",
    "fill",
    "gate_of",
    "load_server",
    "place_of",
    "pooler_of",
    "what_broke",
]

DATABASE = "load"
USER = PostgresUser(name="app", password="app-secret", method="trust")
_ALWAYS_THE_SAME = {"synchronize_seqscans": "off"}  # tables are read from their beginning
LONG = (
    ("narrow", 20_000, 96),
    ("middling", 5000, 3000),
    ("wide", 12, 900_000),
)  # a table's name, its rows and their length, about
# What a pooler or a server says of bytes that it did not expect. Clients that vanish are cut off with other words.
_BROKEN = re.compile(
    r"broke the protocol|bad packet header|TLS broken|internal error|FATAL.*invariant|Traceback"
    r"|invalid frontend message type|invalid message length|invalid message format|insufficient data left|lost synchronization"
)


@attrs.frozen(kw_only=True)
class Place:
    """How the pooler is, as far as bytes may care."""

    io_backend: str
    workers: int
    mode: str
    servers: int
    socket_buffer: int
    reads_a_turn: int
    client_tls: bool
    server_tls: bool
    server_unix: bool
    streams: bool  # clients ask for long answers, mostly
    replaced: bool  # other processes take over

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in attrs.asdict(self).items())


def place_of(rng: random.Random, *, io_backend: str | None, workers: int | None, replaced: bool) -> Place:
    """One of them. Processes that take over have few servers: PostgreSQL has those of several at the same time."""
    return Place(
        io_backend=io_backend or rng.choice(("epoll", "auto") if refusal() else ("epoll", "auto", "io_uring")),
        workers=workers or rng.choice((1, 2)),
        mode=rng.choice(("transaction", "transaction", "session")),
        servers=rng.choice((1, 3, 6, 6 if replaced else 30)),
        socket_buffer=(narrow := rng.choice((0, 0, 0, 4096, 30_000))),
        reads_a_turn=rng.choice((1, 1, 2, 5)),
        client_tls=rng.random() < 0.5,
        server_tls=(tls := not narrow and rng.random() < 0.4),
        server_unix=narrow != 0 or (not tls and rng.random() < 0.3),  # over TCP a narrow one would wait for timers
        streams=rng.random() < 0.4,
        replaced=replaced,
    )


def load_server(folder: Path) -> PostgresServer:
    """Not started yet; `folder` is for its certificate, which the poolers show to clients as well."""
    issued = Authority(folder).issue("load", alternatives=("DNS:localhost", "IP:127.0.0.1"))
    tls = ServerTls(cert_file=issued.cert_file, key_file=issued.key_file)
    return PostgresServer(
        users=(USER,), databases=(DATABASE,), owner="app", max_connections=60, tls=tls, settings=_ALWAYS_THE_SAME
    )


def fill(server: PostgresServer) -> None:
    """What long queries read."""
    for name, count, length in LONG:
        sql = f"create table {name} as select n, (select string_agg(md5(n || '/' || i), '') from generate_series(1, {length} / 32 + n % 3) i) t from generate_series(1, {count}) n"
        server.sql(sql, database=DATABASE)
        server.sql(f"grant select on {name} to public", database=DATABASE)


async def answers_of(server: PostgresServer) -> dict[str, bytes]:
    """What PostgreSQL itself answers to them."""
    answers = {}
    async with Line(Gate(server.host, server.port, DATABASE), random.Random(0)) as line:
        for name, _, _ in LONG:
            sql = f"select * from {name}"
            await line.send(frontend.query(sql))
            came = [await line.expect(b"T")]
            while came[-1].type != b"Z":
                came.append(await line.message())
            answers[sql] = b"".join(map(bytes, came))
    return answers


def pooler_of(place: Place, server: PostgresServer) -> PoolerProcess:
    """The pooler, not started yet."""
    assert server.tls is not None
    host = server.socket_dir if place.server_unix else server.host
    tls = {"client_tls_cert_file": server.tls.cert_file, "client_tls_key_file": server.tls.key_file}
    return PoolerProcess(
        databases={DATABASE: f"host={host} port={server.port}"},
        passwords={USER.name: USER.password},
        settings={
            "auth_type": "trust",
            "admin_users": USER.name,
            "io_backend": place.io_backend,
            "workers": place.workers,
            "pool_mode": place.mode,
            "session_state": "auto",
            "default_pool_size": place.servers,
            "max_pinned_connections": place.servers,
            "max_client_conn": 500,
            "tcp_socket_buffer": place.socket_buffer,
            "sbuf_loopcnt": place.reads_a_turn,
            "client_tls_sslmode": "allow" if place.client_tls else "disable",
            **(tls if place.client_tls else {}),
            "server_tls_sslmode": "require" if place.server_tls else "disable",
            "query_wait_notify": 0,
            "suspend_timeout": 120,  # the machine may be slow
            "log_connections": False,
            "log_disconnections": False,
        },
    )


def clients_tls() -> ssl.SSLContext:
    """For clients, who trust anybody: what they send and get is the question here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def gate_of(place: Place, pooler: PoolerProcess, tls: ssl.SSLContext, answers: Mapping[str, bytes]) -> Gate:
    """How clients come in."""
    return Gate(
        pooler.host,
        pooler.port,
        DATABASE,
        pooler.unix_dir,
        tls if place.client_tls else None,
        place.socket_buffer != 0,
        answers,
    )


def what_broke(log: str) -> list[str]:
    """Lines of a log that say that somebody did not understand somebody."""
    return [line for line in log.splitlines() if _BROKEN.search(line)]
