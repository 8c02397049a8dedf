"""The one PostgreSQL of a benchmark: fast and unsafe settings, pgbench's tables, three users."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro.cases import SCALE
from benchmarks.macro.errors import BenchError
from pgpool_core.testing.binaries import PostgresMissing
from pgpool_core.testing.postgres import PostgresServer, PostgresUser
from pgpool_core.testing.process import ProcessFailed

USER: Final = "bench"
SECOND_USER: Final = "bench_second"
SCRAM_USER: Final = "bench_scram"
MD5_USER: Final = "bench_md5"
SCRAM_PASSWORD: Final = "correct horse"
DATABASE: Final = "bench"
MAX_CONNECTIONS: Final = 400
SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "shared_buffers": "1GB",
    "autovacuum": "off",
    "jit": "off",
}
FILL_TIMEOUT_S: Final = 120.0


@attrs.frozen(kw_only=True)
class BenchDatabase:
    """A running server with pgbench's tables.

    Attributes:
        secrets: what a pooler's auth_file says of the users: no password, or a stored SCRAM or md5 secret.
    """

    server: PostgresServer
    psql: Path
    pgbench: Path
    secrets: Mapping[str, str] = attrs.field(repr=False)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def socket_dir(self) -> Path:
        assert self.server.socket_dir is not None
        return self.server.socket_dir


def describe_setup() -> str:
    """How the server is set up, in words for the report."""
    settings = ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    return f"pgbench -i -s {SCALE}, {settings}, max_connections={MAX_CONNECTIONS}"


@contextlib.contextmanager
def running_database() -> Iterator[BenchDatabase]:
    """Start a server, fill it, and stop and remove it on the way out.

    Raises:
        BenchError: PostgreSQL or pgbench is missing, or the server did not start; the text says which.
    """
    users = [
        PostgresUser(name=USER, password="", method="trust"),
        PostgresUser(name=SECOND_USER, password="", method="trust"),
        PostgresUser(name=SCRAM_USER, password=SCRAM_PASSWORD, method="scram-sha-256"),
        PostgresUser(name=MD5_USER, password=SCRAM_PASSWORD, method="md5"),
    ]
    server = PostgresServer(
        users=users, databases=[DATABASE], owner=USER, settings=dict(SETTINGS), max_connections=MAX_CONNECTIONS
    )
    try:
        try:
            psql, pgbench = server.binaries.program("psql"), server.binaries.program("pgbench")
            server.start()
            fill(pgbench, server)
            query = "select rolpassword from pg_authid where rolname = :'name'"
            secret = server.sql(query, variables={"name": SCRAM_USER})
            md5_secret = server.sql(query, variables={"name": MD5_USER})
        except (PostgresMissing, ProcessFailed) as why:
            raise BenchError(f"PostgreSQL: {why}") from why
        secrets = {USER: "", SECOND_USER: "", SCRAM_USER: secret, MD5_USER: md5_secret}
        yield BenchDatabase(server=server, psql=psql, pgbench=pgbench, secrets=secrets)
    finally:
        server.close()


def fill(pgbench: Path, server: PostgresServer) -> None:
    """Make pgbench's tables, vacuumed and checkpointed, so that nothing of that is left for the rounds.

    Raises:
        BenchError: pgbench failed.
    """
    place = ["-h", server.host, "-p", str(server.port), "-U", USER, DATABASE]
    command = [str(pgbench), "-i", "-q", "-s", str(SCALE), *place]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FILL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise BenchError(f"{' '.join(command)}: no end after {FILL_TIMEOUT_S:g} s") from late
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed: {done.stderr}")
    server.sql("checkpoint")
