"""A pooler as a process of its own, ours or PgBouncer, made from the same settings: what one is asked, the other can be asked."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from signal import SIGHUP, SIGQUIT, SIGTERM, Signals
from typing import Final, Literal, Self
from urllib.parse import quote

import attrs

import pgpool_core
from pgpool_core.testing.account import Account, service_account
from pgpool_core.testing.binaries import find_pgbouncer, pgbouncer_release
from pgpool_core.testing.ports import free_port
from pgpool_core.testing.process import GuardedProcess, ProcessFailed

__all__ = ["Kind", "PoolerProcess"]

Kind = Literal["pgpool_core", "pgbouncer"]

FROM_ENVIRONMENT: Final = {"PGPOOL_TEST_WORKERS": "workers", "PGPOOL_TEST_IO_BACKEND": "io_backend"}
"""Variables that give a setting to every pooler of ours that does not name it: a whole suite runs on another back end."""


@attrs.define(eq=False, kw_only=True)
class PoolerProcess:
    """`pgpool-core serve FILE.ini`, or `pgbouncer FILE.ini` as an unprivileged user, on a free loopback port.

    Use it as a context manager, or call `start` and `stop`. Its ini, auth_file and Unix socket live in a temporary folder.

    Attributes:
        kind: whose program runs.
        databases: [databases], as `{"app": "host=127.0.0.1 port=5432"}`.
        users: [users], as `{"app": "pool_mode=session"}`.
        passwords: auth_file; a value is whatever that file may hold: a password, md5..., SCRAM-SHA-256$...
        settings: [pgbouncer], by their ini names; what is listened on and auth_file are given unless named here.
        ini_tail: raw lines at the end of the ini, for tests of bad input.
        command: for `pgpool_core`: what to run instead of this interpreter's `-m pgpool_core serve`.
        env: further environment variables.
        account: whose its files are and who it becomes; None: PgBouncer the service account, ours ourselves.
    """

    kind: Kind = "pgpool_core"
    databases: Mapping[str, str] = attrs.field(factory=dict)
    users: Mapping[str, str] = attrs.field(factory=dict)
    passwords: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    settings: dict[str, object] = attrs.field(factory=dict)
    ini_tail: str = ""
    command: tuple[str, ...] = (sys.executable, "-m", "pgpool_core", "serve")
    env: Mapping[str, str] = attrs.field(factory=dict)
    account: Account | None = None
    host: str = "127.0.0.1"
    port: int = attrs.field(factory=free_port)
    folder: Path = attrs.field(init=False)
    _account: Account = attrs.field(init=False, repr=False)
    _process: GuardedProcess | None = attrs.field(default=None, init=False, repr=False)
    _before: list[tuple[GuardedProcess, Signals]] = attrs.field(factory=list, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._account = self.account or (service_account() if self.kind == "pgbouncer" else _ourselves())
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.kind}-", dir="/tmp"))
        self._account.own(self.folder)

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

    @property
    def ini(self) -> Path:
        return self.folder / "pooler.ini"

    @property
    def unix_dir(self) -> Path:
        """The folder of its Unix socket."""
        return self.folder

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def process(self) -> GuardedProcess:
        """The child; raises RuntimeError before `start`."""
        if self._process is None:
            raise RuntimeError("this PoolerProcess was not started")
        return self._process

    @property
    def log(self) -> str:
        """Everything it has logged since its last start; empty before the first."""
        return "" if self._process is None else self._process.log

    def wait_for_log(self, pattern: str, *, since: int = 0, timeout_s: float = 30.0) -> re.Match[str]:
        """The first log line after line `since` with `pattern` in it; raises ProcessFailed without one."""
        return self.process.wait_for_log(pattern, since=since, timeout_s=timeout_s)

    def url(self, user: str, database: str, *, unix: bool = False, password: str | None = None) -> str:
        """A libpq URL through the pooler, with the password of `passwords` unless another is given."""
        secret = self.passwords.get(user, "") if password is None else password
        login = quote(user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        place = f"{quote(str(self.unix_dir), safe='')}:{self.port}" if unix else f"{self.host}:{self.port}"
        return f"postgresql://{login}@{place}/{quote(database, safe='')}"

    def start(self) -> None:
        """Write the files, start, and return when connections are accepted.

        Raises:
            ProcessFailed: it ended instead; the text carries what it said.
            FileNotFoundError: there is no PgBouncer on this machine.
        """
        if self.running:
            return
        self.spawn()
        try:
            for place in self._listening_at():
                self.process.wait_for_listener(place)
        except ProcessFailed:
            self.process.stop(self._end_signal, timeout_s=1.0)
            raise

    def replace(self) -> GuardedProcess:
        """Let a new process take over (-R); `process` is that one when this returns. The old one is returned: its clients move to the
        new one when they are between transactions, and then it ends.

        Raises:
            ProcessFailed: it did not take over.
        """
        old = self.process
        old.wait_for_file(self.unix_dir / f".s.PGSQL.{self.port}.takeover")
        self._before.append((old, self._end_signal))
        self.spawn("-R")
        self.process.wait_for_log(r"LOG taken over pid=", timeout_s=60.0)
        return old

    def succeed(self, kind: Kind) -> GuardedProcess:
        """The same with a new process of the other kind; both have to run as the service account.

        Raises:
            ProcessFailed: it did not take over.
        """
        old = self.process
        self._before.append((old, self._end_signal))
        self.kind = kind
        self.spawn("-R")
        self.process.wait_for_log(r"LOG (taken over pid=|old process killed, resuming work)", timeout_s=60)
        return old

    def spawn(self, *options: str) -> None:
        """`start` without waiting for anything, for tests of start-up itself; `options` go before the file."""
        self.write()
        command = [*self.command] if self.kind == "pgpool_core" else [str(_pgbouncer())]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        source = str(Path(pgpool_core.__file__).parent.parent)
        env["PYTHONPATH"] = os.pathsep.join(part for part in (source, env.get("PYTHONPATH")) if part)
        account = self._account
        if self.kind == "pgpool_core" and account.uid != os.geteuid():  # which may not be able to read the interpreter
            command += ["-u", account.name]
            account = _ourselves()
        command += [*options, str(self.ini)]
        self._process = GuardedProcess(
            command, account=account, env={**env, **self.env}, cwd=self.folder, guard_signal=self._end_signal
        )

    def write(self) -> None:
        """Write ini and auth_file from the attributes as they are now."""
        settings: dict[str, object] = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": self.unix_dir,
            "auth_type": "scram-sha-256",
            "auth_file": self.folder / "userlist.txt",
            **(_from_environment() if self.kind == "pgpool_core" else {}),
            **self.settings,
        }
        lines = ["[databases]", *(f"{name} = {value}" for name, value in self.databases.items())]
        lines += ["[users]", *(f"{name} = {value}" for name, value in self.users.items())] if self.users else []
        lines += ["[pgbouncer]", *(f"{name} = {_written(value)}" for name, value in settings.items())]
        self._write(self.ini, "\n".join([*lines, self.ini_tail, ""]))
        entries = [f"{_quoted(user)} {_quoted(secret)}\n" for user, secret in self.passwords.items()]
        self._write(self.folder / "userlist.txt", "".join(entries))

    def reload(self) -> None:
        """Write the files again and send SIGHUP; wait for the log to learn what came of it."""
        self.write()
        self.process.signal(SIGHUP)

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """End it at once, clients or not, and with SIGKILL after `timeout_s`; the exit status (0 also when it never ran)."""
        for old, end_signal in self._before:
            old.stop(end_signal, timeout_s=timeout_s)
        self._before.clear()
        return 0 if self._process is None else self._process.stop(self._end_signal, timeout_s=timeout_s)

    @property
    def _end_signal(self) -> Signals:
        """PgBouncer knows SIGQUIT since 1.23 only, and waits for its clients after SIGTERM since then."""
        return SIGQUIT if self.kind == "pgpool_core" or _release(_pgbouncer()) >= (1, 23) else SIGTERM

    def close(self) -> int:
        """Stop and remove the folder; the exit status."""
        try:
            return self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _listening_at(self) -> Iterator[tuple[str, int] | Path]:
        if self.settings.get("listen_addr", self.host):
            yield self.host, self.port
        if self.settings.get("unix_socket_dir", self.unix_dir) == self.unix_dir:
            yield self.unix_dir / f".s.PGSQL.{self.port}"

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)
        self._account.own(path)


def _from_environment() -> dict[str, object]:
    return {name: os.environ[variable] for variable, name in FROM_ENVIRONMENT.items() if os.environ.get(variable)}


def _ourselves() -> Account:
    return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())


def _pgbouncer() -> Path:
    if (found := find_pgbouncer()) is None:
        raise FileNotFoundError("no pgbouncer found: `apt-get install pgbouncer`, or name it in the variable PGBOUNCER")
    return found


@functools.cache
def _release(program: Path) -> tuple[int, int]:
    return pgbouncer_release(program)


def _written(value: object) -> str:
    """A setting as an ini has it: booleans as 0 and 1, which both programs take."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
