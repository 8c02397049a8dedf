"""What is compared: PostgreSQL itself, PgBouncer and `pgpool_core`, the poolers started from one set of settings, and HAProxy.

Only what a pooler has to itself differs: ours gets `workers` and `io_backend`. Both have no TLS to the server, which both would take
unasked where it is offered.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro.cases import BESIDE, POOL_SIZE, SESSION_POOL_SIZE, Case
from benchmarks.macro.certificate import tls_settings
from benchmarks.macro.database import DATABASE, MD5_USER, SCRAM_PASSWORD, SCRAM_USER, USER, BenchDatabase
from benchmarks.macro.errors import BenchError
from benchmarks.macro.forwarder import Forwarder
from benchmarks.macro.procfs import CpuReading, read_cpu
from pgpool_core.testing.pooler import Kind, PoolerProcess
from pgpool_core.testing.process import GuardedProcess, ProcessFailed

DIRECT: Final = "direct"
PGBOUNCER: Final[Kind] = "pgbouncer"
OURS: Final[Kind] = "pgpool_core"
AGAIN: Final = "pgbouncer-again"
"""Another PgBouncer, just like the first: what its ratio differs from 1 is noise."""
HAPROXY: Final = "haproxy"
TARGETS: Final = (DIRECT, PGBOUNCER, AGAIN, OURS, HAPROXY)

HOST: Final = "127.0.0.1"
SESSION_DATABASE: Final = "bench_session"
LOGIN_DATABASE: Final = "bench_login"
ANSWER_TIMEOUT_S: Final = 20.0
LOG_LINES_SHOWN: Final = 15

BACKEND: Final = re.compile(r"(?:io_backend=|by now: )(\w+)")
"""In our log: what a worker begins with, and what goes on where the system has begun to refuse it."""

IO_BACKENDS: Final = ("auto", "epoll", "io_uring")
SHARED_SETTINGS: Final[Mapping[str, object]] = {
    "admin_users": "bench_admin",
    "stats_users": "bench_stats",
    "pool_mode": "transaction",
    "server_tls_sslmode": "disable",
    "default_pool_size": POOL_SIZE,
    "max_client_conn": 5000,
    "log_connections": False,
    "log_disconnections": False,
}
NOTHING_MORE: Final[Mapping[str, object]] = {}


@attrs.frozen(kw_only=True)
class Target:
    """Something that speaks PostgreSQL's protocol at a known place. `process` is None for PostgreSQL itself.

    `beside` are further processes on the same port.
    """

    name: str
    host: str
    port: int
    socket_dir: Path
    process: GuardedProcess | None = None
    beside: Sequence[GuardedProcess] = ()

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    def read_cpu(self) -> CpuReading | None:
        """CPU time so far; None for PostgreSQL itself.

        Raises:
            BenchError: the pooler is gone.
        """
        if self.pid is None:
            return None
        try:
            return read_cpu(self.pid, *(process.pid for process in self.beside))
        except ProcessLookupError as gone:
            raise BenchError(f"{self.name} ended while it was measured\n{self.log_tail()}") from gone

    def user(self, case: Case) -> str:
        return SCRAM_USER if case.scram else MD5_USER if case.md5 else USER

    def database(self, case: Case) -> str:
        """The database that puts `case` into its pool mode; PostgreSQL has only one."""
        if self.name in (DIRECT, HAPROXY):
            return DATABASE
        return SESSION_DATABASE if case.session else DATABASE if case.auth == "trust" else LOGIN_DATABASE

    def connection_options(self, case: Case, user: str | None = None) -> list[str]:
        """Where and as whom: options of pgbench and psql. `user` instead of the case's."""
        host = str(self.socket_dir) if case.unix else self.host
        return ["-h", host, "-p", str(self.port), "-U", user or self.user(case)]

    def client_environment(self, case: Case) -> dict[str, str]:
        """The environment of a libpq client: no TLS but in the cases that are about it."""
        mode = "require" if case.tls else "disable"
        return {"PGPASSWORD": SCRAM_PASSWORD, "PGSSLMODE": mode, "PGGSSENCMODE": "disable"}

    def io_backend(self) -> str | None:
        """What moves data in ours by now, as its log says; None for the others."""
        said = [] if self.process is None else BACKEND.findall(self.process.log)
        return said[-1] if said else None

    def log_tail(self) -> str:
        """The last that the pooler logged, for error messages."""
        if self.process is None:
            return ""
        last = "".join(self.process.log.splitlines(keepends=True)[-LOG_LINES_SHOWN:])
        return f"last log lines of {self.name}:\n{last}"

    def check(self, case: Case, psql: Path) -> None:
        """Run one query as `case` will.

        Raises:
            BenchError: no login, no answer, or a wrong one; the text names the target and quotes what came.
        """
        command = [str(psql), "-XAtw", *self.connection_options(case), "-c", "SELECT 6 * 7", self.database(case)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ANSWER_TIMEOUT_S,
                check=False,
                env={**os.environ, **self.client_environment(case)},
            )
        except subprocess.TimeoutExpired as late:
            raise BenchError(
                f"{self.name} does not answer (case {case.name}): nothing within {ANSWER_TIMEOUT_S:g} s\n{self.log_tail()}"
            ) from late
        if done.returncode != 0 or done.stdout.strip() != "42":
            said = (done.stderr or done.stdout).strip()
            raise BenchError(f"{self.name} does not answer (case {case.name}): {said}\n{self.log_tail()}")


@attrs.frozen(kw_only=True)
class Fleet:
    """Starts targets in front of one database: ours with `workers` and `io_backend`, PgBouncer as so many processes that share the pool's size."""

    database: BenchDatabase
    workers: int = 1
    io_backend: str = IO_BACKENDS[0]

    @contextlib.contextmanager
    def running(
        self, names: Sequence[str], *, auth: str, tls: bool = False, settings: Mapping[str, object] = NOTHING_MORE
    ) -> Iterator[list[Target]]:
        """Fresh targets of these names, in this order; poolers are stopped on the way out.

        Args:
            auth: auth_type.
            tls: clients may come with TLS.
            settings: further ones, for both poolers.
        Raises:
            BenchError: one did not start; the text names it and quotes its log.
        """
        with contextlib.ExitStack() as stack:
            yield [self._enter(name, auth, tls, settings, stack) for name in names]

    def _enter(
        self, name: str, auth: str, tls: bool, settings: Mapping[str, object], stack: contextlib.ExitStack
    ) -> Target:
        """One target; `stack` stops it."""
        if name == DIRECT:
            return Target(name=name, host=HOST, port=self.database.port, socket_dir=self.database.socket_dir)
        if name == HAPROXY:
            return self._forwarder(stack)
        own = BESIDE.get(name, NOTHING_MORE)
        if name.startswith(PGBOUNCER):
            poolers = [self._pooler(PGBOUNCER, auth, **self._share(), **own) for _ in range(self.workers)]
        else:
            poolers = [self._pooler(OURS, auth, workers=self.workers, io_backend=self.io_backend, **own)]
        for pooler in poolers:
            stack.callback(pooler.close)
            pooler.port = poolers[0].port
            pooler.settings.update(settings)
            if tls:
                pooler.settings.update(tls_settings(pooler.folder))
            try:
                pooler.start()
            except (OSError, ProcessFailed) as why:
                raise BenchError(f"{name} does not start: {why}") from why
        first, *others = poolers
        return Target(
            name=name,
            host=first.host,
            port=first.port,
            socket_dir=first.unix_dir,
            process=first.process,
            beside=[pooler.process for pooler in others],
        )

    def _forwarder(self, stack: contextlib.ExitStack) -> Target:
        """HAProxy in front of the database, with a thread for each worker."""
        forwarder = Forwarder(server_port=self.database.port, threads=self.workers)
        stack.callback(forwarder.close)
        try:
            process = forwarder.start()
        except (OSError, ProcessFailed) as why:
            raise BenchError(f"{HAPROXY} does not start: {why}") from why
        return Target(name=HAPROXY, host=HOST, port=forwarder.port, socket_dir=forwarder.folder, process=process)

    def _share(self) -> dict[str, object]:
        """What each of several processes of PgBouncer gets."""
        return {"so_reuseport": 1, "default_pool_size": POOL_SIZE // self.workers} if self.workers > 1 else {}

    def _pooler(self, kind: Kind, auth: str, **more: object) -> PoolerProcess:
        """A pooler in front of the database, not started; the same settings for both kinds but for `more`."""
        place = f"host={HOST} port={self.database.port} dbname={DATABASE}"
        return PoolerProcess(
            kind=kind,
            databases={
                DATABASE: place,
                SESSION_DATABASE: f"{place} pool_mode=session pool_size={SESSION_POOL_SIZE}",
                LOGIN_DATABASE: f"{place} user={USER}",
            },
            passwords=self.database.secrets,
            settings={
                "auth_type": auth,
                **SHARED_SETTINGS,
                **more,
            },
        )
