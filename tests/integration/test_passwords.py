"""Server connections whose password changes while the pooler runs."""

from __future__ import annotations

import functools
from pathlib import Path

import attrs
import psycopg
import pytest
import trio

import pgpool_core
from pgpool_core.config import Config, PasswordWanted
from pgpool_core.testing import PoolerProcess, PostgresServer, frontend
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.in_process import Place, config
from tests.peers import logged_in, values
from tests.watching import until, until_async


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


async def test_a_password_that_has_changed_since_it_was_asked_for_is_asked_for_again(
    own_postgres: PostgresServer,
) -> None:
    words = iter(["before", "app-secret", "later", "later"])
    asked: list[str] = []

    async def password(wanted: PasswordWanted) -> str:
        await trio.lowlevel.checkpoint()
        asked.append(next(words))
        return asked[-1]

    entry = {"host": own_postgres.host, "port": own_postgres.port, "user": "app", "dbname": "app", "password": password}
    settings = attrs.evolve(config(own_postgres), databases=Config.of(databases={"app": entry}).databases)
    async with pgpool_core.open_proxy(settings) as proxy, logged_in(Place(proxy)) as client:
        assert values(await client.query("select current_user")) == [[b"app"]]
        assert asked == ["before", "app-secret"]
        await trio.to_thread.run_sync(own_postgres.sql, "alter role app password 'another'")
        proxy.orders.reconnect("app")
        await client.send(frontend.query("select 1"))
        assert (await client.until("E"))[-1].fields["C"] == "28P01"
        assert asked[2:] == ["later", "later"]


async def test_an_async_password_changes_under_load(own_postgres: PostgresServer) -> None:
    """Each time the servers are opened anew meanwhile: nobody hears of it."""
    words = ["app-secret", *(f"word number {number}" for number in range(5))]
    now = words[0]
    told: list[str] = []
    changing = trio.Lock()  # whoever is asked meanwhile waits for what comes of it

    async def password(wanted: PasswordWanted) -> str:
        assert (wanted.user, wanted.database) == ("app", "app")
        async with changing:
            told.append(now)
            return now

    entry = {"host": own_postgres.host, "port": own_postgres.port, "user": "app", "dbname": "app", "password": password}
    settings = config(own_postgres, default_pool_size=3, server_login_retry=0.1)
    answers = [0] * 8

    async def work(place: Place, number: int) -> None:
        async with logged_in(place) as client:
            while True:
                assert values(await client.query("select current_user")) == [[b"app"]]
                answers[number] += 1

    def all_go_on(word: str, before: list[int]) -> bool:
        return word in told and all(after > count for after, count in zip(answers, before, strict=True))

    settings = attrs.evolve(settings, databases=Config.of(databases={"app": entry}).databases)
    async with pgpool_core.open_proxy(settings) as proxy, trio.open_nursery() as nursery:
        for number in range(len(answers)):
            nursery.start_soon(work, Place(proxy), number)
        for word in words:
            async with changing:
                await trio.to_thread.run_sync(own_postgres.sql, f"alter role app password '{word}'")
                now = word
            proxy.orders.reconnect("app")
            await until_async(functools.partial(all_go_on, word, list(answers)))
        nursery.cancel_scope.cancel()
    assert set(told) == set(words)
