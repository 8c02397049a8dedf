"""Every example runs as its page says, against a server of ours, and leaves nothing in it: no table, no backend, no process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from pgpool_core.testing import PostgresServer
from tests.programs import ROOT, python
from tests.watching import until

EXAMPLES = ROOT / "examples"
DATABASE = "examples"
OTHERS = f"select pid, query from pg_stat_activity where datname = '{DATABASE}'"


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    """A URL of a database of these tests' own, which its user may create others from."""
    with psycopg.connect(postgres.dsn("boss", "app"), autocommit=True) as boss:
        boss.execute("alter role app createdb")
        boss.execute(f"create database {DATABASE} owner app")
        yield postgres.dsn("app", DATABASE)
        boss.execute(f"drop database {DATABASE} with (force)")
        boss.execute("alter role app nocreatedb")


@pytest.fixture(autouse=True)
def nobody_stays(database: str, postgres: PostgresServer) -> Iterator[None]:
    yield
    until(lambda: not postgres.sql(OTHERS), what="no backend is left")


def env(database: str, **more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_"))}
    return {**plain, "DATABASE_URL": database, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def output_of(database: str, *command: str, folder: Path = EXAMPLES) -> str:
    done = python(*command, cwd=folder, env=env(database))
    return done.stdout + done.stderr


@contextmanager
def site(database: str, *command: str, folder: Path = EXAMPLES, **more: str) -> Iterator[str]:
    """A web server as long as the block runs; the URL that it says it listens at. It must end with status 0 at SIGTERM."""
    with subprocess.Popen(
        command, cwd=folder, env=env(database, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"(?:Listening at:|Running on) (http://127\.0\.0\.1:[1-9]\d*)", line):
                    break
            else:
                pytest.fail("".join(said))
            rest = threading.Thread(target=lambda: said.extend(process.stdout or ()))
            rest.start()
            yield found[1]
            process.send_signal(signal.SIGTERM)
            status = process.wait(30)
            rest.join(30)
            assert status == 0, "".join(said)
        finally:
            process.kill()


def got(url: str) -> str:
    with urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def test_every_example_is_listed_and_none_is_missing() -> None:
    page = (EXAMPLES / "README.md").read_text()
    listed = {link.partition("/")[0] for link in re.findall(r"\]\(([^)]+)\)", page)}
    there = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith((".", "_"))} - {"README.md"}
    assert listed == there
    assert all((EXAMPLES / link).exists() for link in re.findall(r"\]\(([^)]+)\)", page))


def test_django(database: str) -> None:
    folder = EXAMPLES / "django_site"
    output_of(database, "manage.py", "migrate", "--run-syncdb", "-v", "0", folder=folder)
    said = output_of(database, "manage.py", "test", folder=folder)
    assert "Ran 2 tests" in said
    assert "Destroying test database for alias 'default'..." in said
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop table notes_note")


def servers_of_workers(url: str) -> set[str]:
    """The servers that more than one of gunicorn's workers have answered with; one may come up long before the other."""
    words: list[list[str]] = []

    def two_have_answered() -> bool:
        words.extend(answer.split() for answer in threads.map(got, [url] * 100))
        return len({each[1] for each in words}) > 1

    with ThreadPoolExecutor(16) as threads:
        until(two_have_answered)
    return {each[3] for each in words}


def test_gunicorn_shares_one_pool_over_all_workers(database: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn_conf.py", "app:application"]
    with site(database, *command, folder=EXAMPLES / "gunicorn_site", BIND="127.0.0.1:0", HOME=str(tmp_path)) as url:
        assert len(servers_of_workers(url)) <= 5


@pytest.mark.slow
def test_the_procfile(database: str, tmp_path: Path) -> None:
    name, _, line = (EXAMPLES / "gunicorn_site/Procfile").read_text().strip().partition(": ")
    assert name == "web"
    here = {
        "pgpool-core": f"{sys.executable} -m pgpool_core",
        "gunicorn": f"{sys.executable} -m gunicorn",
        "$PORT": "0",
    }
    for word, what in here.items():
        line = line.replace(word, what)
    with site(database, *line.split(), folder=EXAMPLES / "gunicorn_site", HOME=str(tmp_path)) as url:
        assert len(servers_of_workers(url)) <= 5


def test_starlette_with_sqlalchemy(database: str) -> None:
    command = [sys.executable, "-m", "hypercorn", "--bind", "127.0.0.1:0", "starlette_site:app"]
    with site(database, *command) as url:
        with ThreadPoolExecutor(8) as threads:
            answers = [*threads.map(got, [f"{url}/squares?last=3"] * 40)]
        assert {*map(str, map(json.loads, answers))} == {"[1, 4, 9]"}
        assert json.loads(got(f"{url}/statistics"))["logins"] == 40


def test_trio_and_hypercorn(database: str) -> None:
    command = [sys.executable, "-m", "hypercorn", "--bind", "127.0.0.1:0", "--worker-class", "trio", "trio_site:app"]
    with site(database, *command) as url:
        with ThreadPoolExecutor(4) as threads:
            answers = [*map(json.loads, threads.map(got, [f"{url}/ada"] * 12))]
        assert sorted(answer["times"] for answer in answers) == [*range(1, 13)]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop table greetings")


def test_workers_take_every_job_once(database: str) -> None:
    said = output_of(database, "worker.py", "4")
    assert re.search(r"jobs and workers: \(200, [1-4]\) servers: [12]$", said.strip()), said
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("select count(*), sum(square) from results").fetchone() == (200, 2686700)
        connection.execute("drop table jobs, results")


def test_a_function_keeps_its_server_from_event_to_event(database: str) -> None:
    calls = "import lambda_handler as f; print(*(f.handler({'n': n}, None) for n in (6, 7)), sep='\\n')"
    first, second = (eval(line) for line in output_of(database, "-c", calls).splitlines())  # noqa: S307
    assert (first["answer"], second["answer"]) == (42, 49)
    assert first["server"] == second["server"]


def test_the_notebook(database: str) -> None:
    said = output_of(database, "notebook.py")
    assert "password hidden" in said
    assert "[(1, 1), (2, 4), (3, 9)]" in said
    assert re.search(r"examples clients: 2\d servers: [123]$", said.strip()), said
