"""The proxy inside a program: addresses, start-up errors, threads, forks and the end. The data plane is a fake."""

from __future__ import annotations

import os
import socket
import sys
import threading
import types
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import trio

import pgpool_core
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control.groups import sole_errors
from pgpool_core.errors import ConfigError, PoolClosed, PoolError
from tests.certificates import Authority
from tests.unit.fake_engine import FakeEngine

URL = "postgresql://app:server-secret@10.0.0.1:5433/shop"


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """Every engine that was made, in order."""
    made: list[FakeEngine] = []

    class Engine(FakeEngine):
        def __init__(self, *, workers: int, io_backend: str) -> None:
            super().__init__(workers, io_backend)
            made.append(self)

    plane = types.ModuleType("pgpool_core.engine.plane")
    plane.Engine = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pgpool_core.engine.plane", plane)
    return made


def mode_of(path: str) -> int | None:
    """Permissions of a file; None where there is none."""
    return Path(path).stat().st_mode & 0o777 if Path(path).exists() else None


def connects(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_the_url_asks_for_tls_where_nobody_comes_without(tmp_path: Path) -> None:
    own = Authority(tmp_path).own
    files = {"client_tls_cert_file": str(own.cert_file), "client_tls_key_file": str(own.key_file)}
    for mode, asked in (("prefer", "disable"), ("require", "require")):
        async with pgpool_core.open_proxy(URL, client_tls_sslmode=mode, **files) as proxy:
            assert proxy.url.endswith(f"?sslmode={asked}")
            assert proxy.environ()["PGSSLMODE"] == asked


async def test_a_proxy_listens_while_its_block_runs_and_not_after(engines: list[FakeEngine]) -> None:
    async with pgpool_core.open_proxy(URL) as proxy:
        assert connects(proxy.port)
        assert engines[0].state == "running"
    assert not connects(proxy.port)
    assert engines[0].state == "stopped"
    assert proxy.closed
    with pytest.raises(PoolClosed):
        proxy.statistics()


async def test_the_url_logs_in_with_a_password_of_this_run_only() -> None:
    async with pgpool_core.open_proxy(URL) as proxy, pgpool_core.open_proxy(URL) as other:
        parts = urlsplit(proxy.url)
        assert (parts.username, parts.hostname, parts.port, parts.path) == ("app", "127.0.0.1", proxy.port, "/shop")
        assert parts.password
        assert len(parts.password) >= 24
        assert parts.password not in (urlsplit(other.url).password, "server-secret")
        assert parts.password not in repr(proxy) + repr(proxy.address)
        assert urlsplit(proxy.url_for(database="a/b", user="x y")).path == "/a%2Fb"
        assert proxy.environ()["PGPASSWORD"] == parts.password


async def test_a_unix_proxy_lives_in_a_folder_of_its_own() -> None:
    async with pgpool_core.open_proxy(URL, listen="unix") as proxy:
        folder = proxy.host
        assert mode_of(folder) == 0o700
        assert parse_qs(urlsplit(proxy.url).query)["host"] == [folder]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{folder}/.s.PGSQL.{proxy.port}")
    assert mode_of(folder) is None


async def test_settings_go_before_those_of_a_url() -> None:
    async with pgpool_core.open_proxy(URL, pool_mode="session", default_pool_size=3) as proxy:
        assert (proxy.config.pool_mode, proxy.config.default_pool_size) == ("session", 3)
        assert proxy.config.max_client_conn == 1000


async def test_servers_on_our_unix_socket_folder_are_still_found_when_we_listen_elsewhere() -> None:
    config = Config(databases={"app": DatabaseConfig()}, unix_socket_dir="/run/pg", auth_type="trust")
    async with pgpool_core.open_proxy(config, listen="127.0.0.1:0") as proxy:
        assert proxy.config.databases["app"].hosts == ("/run/pg",)


async def test_an_error_in_the_block_comes_out_as_itself(engines: list[FakeEngine]) -> None:
    with pytest.raises(LookupError, match="mine") as caught:
        async with pgpool_core.open_proxy(URL):
            raise LookupError("mine")
    assert caught.value.__context__ is None
    assert engines[0].state == "stopped"


async def test_a_group_that_the_program_raised_stays_a_group() -> None:
    with pytest.RaisesGroup(LookupError):
        async with pgpool_core.open_proxy(URL):
            raise ExceptionGroup("theirs", [LookupError("mine")])


async def test_several_errors_stay_together() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.RaisesGroup(LookupError, LookupError):
        async with sole_errors(), trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)


async def test_a_port_in_use_is_told_with_its_settings(engines: list[FakeEngine]) -> None:
    async with pgpool_core.open_proxy(URL) as proxy:
        with pytest.raises(ConfigError, match=r"in use by another process \(listen_addr, listen_port\)"):
            async with pgpool_core.open_proxy(URL, listen=f"127.0.0.1:{proxy.port}"):
                pytest.fail("it must not start")
        assert connects(proxy.port)
    assert len(engines) == 1


async def test_a_stale_socket_file_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / ".s.PGSQL.6432"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with pgpool_core.open_proxy(URL, listen=str(tmp_path)):
        with pytest.raises(ConfigError, match="another process listens there"):
            async with pgpool_core.open_proxy(URL, listen=str(tmp_path)):
                pytest.fail("it must not start")
        assert path.exists()
    assert not path.exists()


async def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / ".s.PGSQL.6432"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        async with pgpool_core.open_proxy(URL, listen=str(tmp_path)):
            pytest.fail("it must not start")
    assert path.read_text() == "precious"


async def test_one_address_of_several_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(
        databases={"app": DatabaseConfig(host="h")}, listen_addr=("no.such.host.invalid", "127.0.0.1"), listen_port=0,
        unix_socket_dir="",
    )  # fmt: skip
    async with pgpool_core.open_proxy(config) as proxy:
        assert connects(proxy.port)
    assert "cannot resolve no.such.host.invalid" in caplog.text


async def test_serve_is_a_task_that_ends_with_the_proxy() -> None:
    async with trio.open_nursery() as nursery:
        proxy = await nursery.start(pgpool_core.serve, URL)
        assert isinstance(proxy, pgpool_core.Proxy)
        await proxy.shutdown()


async def test_a_cancelled_block_ends_at_once_and_closes_everything(engines: list[FakeEngine]) -> None:
    with trio.CancelScope() as scope:
        async with pgpool_core.open_proxy(URL):
            scope.cancel()
            await trio.sleep_forever()
    assert engines[0].state == "stopped"


def test_a_thread_serves_a_program_without_a_loop(engines: list[FakeEngine]) -> None:
    with pgpool_core.run_proxy_in_thread(URL) as proxy:
        assert connects(proxy.port)
        assert proxy.statistics().pools[0].database == "shop"
        assert proxy.snapshot().clients == ()
        proxy.reload(Config(databases={"other": DatabaseConfig(host="h")}, default_pool_size=2))
        assert unquote(urlsplit(proxy.url).password or "") not in repr(proxy)
    assert proxy.closed
    assert engines[0].state == "stopped"
    with pytest.raises(PoolClosed):
        proxy.statistics()
    assert not [thread for thread in threading.enumerate() if thread.name == "pgpool_core proxy"]


async def test_a_thread_may_be_asked_from_a_task_of_another_loop() -> None:
    with pgpool_core.run_proxy_in_thread(URL) as proxy:
        assert proxy.statistics().pools[0].database == "shop"
        assert proxy.snapshot().clients == ()


async def test_a_proxy_is_of_no_use_in_another_run() -> None:
    async def elsewhere(proxy: pgpool_core.Proxy) -> None:
        calls = (proxy.snapshot, proxy.reload, proxy.pause, proxy.resume, proxy.shutdown, proxy.wait_closed)
        for call in calls:
            with pytest.raises(PoolError, match=r"belongs to the trio\.run\(\) that opened it"):
                await call()
        for use in (lambda: proxy.orders, lambda: proxy.begin_shutdown("elsewhere")):
            with pytest.raises(PoolError, match=r"use it there, or run_proxy_in_thread"):
                use()

    async with pgpool_core.open_proxy(URL) as proxy:
        await trio.to_thread.run_sync(trio.run, elsewhere, proxy)
        assert (await proxy.snapshot()).clients == ()
    await trio.to_thread.run_sync(trio.run, proxy.shutdown)


@pytest.mark.parametrize("source", [None, 5, b"postgresql://x", {"app": URL}])
def test_a_source_that_is_none_is_told(source: Any) -> None:
    with (
        pytest.raises(ConfigError, match=f"opened from a connection string, .* not from {type(source).__name__}"),
        pgpool_core.run_proxy_in_thread(source),
    ):
        pytest.fail("it must not start")


def test_other_arguments_of_a_wrong_type_are_told() -> None:
    listen: Any = 6432
    with pytest.raises(ConfigError, match='listen is "host:port"'), pgpool_core.run_proxy_in_thread(URL, listen=listen):
        pytest.fail("it must not start")
    config: Any = URL
    with pgpool_core.run_proxy_in_thread(URL) as proxy, pytest.raises(ConfigError, match="reload takes a Config"):
        proxy.reload(config)


def test_an_error_at_the_start_of_the_thread_reaches_the_caller() -> None:
    with (
        pytest.raises(ConfigError, match="unknown parameter: pgbouncer/no_such_setting"),
        pgpool_core.run_proxy_in_thread(URL, no_such_setting=1),
    ):
        pytest.fail("it must not start")


def test_a_thread_that_cannot_start_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def enter() -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="no thread for you"), pgpool_core.run_proxy_in_thread(URL):
            pass
        told.append("told")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("no thread for you")

    program = threading.Thread(target=enter, daemon=True)
    program.start()
    program.join(20)
    assert told


def test_a_thread_ends_with_the_block_also_after_an_error(engines: list[FakeEngine]) -> None:
    with pytest.raises(LookupError), pgpool_core.run_proxy_in_thread(URL):
        raise LookupError
    assert engines[0].state == "stopped"


def test_shutdown_before_the_end_of_the_block_may_be_repeated(engines: list[FakeEngine]) -> None:
    with pgpool_core.run_proxy_in_thread(URL) as proxy:
        proxy.shutdown()
        proxy.shutdown()
        assert proxy.closed


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_holds_no_descriptor_of_ours_and_says_so(engines: list[FakeEngine]) -> None:
    with pgpool_core.run_proxy_in_thread(URL) as proxy:
        child = os.fork()
        if child == 0:
            problem = 0
            try:
                proxy.statistics()
                problem |= 1
            except PoolClosed:
                pass
            proxy.shutdown()
            problem |= 2 * (engines[0].state != "forked") | 4 * (not proxy.closed) | 8 * _listens(proxy.port)
            os._exit(problem)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert connects(proxy.port)


def _listens(port: int) -> bool:
    """Whether this process holds a socket that listens on `port`."""
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.getsockname()[1] == port and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return True
        except (OSError, IndexError):
            continue
    return False
