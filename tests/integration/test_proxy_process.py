"""`run_proxy_process`: a pooler beside the program, asked through a socket of its own; it never outlives the program."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import pgpool_core
from pgpool_core import Config, DatabaseConfig, ProcessProxy
from pgpool_core.embedded.process import python
from pgpool_core.errors import CommandRefused, ConfigError, InternalError, PoolClosed
from pgpool_core.testing import PostgresServer, can_connect
from tests.watching import descriptors, until

ROOT = Path(__file__).parents[2]
HERE_ONLY = "select count(*) from pg_stat_activity where application_name = %s"


@pytest.fixture(scope="module")
def proxy(postgres: PostgresServer) -> Iterator[ProcessProxy]:
    with pgpool_core.run_proxy_process(postgres.dsn("app", "app"), default_pool_size=2) as proxy:
        yield proxy


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def one_query(url: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute("select current_user").fetchone()
        return row[0] if row else None


def test_queries_go_through_another_process(proxy: ProcessProxy) -> None:
    before = proxy.statistics().overall.totals.client_logins
    assert one_query(proxy.url) == "app"
    assert proxy.pid != os.getpid()
    assert proxy.statistics().overall.totals.client_logins == before + 1
    assert until(lambda: proxy.features().transactions)
    with psycopg.connect(proxy.url):
        assert [client.user for client in proxy.snapshot().clients] == ["app"]


def test_its_password_is_not_shown_and_nobody_else_may_ask(proxy: ProcessProxy) -> None:
    password = proxy.environ()["PGPASSWORD"]
    assert password not in repr(proxy) + repr(proxy._started)
    assert password not in Path(f"/proc/{proxy.pid}/cmdline").read_text()
    assert password.encode() not in Path(f"/proc/{proxy.pid}/environ").read_bytes()
    assert proxy._started is not None
    assert stat.S_IMODE(os.stat(proxy._started.folder).st_mode) == 0o700


def test_pause_and_resume(proxy: ProcessProxy) -> None:
    proxy.pause()
    assert proxy.statistics().state.paused
    with pytest.raises(CommandRefused):
        proxy.pause()
    proxy.resume()
    proxy.pause("app")
    proxy.resume("app")
    with pytest.raises(CommandRefused):
        proxy.resume("app")
    assert one_query(proxy.url) == "app"


def test_another_configuration_and_a_bad_one(postgres: PostgresServer) -> None:
    config = Config(databases={"app": DatabaseConfig(host=postgres.host, port=postgres.port)}, auth_type="trust")
    with pgpool_core.run_proxy_process(config, listen="127.0.0.1:0") as proxy:
        proxy.reload(Config(databases={"other": DatabaseConfig(host="h")}, auth_type="trust", default_pool_size=3))
        assert [row.name for row in proxy.statistics().databases] == ["other", "pgbouncer"]
        with pytest.raises(ConfigError):
            proxy.reload(Config(databases={}, auth_type="scram-sha-256", auth_file="/no/such/file"))
        assert not proxy.closed


def test_what_cannot_be_opened_is_told_as_by_the_others() -> None:
    with (
        pytest.raises(ConfigError, match="unknown parameter: pgbouncer/no_such_setting") as caught,
        pgpool_core.run_proxy_process("postgresql://u@h/d", no_such_setting=1),
    ):
        pytest.fail("it must not start")
    assert caught.value.key == "no_such_setting"


def test_after_its_block_nothing_is_left(postgres: PostgresServer) -> None:
    gc.collect()
    before = Counter(descriptors(os.getpid()))
    with pgpool_core.run_proxy_process(postgres.dsn("app", "app"), listen="unix") as proxy:
        assert one_query(proxy.url) == "app"
        folder, questions = proxy.host, proxy._started.folder if proxy._started else ""
    assert gone(proxy.pid)
    assert proxy.closed
    assert not Path(folder).exists()
    assert not Path(questions).exists()
    with pytest.raises(PoolClosed):
        proxy.statistics()
    proxy.shutdown()
    gc.collect()
    until(lambda: not Counter(descriptors(os.getpid())) - before, what="no descriptor is left")


def test_a_process_that_was_killed_is_told_of_at_the_end_of_the_block() -> None:
    with pytest.raises(InternalError, match="status -9"), pgpool_core.run_proxy_process("postgresql://u@h/d") as proxy:
        os.kill(proxy.pid, signal.SIGKILL)
        until(lambda: proxy.closed)
        with pytest.raises(PoolClosed):
            proxy.snapshot()
    assert proxy._started is not None
    assert not Path(proxy._started.folder).exists()


def test_signals_for_everybody_are_left_to_the_program(proxy: ProcessProxy) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(proxy.pid, number)
    assert one_query(proxy.url) == "app"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_may_ask_too_and_does_not_keep_it_alive(postgres: PostgresServer) -> None:
    ended, end = os.pipe()
    with pgpool_core.run_proxy_process(postgres.dsn("app", "app")) as proxy:
        asked, has_asked = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(end)
                good = one_query(proxy.url) == "app" and proxy.statistics().pools and not proxy.closed
                proxy.shutdown()  # which is not the child's to do
                status = 0 if good and not proxy.closed and holds_nothing_of(proxy) else 2
                os.close(has_asked)
                os.read(ended, 1)  # until the parent's proxy has ended
            finally:
                os._exit(status)
        os.close(ended)
        os.close(has_asked)
        os.read(asked, 1)
        os.close(asked)
    assert gone(proxy.pid)
    os.close(end)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def holds_nothing_of(proxy: ProcessProxy) -> bool:
    """Whether this process has let go of what keeps the proxy's process alive."""
    return proxy._lifeline is not None and proxy._lifeline.fileno() == -1


@pytest.mark.slow
def test_a_temporary_folder_may_have_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long " * 20)
    folder.mkdir()
    text = "import pgpool_core\nwith pgpool_core.run_proxy_process('postgresql://u@h/d') as proxy: print(proxy.statistics().pools)"
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_interpreter_is_found_where_a_program_embeds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert python() == sys.executable
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    assert python() == str(Path(sys.prefix, "bin", "python3"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ConfigError, match="no interpreter"), pgpool_core.run_proxy_process("postgresql://u@h/d"):
        pytest.fail("it must not start")


PROGRAM = """
import os, sys
import pgpool_core, psycopg
proxy = pgpool_core.run_proxy_process(sys.argv[1])
opened = proxy.__enter__()
connection = psycopg.connect(opened.url, application_name=sys.argv[2])
connection.execute("select 1")
print(opened.pid, opened.port, flush=True)
{after}
"""
HELD_BY_A_GRANDCHILD = """
held = opened._lifeline.fileno()
os.set_inheritable(held, True)
import subprocess
subprocess.Popen(["sleep", "600"], close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


@pytest.mark.parametrize(
    ("after", "end"),
    [
        pytest.param("", None, id="returns"),
        pytest.param("sys.stdin.read()", signal.SIGKILL, id="killed"),
        pytest.param("sys.stdin.read()", signal.SIGTERM, id="terminated", marks=pytest.mark.slow),
        pytest.param("raise SystemExit(3)", None, id="exits", marks=pytest.mark.slow),
        pytest.param("os._exit(0)", None, id="exits hard", marks=pytest.mark.slow),
        pytest.param("os.abort()", None, id="aborts", marks=pytest.mark.slow),
    ],
)
def test_it_ends_with_its_program_however_that_ends(
    postgres: PostgresServer, after: str, end: signal.Signals | None
) -> None:
    name = f"ends {after} {end}"[:60]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(after=after), postgres.dsn("app", "app"), name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_no_core,
    ) as program:
        assert program.stdout is not None
        pooler, port = map(int, program.stdout.readline().split())
        if end is not None:
            program.send_signal(end)
        program.wait(30)
        until(lambda: gone(pooler), what="the pooler's process has ended")
        assert not can_connect(("127.0.0.1", port))
    with psycopg.connect(postgres.dsn("boss", "app")) as connection:
        until(lambda: connection.execute(HERE_ONLY, (name,)).fetchone() == (0,), what="no backend is left")


def _no_core() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def test_it_ends_also_where_something_else_holds_its_lifeline(postgres: PostgresServer) -> None:
    program = PROGRAM.format(after=HELD_BY_A_GRANDCHILD + "print('held', flush=True); sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, "-c", program, postgres.dsn("app", "app"), "held"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pooler = int(process.stdout.readline().split()[0])
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait(30)
        try:
            until(lambda: gone(pooler), what="the pooler's process has ended")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
