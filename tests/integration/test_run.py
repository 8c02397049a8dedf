"""`pgpool-core run`: the command finds the pooler, gets the signals, and its status is ours."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import pgpool_core
from pgpool_core.testing import PostgresServer
from tests.conftest import PASSWORDS
from tests.watching import until

SOURCE = str(Path(pgpool_core.__file__).parent.parent)
RUN = [sys.executable, "-m", "pgpool_core", "run"]
ASK = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    row = connection.execute("select current_user, current_database(), inet_server_port()").fetchone()
    print(connection.info.host, connection.info.port, *row)
"""


@pytest.fixture
def env(postgres: PostgresServer) -> dict[str, str]:
    """The environment of an application that works directly on PostgreSQL."""
    url = f"postgresql://app:{PASSWORDS['app']}@{postgres.host}:{postgres.port}/app?sslmode=prefer"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_"))}
    return {**plain, "DATABASE_URL": url, "PYTHONPATH": SOURCE}


def run(env: dict[str, str], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *words],
        env={**env, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_the_command_reaches_the_server_through_the_pooler(postgres: PostgresServer, env: dict[str, str]) -> None:
    done = run(env, "--", sys.executable, "-c", ASK)
    host, port, *row = done.stdout.split()
    assert (done.returncode, row) == (0, ["app", "app", str(postgres.port)])
    assert (host, port != str(postgres.port)) == ("127.0.0.1", True)
    assert "pooler: 1 transaction, " in done.stderr
    assert "at most 1 client and 1 server at once" in done.stderr
    assert "no client waited for a server" in done.stderr or "at most 1 client waited" in done.stderr


def test_over_a_unix_socket_and_without_a_report(env: dict[str, str]) -> None:
    done = run(env, "-q", "--listen", "unix", "--", sys.executable, "-c", ASK)
    assert done.returncode == 0
    assert done.stdout.startswith("/tmp/pgpool-core-")
    assert done.stderr == ""
    assert not Path(done.stdout.split()[0]).exists()


def test_several_urls_and_the_variables_of_libpq(env: dict[str, str]) -> None:
    shell = 'echo "$SECOND_URL"; echo "$SECOND_URL_RAW"; psql -Atc "select current_database()"'
    second = env["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://").replace("sslmode", "ssl")
    words = ["--url-env", "DATABASE_URL", "--url-env", "SECOND_URL", "--keep-original", "_RAW", "--pg-env"]
    done = run(env, *words, "--", "sh", "-c", shell, SECOND_URL=second)
    rewritten, original, database = done.stdout.split()
    assert rewritten.startswith("postgresql+asyncpg://app:")
    assert "ssl" not in rewritten
    assert (original, database) == (second, "app")


ASK_ANOTHER = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"], dbname="template1") as connection:
    print(*connection.execute("select current_user, current_database()").fetchone())
"""


def test_other_databases_of_the_server_are_there_too(env: dict[str, str]) -> None:
    """As `manage.py test` and `createdb` need them: they begin in `postgres`, and go on in a database that they have made."""
    done = run(env, "-q", "--", sys.executable, "-c", ASK_ANOTHER)
    assert (done.returncode, done.stdout.split()) == (0, ["app", "template1"]), done.stderr


def test_warnings_of_one_kind_are_counted_together(env: dict[str, str]) -> None:
    """Each of the logins comes from another port."""
    ask = "import os, psycopg\nfor _ in range(3):\n try: psycopg.connect(os.environ['DATABASE_URL'], user='nobody')"
    done = run(env, "--", sys.executable, "-c", f"{ask}\n except psycopg.OperationalError: pass")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("  3 x "))
    assert "nobody@127.0.0.1 " in line


def test_two_urls_of_one_login_lead_to_its_other_databases(env: dict[str, str]) -> None:
    second = env["DATABASE_URL"].replace("/app?", "/postgres?")
    words = ["-q", "--url-env", "DATABASE_URL", "--url-env", "SECOND_URL", "--", sys.executable, "-c", ASK_ANOTHER]
    done = run(env, *words, SECOND_URL=second)
    assert (done.returncode, done.stdout.split()) == (0, ["app", "template1"]), done.stderr


def test_with_two_servers_only_the_databases_of_the_urls_are_there(env: dict[str, str]) -> None:
    second = env["DATABASE_URL"].replace("127.0.0.1", "localhost")
    words = ["-q", "--url-env", "DATABASE_URL", "--url-env", "SECOND_URL", "--", sys.executable, "-c", ASK_ANOTHER]
    done = run(env, *words, SECOND_URL=second)
    assert done.returncode == 1
    assert "no such database: template1" in done.stderr


def test_settings_come_from_variables_and_options(env: dict[str, str]) -> None:
    ask = "import os, psycopg; url = os.environ['DATABASE_URL'].replace('/app?', '/pgbouncer?');"
    ask += "shown = dict(row[:2] for row in psycopg.connect(url, autocommit=True).execute(b'show config'));"
    ask += "print(*(shown[name] for name in ('default_pool_size', 'reserve_pool_size', 'pool_mode')))"
    done = run(
        env,
        "--mode",
        "session",
        "--set",
        "reserve_pool_size=2",
        "--",
        sys.executable,
        "-c",
        ask,
        PGBOUNCER_DEFAULT_POOL_SIZE="3",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "2", "session"]


def test_variables_that_are_no_settings_are_named(env: dict[str, str]) -> None:
    known = {"PGBOUNCER_POOL_MODE": "session", "PGBOUNCER_LISTEN_ADDR": "127.0.0.1", "PGBOUNCER_VERBOSE": "0"}
    known |= {"PGBOUNCER_URLS": "PGBOUNCER_URL", "PGBOUNCER_URL": env["DATABASE_URL"], "PGBOUNCER_SERVICE_HOST": "::1"}
    odd = {"PGBOUNCER_DEFAULT_POOL_SIZ": "5", "PGBOUNCER_NOTHING": ""}
    done = run(env, "-q", "--lazy", "--", "true", **known, **odd)
    assert (done.returncode, done.stderr) == (
        0,
        "pgpool-core run: warning: not read, because nothing is known of them: PGBOUNCER_DEFAULT_POOL_SIZ\n",
    )


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_status_is_that_of_the_command(env: dict[str, str], script: str, status: int) -> None:
    assert run(env, "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("no-such-command-at-all", 127, "command not found"),
        ("/etc/passwd", 126, "Permission denied"),
        ("", 127, "command not found"),
    ],
)
@pytest.mark.parametrize("enabled", ["0", "1"])
def test_a_command_that_cannot_be_run(env: dict[str, str], command: str, status: int, said: str, enabled: str) -> None:
    done = run(env, "-q", "--lazy", "--", command, PGBOUNCER_ENABLED=enabled)
    assert (done.returncode, done.stderr) == (status, f"pgpool-core run: {command}: {said}\n")


@pytest.mark.parametrize("enabled", ["0", "1"])
def test_the_command_ignores_what_it_would_ignore_without_us(env: dict[str, str], enabled: str) -> None:
    ignored = "trap '' HUP; exec \"$@\""
    asked = ["grep", "SigIgn", "/proc/self/status"]
    without, done = (
        subprocess.run(
            ["sh", "-c", ignored, "sh", *command],
            env={**env, "PGBOUNCER_ENABLED": enabled},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        for command in (asked, [*RUN, "-q", "--lazy", "--", *asked])
    )
    ours = ~(3 << 31)  # 32 and 33 are glibc's own, and ignored by who comes from posix_spawn
    expected, found = (int(each.stdout.split()[1], 16) & ours for each in (without, done))
    assert expected >> signal.SIGHUP - 1 & 1
    assert found == expected


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(env: dict[str, str]) -> None:
    script = "echo ready; read word; echo $word"
    with subprocess.Popen(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *RUN, "-q", "--lazy", "--", "sh", "-c", script],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.communicate("goes on\n", timeout=30)[0] == "goes on\n"
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_server_is_tried_ends_it(env: dict[str, str], number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app:secret@127.0.0.1:{silent.getsockname()[1]}/app"
        with subprocess.Popen(
            [*RUN, "-q", "--ready-timeout", "300", "--", "echo", "it runs"],
            env={**env, "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                silent.settimeout(30)
                server, _ = silent.accept()
                with server:
                    process.send_signal(number)
                    assert process.communicate(timeout=30)[0] == ""
            finally:
                process.kill()
            assert process.returncode == 128 + number


def test_switched_off_the_command_runs_alone(env: dict[str, str]) -> None:
    done = run(env, "--", "sh", "-c", 'echo "$DATABASE_URL"', PGBOUNCER_ENABLED="0")
    assert (done.returncode, done.stdout.strip()) == (0, env["DATABASE_URL"])


@pytest.mark.parametrize("option", ["--drain", "--ready-timeout"])
@pytest.mark.parametrize("value", ["-1", "nan", "soon"])
def test_a_time_that_is_none_is_refused_before_the_command_runs(env: dict[str, str], option: str, value: str) -> None:
    done = run(env, f"{option}={value}", "--", "echo", "it runs")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"argument {option}: {value!r} is not a number of seconds" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_in_time_is_told_with_the_option(env: dict[str, str]) -> None:
    done = run(env, "--ready-timeout", "0", "--", "echo", "it runs")
    assert (done.returncode, done.stdout) == (1, "")
    assert "within 0 s (--ready-timeout)" in done.stderr


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        ([], {"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ([], {"DATABASE_URL": "mysql://u:hidden@h/d"}, "DATABASE_URL: not a URL that begins with postgres://"),
        ([], {"PGBOUNCER_URLS": "DATABASE_URL MISSING_URL"}, "MISSING_URL is not set"),
        (["--set", "pool_mode=bogus"], {}, "expected one of session, transaction, statement"),
        (["--set", "bogus"], {}, "--set bogus: expected name=value"),
        (["--set", "databases=app"], {}, "unknown parameter: pgbouncer/databases"),
        ([], {"PGBOUNCER_URLS": " , ", "DATABASE_URL": ""}, "DATABASE_URL is not set"),
    ],
)
def test_what_cannot_be_is_said_before_the_command_runs(
    env: dict[str, str], words: list[str], more: dict[str, str], said: str
) -> None:
    done = run(env, *words, "--", "echo", "it runs", **more)
    assert (done.returncode, done.stdout, said in done.stderr) == (1, "", True), done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_refuses_is_told_before_the_command_runs(env: dict[str, str]) -> None:
    done = run(env, "--", "echo", "it runs", DATABASE_URL=env["DATABASE_URL"].replace("/app?", "/no_such_db?"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "DATABASE_URL: server login failed" in done.stderr
    assert 'database "no_such_db" does not exist' in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(env: dict[str, str], number: signal.Signals) -> None:
    script = f"trap 'echo got it; exit 3' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*RUN, "-q", "--", "sh", "-c", script], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=30)[0] == "got it\n"
        assert process.returncode == 3


@pytest.mark.parametrize("stdin", ["terminal", "nothing"])
def test_ctrl_c_is_left_to_the_terminal_whatever_the_command_reads(env: dict[str, str], stdin: str) -> None:
    """It sends SIGINT to the whole group. Who passes it on then sends a second one, which the command gets if it is quick with the first."""
    script = "from pgpool_core.embedded.command import is_at_terminal; print('yes' if is_at_terminal() else 'no')"
    pid, terminal = pty.fork()
    if pid == 0:
        if stdin == "nothing":
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execve(sys.executable, [sys.executable, "-c", script], env)
    try:
        assert os.read(terminal, 1) == b"y"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)
    alone = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert alone.stdout == "no\n"


def test_the_command_does_not_outlive_the_pooler(env: dict[str, str]) -> None:
    with subprocess.Popen(
        [*RUN, "-q", "--", "sh", "-c", "echo $$; exec sleep 600"], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        until(lambda: not Path(f"/proc/{child}/stat").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text())


CHILDREN_OF_THREADS = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


@pytest.mark.skipif(not CHILDREN_OF_THREADS.exists(), reason="this kernel does not tell which thread has forked")
def test_the_command_is_forked_by_the_main_thread_which_outlives_it(env: dict[str, str]) -> None:
    """The command gets SIGTERM at the end of the thread that forked it, so a thread that ends when idle must not."""
    done = run(env, "-q", "--lazy", "--", "sh", "-c", "echo $$; cat /proc/$PPID/task/$PPID/children")
    command, children = done.stdout.splitlines()
    assert (done.returncode, command in children.split()) == (0, True), done


def test_two_of_them_do_not_collide(env: dict[str, str]) -> None:
    inner = [*RUN, "-q", "--", sys.executable, "-c", ASK]
    done = run(env, "-q", "--", *inner)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[2:4] == ["app", "app"]


AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
ORPHAN = """
import os, pathlib
def zombies():
    ended = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and parent == "1":
            ended.append(stat)
    return ended
assert os.getppid() == 1
child = os.fork()
if child == 0:
    os.fork()  # a grandchild, whose parent ends
    os._exit(0)
os.waitpid(child, 0)
while zombies():
    pass
print("buried")
"""


def may_unshare() -> bool:
    try:
        return subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not may_unshare(), reason="no processes in a namespace of their own here")
def test_as_process_1_it_buries_orphans(env: dict[str, str]) -> None:
    done = subprocess.run(
        [*AS_PROCESS_1, *RUN, "-q", "--lazy", "--", sys.executable, "-c", ORPHAN],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "buried\n"), done.stderr
