"""The command line: what it refuses, how, and with which exit status."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgpool_core
from pgpool_core import logs
from pgpool_core.cli import main
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.process.descriptors import servers_at_most


@pytest.fixture(autouse=True)
def process_wide() -> Iterator[None]:
    """What a run changes in the process is put back."""
    logger = logs.LOGGER.level, logs.LOGGER.propagate
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    logs.LOGGER.level, logs.LOGGER.propagate = logger
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def write(folder: Path, text: str) -> str:
    path = folder / "pooler.ini"
    path.write_text(text)
    return str(path)


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pgpool-core {pgpool_core.__version__}\n"
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == pgpool_core.__version__


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert re.findall(r"^  ([\w-]+) +\w", capsys.readouterr().out.split("options:")[0], re.MULTILINE) == [
        *("serve", "run", "check", "config", "audit", "check-app", "demo")
    ]


@pytest.mark.parametrize("argv", [[], ["nonsense"]])
def test_wrong_usage_is_told_on_standard_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage: pgpool-core" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none.ini")]) == 1
    assert "none.ini" in capsys.readouterr().err


def test_every_mistake_of_a_file_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "[pgbouncer]\npool_mode = fast\nlisten_prot = 1\n")
    assert main(["serve", file]) == 1
    said = capsys.readouterr().err
    assert f"{file}:2" in said
    assert f"{file}:3" in said
    assert " FATAL " in said


def test_a_port_in_use_ends_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        file = write(tmp_path, f"[databases]\napp = host=127.0.0.1\n[pgbouncer]\n{settings}")
        assert main(["serve", file]) == 1
    assert f"127.0.0.1:{port}: the port is in use by another process" in capsys.readouterr().err


def test_an_unreadable_auth_file_ends_the_start_also_when_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, f"[databases]\napp = host=127.0.0.1\n[pgbouncer]\nauth_file = {tmp_path}/none\n")
    assert main(["serve", "-q", file]) == 1
    assert f"{tmp_path}/none" in capsys.readouterr().err


def test_a_log_file_that_cannot_be_opened_ends_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, f"[databases]\napp = host=127.0.0.1\n[pgbouncer]\nlogfile = {tmp_path}/no/log\n")
    assert main(["serve", file]) == 1
    assert "(logfile)" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["check", "FILE"]])
def test_who_stops_reading_sees_no_traceback(tmp_path: Path, words: list[str], unbuffered: str) -> None:
    file = write(tmp_path, "[databases]\n* = host=127.0.0.1\n[pgbouncer]\nlisten_port = 0\n")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as unread:
        done = subprocess.run(
            [sys.executable, "-m", "pgpool_core", *(file if word == "FILE" else word for word in words)],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(pgpool_core.__file__).parents[1]),
                "PYTHONUNBUFFERED": unbuffered,
            },
            stdout=unread,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_servers_are_counted_by_size_reserve_and_limit() -> None:
    databases = {
        "a": DatabaseConfig(host="h", pool_size=5, reserve_pool_size=2),
        "b": DatabaseConfig(host="h", max_db_connections=4),
    }
    assert servers_at_most(Config(databases=databases, default_pool_size=10)) == 5 + 2 + 4


def test_importing_the_package_costs_next_to_nothing() -> None:
    code = "import pgpool_core, sys; print(*[m for m in ('trio', 'attrs', 'scramp', 'asyncio') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(Path(pgpool_core.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_exists() -> None:
    for name in pgpool_core.__all__:
        assert getattr(pgpool_core, name) is not None
    assert set(pgpool_core.__all__) <= set(dir(pgpool_core))
    with pytest.raises(AttributeError, match="no_such_name"):
        pgpool_core.no_such_name  # noqa: B018
