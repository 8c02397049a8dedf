"""TLS when much is going on: a certificate that changes under load, and thousands of logins at once."""

from __future__ import annotations

import operator
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import trio

from pgpool_core.testing import Message, PoolerProcess, PostgresServer, frontend
from pgpool_core.testing.messages import Messages
from tests.certificates import Authority, Certificate
from tests.conftest import PASSWORDS, PoolerFactory
from tests.crowd import room_for
from tests.watching import until

WAVE = 5000
TIMES = 8


class Files:
    """The certificate in force, in files that a reload reads again."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.cert_file, self.key_file = folder / "in-force.crt", folder / "in-force.key"
        names = ("DNS:localhost", "IP:127.0.0.1")
        self.issued = [self.authority.issue(f"certificate {n}", alternatives=names) for n in range(2)]
        self.use(self.issued[0])

    def use(self, certificate: Certificate) -> None:
        self.cert_file.write_bytes(certificate.cert)
        self.key_file.write_bytes(certificate.key)

    def settings(self) -> dict[str, object]:
        return {
            "client_tls_sslmode": "require",
            "client_tls_cert_file": self.cert_file,
            "client_tls_key_file": self.key_file,
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


def url_of(place: PoolerProcess, files: Files) -> str:
    return f"{place.url('app', 'app')}?sslmode=verify-full&sslrootcert={files.authority.ca_file}&host=localhost"


def test_a_certificate_changes_under_load(pooler: PoolerFactory, files: Files) -> None:
    """Clients that query and clients that come and go, while it is replaced again and again: none of them sees an error."""
    place = pooler(auth_type="scram-sha-256", max_client_conn=100, default_pool_size=5, **files.settings())
    url, over, done = url_of(place, files), threading.Event(), [0] * 6

    def stays(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.is_set():
                assert connection.execute("select repeat('x', 20000)").fetchone() == ("x" * 20000,)
                done[number] += 1

    def comes_and_goes(number: int) -> None:
        while not over.is_set():
            with psycopg.connect(url, autocommit=True) as connection:
                assert connection.execute("select 1").fetchone() == (1,)
            done[number] += 1

    def go_on() -> None:
        before = list(done)
        until(lambda: any(task.done() for task in work) or all(map(operator.gt, done, before)), patience_s=60)

    with ThreadPoolExecutor(6) as threads:
        work = [threads.submit(stays if number < 3 else comes_and_goes, number) for number in range(6)]
        try:
            go_on()
            for number in range(1, TIMES + 1):
                since = place.process.mark()
                files.use(files.issued[number % 2])
                place.reload()
                place.wait_for_log("configuration reloaded", since=since)
            go_on()
        finally:
            over.set()
        for task in work:
            task.result(30)


@pytest.fixture
def descriptors() -> Iterator[None]:
    with room_for(WAVE):
        yield


class Client:
    """Logs in with TLS and a password, and stays until it is told to go."""

    def __init__(self, place: PoolerProcess, context: ssl.SSLContext) -> None:
        self._place, self._context = place, context
        self._messages = Messages()
        self._waiting: list[Message] = []

    async def log_in(self, decided: Callable[[str], None], leave: trio.Event) -> None:
        """`decided` hears "ok", or the error that it has been sent."""
        raw = await trio.open_tcp_stream(self._place.host, self._place.port)
        async with raw:
            await raw.send_all(bytes(frontend.ssl_request()))
            if await raw.receive_some(1) != b"S":
                raise AssertionError("no TLS")
            stream = trio.SSLStream(raw, self._context, server_hostname="localhost", https_compatible=True)
            await stream.send_all(bytes(frontend.startup("app", "app")))
            while (came := await self._next(stream)).type not in b"EZ":
                if came.type == b"R" and came.body == b"\0\0\0\3":
                    await stream.send_all(bytes(frontend.password(PASSWORDS["app"])))
            decided("ok" if came.type == b"Z" else came.fields["M"])
            await leave.wait()

    async def _next(self, stream: trio.SSLStream[trio.SocketStream]) -> Message:
        while not self._waiting:
            data = await stream.receive_some(4096)
            assert data, "the connection ended without a word"
            self._waiting += self._messages.feed(data)
        return self._waiting.pop(0)


@pytest.mark.slow
@pytest.mark.usefixtures("descriptors")
async def test_five_thousand_logins_at_once(pooler: PoolerFactory, postgres: PostgresServer, files: Files) -> None:
    """All come in, or hear which limit keeps them out; who is in already goes on working."""
    place = pooler(
        auth_type="plain",
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        max_client_conn=4000,
        client_login_timeout=120,
        listen_backlog=4096,
        log_connections=0,
        log_disconnections=0,
        **files.settings(),
    )
    context = ssl.create_default_context(cafile=files.authority.ca_file)
    told: Counter[str] = Counter()
    all_decided, leave, worked = trio.Event(), trio.Event(), 0

    def decided(text: str) -> None:
        told[text] += 1
        if told.total() == WAVE:
            all_decided.set()

    with psycopg.connect(url_of(place, files), autocommit=True) as here:
        with trio.fail_after(240):
            async with trio.open_nursery() as nursery:
                for _ in range(WAVE):
                    nursery.start_soon(Client(place, context).log_in, decided, leave)
                while not all_decided.is_set():
                    row = await trio.to_thread.run_sync(lambda: here.execute("select 1").fetchone())
                    assert row == (1,)
                    worked += 1
                    with trio.move_on_after(0.05):
                        await all_decided.wait()
                leave.set()
    assert told["ok"] == 3999, told
    assert told["no more connections allowed (max_client_conn)"] == WAVE - 3999, told
    assert worked
