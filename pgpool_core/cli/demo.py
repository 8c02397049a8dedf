"""`pgpool-core demo` (what `make run` starts): a pooler to try, in front of DATABASE_URL or of a PostgreSQL of its own."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import os
import secrets
import shutil
import signal
import socket
import string
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs
import trio

import pgpool_core
from pgpool_core.cli.status_line import StatusLine
from pgpool_core.config.dsn import parse_dsn
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control.connect import HostOrder, open_server
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.hosts import place
from pgpool_core.control.names import Names
from pgpool_core.control.routing import PoolKey, connect_timeout_s, server_target
from pgpool_core.errors import ConfigError, PgPoolError
from pgpool_core.testing.account import service_account
from pgpool_core.testing.binaries import PostgresMissing, find_postgres
from pgpool_core.testing.postgres import PostgresServer, PostgresUser
from pgpool_core.testing.process import ProcessFailed

URL_VARIABLE: Final = "DATABASE_URL"
HOST: Final = "127.0.0.1"
PORT: Final = 6432
FOLDER: Final = ".postgres"
SOCKET_DIRS: Final = ("/var/run/postgresql", "/tmp")
NAME: Final = "app"
"""User and database of the server that the demo starts."""


class DemoError(Exception):
    """Why there is no demo; the text is for the person at the terminal."""


@attrs.frozen(kw_only=True)
class Upstream:
    """The server that is pooled.

    Attributes:
        about: one line that says what and where it is.
        given: it is that of DATABASE_URL, of which nobody knows yet whether it is there.
    """

    about: str
    database: DatabaseConfig
    psql: str
    given: bool


def main(argv: Sequence[str]) -> int:
    """Run until Ctrl-C, SIGTERM or SIGHUP (a terminal that is closed); 0 then, 1 when something stood in the way."""
    parser = argparse.ArgumentParser(prog="pgpool-core demo", description=__doc__)
    parser.add_argument("--port", type=_port, default=PORT, help=f"port of the pooler (default {PORT})")
    arguments = parser.parse_args(argv)
    # Until trio listens for them.
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        _refuse_taken_port(arguments.port)
        with _upstream() as upstream, _auth_file(upstream.database) as auth_file:
            trio.run(_serve, upstream, _configure(upstream, arguments.port, auth_file), arguments.port)
    except KeyboardInterrupt:
        pass
    except (DemoError, PgPoolError, PostgresMissing, ProcessFailed) as error:
        print(f"pgpool-core demo: {error}", file=sys.stderr)
        return 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    with contextlib.suppress(OSError):  # the terminal may be gone
        print("stopped", flush=True)
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(
                f"cannot listen on {HOST}:{port}: {error.strerror}. Stop what runs there (another demo, a PgBouncer?),"
                f" or choose another port: make run ARGS='--port N'"
            ) from None


# -- the server --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _upstream() -> Iterator[Upstream]:
    """The server of DATABASE_URL, or one of our own for as long as the block lasts."""
    if url := os.environ.get(URL_VARIABLE):
        try:
            given = parse_dsn(url)
        except ConfigError as error:
            raise DemoError(f"{URL_VARIABLE}: {error}") from None
        user = given.user or getpass.getuser()
        host = given.host or _socket_dir(given.port)
        database = attrs.evolve(given, user=user, dbname=given.dbname or user, host=host)
        places = ", ".join(place(host, database.port) for host in database.hosts)
        about = f"{URL_VARIABLE}: database {database.dbname} at {places}"
        yield Upstream(about=about, database=database, psql="psql", given=True)
        return
    with _folder() as (folder, note), _own_server(folder) as server:
        password = server.users[0].password
        database = DatabaseConfig(host=server.host, port=server.port, dbname=NAME, user=NAME, password=password)
        about = f"PostgreSQL {server.binaries.version} ({server.binaries.origin}) on port {server.port}, {note}"
        psql = "psql" if shutil.which("psql") else str(server.binaries.program("psql"))
        yield Upstream(about=about, database=database, psql=psql, given=False)


def _socket_dir(port: int) -> str:
    """Where a URL without a host leads: to the folder where a server's socket is, Debian's or PostgreSQL's own choice."""
    return next((folder for folder in SOCKET_DIRS if Path(folder, f".s.PGSQL.{port}").exists()), SOCKET_DIRS[-1])


@contextlib.contextmanager
def _folder() -> Iterator[tuple[Path, str]]:
    """Where the data goes, and a line about it: `.postgres` here, where the server's user gets through to it.

    Otherwise (root in a closed home folder: PostgreSQL runs as another user) a private temporary folder, rather than opening up
    the folders above this one.
    """
    account = service_account()
    folder = Path.cwd() / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DemoError(f"cannot make {folder} for PostgreSQL's data: {error.strerror}") from None
    if account.can_enter(folder):
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DemoError(f"another demo uses {folder}") from None
            yield folder, f"data in {FOLDER}/"
        return
    with contextlib.suppress(OSError):
        folder.rmdir()
    with tempfile.TemporaryDirectory(prefix="pgpool-core-demo-", dir="/var/tmp") as private:
        account.own(Path(private))
        yield Path(private), f"data in {private} until it stops: user {account.name} cannot get through to {Path.cwd()}"


@contextlib.contextmanager
def _own_server(folder: Path) -> Iterator[PostgresServer]:
    binaries = find_postgres()
    password = _password(folder / "password")
    with PostgresServer(
        binaries=binaries,
        data_dir=folder / str(binaries.major),
        users=[PostgresUser(name=NAME, password=password)],
        databases=[NAME],
        owner=NAME,
        durable=True,
    ) as server:
        # The cluster may be older than the password file.
        server.sql(f"alter role {NAME} password '{password}'")
        yield server


def _password(path: Path) -> str:
    """The demo's password: made once, so that a URL goes on working; readable by its owner alone."""
    with contextlib.suppress(FileNotFoundError):
        if (kept := path.read_text().strip()).isalnum():
            return kept
    made = secrets.token_hex(12)
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(made + "\n")
    return made


# -- the pooler --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _auth_file(database: DatabaseConfig) -> Iterator[Path]:
    """An auth_file with the one user, who logs in at the pooler with the password that the server knows."""
    with tempfile.TemporaryDirectory(prefix="pgpool-core-demo-") as folder:
        path = Path(folder) / "userlist.txt"
        entry = [
            f'"{(text or "").replace(chr(34), chr(34) * 2)}"' for text in (database.user, database.written_password)
        ]
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(" ".join(entry) + "\n")
        yield path


def _configure(upstream: Upstream, port: int, auth_file: Path) -> Config:
    """Transaction mode on the loopback address; the user may also look at the console, if a list can hold the name."""
    database = upstream.database
    assert database.user is not None
    assert database.dbname is not None
    listable = not set(database.user) & {",", *string.whitespace}
    try:
        return Config.of(
            databases={database.dbname: database},
            listen_addr=HOST,
            listen_port=port,
            unix_socket_dir="",
            auth_type="scram-sha-256" if database.written_password else "trust",
            auth_file=str(auth_file),
            admin_users=(database.user,) if listable else (),
            pool_mode="transaction",
            max_client_conn=1000,
        )
    except ConfigError as error:
        raise DemoError(f"{URL_VARIABLE}: {error}" if upstream.given else str(error)) from None


async def _serve(upstream: Upstream, config: Config, port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        if upstream.given and not await _try_server(upstream.database, config, signals):
            return
        async with pgpool_core.open_proxy(config) as proxy, trio.open_nursery() as nursery:
            _welcome(upstream, port)
            with StatusLine(sys.stdout) as line:
                nursery.start_soon(line.follow, proxy.statistics)
                nursery.start_soon(_cancel_at_the_first, signals, nursery.cancel_scope)
                await proxy.wait_closed()  # SHUTDOWN on the console
                nursery.cancel_scope.cancel(reason="the pooler has stopped")


async def _try_server(database: DatabaseConfig, config: Config, signals: AsyncIterator[int]) -> bool:
    """Log in to the given server once, so that a wrong URL is told now and not to the first client; False after a signal.

    Raises:
        DemoError: there is no server, or it does not let us in.
    """
    key = PoolKey(database.dbname or "", database.user or "")
    target = server_target(config, key, database, lambda user: None, HostOrder(), Names())
    reached = False
    async with sole_errors(), trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_at_the_first, signals, nursery.cancel_scope)
        try:
            (await open_server(target, timeout_s=connect_timeout_s(config))).close()
        except PgPoolError as error:
            raise DemoError(f"{URL_VARIABLE}: {error}") from None
        reached = True
        nursery.cancel_scope.cancel(reason="the server is there")
    return reached


async def _cancel_at_the_first(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        scope.cancel(reason=signal.Signals(number).name)


def _welcome(upstream: Upstream, port: int) -> None:
    database = upstream.database
    assert database.user is not None
    assert database.dbname is not None
    login = quote(database.user, safe="") + (
        f":{quote(database.written_password, safe='')}" if database.written_password else ""
    )
    url = f"postgresql://{login}@{HOST}:{port}/{quote(database.dbname, safe='')}"
    print(f"server   {upstream.about}")
    print(f"pooler   {url}  (transaction mode)")
    print(f"try      {upstream.psql} '{url}' -c 'select version()'")
    if not database.written_password:
        print("note     no password is known, so everyone on this machine may log in")
    print("Ctrl-C stops it.", flush=True)
