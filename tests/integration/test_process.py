"""The process around the pooler: PgBouncer's command line, user, pid file, background, systemd; the same asked of PgBouncer."""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM

import attrs
import psycopg
import pytest

import pgpool_core
from pgpool_core.testing import PoolerProcess, find_pgbouncer
from pgpool_core.testing.account import service_account
from pgpool_core.testing.ports import can_connect, free_port
from pgpool_core.testing.process import GuardedProcess
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.watching import until

OURS = (sys.executable, "-m", "pgpool_core.cli.pgbouncer")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@attrs.define(kw_only=True)
class Program:
    """A command line and a file for it, in a folder that the unprivileged user owns."""

    command: tuple[str, ...]
    folder: Path
    port: int = attrs.field(factory=free_port)

    @property
    def ini(self) -> Path:
        return self.folder / "pooler.ini"

    @property
    def pidfile(self) -> Path:
        return self.folder / "pid"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write(self, **settings: object) -> None:
        values = {"listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "trust"}
        lines = [f"{name} = {value}" for name, value in {**values, **settings}.items()]
        self.ini.write_text("\n".join(["[databases]", "x = host=127.0.0.1", "[pgbouncer]", *lines, ""]))
        self.ini.chmod(0o644)

    def run(self, *arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
        source = str(Path(pgpool_core.__file__).parents[1])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
        command = [*self.command, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=env, cwd=self.folder, user=user, check=False
        )

    def pid(self) -> int:
        """What the pid file holds; 0 while there is none."""
        return int(self.pidfile.read_text() or 0) if self.pidfile.exists() else 0


def has_ended(pid: int) -> bool:
    """Whether it is gone, or only waits for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(params=["ours", "pgbouncer"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Ours under PgBouncer's name, then PgBouncer; what it leaves in the background is stopped."""
    command = OURS
    if request.param == "pgbouncer":
        if (found := find_pgbouncer()) is None:
            pytest.skip("PgBouncer is not installed here")
        command = (str(found),)
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    service_account().own(folder)
    made = Program(command=command, folder=folder)
    yield made
    if made.pidfile.exists():
        pid = made.pid()
        os.kill(pid, SIGTERM)
        until(lambda: has_ended(pid))
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, r"Usage:\n.*-R, --reboot"),
        (["-h"], 0, "Usage:"),
        (["-V"], 0, r"\APgBouncer 1\.[0-9.]+"),
        (["--version"], 0, r"\APgBouncer 1\.[0-9.]+"),
        ([], 1, "no configuration file specified"),
        (["a.ini", "b.ini"], 1, "no configuration file specified"),
        (["-x"], 1, r'Try ".* --help" for more information'),
        (["--nonsense", "a.ini"], 1, r'Try ".* --help" for more information'),
        (["/nowhere/at/all.ini"], 1, "FATAL cannot load config file"),
        (["-V", "-x"], 1, "Try"),
    ],
)
def test_the_command_line(program: Program, arguments: list[str], status: int, said: str) -> None:
    if arguments == ["-V", "-x"] and program.command != OURS:
        pytest.skip("PgBouncer ends at the first option that answers")
    done = program.run(*arguments)
    assert done.returncode == status
    assert re.search(said, done.stdout if status == 0 else done.stderr, re.DOTALL)


@as_root
def test_root_is_refused(program: Program) -> None:
    program.write()
    done = program.run(str(program.ini))
    assert (done.returncode, "FATAL PgBouncer should not run as root" in done.stderr) == (1, True)


@as_root
def test_serve_warns_of_root_and_goes_on(pooler: PoolerFactory) -> None:
    process = pooler()
    process.wait_for_log("WARNING running as root")


@as_root
def test_an_unknown_user_ends_the_start(program: Program) -> None:
    program.write()
    done = program.run("-u", "nosuchuser", str(program.ini))
    assert (done.returncode, "FATAL could not find user 'nosuchuser' to switch to" in done.stderr) == (1, True)


@as_root
def test_who_is_not_root_cannot_become_somebody_else(program: Program) -> None:
    program.write(user="root")
    uid = service_account().uid
    if program.command == OURS:  # the interpreter may be out of that user's reach
        done = attrs.evolve(program, command=(sys.executable, "-c", _AS_ANOTHER)).run(str(uid), str(program.ini))
    else:
        done = program.run(str(program.ini), user=uid)
    assert (done.returncode, "FATAL failed to assume identity of user 'root'" in done.stderr) == (1, True)


@as_root
def test_the_background_needs_a_pid_file(program: Program) -> None:
    program.write(user=service_account().name)
    done = program.run("-d", str(program.ini))
    assert (done.returncode, "FATAL daemon needs pidfile configured" in done.stderr) == (1, True)


@as_root
def test_in_the_background_it_is_another_user_in_a_session_of_its_own(program: Program) -> None:
    program.write(user=service_account().name, pidfile=program.pidfile, logfile=program.folder / "log")
    assert program.run("-d", str(program.ini)).returncode == 0
    until(lambda: program.pid() and can_connect(("127.0.0.1", program.port)))
    pid = program.pid()
    status = Path(f"/proc/{pid}/status").read_text()
    account = service_account()
    assert re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)[1].split() == [str(account.uid)] * 4
    assert re.search(r"^Gid:\s+(.*)$", status, re.MULTILINE)[1].split() == [str(account.gid)] * 4
    assert os.getsid(pid) != os.getsid(0)
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    again = program.run(str(program.ini))
    assert (again.returncode, "pidfile exists, another instance running?" in again.stderr) == (1, True)
    os.kill(pid, SIGTERM)
    until(lambda: not program.pidfile.exists())
    assert f"[{pid}] LOG got SIGTERM" in program.log


@as_root
def test_show_config_tells_the_user_of_the_command_line_before_and_after_a_reload(program: Program) -> None:
    files = {"pidfile": program.pidfile, "logfile": program.folder / "log"}
    program.write(user="root", auth_type="any", admin_users="anybody", **files)
    name = service_account().name
    assert program.run("-d", "-u", name, str(program.ini)).returncode == 0
    until(lambda: program.pid() and can_connect(("127.0.0.1", program.port)))
    url = f"postgresql://anybody@127.0.0.1:{program.port}/pgbouncer"
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as console:
        for _ in range(2):
            shown = {row[0]: row[1] for row in console.execute("SHOW CONFIG")}
            assert shown["user"] == name
            console.execute("RELOAD")
    assert "(user)" not in program.log


@as_root
def test_a_stale_pid_file_is_removed_and_another_file_is_left_alone(program: Program) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    program.write(user=service_account().name, pidfile=program.pidfile, logfile=program.folder / "log")
    program.pidfile.write_text("not a number\n")
    assert program.run("-d", str(program.ini)).returncode == 1
    assert program.pidfile.read_text() == "not a number\n"
    program.pidfile.write_text(f"{gone.pid}\n")
    assert program.run("-d", str(program.ini)).returncode == 0
    until(lambda: program.pid() not in (0, gone.pid) and can_connect(("127.0.0.1", program.port)))
    assert "stale pidfile, removing" in program.log


@as_root
def test_a_daemon_is_replaced_by_a_daemon(program: Program) -> None:
    """`-d -R`, as units and scripts have it."""
    settings = {"user": service_account().name, "pidfile": program.pidfile, "logfile": program.folder / "log"}
    program.write(unix_socket_dir=program.folder, **settings)
    assert program.run("-d", str(program.ini)).returncode == 0
    until(lambda: program.pid() and can_connect(program.folder / f".s.PGSQL.{program.port}"))
    if program.command == OURS:
        until((program.folder / f".s.PGSQL.{program.port}.takeover").exists)
    old = program.pid()
    assert program.run("-d", "-R", str(program.ini)).returncode == 0
    until(lambda: program.pid() not in (0, old) and has_ended(old))
    assert can_connect(("127.0.0.1", program.port))
    assert can_connect(program.folder / f".s.PGSQL.{program.port}")


@as_root
@pytest.mark.parametrize("program", ["ours"], indirect=True)
def test_who_starts_it_in_the_background_learns_that_it_cannot_listen(program: Program) -> None:
    """PgBouncer's parent has ended before, with status 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program.port = taken.getsockname()[1]
        program.write(user=service_account().name, pidfile=program.pidfile)
        done = program.run("-d", str(program.ini))
    assert done.returncode == 1
    assert "the port is in use by another process" in done.stderr
    assert not program.pidfile.exists()


def test_two_processes_share_a_port_with_so_reuseport(pooler: PoolerFactory) -> None:
    """A rolling restart: the second is started, the first ends, and somebody always listens."""
    first = pooler(so_reuseport=1)
    second = pooler(start=False, so_reuseport=1, unix_socket_dir="")
    second.port = first.port
    second.start()
    second.wait_for_log("process up")
    first.stop()
    for _ in range(5):
        with psycopg.connect(second.url("app", "app")) as client:
            client.execute("select 1")


def test_conffile_names_what_the_next_reload_reads(pooler: PoolerFactory) -> None:
    process = pooler(max_client_conn=50)
    other = process.folder / "other.ini"
    other.write_text(process.ini.read_text().replace("max_client_conn = 50", "max_client_conn = 60"))
    process.settings["conffile"] = other
    process.reload()
    process.wait_for_log("configuration reloaded")
    since = process.process.mark()
    process.process.signal(SIGHUP)
    process.wait_for_log("configuration reloaded", since=since)
    with psycopg.connect(process.url("admin", "pgbouncer"), autocommit=True, prepare_threshold=None) as console:
        shown = {row[0]: row[1] for row in console.execute("SHOW CONFIG")}
    assert (shown["max_client_conn"], shown["conffile"]) == ("60", str(other))


class ServiceManager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(10)

    def next(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def close(self) -> None:
        self._socket.close()


def test_systemd_is_told_how_it_is(tmp_path: Path, pooler: PoolerFactory) -> None:
    manager = ServiceManager(tmp_path)
    try:
        process = pooler(start=False, stats_period=0.2)
        process.env = {"NOTIFY_SOCKET": str(manager.path)}
        process.start()
        assert manager.next() == {"READY": "1"}
        assert re.match(r"stats: \d+ xacts/s, ", manager.next()["STATUS"])
        process.reload()
        reloading = next(told for told in iter(manager.next, None) if "STATUS" not in told)
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert next(told for told in iter(manager.next, None) if "STATUS" not in told) == {"READY": "1"}
        process.stop()
        assert next(told for told in iter(manager.next, None) if "STATUS" not in told) == {"STOPPING": "1"}
    finally:
        manager.close()


def test_sockets_of_systemd_are_used_instead_of_listen_addr(tmp_path: Path, pooler: PoolerFactory) -> None:
    path = tmp_path / ".s.PGSQL.7777"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
    ):
        unix.bind(str(path))
        unix.listen()
        process: PoolerProcess = pooler(start=False)
        process.command = (sys.executable, "-c", _ACTIVATE, str(tcp.fileno()), str(unix.fileno()), *process.command)
        spawn_with(process, tcp, unix)
        process.wait_for_log("process up")
        process.wait_for_log(re.escape(f"listening on unix:{path}"))
        url = f"postgresql://app:app-secret@127.0.0.1:{tcp.getsockname()[1]}/app"
        for place in (url, f"postgresql://app:app-secret@/app?host={tmp_path}&port=7777"):
            with psycopg.connect(place) as client:
                client.execute("select 1")
        assert not can_connect((process.host, process.port))
        assert process.stop() == 0
        assert path.exists()  # it is the service manager's


def test_a_socket_of_systemd_is_left_in_place_by_the_next_process_too(tmp_path: Path, pooler: PoolerFactory) -> None:
    path = tmp_path / ".s.PGSQL.7777"
    process = pooler(start=False)
    with (
        socket.create_server((process.host, process.port)) as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
    ):
        unix.bind(str(path))
        unix.listen()
        usual = process.command
        process.command = (sys.executable, "-c", _ACTIVATE, str(tcp.fileno()), str(unix.fileno()), *usual)
        spawn_with(process, tcp, unix)
        process.command = usual
        for _ in range(2):
            assert process.replace().wait() == 0
            with psycopg.connect(f"postgresql://app:app-secret@/app?host={tmp_path}&port=7777") as client:
                client.execute("select 1")
        assert process.stop() == 0
        assert path.exists()


_AS_ANOTHER = """
import os, sys
from pgpool_core.cli.pgbouncer import main
from pgpool_core.process.service import import_all
import_all()
os.setresuid(*[int(sys.argv[1])] * 3)
sys.exit(main(sys.argv[2:]))
"""

_ACTIVATE = """
import os, sys
tcp, unix, *command = sys.argv[1:]
tcp, unix = os.dup2(int(tcp), 100), os.dup2(int(unix), 101)
for fd, to in ((tcp, 3), (unix, 4)):
    os.dup2(fd, to)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(command[0], command)
"""


_READS_NO_MORE = """
import sys
from pgpool_core.cli.serve import main
from pgpool_core.process.service import import_all
import_all()
class Unreadable:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"no rights to read {name}")
sys.meta_path.insert(0, Unreadable())
sys.exit(main(sys.argv[1:]))
"""


def test_nothing_is_imported_once_rights_have_been_given_up(pooler: PoolerFactory) -> None:
    """The user that `user` names may not be able to read the interpreter's files."""
    process: PoolerProcess = pooler(start=False)
    process.command = (sys.executable, "-c", _READS_NO_MORE)
    process.start()
    with psycopg.connect(process.url("app", "app")) as client:
        client.execute("select 1")
    with Console(process) as console:
        assert console.pool()
        assert console.run("RELOAD") == "RELOAD"
    assert process.stop() == 0
    assert "no rights to read" not in process.log


def spawn_with(process: PoolerProcess, *sockets: socket.socket) -> None:
    """Start it with these descriptors; nothing else is inherited."""
    for sock in sockets:
        sock.set_inheritable(True)
    keep = [sock.fileno() for sock in sockets]
    with pytest.MonkeyPatch.context() as patch:
        popen = staticmethod(functools.partial(subprocess.Popen, pass_fds=keep))  # 3.14: a partial is a method
        patch.setattr(GuardedProcess, "popen", popen)
        process.spawn()


def test_the_log_is_opened_again_at_hup(pooler: PoolerFactory) -> None:
    process = pooler(start=False)
    process.settings["logfile"] = process.folder / "log"
    process.start()
    until(lambda: "process up: PgBouncer" in (process.folder / "log").read_text())
    (process.folder / "log").rename(process.folder / "log.1")
    process.reload()
    until((process.folder / "log").exists)
    with psycopg.connect(process.url("app", "app")):
        until(lambda: "app/app@" in (process.folder / "log").read_text())
    assert "app/app@" not in (process.folder / "log.1").read_text()
