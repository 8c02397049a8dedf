"""RELOAD while everybody works, over and over; and with files that are broken in every way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.watching import descriptors, rss_bytes, until

HBA = "host all admin all scram-sha-256\nhost app app all scram-sha-256\n"
MORE_HBA = HBA + "host all legacy all scram-sha-256\n"


@contextmanager
def busy(works: list[Callable[[], None]]) -> Iterator[list[int]]:
    """Each of `works` again and again in a thread of its own; the first error of any is raised at the end. Yields how often each was done."""
    done, errors, over = [0] * len(works), list[BaseException](), threading.Event()

    def run(number: int) -> None:
        while not over.is_set():
            try:
                works[number]()
            except BaseException as error:
                errors.append(error)
                return
            done[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert errors == []


def reload_often(process: PoolerProcess, console: Console, times: int) -> None:
    """With another file every time: sizes, timeouts, users and databases come and go, beside those that are in use."""
    for number in range(times):
        process.settings["default_pool_size"] = 3 + number % 3
        process.settings["query_wait_timeout"] = 60 + number % 7
        process.users = {f"user{number % 5}": "pool_mode=session max_user_connections=2"} if number % 2 else {}
        databases = {key: value for key, value in process.databases.items() if not key.startswith("extra")}
        process.databases = databases | ({f"extra{number % 3}": databases["*"]} if number % 4 == 0 else {})
        process.write()
        assert console.run("RELOAD") == "RELOAD"


def test_who_logs_in_while_a_reload_comes_is_let_in(pooler: PoolerFactory) -> None:
    """What control has just said about a login, the next reload takes away again."""
    process = pooler(workers=2)

    def comes() -> None:
        psycopg.connect(process.url("app", "app")).close()

    def looks() -> None:
        Console(process, "stats").close()

    with Console(process) as console, busy([comes, comes, looks]) as done:
        for _ in range(60):
            console.run("RELOAD")
        until(lambda: min(done) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_reloads_under_load_drop_nobody_and_leak_nothing(pooler: PoolerFactory, workers: int) -> None:
    process = pooler(workers=workers, default_pool_size=3)

    def stays(*, prepared: bool) -> Callable[[], None]:
        client = psycopg.connect(process.url("app", "app"), autocommit=True, prepare_threshold=0 if prepared else None)
        client.execute(f"set application_name = 'stays-{prepared}'")
        clients.append(client)

        def work() -> None:
            assert client.execute("select %s::int + 1", (1,)).fetchone() == (2,)
            with client.transaction():
                assert client.execute("show application_name").fetchone() == (f"stays-{prepared}",)

        return work

    def comes() -> None:
        with psycopg.connect(process.url("app", "app"), autocommit=True) as client:
            assert client.execute("select 1").fetchone() == (1,)

    def at_rest() -> tuple[int, list[tuple[str, int]]]:
        """Descriptors, and records in use, while the clients are there and say nothing."""
        until(lambda: {row["state"] for row in console.rows("SHOW SERVERS")} <= {"idle", "used"})
        memory = [(row["name"], row["used"]) for row in console.rows("SHOW MEM") if row["name"] in RECORDS]
        return len(descriptors(process.process.pid)) - len(console.rows("SHOW SERVERS")), memory

    clients: list[psycopg.Connection[Any]] = []
    try:
        works = [stays(prepared=False), stays(prepared=True), stays(prepared=True), comes]
        with Console(process) as console:
            with busy(works) as done:
                reload_often(process, console, 200)
                until(lambda: min(done) > 0)
            before, memory = at_rest(), rss_bytes(process.process.pid)
            with busy(works) as done:
                reload_often(process, console, 800)
                until(lambda: min(done) > 0)
            assert at_rest() == before
            assert rss_bytes(process.process.pid) < memory + 4 * 1024 * 1024
    finally:
        for client in clients:
            client.close()


RECORDS = ("client_cache", "pool_cache", "user_cache", "db_cache")


def state_of(console: Console) -> dict[str, list[dict[str, Any]]]:
    """All that a reload may change, as the console shows it."""
    commands = ("SHOW CONFIG", "SHOW DATABASES", "SHOW USERS", "SHOW PEERS")
    found = {command: console.rows(command) for command in commands}
    for row in found["SHOW DATABASES"] + found["SHOW USERS"]:
        row.pop("current_connections")
        row.pop("current_client_connections")
    return found


def test_whatever_is_broken_at_reload_the_old_state_stays_whole(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """Beside what is broken stand changes that are not; a client that is there, one that comes and one that may not notice nothing."""
    process = pooler(start=False, auth_type="hba", default_pool_size=3)
    files = {name: process.folder / name for name in ("hba.conf", "ident.conf", "secret")}
    process.settings |= {"auth_hba_file": files["hba.conf"], "auth_ident_file": files["ident.conf"]}
    good = {files["hba.conf"]: HBA, files["ident.conf"]: "m system app\n", files["secret"]: "unused\n"}
    for path, text in good.items():
        path.write_text(text)
    process.start()
    settings, databases, users = dict(process.settings), dict(process.databases), dict(process.users)

    def change() -> None:
        """Correct, and to be seen if it were applied."""
        process.settings |= {"default_pool_size": 7, "query_timeout": 9, "pool_mode": "session", "max_client_conn": 2}
        process.databases = databases | {"app": f"{databases['*']} dbname=other"}
        process.users = {"app": "pool_mode=statement query_timeout=1"}
        files["hba.conf"].write_text(MORE_HBA)

    def userlist(text: str) -> Callable[[], None]:
        return lambda: (process.folder / "userlist.txt").write_text(text) and None

    def ini(tail: str) -> Callable[[], None]:
        return lambda: process.ini.write_text(process.ini.read_text() + tail) and None

    broken: dict[str, tuple[Callable[[], Any], str]] = {
        "a line of the rules": (lambda: files["hba.conf"].write_text(MORE_HBA + "nonsense\n"), "hba.conf:4"),
        "no rules": (files["hba.conf"].unlink, "hba.conf"),
        "a line of the maps": (lambda: files["ident.conf"].write_text("only-one-word\n"), "ident.conf:1"),
        "a line of the userlist": (userlist('"app" "app-secret"\n"broken\n'), "userlist.txt:2"),
        "no userlist": ((process.folder / "userlist.txt").unlink, "userlist.txt"),
        "a setting": (ini("[pgbouncer]\nno_such_setting = 1\n"), "no_such_setting"),
        "a value": (ini("[pgbouncer]\npool_mode = fast\n"), "pool_mode"),
        "a pair of a database": (ini("[databases]\nnew = hots=1\n"), "hots"),
        "a pair of a user": (ini("[users]\nnew = pool_mode=fast\n"), "pool_mode"),
        "a peer": (ini("[peers]\nx = host=y\n"), "peer"),
        "a section": (ini("[nonsense]\n"), "nonsense"),
        "a line": (ini("[pgbouncer]\nwithout a value\n"), "syntax error"),
        "an included file": (ini(f"%include {process.folder}/missing.ini\n"), "missing.ini"),
        "a secret": (ini("[databases]\nnew = host=a password=file:/no/such/file\n"), "new"),
        "no file": (process.ini.unlink, process.ini.name),
    }
    with Console(process) as console, psycopg.connect(process.url("app", "app"), autocommit=True) as client:
        client.execute("select 1")
        before = state_of(console)
        for what, (spoil, named) in broken.items():
            change()
            process.write()
            spoil()
            with pytest.raises(psycopg.Error, match="RELOAD failed") as refused:
                console.run("RELOAD")
            assert refused.value.diag.sqlstate == "F0000", what
            assert named in (refused.value.diag.message_detail or ""), what
            assert "app-secret" not in str(refused.value), what
            assert state_of(console) == before, what
            assert client.execute("select current_database()").fetchone() == ("app",), what
            with psycopg.connect(process.url("app", "app")) as comes:  # the third client: max_client_conn is as it was
                assert comes.execute("show application_name").fetchone() is not None, what
            with pytest.raises(psycopg.OperationalError, match="no authentication method"):
                psycopg.connect(process.url("legacy", "app"))
            process.settings, process.databases, process.users = dict(settings), dict(databases), dict(users)
            for path, text in good.items():
                path.write_text(text)
        change()
        process.write()
        assert console.run("RELOAD") == "RELOAD"
        assert state_of(console) != before
        with psycopg.connect(process.url("legacy", "app")) as comes:
            assert comes.execute("select current_database()").fetchone() == ("other",)
