"""TLS between clients and the pooler: all modes, from real drivers and from hostile ones; certificates, channel binding, reload."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import attrs
import psycopg
import pytest
import trio

from pgpool_core.testing import PoolerProcess
from tests.certificates import Authority, Certificate
from tests.conftest import PoolerFactory
from tests.has_io_uring import refusal
from tests.key_updates import KeyUpdater
from tests.watching import until

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


@attrs.frozen
class Papers:
    """One authority, and what it has signed."""

    folder: Path
    authority: Authority
    server: Certificate
    other_server: Certificate
    app: Certificate
    ops: Certificate
    expired: Certificate
    stranger: Certificate

    def settings(self, mode: str, **more: object) -> dict[str, object]:
        return {
            "client_tls_sslmode": mode,
            "client_tls_cert_file": self.server.cert_file,
            "client_tls_key_file": self.server.key_file,
            **more,
        }

    def verifying(self, **more: object) -> dict[str, object]:
        return self.settings("verify-full", client_tls_ca_file=self.authority.ca_file, **more)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    authority = Authority(folder / "ours")
    names = ["DNS:localhost", "IP:127.0.0.1"]
    return Papers(
        folder,
        authority,
        authority.issue("pooler", alternatives=names),
        authority.issue("pooler again", alternatives=names),
        authority.issue("app"),
        authority.issue("operations", alternatives=["email:app"]),
        authority.issue("app", days=-1),
        Authority(folder / "other", "other root").issue("app"),
    )


def url_of(
    pooler: PoolerProcess, sslmode: str = "require", user: str = "app", database: str = "app", **more: object
) -> str:
    parts = {"sslmode": sslmode, **more}
    return f"{pooler.url(user, database)}?{'&'.join(f'{name}={value}' for name, value in parts.items())}"


def shown(certificate: Certificate) -> dict[str, object]:
    certificate.key_file.chmod(0o600)
    return {"sslcert": certificate.cert_file, "sslkey": certificate.key_file}


def clients(pooler: PoolerProcess) -> list[dict[str, Any]]:
    with psycopg.connect(url_of(pooler, "prefer", "admin", "pgbouncer"), autocommit=True) as console:
        cursor = console.execute("show clients")
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize(
    ("mode", "plain", "encrypted"),
    [("disable", True, False), ("allow", True, True), ("prefer", True, True), ("require", False, True)],
)
def test_who_comes_how(pooler: PoolerFactory, papers: Papers, mode: str, plain: bool, encrypted: bool) -> None:
    process = pooler(**papers.settings(mode))
    for sslmode, works in (("disable", plain), ("require", encrypted)):
        if works:
            with psycopg.connect(url_of(process, sslmode)) as connection:
                assert connection.execute("select 41 + 1").fetchone() == (42,)
                assert connection.pgconn.ssl_in_use == (sslmode == "require")
        else:
            said = "SSL required" if sslmode == "disable" else "server does not support SSL"
            with pytest.raises(psycopg.OperationalError, match=said):
                psycopg.connect(url_of(process, sslmode))


def test_the_unix_socket_needs_no_tls_and_gets_none(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(**papers.settings("require"))
    with psycopg.connect(process.url("app", "app", unix=True)) as connection:
        assert not connection.pgconn.ssl_in_use
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(process.unix_dir / f".s.PGSQL.{process.port}"))
        raw.sendall(SSL_REQUEST)
        assert raw.recv(10) == b"N"


@pytest.mark.parametrize("sslmode", ["verify-ca", "verify-full"])
def test_a_client_may_look_at_our_certificate(
    pooler: PoolerFactory, papers: Papers, sslmode: str, tmp_path: Path
) -> None:
    process = pooler(**papers.settings("require"))
    with psycopg.connect(url_of(process, sslmode, sslrootcert=papers.authority.ca_file)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    other = Authority(tmp_path / "unknown", "unknown root")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(url_of(process, sslmode, sslrootcert=other.ca_file))
    process.wait_for_log("TLS handshake failed: .*unknown ca")


def test_the_console_and_the_log_tell_the_cipher(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(**papers.settings("prefer"))
    with psycopg.connect(url_of(process)) as one, psycopg.connect(url_of(process, "disable")) as other:
        one.execute("select 1")
        other.execute("select 1")
        rows = [row["tls"] for row in clients(process) if row["user"] == "app"]
        assert sorted(re.sub("_.*", "", row) for row in rows) == ["", "TLSv1.3/TLS"]
        process.wait_for_log(r"login attempt: db=app user=app tls=TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=\w+ ")


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_only_the_protocols_that_were_asked_for(pooler: PoolerFactory, papers: Papers, version: str) -> None:
    process = pooler(**papers.settings("require", client_tls_protocols=version.lower()))
    with psycopg.connect(url_of(process)):
        process.wait_for_log(f"tls={version}/")
    bounds = "ssl_max_protocol_version=TLSv1.2" if version == "TLSv1.3" else "ssl_min_protocol_version=TLSv1.3"
    with pytest.raises(psycopg.OperationalError, match="version"):
        psycopg.connect(f"{url_of(process)}&{bounds}")


def answer_to(connection: psycopg.Connection[Any]) -> Any:
    """The one result of a query that was sent."""
    result = connection.pgconn.get_result()
    assert result is not None
    assert connection.pgconn.get_result() is None
    return result


# -- traffic ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["epoll", "io_uring"])
def io_backend(request: pytest.FixtureRequest) -> str:
    if request.param == "io_uring" and (why := refusal()):
        pytest.skip(f"no io_uring here: {why}")
    return str(request.param)


@pytest.fixture
def tls_pooler(pooler: PoolerFactory, papers: Papers, io_backend: str) -> PoolerProcess:
    return pooler(io_backend=io_backend, **papers.settings("require"))


def test_twenty_megabytes_both_ways(tls_pooler: PoolerProcess) -> None:
    text = "x" * 20_000_000
    with psycopg.connect(url_of(tls_pooler)) as connection:
        row = connection.execute("select repeat('x', 20000000), length(%s)", [text]).fetchone()
        assert row is not None
        assert (row[0] == text, row[1]) == (True, len(text))
        assert connection.execute("select sum(n) from generate_series(1, 200000) n").fetchone() == (20000100000,)
        assert len(connection.execute("select n, repeat('y', 40) from generate_series(1, 50000) n").fetchall()) == 50000


def test_copy_in_and_out(tls_pooler: PoolerProcess) -> None:
    lines = b"".join(b"%d\tsome text for line %d\n" % (n, n) for n in range(100_000))
    with psycopg.connect(url_of(tls_pooler)) as connection, connection.transaction():
        connection.execute("create temporary table copied (n int, t text) on commit drop")
        with connection.cursor().copy("copy copied from stdin") as into:
            into.write(lines)
        with connection.cursor().copy("copy copied to stdout") as out:
            assert b"".join(bytes(data) for data in out) == lines


def test_a_pipeline(tls_pooler: PoolerProcess) -> None:
    with psycopg.connect(url_of(tls_pooler), autocommit=True) as connection, connection.pipeline():
        cursors = [connection.execute("select %s::int, repeat('z', 1000)", [n]) for n in range(500)]
        assert [row[0] for cursor in cursors if (row := cursor.fetchone())] == list(range(500))


def test_a_client_that_does_not_read_stops_nobody(tls_pooler: PoolerProcess) -> None:
    """A socket's worth of ciphertext waits; what it asked for is whole when it reads on."""
    with psycopg.connect(url_of(tls_pooler)) as slow, psycopg.connect(url_of(tls_pooler)) as quick:
        slow.pgconn.send_query(b"select repeat('x', 30000000)")
        for n in range(20):
            assert quick.execute("select %s::int", [n]).fetchone() == (n,)
        value = answer_to(slow).get_value(0, 0)
        assert value is not None
        assert len(value) == 30000000


def test_a_cancel_request(tls_pooler: PoolerProcess) -> None:
    with psycopg.connect(url_of(tls_pooler), autocommit=True) as connection:
        connection.pgconn.send_query(b"select pg_sleep(60)")
        until(lambda: [row["state"] for row in clients(tls_pooler) if row["user"] == "app"] == ["active"])
        connection.cancel_safe(timeout=10)
        assert b"canceling statement" in (answer_to(connection).error_message or b"")


async def test_asyncpg(tls_pooler: PoolerProcess, papers: Papers) -> None:
    context = ssl.create_default_context(cafile=papers.authority.ca_file)

    async def talk() -> None:
        connection = await asyncpg.connect(tls_pooler.url("app", "app"), ssl=context, statement_cache_size=10)
        try:
            assert await connection.fetchval("select $1::int + 1", 41) == 42
            rows = await connection.fetch("select n, repeat('a', 100) from generate_series(1, 20000) n")
            assert len(rows) == 20000
        finally:
            await connection.close()

    await trio.to_thread.run_sync(lambda: asyncio.run(talk()))


# -- hostile and odd clients ------------------------------------------------------------------------------------------


@pytest.fixture
def open_door(pooler: PoolerFactory, papers: Papers) -> PoolerProcess:
    return pooler(**papers.settings("prefer", client_login_timeout="60"))


def dial(process: PoolerProcess) -> socket.socket:
    return socket.create_connection((process.host, process.port), timeout=10)


def wrapped(raw: socket.socket, papers: Papers, *, alpn: str | None = None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=papers.authority.ca_file)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context.wrap_socket(raw, server_hostname="localhost")


def startup_packet() -> bytes:
    body = struct.pack("!I", 196608) + b"user\0app\0database\0app\0\0"
    return struct.pack("!I", len(body) + 4) + body


def rest_of(stream: socket.socket) -> bytes:
    found = b""
    while data := stream.recv(65536):
        found += data
    return found


def test_plain_text_behind_an_ssl_request_is_refused(open_door: PoolerProcess) -> None:
    with dial(open_door) as raw:
        raw.sendall(SSL_REQUEST + startup_packet())
        assert b"received unencrypted data after SSL request" in rest_of(raw)


def test_gss_then_tls(open_door: PoolerProcess, papers: Papers) -> None:
    with dial(open_door) as raw:
        raw.sendall(GSS_REQUEST)
        assert raw.recv(1) == b"N"
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        with wrapped(raw, papers) as stream:
            stream.sendall(startup_packet())
            assert stream.recv(1) == b"R"


@pytest.mark.parametrize("request_packet", [SSL_REQUEST, GSS_REQUEST])
def test_no_encryption_inside_encryption(open_door: PoolerProcess, papers: Papers, request_packet: bytes) -> None:
    with dial(open_door) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        with wrapped(raw, papers) as stream:
            stream.sendall(request_packet)
            assert b"too many encryption requests" in rest_of(stream)


def test_direct_tls(open_door: PoolerProcess, papers: Papers) -> None:
    with dial(open_door) as raw, wrapped(raw, papers, alpn="postgresql") as stream:
        assert stream.selected_alpn_protocol() == "postgresql"
        stream.sendall(startup_packet())
        assert stream.recv(1) == b"R"


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="libpq can do it from 17 on")
def test_direct_tls_of_libpq(open_door: PoolerProcess) -> None:
    with psycopg.connect(url_of(open_door, sslnegotiation="direct")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("direct", [False, True])
def test_tls_behind_a_proxy_header(pooler: PoolerFactory, papers: Papers, direct: bool) -> None:
    process = pooler(**papers.settings("require", proxy_protocol_networks="127.0.0.0/8"))
    with dial(process) as raw:
        raw.sendall(b"PROXY TCP4 10.9.8.7 127.0.0.1 4711 6432\r\n" + (b"" if direct else SSL_REQUEST))
        assert direct or raw.recv(1) == b"S"
        with wrapped(raw, papers, alpn="postgresql") as stream:
            stream.sendall(startup_packet())
            assert stream.recv(1) == b"R"
            stream.sendall(b"p")  # who says nothing at all is not told of
    process.wait_for_log("app@10.9.8.7:4711 closing because")


def test_direct_tls_needs_our_protocol(open_door: PoolerProcess, papers: Papers) -> None:
    with dial(open_door) as raw, wrapped(raw, papers) as stream:
        stream.sendall(startup_packet())
        assert b"ALPN" in rest_of(stream)
    with dial(open_door) as raw, pytest.raises(ssl.SSLError, match=r"(?i)alert.*no.application.protocol"):
        wrapped(raw, papers, alpn="http/1.1")


def test_direct_tls_where_there_is_none(pooler: PoolerFactory, papers: Papers) -> None:
    with dial(pooler()) as raw, pytest.raises(ssl.SSLError):
        wrapped(raw, papers, alpn="postgresql")


@pytest.mark.parametrize("size", [1, 7])
def test_a_handshake_in_pieces(open_door: PoolerProcess, papers: Papers, size: int) -> None:
    """Every record is cut where it hurts; bytes go out one by one, each its own segment."""
    with dial(open_door) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=papers.authority.ca_file)
        stream = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def step(work: Callable[[], Any]) -> Any:
            while True:
                try:
                    done = work()
                except ssl.SSLWantReadError:
                    done = None
                data = outgoing.read()
                for at in range(0, len(data), size):
                    raw.sendall(data[at : at + size])
                if done is not None:
                    return done
                incoming.write(raw.recv(65536))

        step(lambda: stream.do_handshake() or True)
        step(lambda: stream.write(startup_packet()))
        assert step(lambda: stream.read(1)) == b"R"


def unread(process: PoolerProcess, client: socket.socket) -> int:
    """Bytes that wait to be received at the pooler's end of a connection. Source: proc(5), /proc/net/tcp."""
    wanted = f":{client.getsockname()[1]:04X}"
    for line in Path(f"/proc/{process.process.pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if remote.endswith(wanted) and local.endswith(f":{process.port:04X}"):
            return int(queues.partition(":")[2], 16)
    raise AssertionError("no such connection")


def test_tls_begins_on_a_connection_that_has_been_short_of_words(
    pooler: PoolerFactory, papers: Papers, io_backend: str
) -> None:
    """Bytes that come one by one make a stream of a connection with io_uring; TLS ends that."""
    process = pooler(io_backend=io_backend, auth_type="trust", **papers.settings("require"))
    with dial(process) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in SSL_REQUEST:
            raw.sendall(bytes([byte]))
            until(lambda: unread(process, raw) == 0)
        assert raw.recv(1) == b"S"
        with wrapped(raw, papers) as stream:
            stream.sendall(startup_packet())
            said = b""
            while not said.endswith(b"Z\0\0\0\5I"):
                said += stream.recv(65536)
            stream.sendall(b"Q" + struct.pack("!I", 13) + b"select 1\0")
            while said.count(b"Z\0\0\0\5I") < 2:
                said += stream.recv(65536)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(300), b"\x16\x03\x01\xff\xff" + bytes(66000)])
def test_garbage_instead_of_a_handshake_costs_one_client(open_door: PoolerProcess, garbage: bytes) -> None:
    with dial(open_door) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        raw.sendall(garbage)
        try:
            said = rest_of(raw)
        except ConnectionResetError:
            said = b""
        assert b"R\0\0\0" not in said
    open_door.wait_for_log("TLS handshake failed: ")
    with psycopg.connect(url_of(open_door)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_record_that_was_tampered_with_ends_the_client(open_door: PoolerProcess, papers: Papers) -> None:
    with dial(open_door) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        with wrapped(raw, papers) as stream:
            stream.sendall(startup_packet())
            assert stream.recv(1) == b"R"
            twin = socket.socket(fileno=socket.dup(raw.fileno() if raw.fileno() >= 0 else stream.fileno()))
            with twin:
                twin.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            open_door.wait_for_log("TLS broken: ")


def ready(client: KeyUpdater) -> None:
    """Take everything up to ReadyForQuery."""
    said = b""
    while not said.endswith(b"Z\0\0\0\5I"):
        said += client.receive()


def test_new_keys_are_not_kept_for_who_does_not_take_them(pooler: PoolerFactory, papers: Papers) -> None:
    """Each KeyUpdate is to be answered by another one."""
    process = pooler(auth_type="trust", tcp_socket_buffer=8192, **papers.settings("require"))
    with dial(process) as raw:
        raw.settimeout(None)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # else it could be far ahead of the pooler
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 30, 0))
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        with contextlib.closing(KeyUpdater(raw)) as client:
            client.send(startup_packet())
            ready(client)
            for _ in range(40):  # who takes them may ask for as many as it likes
                assert all(client.ask_for_new_keys() for _ in range(100))
                client.send(b"Q" + struct.pack("!I", 13) + b"select 1\0")
                ready(client)
            assert not all(client.ask_for_new_keys() for _ in range(100_000))
    process.wait_for_log("closing because: TLS failed")


def test_a_slow_handshake_ends_by_client_login_timeout(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(**papers.settings("prefer", client_login_timeout="0.3"))
    with dial(process) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        raw.sendall(b"\x16\x03\x01")
        assert rest_of(raw) == b"", "not a word in clear"
    process.wait_for_log(r"client_login_timeout")


def test_a_client_that_vanishes_in_its_handshake(open_door: PoolerProcess) -> None:
    with dial(open_door) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        raw.sendall(b"\x16\x03\x01")
    open_door.wait_for_log("closing because: client unexpected eof")


def test_errors_come_encrypted_and_with_a_good_bye(open_door: PoolerProcess, papers: Papers) -> None:
    with dial(open_door) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        with wrapped(raw, papers) as stream:
            stream.sendall(startup_packet().replace(b"app", b"nob"))
            assert stream.recv(1) == b"R"
            stream.sendall(b"Q\0\0\0\4")
            assert b"expected password response" in rest_of(stream)  # ends by close_notify, else Python raises


# -- certificates of clients ------------------------------------------------------------------------------------------


def test_a_certificate_is_required_and_must_be_good(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(**papers.verifying())
    with psycopg.connect(url_of(process, **shown(papers.app))) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    for bad, logged in ((papers.expired, "expired"), (papers.stranger, "issuer certificate")):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url_of(process, **shown(bad))).execute("select 1")
        process.wait_for_log(f"TLS handshake failed: .*{logged}")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url_of(process)).execute("select 1")
    process.wait_for_log("TLS handshake failed: peer did not return a certificate")


def test_a_revoked_certificate(pooler: PoolerFactory, papers: Papers) -> None:
    crl = papers.folder / "revoked.pem"
    crl.write_bytes(papers.authority.revocations(papers.ops))
    process = pooler(**papers.verifying(client_tls_crl_file=crl))
    with psycopg.connect(url_of(process, **shown(papers.app))):
        pass
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url_of(process, **shown(papers.ops))).execute("select 1")
    process.wait_for_log("TLS handshake failed: certificate revoked")


def test_auth_type_cert(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(auth_type="cert", **papers.verifying())
    no_password = url_of(process, **shown(papers.app)).replace(":app-secret", "")
    with psycopg.connect(no_password) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)
    with psycopg.connect(url_of(process, **shown(papers.ops)).replace(":app-secret", "")):
        process.wait_for_log("method=cert")  # by an alternative name
    for user in ("legacy", "nobody"):
        with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
            psycopg.connect(url_of(process, user=user, **shown(papers.app)))


def test_rules_know_tls_and_certificates(pooler: PoolerFactory, papers: Papers, tmp_path: Path) -> None:
    hba, ident = tmp_path / "hba", tmp_path / "ident"
    hba.write_text(
        "hostssl   app   app     all cert map=m\n"
        "hostssl   all   legacy  all md5 clientcert=verify-ca\n"
        "hostnossl all   plain   all password\n"
        "hostssl   all   trusted all trust\n"
    )
    ident.write_text("m operations app\n")
    process = pooler(
        auth_type="hba",
        auth_hba_file=hba,
        auth_ident_file=ident,
        **papers.settings("prefer", client_tls_ca_file=papers.authority.ca_file),
    )

    def comes(user: str, sslmode: str, certificate: Certificate | None = None) -> str:
        try:
            psycopg.connect(url_of(process, sslmode, user, **(shown(certificate) if certificate else {}))).close()
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    assert comes("app", "require", papers.ops) == ""
    assert "certificate authentication failed" in comes("app", "require", papers.app)
    assert "certificate authentication failed" in comes("app", "require")
    assert "no authentication method" in comes("app", "disable")
    assert comes("legacy", "require", papers.app) == ""
    assert "certificate authentication failed" in comes("legacy", "require")
    assert "certificate authentication failed" in comes("legacy", "require", papers.stranger)
    assert (comes("plain", "disable"), comes("trusted", "require")) == ("", "")
    assert "no authentication method" in comes("plain", "require")
    assert "no authentication method" in comes("trusted", "disable")


# -- channel binding --------------------------------------------------------------------------------------------------


def test_channel_binding_is_offered_over_tls_and_used(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(**papers.settings("prefer"))
    with psycopg.connect(url_of(process, channel_binding="require")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with psycopg.connect(url_of(process, channel_binding="disable")):
        pass
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        psycopg.connect(url_of(process, "disable", channel_binding="require"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url_of(process, channel_binding="require").replace("app-secret", "wrong"))


# -- reload -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_files(papers: Papers, tmp_path: Path) -> Iterator[dict[str, object]]:
    """Settings whose files may be changed."""
    use(papers.server, tmp_path)
    yield {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": tmp_path / "cert.pem",
        "client_tls_key_file": tmp_path / "key.pem",
    }


def use(certificate: Certificate, folder: Path) -> None:
    (folder / "cert.pem").write_bytes(certificate.cert)
    (folder / "key.pem").write_bytes(certificate.key)


def seen_by(process: PoolerProcess, papers: Papers) -> bytes:
    """The certificate that a new client sees."""
    with dial(process) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        with wrapped(raw, papers) as stream:
            return stream.getpeercert(binary_form=True) or b""


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert.decode())


def test_a_reload_reads_certificates_and_drops_nobody(
    pooler: PoolerFactory, papers: Papers, own_files: dict[str, object], tmp_path: Path
) -> None:
    process = pooler(**own_files)
    with psycopg.connect(url_of(process)) as stays:
        assert seen_by(process, papers) == der(papers.server)
        use(papers.other_server, tmp_path)
        process.reload()
        process.wait_for_log("configuration reloaded")
        assert seen_by(process, papers) == der(papers.other_server)
        assert stays.execute("select 1").fetchone() == (1,)
        before = len(process.log.splitlines())
        (tmp_path / "key.pem").write_bytes(papers.app.key)
        process.reload()
        process.wait_for_log(r"reload failed.*client_tls_key_file .*not the key of the certificate", since=before)
        assert seen_by(process, papers) == der(papers.other_server)
        assert stays.execute("select 2").fetchone() == (2,)


def test_a_client_resumes_its_session_on_any_worker_until_the_certificate_changes(
    pooler: PoolerFactory, papers: Papers, own_files: dict[str, object], tmp_path: Path
) -> None:
    process = pooler(workers=2, **own_files)
    context = ssl.create_default_context(cafile=papers.authority.ca_file)
    session: ssl.SSLSession | None = None

    def visit() -> tuple[bool, ssl.SSLSession | None]:
        with dial(process) as raw:
            raw.sendall(SSL_REQUEST)
            assert raw.recv(1) == b"S"
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as stream:
                stream.sendall(startup_packet())
                assert stream.recv(1) == b"R"
                return bool(stream.session_reused), stream.session

    resumed, session = visit()
    assert not resumed
    for _ in range(4):
        resumed, session = visit()
        assert resumed
    process.reload()
    process.wait_for_log("configuration reloaded")
    resumed, session = visit()
    assert resumed, "nothing has changed"
    before = len(process.log.splitlines())
    use(papers.other_server, tmp_path)
    process.reload()
    process.wait_for_log("configuration reloaded", since=before)
    resumed, session = visit()
    assert not resumed


def test_what_is_wrong_is_said_at_start_by_setting_and_file(
    pooler: PoolerFactory, papers: Papers, tmp_path: Path
) -> None:
    process = pooler(start=False, **papers.settings("require", client_tls_key_file=tmp_path / "none.key"))
    process.spawn()
    assert process.process.wait() != 0
    assert re.search(r"client_tls_key_file .*/none.key: cannot be read: No such file", process.log)


def test_psql(pooler: PoolerFactory, papers: Papers) -> None:
    process = pooler(**papers.settings("require"))
    done = subprocess.run(
        [
            "psql",
            url_of(process, "verify-full", sslrootcert=papers.authority.ca_file),
            "-Atc",
            "select 6 * 7",
            "-c",
            r"\conninfo",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("42\n")
    assert "TLSv1.3" in done.stdout


def test_the_console_shows_clients_while_one_is_in_the_middle_of_its_handshake(
    pooler: PoolerFactory, papers: Papers
) -> None:
    place = pooler(**papers.settings("allow"))
    with socket.create_connection((place.host, place.port)) as client:
        client.sendall(SSL_REQUEST)
        assert client.recv(1) == b"S"
        assert [row["user"] for row in clients(place)] == ["admin"]
        assert place.running
