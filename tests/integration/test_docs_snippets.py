"""Every snippet of the quickstart is executed as it stands there, and every Python program of the README and of docs/embedding.md."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgpool_core.testing import GuardedProcess, PostgresServer, free_port
from pgpool_core.testing.account import Account
from tests.conftest import PASSWORDS
from tests.pages import FENCED, PAGES, URL, programs
from tests.programs import ROOT, python, run

QUICKSTART = (ROOT / "docs/quickstart.md").read_text()
INDENTED = re.compile(r"(?:\A|\n)\n((?: {4}.*\n)+)")
PROGRAMS = [(page, text) for page in PAGES if page != "docs/pool.md" for text in programs(page)]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, id=page, marks=[pytest.mark.slow] if page == "README.md" else [])
        for number, (page, _) in enumerate(PROGRAMS)
    ],
)
def test_a_program_runs(number: int, postgres: PostgresServer, tmp_path: Path) -> None:
    page, text = PROGRAMS[number]
    real = postgres.dsn("app", "app")
    parameters = f"{URL}?"
    assert URL in text, page
    program = text.replace(parameters, f"{real}{'&' if '?' in real else '?'}").replace(URL, real)
    program = program.replace("127.0.0.1:6432", f"127.0.0.1:{free_port()}")
    path = tmp_path / "program.py"
    path.write_text(program)
    assert python(path).stdout


def block(beginning: str) -> str:
    """The one snippet of the quickstart that begins so."""
    (found,) = (text for text in SNIPPETS if text.startswith(beginning))
    return found


SNIPPETS: list[str] = [text for _, text in FENCED.findall(QUICKSTART)]
SNIPPETS += [re.sub(r"^ {4}", "", text, flags=re.MULTILINE) for text in INDENTED.findall(FENCED.sub("", QUICKSTART))]
EXECUTED = {
    "git clone": "test_try_it",
    "server   PostgreSQL": "test_try_it",
    "[databases]": "test_a_service_in_front_of_a_server",
    '"alice" "': "test_a_service_in_front_of_a_server",
    "pgpool-core serve": "test_a_service_in_front_of_a_server",
    "psql -h": "test_a_service_in_front_of_a_server",
    "[Unit]": "test_a_service_in_front_of_a_server",
    "pgpool-core run": "test_in_front_of_one_program",
    "import ": "test_a_program_runs",
}


def test_no_snippet_is_left_out() -> None:
    for text in SNIPPETS:
        assert [name for name in EXECUTED if text.startswith(name)], f"nothing executes this snippet:\n{text}"
    for beginning, test in EXECUTED.items():
        assert test in globals()
        assert any(text.startswith(beginning) for text in SNIPPETS), f"no snippet begins with {beginning!r} any more"


def ourselves() -> Account:
    return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())


def here(line: str) -> list[str]:
    """A command of the page with our own `pgpool-core` in it."""
    words = shlex.split(line)
    return [*([sys.executable, "-m", "pgpool_core"] if words[0].endswith("pgpool-core") else words[:1]), *words[1:]]


@pytest.mark.slow
def test_try_it(tmp_path: Path) -> None:
    """What `make run` runs says what the page shows, and its last line can be copied into a shell."""
    assert block("git clone").splitlines()[-1] == "make run"
    recipe = (ROOT / "Makefile").read_text().partition("\nrun: ")[2].partition("\n\n")[0]
    assert "-m pgpool_core demo $(ARGS)" in recipe
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    demo = GuardedProcess(
        [sys.executable, "-m", "pgpool_core", "demo", "--port", str(free_port())],
        account=ourselves(),
        env=env,
        cwd=tmp_path,
    )
    try:
        demo.wait_for_log(r"Ctrl-C stops it", timeout_s=60)
        shown, said = block("server   PostgreSQL").splitlines(), demo.log.splitlines()
        for line in shown[:3]:
            assert any(each.strip().startswith(line.split()[0]) for each in said), line
        attempt = next(line for line in said if line.strip().startswith("try "))
        done = subprocess.run(attempt.partition("try")[2], shell=True, capture_output=True, text=True, check=False)
        assert "PostgreSQL" in done.stdout, done.stderr
    finally:
        demo.stop(signal.SIGINT)


def test_a_service_in_front_of_a_server(postgres: PostgresServer, tmp_path: Path) -> None:
    """The two files, started as the unit says, asked as the page does, reloaded as the unit does. Alice is called app here."""
    port = str(free_port())
    (hers,) = re.findall(r'"alice" "(.*)"', block('"alice" "'))
    (admins,) = re.findall(r'"admin" "(.*)"', block('"alice" "'))
    userlist = block('"alice" "').replace("alice", "app").replace(hers, PASSWORDS["app"])
    ini = block("[databases]").replace("host=10.0.0.5 port=5432", f"host={postgres.host} port={postgres.port}")
    ini = ini.replace("host=10.0.0.5", f"host={postgres.host} port={postgres.port}")
    ini = ini.replace("/etc/pgpool/userlist.txt", str(tmp_path / "userlist.txt")).replace("6432", port)
    tmp_path.joinpath("pgbouncer.ini").write_text(ini)
    tmp_path.joinpath("userlist.txt").write_text(userlist)
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block("[Unit]"))
    started = unit["Service"]["ExecStart"].replace("/etc/pgpool/", "")
    assert started.split()[1:] == block("pgpool-core serve").split()[1:]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    service = GuardedProcess(here(started), account=ourselves(), env={**env, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    try:
        service.wait_for_log(r"listening on")
        service.wait_for_log(r"process up:")
        as_alice, as_admin = block("psql -h").replace("6432", port).replace("alice", "app").splitlines()
        for line, password, asked, answer in (
            (as_alice, PASSWORDS["app"], "select current_user", " app\n(1 row)"),
            (as_admin, admins, "", " app "),
        ):
            assert answer in run(*shlex.split(line), stdin=asked, env={**env, "PGPASSWORD": password}).stdout
        seen = service.mark()
        reload = unit["Service"]["ExecReload"].replace("$MAINPID", str(service.pid))
        run(*shlex.split(reload))
        service.wait_for_log(r"got SIGHUP, re-reading config", since=seen)
        assert service.stop(signal.SIGQUIT) == 0, service.log
    finally:
        service.stop(signal.SIGKILL)


def test_in_front_of_one_program(postgres: PostgresServer) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    env |= {"DATABASE_URL": postgres.dsn("app", "app"), "PYTHONPATH": str(ROOT)}
    assert " app\n(1 row)" in run(*here(block("pgpool-core run")), env=env).stdout
