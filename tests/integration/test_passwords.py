"""Server connections whose password changes while the pooler runs."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.watching import until


def entry(postgres: PostgresServer, password: str) -> dict[str, str]:
    return {"app": f"host={postgres.host} port={postgres.port} user=app {password}"}


def who(place: PoolerProcess) -> str:
    with psycopg.connect(place.url("app", "app")) as connection:
        row = connection.execute("select current_user").fetchone()
        assert row is not None
        return str(row[0])


def trouble(place: PoolerProcess) -> str:
    try:
        return who(place)
    except psycopg.OperationalError as error:
        return str(error)


@pytest.mark.parametrize("way", ["password=file:{}", "password_command='cat {}'"])
def test_a_password_changes_without_a_reload(
    pooler: PoolerFactory, postgres: PostgresServer, tmp_path: Path, way: str
) -> None:
    path = tmp_path / "password"
    path.write_text("app-secret\n")
    place = pooler(databases=entry(postgres, way.format(path)))
    assert who(place) == "app"
    path.write_text("some-other-word\n")
    with Console(place) as console:
        console.run("RECONNECT app")
        until(lambda: "password authentication failed" in trouble(place))
    path.write_text("app-secret\n")
    until(lambda: trouble(place) == "app")
    assert "some-other-word" not in place.log


def test_clients_hear_why_there_is_no_password(pooler: PoolerFactory, postgres: PostgresServer, tmp_path: Path) -> None:
    path = tmp_path / "password"
    place = pooler(databases=entry(postgres, f"password_command='cat {path}'"))
    text = 'no password for server user "app": the command has exited with status 1 (password_command)'
    assert text in trouble(place)
    assert "server login has been failing" in trouble(place)
    place.wait_for_log(r"the command has exited with status 1 .password_command. .*sqlstate=28000")
    path.write_text("app-secret")
    until(lambda: trouble(place) == "app")


def test_auth_user_may_have_its_password_in_users(
    pooler: PoolerFactory, postgres: PostgresServer, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text("boss-secret")
    place = pooler(
        databases={"app": f"host={postgres.host} port={postgres.port}"},
        users={"boss": f"password=file:{path}"},
        passwords={},
        auth_user="boss",
    )
    with psycopg.connect(place.url("app", "app", password="app-secret")) as connection:
        assert connection.execute("select current_user").fetchone() == ("app",)
