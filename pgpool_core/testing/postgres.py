"""A real PostgreSQL server for tests, benchmarks and the demo."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import attrs

from pgpool_core.testing.account import Account, service_account
from pgpool_core.testing.binaries import PostgresBinaries, find_postgres
from pgpool_core.testing.ports import free_port
from pgpool_core.testing.process import GuardedProcess, ProcessFailed

__all__ = ["PostgresServer", "PostgresUser", "ServerTls", "StopMode"]

StopMode = Literal["smart", "fast", "immediate"]
AuthMethod = Literal["scram-sha-256", "md5", "password", "trust"]

TlsPolicy = Literal["optional", "required", "refused"]

SUPERUSER = "postgres"
_HOST = {"optional": "host", "required": "hostssl", "refused": "hostnossl"}
_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
# PostgreSQL docs, "Shutting Down the Server".
_SOCKET_PATH_MAX = 107  # bytes, sockaddr_un.sun_path without its final zero byte
_START_TIMEOUT_S = 60.0
_QUICK_BUT_UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@attrs.frozen(kw_only=True)
class PostgresUser:
    """A role that may log in.

    Attributes:
        method: how pg_hba.conf asks for the password; "md5" also stores the password as md5, the others as SCRAM.
        options: further words for CREATE ROLE, such as "SUPERUSER" or "CONNECTION LIMIT 3".
        tls: whether pg_hba.conf lets the user in over TCP with TLS only, or without only.
        client_cert: whether a certificate that the server's `ca_file` has signed is needed besides.
    """

    name: str
    password: str = attrs.field(repr=False)
    method: AuthMethod = "scram-sha-256"
    options: str = ""
    tls: TlsPolicy = "optional"
    client_cert: bool = False


@attrs.frozen(kw_only=True)
class ServerTls:
    """PEM files that a server is to use: its certificate and key, and whom it trusts to sign those of clients."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None = None


@attrs.define(eq=False, kw_only=True)
class PostgresServer:
    """A PostgreSQL server of our own: a fresh cluster on a free loopback port and a private Unix socket folder.

    Use it as a context manager, or call `start` and `close`. As root it runs as an unprivileged user who owns its data. All
    calls block; in a trio program wrap them in `trio.to_thread.run_sync`. Nothing outlives this process (`GuardedProcess`).

    Attributes:
        data_dir: the cluster; None makes one in a temporary folder, which `close` removes. A folder that holds a cluster
            already is started as it is: its users and databases are then not created again.
        port: 0 chooses a free one.
        users: created at first start; the superuser `postgres` enters only through the Unix socket, whose folder is closed.
        databases: created at first start, owned by `owner` or else the superuser, open to all.
        settings: for postgresql.conf; change them and `restart`.
        max_connections: as in postgresql.conf.
        durable: whether commits reach the disk; tests need none of that.
        tls: certificate and key; None = no TLS. `use` changes them while it runs.
        socket_dir: an existing folder for the Unix socket, or None for one in the temporary folder.
    """

    binaries: PostgresBinaries = attrs.field(factory=find_postgres)
    data_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    users: Sequence[PostgresUser] = ()
    databases: Sequence[str] = ()
    owner: str = SUPERUSER
    settings: dict[str, str] = attrs.field(factory=dict)
    max_connections: int = 100
    durable: bool = False
    tls: ServerTls | None = None
    socket_dir: Path | None = None
    account: Account = attrs.field(factory=service_account)
    _process: GuardedProcess | None = attrs.field(default=None, init=False)
    _scratch: list[Path] = attrs.field(factory=list, init=False, repr=False)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._started().pid

    @property
    def log(self) -> str:
        """The server's log since its last start."""
        return self._started().log

    @property
    def process(self) -> GuardedProcess:
        """The running postmaster: its log can be waited for and it takes signals."""
        return self._started()

    def dsn(self, user: str, database: str, *, unix: bool = False) -> str:
        """A libpq URL for one of `users` (with its password)."""
        given = next((known for known in self.users if known.name == user), None)
        secret = f":{quote(given.password, safe='')}" if given is not None and given.password else ""
        place = f"{quote(str(self.socket_dir), safe='')}:{self.port}" if unix else f"{self.host}:{self.port}"
        return f"postgresql://{quote(user, safe='')}{secret}@{place}/{quote(database, safe='')}"

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the cluster if there is none, start the server, and return when it takes connections.

        Raises:
            ProcessFailed: initdb or the server failed; the text carries what they said.
        """
        if self.running:
            return
        fresh = self._prepare()
        self._launch()
        if fresh:
            self._populate()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop and wait until every backend has gone; the cluster stays."""
        if self._process is None:
            return
        self._process.stop(_SIGNALS[mode], timeout_s=30.0)
        self._process.wait_for_silence()

    def terminate(self) -> None:
        """Stop at once, without a shutdown checkpoint; the next start recovers. Clients are told 57P01 or see the end."""
        self.stop("immediate")

    def use(self, tls: ServerTls | None) -> None:
        """Other certificates for connections from now on; returns when the server has taken them."""
        assert self.data_dir is not None
        self.tls = tls
        self._write_settings(self.data_dir)
        lines = len(self.log.splitlines())
        self.sql("select pg_reload_conf()")
        self.process.wait_for_log("received SIGHUP, reloading configuration files", since=lines)
        self.sql("select 1")  # the postmaster reads the files before it forks again

    def kill(self) -> None:
        """SIGKILL the postmaster and wait for its orphaned backends to notice and go."""
        process = self._started()
        process.signal(signal.SIGKILL)
        process.wait()
        process.wait_for_silence(30.0)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop (unless it is down already) and start on the same port, with `settings` as they are now."""
        if self.running:
            self.stop(mode)
        self.start()

    def pause(self) -> None:
        """SIGSTOP the postmaster and every backend: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Stop, and remove every folder that this object made."""
        if self.running:
            self.resume()
        try:
            self.stop("fast" if self.durable else "immediate")
        finally:
            while self._scratch:
                shutil.rmtree(self._scratch.pop(), ignore_errors=True)
            self.binaries.discard_copy()

    # -- talking to it ---------------------------------------------------------------------------------------------

    def sql(
        self,
        text: str,
        *,
        database: str = "postgres",
        variables: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> str:
        """What `psql` prints (unaligned, rows only) for `text`, run as the superuser over the Unix socket.

        Args:
            variables: for psql's :name, :'literal' and :"identifier".

        Raises:
            ProcessFailed: a statement failed, or there is no answer in `timeout_s`.
        """
        command: list[str | Path] = [self.binaries.program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
        for name, value in (variables or {}).items():
            command += ["-v", f"{name}={value}"]
        command += ["-h", str(self.socket_dir), "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        return self._run(command, stdin=text, timeout_s=timeout_s).rstrip("\n")

    def terminate_backends(self, *, user: str | None = None, database: str | None = None) -> int:
        """pg_terminate_backend for every client backend, or those of `user` or `database`; how many were told."""
        said = self.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid()"
            " and backend_type = 'client backend' and (:'name' = '' or usename = :'name') and (:'db' = '' or datname = :'db')",
            variables={"name": user or "", "db": database or ""},
        )
        return int(said)

    def backends(self, *, user: str | None = None) -> int:
        """How many client backends PostgreSQL counts now, those of `user` only when given."""
        return int(
            self.sql(
                "select count(*) from pg_stat_activity where pid <> pg_backend_pid()"
                " and backend_type = 'client backend' and (:'name' = '' or usename = :'name')",
                variables={"name": user or ""},
            )
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _started(self) -> GuardedProcess:
        if self._process is None:
            raise RuntimeError("this PostgresServer was not started")
        return self._process

    def _prepare(self) -> bool:
        """Folders, port and cluster; True when the cluster is new."""
        self.binaries = self.binaries.reachable_by(self.account)
        if self.data_dir is None:
            self.data_dir = self._temporary("data") / "cluster"
        if self.socket_dir is None:
            self.socket_dir = self._temporary("socket")
        socket = self.socket_dir / f".s.PGSQL.{self.port or 65535}"
        if len(os.fsencode(socket)) > _SOCKET_PATH_MAX:
            raise ValueError(f"{socket}: longer than the {_SOCKET_PATH_MAX} bytes that a Unix socket's path may have")
        self.port = self.port or free_port(self.host)
        if fresh := not (self.data_dir / "PG_VERSION").exists():
            self._make_cluster(self.data_dir)
        self._write_settings(self.data_dir)
        return fresh

    def _temporary(self, what: str) -> Path:
        path = Path(tempfile.mkdtemp(prefix=f"pgpool-{what}-", dir="/tmp" if what == "socket" else None))
        self._scratch.append(path)
        self.account.own(path)
        return path

    def _make_cluster(self, data_dir: Path) -> None:
        """initdb in a folder of another name, moved when complete: a cluster that is there is whole."""
        building = data_dir.with_name(data_dir.name + ".new")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True, mode=0o700)
        self.account.own(building)
        command: list[str | Path] = [self.binaries.program("initdb"), "-D", building, "-U", SUPERUSER]
        command += ["-E", "UTF8", "--locale=C", "--auth=trust"] + ([] if self.durable else ["--no-sync"])
        self._run(command, timeout_s=_START_TIMEOUT_S)
        with (building / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude 'pgpool_core.conf'\n")
        building.rename(data_dir)

    def _write_settings(self, data_dir: Path) -> None:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            "max_connections": str(self.max_connections),
            "logging_collector": "off",
            "log_destination": "stderr",
            "lc_messages": "C",
            **({} if self.durable else _QUICK_BUT_UNSAFE),
            **self._write_tls(data_dir),
            **self.settings,
        }
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        self._write_for_server(data_dir / "pgpool_core.conf", "".join(lines))
        hba = [f"local all {SUPERUSER} trust\n"]
        for user in self.users:
            name = '"' + user.name.replace('"', '""') + '"'
            for database in ("all", "replication"):  # physical replication is not among `all`
                how = f"{user.method}{' clientcert=verify-ca' if user.client_cert else ''}"
                hba += [f"local {database} {name} {user.method}\n", f"{_HOST[user.tls]} {database} {name} all {how}\n"]
        self._write_for_server(
            data_dir / "pg_hba.conf", "".join([*hba, "local all all reject\nhost all all all reject\n"])
        )

    def _write_tls(self, data_dir: Path) -> dict[str, str]:
        """Copies of the files, which the server must own, and the settings that name them."""
        if self.tls is None:
            return {}
        files = {
            "ssl_cert_file": self.tls.cert_file,
            "ssl_key_file": self.tls.key_file,
            "ssl_ca_file": self.tls.ca_file,
        }
        settings = {"ssl": "on"}
        for name, path in files.items():
            if path is not None:
                copy = data_dir / f"{name}.pem"
                self._write_for_server(copy, path.read_text())
                copy.chmod(0o600)
                settings[name] = copy.name
        return settings

    def _write_for_server(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.account.own(path)

    def _launch(self) -> None:
        assert self.data_dir is not None
        command: list[str | Path] = [self.binaries.program("postgres"), "-D", self.data_dir]
        self._process = GuardedProcess(command, account=self.account, env=_environment(), guard_signal=signal.SIGINT)
        try:
            self._process.wait_for_log("database system is ready to accept connections", timeout_s=_START_TIMEOUT_S)
            self._process.wait_for_listener((self.host, self.port))
        except ProcessFailed:
            self._process.stop(signal.SIGQUIT)
            raise

    def _populate(self) -> None:
        """Users and databases, by one psql; a password travels on its standard input, never in an argument."""
        lines = [r"\set QUIET on"]
        for user in self.users:
            stored = "md5" if user.method == "md5" else "scram-sha-256"
            lines.append(f"set password_encryption = '{stored}';")
            password = f"password {_literal(user.password)}" if user.password else ""
            lines.append(f"create role {_identifier(user.name)} login {user.options} {password};")
        lines += [f"create database {_identifier(name)} owner {_identifier(self.owner)};" for name in self.databases]
        lines += [f"grant all on database {_identifier(name)} to public;" for name in self.databases]
        for name in self.databases:
            # PostgreSQL 15 took CREATE on schema public away from everyone; tests want to make tables.
            lines += [rf"\c {_identifier(name)}", "grant all on schema public to public;"]
        self.sql("\n".join(lines))

    def _signal_all(self, number: signal.Signals) -> None:
        """Each backend is a session of its own, so the postmaster's group does not reach it: go by parenthood."""
        process = self._started()
        if number == signal.SIGSTOP:
            process.signal(number)
        for child in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        if number != signal.SIGSTOP:
            process.signal(number)

    def _run(self, command: Sequence[str | Path], *, stdin: str = "", timeout_s: float) -> str:
        try:
            done = subprocess.run(
                [str(part) for part in command],
                input=stdin,
                capture_output=True,
                text=True,
                cwd="/",
                env=_environment(),
                timeout=timeout_s,
                check=False,
                **self.account.credentials(),
            )
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{command[0]}: no end after {timeout_s:g} s") from None
        if done.returncode != 0:
            raise ProcessFailed(f"{command[0]} failed with status {done.returncode}:\n{done.stderr}{done.stdout}")
        return done.stdout


def _environment() -> dict[str, str]:
    """Ours without libpq's variables (PGPORT, PGDATA ...), which would send initdb, postgres or psql somewhere else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _children(pid: int) -> list[int]:
    """The direct children of `pid`. Source: proc(5), /proc/pid/task/tid/children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
