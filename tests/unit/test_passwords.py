"""Passwords for servers that are not written down: files, commands and functions, asked for each connection."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from pgpool_core.config import (
    Config,
    ConfigError,
    DatabaseConfig,
    PasswordFile,
    PasswordWanted,
    parse_config,
    parse_dsn,
)
from pgpool_core.config.passwords import PasswordCommand, PasswordSource
from pgpool_core.control import routing
from pgpool_core.control.connect import ServerTarget
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.names import Names
from pgpool_core.control.passwords import ask_password
from pgpool_core.control.routing import PoolKey
from pgpool_core.errors import PasswordUnavailable
from pgpool_core.policy.secrets import Secret
from tests.watching import until_async

WANTED = PasswordWanted(user="svc", database="main", host="db1", port=5433)


def command(code: str) -> PasswordCommand:
    return PasswordCommand((sys.executable, "-c", code))


async def problem(source: PasswordSource) -> str:
    with pytest.raises(PasswordUnavailable) as caught:
        await ask_password(source, WANTED)
    assert caught.value.sqlstate == "28000"
    assert str(caught.value).startswith('no password for server user "svc": ')
    return str(caught.value).removeprefix('no password for server user "svc": ')


async def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "password"
    for text, secret in (("one\n", b"one"), ("two", b"two"), ("three\r\n", b"three")):
        path.write_text(text, newline="")
        assert await ask_password(PasswordFile(str(path)), WANTED) == Secret(plain=secret)
    path.write_text("\n")
    assert await problem(PasswordFile(str(path))) == "it is empty (password)"
    path.unlink()
    assert await problem(PasswordFile(str(path))) == f"cannot read {path}: No such file or directory (password)"


async def test_a_command_is_told_what_for_and_prints_the_password() -> None:
    code = "import os; print(*(os.environ[name] for name in ('PGUSER', 'PGDATABASE', 'PGHOST', 'PGPORT')), sep='/')"
    assert await ask_password(command(code), WANTED) == Secret(plain=b"svc/main/db1/5433")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("print('hush'); raise SystemExit(3)", "the command has exited with status 3"),
        ("import os; print('hush', flush=True); os.kill(os.getpid(), 9)", "the command was ended by signal 9"),
        ("", "it is empty"),
        ("print('x' * 70000)", "the command has printed more than 65530 bytes"),
        ("print('a\\0b')", "a password cannot contain a zero byte"),
        ("print('SCRAM-SHA-256$1:hush')", None),
    ],
)
async def test_a_command_that_fails_is_told_without_what_it_printed(code: str, text: str | None) -> None:
    said = await problem(command(code))
    assert text is None or said == f"{text} (password_command)"
    assert "hush" not in said


async def test_a_command_that_is_not_there_is_told() -> None:
    said = await problem(PasswordCommand(("/nowhere/at-all", "--token=x")))
    assert said == "the command cannot be run: No such file or directory (password_command)"


async def test_a_command_that_is_not_waited_for_any_more_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = f"import os, signal; open({str(path)!r}, 'w').write(f'{{os.getpid()}}.'); signal.pause()"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_password, command(code), WANTED)
        await until_async(lambda: path.exists() and path.read_text().endswith("."))
        nursery.cancel_scope.cancel()
    pid = int(path.read_text()[:-1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_function_is_asked_and_its_failure_shows_only_its_kind() -> None:
    seen: list[PasswordWanted] = []

    async def function(wanted: PasswordWanted) -> str:
        seen.append(wanted)
        if len(seen) > 1:
            raise RuntimeError("token=secret")
        return "token"

    assert await ask_password(function, WANTED) == Secret(plain=b"token")
    assert await problem(function) == "the function for it has raised RuntimeError (password)"
    assert seen == [WANTED, WANTED]


def target(config: Config, user: str) -> ServerTarget:
    listed = {b"svc": Secret(plain=b"listed"), b"other": Secret(plain=b"other's")}
    return routing.server_target(
        config, PoolKey("app", user), config.databases["app"], listed.get, HostOrder(), Names()
    )


def test_the_entry_goes_before_users_and_those_before_auth_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("x")
    text = f"[users]\nsvc = password_command='give me'\n[databases]\napp = host=h user=svc password=file:{path}\n"
    config = parse_config(text)
    assert target(config, "svc").password == PasswordFile(str(path))
    assert target(config, "other") == target(Config(databases={"app": DatabaseConfig(host="h", user="svc")}), "other")
    assert target(config, "other").secret == Secret(plain=b"other's")
    config = parse_config(text.replace(f" password=file:{path}", ""))
    assert target(config, "svc").password == PasswordCommand(("give", "me"))
    config = parse_config("[databases]\napp = host=h\n[users]\nsvc = password=here\n")
    assert (target(config, "svc").secret, target(config, "svc").password) == (Secret(plain=b"here"), None)
    assert target(config, "other").secret == Secret(plain=b"other's")


def test_two_ways_to_one_password_are_refused() -> None:
    config = parse_config(
        "[databases]\napp = host=h password=a password_command=b\n[users]\nu = password=a password_command=b\n"
    )
    with pytest.raises(ConfigError) as caught:
        routing.check_entries(config)
    assert [problem.key for problem in caught.value.problems] == ["password_command"] * 2


@pytest.mark.parametrize("line", ["password_command='a ''b'", "password_command=' '"])
def test_a_command_that_is_none_is_refused_without_being_repeated(line: str) -> None:
    with pytest.raises(ConfigError, match="invalid value for parameter password_command of database"):
        parse_config(f"[databases]\napp = host=h {line}\n")


def test_a_connection_string_runs_nothing() -> None:
    with pytest.raises(ConfigError, match="password_command is not supported"):
        parse_dsn("postgres://h/d?password_command=touch%20/x")
