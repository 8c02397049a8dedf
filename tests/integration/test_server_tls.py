"""TLS towards a real PostgreSQL: every sslmode, whose certificate it is, and everything that goes over such a connection."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import trio

import pgpool_core
from pgpool_core.control.connect import LoggedInServer, ServerTarget, open_server
from pgpool_core.control.server_tls import TlsWish
from pgpool_core.errors import PgPoolError, ServerLoginRefused, ServerUnavailable
from pgpool_core.policy.secrets import Secret
from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser, ServerTls
from tests.certificates import Authority, Certificate
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.integration.test_run import ASK, SOURCE, run
from tests.peers import logged_in, values
from tests.watching import until

pytestmark = pytest.mark.postgres

USERS = (
    PostgresUser(name="app", password="app-secret"),
    PostgresUser(name="tls_only", password="secret", tls="required"),
    PostgresUser(name="no_tls", password="secret", tls="refused"),
    PostgresUser(name="with_cert", password="secret", tls="required", client_cert=True),
    PostgresUser(name="by_md5", password="secret", method="md5"),
    PostgresUser(name="boss", password="boss-secret", options="superuser", tls="required"),
)
SECRETS = {user.name: user.password for user in USERS}


@attrs.frozen
class Realm:
    """One authority, what it has signed, and another that nobody has asked."""

    authority: Authority
    stranger: Authority
    server: Certificate  # of "localhost"
    expired: Certificate
    client: Certificate
    foreign: Certificate  # the stranger's, of "localhost"
    revocations: Path

    def of(self, certificate: Certificate) -> ServerTls:
        return ServerTls(cert_file=certificate.cert_file, key_file=certificate.key_file, ca_file=self.authority.ca_file)


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Realm:
    folder = tmp_path_factory.mktemp("realm")
    authority, stranger = Authority(folder / "ours"), Authority(folder / "theirs", "a stranger")
    local = ["DNS:localhost"]
    server = authority.issue("localhost", alternatives=local)
    revocations = folder / "revoked.pem"
    revocations.write_bytes(authority.revocations(server))
    return Realm(
        authority,
        stranger,
        server,
        authority.issue("localhost", alternatives=local, days=-1),
        authority.issue("pooler"),
        stranger.issue("localhost", alternatives=local),
        revocations,
    )


@pytest.fixture(scope="module")
def secure(realm: Realm) -> Iterator[PostgresServer]:
    with PostgresServer(users=USERS, databases=["app"], owner="app", tls=realm.of(realm.server)) as server:
        yield server


@pytest.fixture
def other_certificate(secure: PostgresServer, realm: Realm) -> Iterator[Any]:
    """Has the server show another certificate until the end of the test."""

    def use(certificate: Certificate) -> None:
        secure.use(realm.of(certificate))

    yield use
    secure.use(realm.of(realm.server))


def target(server: PostgresServer, user: str, mode: str, *, host: str = "localhost", **more: Any) -> ServerTarget:
    return ServerTarget(
        hosts=(host,),
        port=server.port,
        dbname="app",
        user=user,
        secret=Secret(plain=SECRETS[user].encode()),
        tls=TlsWish(mode=mode, **more),
    )


async def opened(wanted: ServerTarget) -> LoggedInServer:
    return await open_server(wanted, timeout_s=10)


async def way(wanted: ServerTarget) -> str:
    """ "tls", "plain", or what is wrong."""
    try:
        server = await opened(wanted)
    except PgPoolError as error:
        return str(error)
    found = "tls" if server.tls else "plain"
    assert (server.secured is not None) == bool(server.tls)
    server.close()
    return found


REFUSED = "pg_hba.conf rejects connection"


@pytest.mark.parametrize(
    ("mode", "user", "found"),
    [
        ("disable", "app", "plain"),
        ("disable", "tls_only", REFUSED),
        ("allow", "app", "plain"),
        ("allow", "tls_only", "tls"),
        ("allow", "no_tls", "plain"),
        ("prefer", "app", "tls"),
        ("prefer", "tls_only", "tls"),
        ("prefer", "no_tls", "plain"),
        ("require", "app", "tls"),
        ("require", "no_tls", REFUSED),
        ("require", "by_md5", "tls"),
        ("verify-ca", "app", "tls"),
        ("verify-full", "app", "tls"),
    ],
)
async def test_each_mode_finds_its_way(secure: PostgresServer, realm: Realm, mode: str, user: str, found: str) -> None:
    ca_file = str(realm.authority.ca_file) if mode.startswith("verify") else ""
    assert found in await way(target(secure, user, mode, ca_file=ca_file))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
async def test_a_server_without_tls_is_good_enough_for_three_of_them(postgres: PostgresServer, mode: str) -> None:
    found = await way(target(postgres, "app", mode))
    if mode in ("disable", "allow", "prefer"):
        assert found == "plain"
    else:
        assert f"the server has no TLS, which sslmode = {mode} demands" in found


async def test_a_unix_socket_has_no_tls_whatever_the_mode(secure: PostgresServer, realm: Realm) -> None:
    host = str(secure.socket_dir)
    assert await way(target(secure, "app", "verify-full", host=host, ca_file=str(realm.authority.ca_file))) == "plain"


async def test_a_wrong_password_is_not_tried_twice(secure: PostgresServer) -> None:
    for mode in ("allow", "prefer"):
        since = secure.log.count("password authentication failed")
        with pytest.raises(ServerLoginRefused):
            await opened(attrs.evolve(target(secure, "app", mode), secret=Secret(plain=b"wrong")))
        until(lambda since=since: secure.log.count("password authentication failed") > since)  # type: ignore[misc]
        assert await way(target(secure, "app", mode)) != ""
        assert secure.log.count("password authentication failed") == since + 1


async def test_another_authority_is_refused_where_it_is_looked_at(secure: PostgresServer, realm: Realm) -> None:
    stranger = str(realm.stranger.ca_file)
    for mode in ("require", "verify-ca", "verify-full"):
        assert "certificate" in await way(target(secure, "app", mode, ca_file=stranger))
    for mode in ("verify-ca", "verify-full"):
        assert "certificate" in await way(target(secure, "app", mode)), "the system knows nobody here"
    assert await way(target(secure, "app", "prefer", ca_file=stranger)) == "tls"


async def test_a_certificate_of_another_host_is_refused_by_verify_full(secure: PostgresServer, realm: Realm) -> None:
    ca_file = str(realm.authority.ca_file)
    assert await way(target(secure, "app", "verify-ca", host="127.0.0.1", ca_file=ca_file)) == "tls"
    found = await way(target(secure, "app", "verify-full", host="127.0.0.1", ca_file=ca_file))
    assert "mismatch" in found
    both = attrs.evolve(target(secure, "app", "verify-full", ca_file=ca_file), hosts=("127.0.0.1", "localhost"))
    server = await opened(both)
    assert server.secured is not None
    assert server.secured.name == "localhost", "each host of a list answers for its own name"
    server.close()


async def test_certificates_that_are_no_longer_good_are_refused(
    secure: PostgresServer, realm: Realm, other_certificate: Any
) -> None:
    ca_file = str(realm.authority.ca_file)
    revoked = target(secure, "app", "verify-ca", ca_file=ca_file, crl_file=str(realm.revocations))
    assert "revoked" in await way(revoked)
    other_certificate(realm.expired)
    assert "expired" in await way(target(secure, "app", "verify-ca", ca_file=ca_file))
    assert await way(target(secure, "app", "require")) == "tls"


async def test_a_client_certificate_is_shown(secure: PostgresServer, realm: Realm) -> None:
    mine = {"cert_file": str(realm.client.cert_file), "key_file": str(realm.client.key_file)}
    assert await way(target(secure, "with_cert", "require", **mine)) == "tls"
    assert "certificate" in await way(target(secure, "with_cert", "require"))
    theirs = {"cert_file": str(realm.foreign.cert_file), "key_file": str(realm.foreign.key_file)}
    refused = "TLS: the other side does not take our certificate: unknown ca (server_tls_cert_file)"
    assert refused in await way(target(secure, "with_cert", "require", **theirs))
    assert refused in await way(target(secure, "with_cert", "require", protocols=("tlsv1.2",), **theirs))
    wrong_key = {**mine, "key_file": str(realm.foreign.key_file)}
    assert "server_tls_key_file" in await way(target(secure, "with_cert", "require", **wrong_key))


@pytest.mark.parametrize(
    ("version", "ciphers", "info"),
    [
        ("tlsv1.3", "default", "TLSv1.3/"),
        ("tlsv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256"),
    ],
)
async def test_versions_and_ciphers_are_obeyed(secure: PostgresServer, version: str, ciphers: str, info: str) -> None:
    server = await opened(target(secure, "app", "require", protocols=(version,), ciphers=ciphers))
    assert server.tls.startswith(info)
    server.close()


async def test_logins_are_bound_to_the_channel(secure: PostgresServer) -> None:
    assert await way(target(secure, "app", "require", channel_binding="require")) == "tls"
    assert await way(target(secure, "app", "require", channel_binding="disable")) == "tls"
    found = await way(target(secure, "by_md5", "require", channel_binding="require"))
    assert "does not bind the login to the channel" in found


# -- through a pooler ------------------------------------------------------------------------------------------------------


def entry(server: PostgresServer, more: str = "") -> dict[str, str]:
    return {"app": f"host=localhost port={server.port} {more}"}


def is_secure(place: PoolerProcess, user: str = "app") -> bool:
    with psycopg.connect(place.url(user, "app")) as connection:
        row = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
        assert row is not None
        return bool(row[0])


@pytest.mark.parametrize("backend", ["epoll", "io_uring"])
def test_queries_of_any_size_go_over_tls(pooler: PoolerFactory, secure: PostgresServer, backend: str) -> None:
    place = pooler(server=secure, databases=entry(secure), default_pool_size=2, io_backend=backend, workers=2)
    text = "x" * 3_000_000
    with psycopg.connect(place.url("app", "app")) as connection:
        for _ in range(3):
            row = connection.execute(
                "select length(%s), %s || ssl from pg_stat_ssl where pid = pg_backend_pid()", [text, text]
            ).fetchone()
            assert row == (len(text), text + "true")
            connection.commit()
        with connection.cursor().copy(
            "copy (select repeat('y', 1000) from generate_series(1, 20000)) to stdout"
        ) as copy:
            assert sum(len(data) for data in copy) == 20000 * 1001
        connection.execute("create temp table t (a text)")
        with connection.cursor().copy("copy t from stdin") as copy:
            for _ in range(20000):
                copy.write("z" * 100 + "\n")
        assert connection.execute("select count(*), sum(length(a)) from t").fetchone() == (20000, 2_000_000)
    place.wait_for_log("new connection to server .*tls=.?TLSv1.3/")


def test_show_servers_tells_how_they_are_encrypted(pooler: PoolerFactory, secure: PostgresServer) -> None:
    place = pooler(server=secure, databases=entry(secure, "sslmode=require"))
    assert is_secure(place)
    with Console(place) as console:
        (server,) = console.rows("SHOW SERVERS")
        assert server["tls"].startswith("TLSv1.3/")


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (
            {"server_tls_protocols": "tlsv1.2", "server_tls_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
            "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        ({"server_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256"}, "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256"),
    ],
)
def test_the_settings_of_ciphers_hold_for_every_server(
    pooler: PoolerFactory, secure: PostgresServer, settings: dict[str, str], shown: str
) -> None:
    place = pooler(server=secure, databases=entry(secure), server_tls_sslmode="require", **settings)
    assert is_secure(place)
    with Console(place) as console:
        (server,) = console.rows("SHOW SERVERS")
        assert server["tls"].startswith(shown)


def test_a_server_whose_certificate_is_revoked_is_not_used(
    pooler: PoolerFactory, secure: PostgresServer, realm: Realm
) -> None:
    ways = {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": realm.authority.ca_file}
    ways["client_login_timeout"] = "1"
    place = pooler(server=secure, databases=entry(secure), server_tls_crl_file=realm.revocations, **ways)
    with pytest.raises(psycopg.OperationalError, match="certificate revoked"):
        is_secure(place)


def test_what_runs_over_tls_is_cancelled_over_tls(pooler: PoolerFactory, secure: PostgresServer, realm: Realm) -> None:
    more = f"sslmode=verify-full sslrootcert={realm.authority.ca_file}"
    place = pooler(server=secure, databases=entry(secure, more))
    cancelled: list[bool] = []
    with psycopg.connect(place.url("app", "app")) as connection:

        def sleep() -> None:
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(60)")
            cancelled.append(True)

        thread = threading.Thread(target=sleep)
        thread.start()
        sleepers = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(60)'"
        until(lambda: secure.sql(sleepers) == "1")
        connection.cancel()
        thread.join()
    assert cancelled
    assert "cannot send a cancel request" not in place.log


def test_a_cancel_request_does_not_go_to_a_server_that_shows_another_certificate(
    pooler: PoolerFactory, secure: PostgresServer, realm: Realm, other_certificate: Any
) -> None:
    more = f"sslmode=verify-full sslrootcert={realm.authority.ca_file}"
    place = pooler(server=secure, databases=entry(secure, more))
    running = "from pg_stat_activity where query = 'select pg_sleep(61)' and state = 'active'"

    def ask() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):  # by PostgreSQL, in the end
            connection.execute("select pg_sleep(61)")

    with psycopg.connect(place.url("app", "app"), autocommit=True) as connection:
        other_certificate(realm.foreign)
        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: secure.sql(f"select count(*) {running}") == "1")
        connection.cancel()
        place.wait_for_log("cannot send a cancel request to .*certificate")
        assert secure.sql(f"select count(pg_cancel_backend(pid)) {running}") == "1"
        thread.join()


def test_listen_and_auth_query_and_connect_query_go_over_tls(pooler: PoolerFactory, secure: PostgresServer) -> None:
    place = pooler(
        server=secure,
        databases=entry(secure, "sslmode=require connect_query='set statement_timeout = 54321'"),
        passwords={"boss": "boss-secret", "admin": "admin-secret"},
        auth_user="boss",
    )
    with psycopg.connect(place.url("tls_only", "app", password="secret"), autocommit=True) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("54321ms",)
        connection.execute("listen news")
        connection.execute("notify news, 'hello'")
        assert [note.payload for note in connection.notifies(timeout=10, stop_after=1)] == ["hello"]


async def test_replication_goes_over_tls(pooler: PoolerFactory, secure: PostgresServer) -> None:
    place = pooler(server=secure, databases=entry(secure, "user=boss password=boss-secret sslmode=require"))
    async with logged_in(place, replication="database") as peer:
        assert values(await peer.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")) == [[b"t"]]


def test_new_files_and_settings_come_into_force_with_a_reload(
    pooler: PoolerFactory, secure: PostgresServer, realm: Realm, other_certificate: Any, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(realm.authority.ca)
    ways = {"server_tls_sslmode": "verify-full", "server_tls_ca_file": ca_file, "client_login_timeout": 2}
    place = pooler(server=secure, databases=entry(secure), **ways)
    assert is_secure(place)
    with psycopg.connect(place.url("app", "app"), autocommit=True) as old, Console(place) as console:
        other_certificate(realm.foreign)
        console.run("RECONNECT app")
        until(lambda: not console.rows("SHOW SERVERS"))
        with pytest.raises(psycopg.OperationalError, match="certificate"):
            is_secure(place)
        ca_file.write_text("no certificate")
        place.reload()
        place.wait_for_log("reload failed, nothing was changed: .*server_tls_ca_file")
        ca_file.write_bytes(realm.stranger.ca)
        lines = len(place.log.splitlines())
        place.reload()
        place.wait_for_log("configuration reloaded", since=lines)
        until(lambda: secured_now(place))
        old.execute("select 1")
        (server,) = console.rows("SHOW SERVERS")
        place.settings["server_tls_sslmode"] = "disable"
        place.reload()
        until(lambda: not is_secure(place))
        assert all(row["remote_pid"] != server["remote_pid"] for row in console.rows("SHOW SERVERS"))


def secured_now(place: PoolerProcess) -> bool:
    try:
        return is_secure(place)
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sslmode=prefer sslnegotiation=direct", "sslnegotiation = direct needs sslmode = require"),
        ("sslmode=require sslrootcert=system", "sslrootcert = system needs sslmode = verify-full"),
        ("sslmode=prefer channel_binding=require", "channel_binding = require needs sslmode = require"),
        ("sslcert=/x", "a client certificate needs both"),
        ("ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", "no version of TLS is left"),
        ("sslmode=verify-ca sslrootcert=/nowhere/ca.pem", "/nowhere/ca.pem cannot be read: No such file"),
    ],
)
def test_what_contradicts_itself_does_not_start(
    pooler: PoolerFactory, postgres: PostgresServer, line: str, said: str
) -> None:
    place = pooler(start=False, databases=entry(postgres, line))
    place.spawn()
    place.wait_for_log(said)
    assert place.process.wait() != 0


# -- open_pool, and URLs ---------------------------------------------------------------------------------------------------


async def test_open_pool_goes_over_tls(secure: PostgresServer, realm: Realm) -> None:
    url = f"postgresql://app:app-secret@localhost:{secure.port}/app?sslmode=verify-full&sslrootcert={realm.authority.ca_file}"
    async with pgpool_core.open_pool(url, min_size=1, max_size=2) as pool:
        assert await pool.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        text = "x" * 5_000_000
        assert await pool.fetchval("select $1::text || length($1::text)", text) == text + "5000000"
        with trio.move_on_after(0.5) as scope:
            await pool.fetchval("select pg_sleep(60)")
        assert scope.cancelled_caught
        assert await pool.fetchval("select 1") == 1
    with pytest.raises(ServerUnavailable, match="mismatch"):
        async with pgpool_core.open_pool(url.replace("localhost", "127.0.0.1"), min_size=1) as pool:
            await pool.fetchval("select 1")


async def test_open_proxy_takes_the_tls_of_its_url(secure: PostgresServer) -> None:
    url = f"postgresql://tls_only:secret@localhost:{secure.port}/app?sslmode=require"
    async with pgpool_core.open_proxy(url) as proxy, pgpool_core.open_pool(proxy.url) as pool:
        assert await pool.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_server_with_tls_is_lent_and_comes_back(secure: PostgresServer, workers: int) -> None:
    url = f"postgresql://app:app-secret@localhost:{secure.port}/app?sslmode=require"
    settings = "select current_setting('work_mem'), ssl from pg_stat_ssl where pid = pg_backend_pid()"
    async with (
        pgpool_core.open_proxy(url, default_pool_size=1, workers=workers) as proxy,
        proxy.open_pool() as pool,
        pgpool_core.open_pool(proxy.url) as clients,
    ):
        pid = await pool.fetchval("select pg_backend_pid()")
        text = "x" * 3_000_000
        for each in (pool, clients) * 3:
            assert await each.fetchrow(settings) == ("4MB", True)
            assert await each.fetchval("select $1::text || length($1::text)", text) == text + "3000000"
        await pool.execute("set work_mem = '7MB'")
        with trio.move_on_after(0.2) as scope:
            await pool.fetchval("select pg_sleep(60)")
        assert scope.cancelled_caught
        for each in (clients, pool):
            assert await each.fetchrow(settings) == ("4MB", True)
        assert await clients.fetchval("select pg_backend_pid()") == pid
        assert proxy._pooler.engine.invariants() == []


def test_the_launcher_takes_the_tls_of_its_url(secure: PostgresServer, realm: Realm) -> None:
    url = f"postgresql://tls_only:secret@localhost:{secure.port}/app"
    verified = f"{url}?sslmode=verify-full&sslrootcert={realm.authority.ca_file}"
    env = {**os.environ, "DATABASE_URL": verified, "PYTHONPATH": SOURCE}
    done = run(env, "-q", "--", sys.executable, "-c", ASK)
    assert (done.returncode, done.stdout.split()[2:4]) == (0, ["tls_only", "app"])
    done = run(env | {"DATABASE_URL": f"{url}?sslmode=disable"}, "-q", "--", sys.executable, "-c", ASK)
    assert "no encryption" in done.stderr


# -- a server that is none -------------------------------------------------------------------------------------------------


async def test_nothing_is_believed_before_the_handshake() -> None:
    answers = {
        b"E\0\0\0\x30SFATAL\0C28P01\0Mgive me your password\0\0": "answered the request for TLS with an error",
        b"SR\0\0\0\x08\0\0\0\0": "unencrypted data behind its answer",
        b"?": "the answer to the request for TLS is none",
        b"": "closed the connection when it was asked for TLS",
        b"S": "closed the connection in the middle of the TLS handshake",
    }
    for answer, said in answers.items():

        async def serve(stream: trio.SocketStream, answer: bytes = answer) -> None:
            await stream.receive_some(8)
            await stream.send_all(answer)
            if answer == b"S":
                await stream.receive_some(65536)
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            port = listener.socket.getsockname()[1]
            wanted = ServerTarget(
                hosts=("127.0.0.1",), port=port, dbname="app", user="app", tls=TlsWish(mode="require")
            )
            with pytest.raises(PgPoolError) as caught:
                await opened(wanted)
            assert said in str(caught.value)
            assert "give me" not in str(caught.value)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("agrees", [True, False])
async def test_direct_tls_needs_the_server_to_agree_on_the_protocol(realm: Realm, agrees: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(realm.server.cert_file, realm.server.key_file)
    if agrees:
        context.set_alpn_protocols(["postgresql"])
    startups: list[bytes] = []
    asked_for: list[str | None] = []

    def choose(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked_for.append(name)

    context.sni_callback = choose  # type: ignore[assignment]

    async def serve(stream: trio.SocketStream) -> None:
        secure_stream = trio.SSLStream(stream, context, server_side=True)
        try:
            startups.append(bytes(await secure_stream.receive_some(65536)))
            await secure_stream.send_all(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\5I")
            await secure_stream.receive_some(65536)
        except (trio.BrokenResourceError, ssl.SSLError):
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        wanted = ServerTarget(
            hosts=("localhost",),
            port=listener.socket.getsockname()[1],
            dbname="app",
            user="app",
            tls=TlsWish(mode="verify-full", direct=True, ca_file=str(realm.authority.ca_file)),
        )
        if agrees:
            server = await opened(wanted)
            assert server.tls
            assert b"user\0app" in startups[0]
            assert asked_for == ["localhost"]
            server.close()
        else:
            with pytest.raises(ServerUnavailable, match="ALPN"):
                await opened(wanted)
        nursery.cancel_scope.cancel()
