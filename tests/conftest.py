"""Fixtures for every test: one PostgreSQL per session, poolers in front of it, and the same test through each of them.

postgres        the session's server; databases `app` and `other`; users by what pg_hba.conf asks of them
pooler          factory: `pooler(pool_mode="transaction", default_pool_size=2)` runs `pgpool-core serve`
pgbouncer       factory: the same with PgBouncer
target          where a test connects: parametrised over direct, pgpool_core and pgbouncer
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs
import hypothesis
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser, find_pgbouncer
from pgpool_core.testing.account import Account
from pgpool_core.testing.pooler import Kind
from pgpool_core.testing.process import GuardedProcess
from tests.fork_server import ForkServer, can_fork

for _number in (
    signal.SIGHUP,
    signal.SIGQUIT,
):  # which nohup, or a shell's &, may have had us ignore; and so what tests start
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

USERS = (
    PostgresUser(name="app", password="app-secret"),
    PostgresUser(name="legacy", password="legacy-secret", method="md5"),
    PostgresUser(name="plain", password="plain-secret", method="password"),
    PostgresUser(name="trusted", password="trusted-secret", method="trust"),
    PostgresUser(name="boss", password="boss-secret", options="superuser"),
)
DATABASES = ("app", "other")
CONSOLE_USERS = {"admin": "admin-secret", "stats": "stats-secret"}
PASSWORDS = {user.name: user.password for user in USERS} | CONSOLE_USERS

# No example has to be quick: the machine may be busy. The same examples for everybody, so that a commit is judged by what it changes; `make
# test-all` looks for others.
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("others", hypothesis.settings.get_profile("same"), derandomize=False)
hypothesis.settings.load_profile("same")

_NO_PROBES = "PGPOOL_CORE_NO_PROBES"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Where a wheel is tested, the test-only modules are not there; anywhere else their absence is a failure."""
    if os.environ.get(_NO_PROBES) == "1" and collection_path.suffix == ".py":
        return True if "pgpool_core_probes" in collection_path.read_text() else None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the server is marked `postgres`, one that compares with PgBouncer `pgbouncer`, without being told."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "postgres" in fixtures:
            item.add_marker("postgres")
        if "pgbouncer" in fixtures or _is_through_pgbouncer(item):
            item.add_marker("pgbouncer")
        if "chaos" in item.path.parts:
            item.add_marker("chaos")


def _is_through_pgbouncer(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    return call is not None and call.params.get("target") == "pgbouncer"


@pytest.fixture(scope="session", autouse=True)
def _no_environment_of_the_caller() -> Iterator[None]:
    """libpq's variables (PGHOST, PGUSER ...) would send drivers somewhere else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGPOOL")]:
            if name != "PGBOUNCER":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_signals_of_the_caller() -> None:
    """Who runs us in the background of a script has SIGINT ignored, and our children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _poolers_are_forked(_no_environment_of_the_caller: None, _no_signals_of_the_caller: None) -> Iterator[None]:
    """See tests/fork_server.py."""
    if not can_fork():
        yield
        return
    forks = ForkServer()
    with contextlib.closing(forks), pytest.MonkeyPatch.context() as patch:
        patch.setattr(GuardedProcess, "popen", forks.start)
        yield


@pytest.fixture(scope="session")
def furnished() -> Iterator[PostgresServer]:
    """A server that is down, with the users and the databases of all others: a copy of its cluster costs a tenth of an initdb."""
    with PostgresServer(users=USERS, databases=DATABASES, owner="app") as server:
        server.stop()
        yield server


@contextlib.contextmanager
def copy_of(furnished: PostgresServer, *, max_connections: int = 100) -> Iterator[PostgresServer]:
    """A server of its own with that cluster as it was."""
    folder = Path(tempfile.mkdtemp(prefix="pgpool-data-"))
    furnished.account.own(folder)
    try:
        subprocess.run(["cp", "-a", str(furnished.data_dir), str(folder / "cluster")], check=True)
        with PostgresServer(
            data_dir=folder / "cluster", users=USERS, databases=DATABASES, owner="app", max_connections=max_connections
        ) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(furnished: PostgresServer) -> Iterator[PostgresServer]:
    """The session's server. A test that stops or breaks it takes `own_postgres` instead."""
    with copy_of(furnished, max_connections=200) as server:
        yield server


@pytest.fixture
def own_postgres(furnished: PostgresServer) -> Iterator[PostgresServer]:
    """A server of the test's own, to be killed, paused and restarted."""
    with copy_of(furnished) as server:
        yield server


class PoolerFactory(Protocol):
    def __call__(
        self,
        *,
        server: PostgresServer | None = None,
        databases: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        passwords: Mapping[str, str] | None = None,
        start: bool = True,
        ini_tail: str = "",
        unix: bool = False,
        account: Account | None = None,
        **settings: object,
    ) -> PoolerProcess: ...


def in_front_of(
    server: PostgresServer,
    kind: Kind,
    *,
    databases: Mapping[str, str] | None = None,
    users: Mapping[str, str] | None = None,
    passwords: Mapping[str, str] | None = None,
    ini_tail: str = "",
    unix: bool = False,
    account: Account | None = None,
    **settings: object,
) -> PoolerProcess:
    """A pooler, not started yet, that knows every database and user of `server`; `unix` reaches it by its Unix socket."""
    host = server.socket_dir if unix else server.host
    return PoolerProcess(
        kind=kind,
        databases={"*": f"host={host} port={server.port}"} if databases is None else databases,
        users=users or {},
        passwords=PASSWORDS if passwords is None else passwords,
        settings={"admin_users": "admin", "stats_users": "stats", "pool_mode": "transaction", **settings},
        ini_tail=ini_tail,
        account=account,
    )


_POOLERS = pytest.StashKey[list[PoolerProcess]]()
"""Those that a test has started, for `pytest_runtest_makereport`."""


def _factory(kind: Kind, request: pytest.FixtureRequest, made: list[PoolerProcess]) -> PoolerFactory:
    def make(*, server: PostgresServer | None = None, start: bool = True, **how: Any) -> PoolerProcess:
        pooler = in_front_of(server or request.getfixturevalue("postgres"), kind, **how)
        made.append(pooler)
        request.node.stash.setdefault(_POOLERS, []).append(pooler)
        if start:
            pooler.start()
        return pooler

    return make


@pytest.fixture
def pooler(request: pytest.FixtureRequest) -> Iterator[PoolerFactory]:
    """`pooler(**settings)` starts `pgpool-core serve`; at the end each must stop on SIGQUIT with status 0.

    A pooler that the test itself stopped or killed is not judged again.
    """
    made: list[PoolerProcess] = []
    yield _factory("pgpool_core", request, made)
    bad = []
    for process in made:
        running = process.running
        if (status := process.close()) != 0 and running:
            bad.append(f"exit status {status} at SIGQUIT; it said:\n{_end_of(process.log)}")
    assert not bad, "\n".join(bad)


def _end_of(log: str) -> str:
    """The end of a log, and with it the first report of a sanitizer, which may be far above."""
    report = log.find("Sanitizer: ")
    return (log[max(0, report - 100) : report + 6000] + "\n...\n" if report >= 0 else "") + log[-4000:]


@pytest.fixture
def pgbouncer(request: pytest.FixtureRequest) -> Iterator[PoolerFactory]:
    """`pgbouncer(**settings)` starts PgBouncer with the same settings; the test is skipped where there is none."""
    _need_pgbouncer()
    made: list[PoolerProcess] = []
    yield _factory("pgbouncer", request, made)
    for process in made:
        process.close()


def _need_pgbouncer() -> None:
    if find_pgbouncer() is None:
        pytest.skip("PgBouncer is not installed here (apt-get install pgbouncer, or the variable PGBOUNCER)")


@attrs.frozen(kw_only=True)
class Target:
    """Where a test connects.

    Attributes:
        kind: "direct", "pgpool_core" or "pgbouncer".
        pool_mode: "session" for direct, which is what a server without a pooler amounts to.
    """

    kind: str
    host: str
    port: int
    unix_dir: Path
    pool_mode: str
    url: Callable[..., str]
    pooler: PoolerProcess | None = None

    def __str__(self) -> str:
        return self.kind

    @property
    def is_direct(self) -> bool:
        return self.kind == "direct"


_Running = dict[tuple[str, frozenset[tuple[str, object]]], PoolerProcess]


@pytest.fixture(scope="session")
def _running_targets() -> Iterator[_Running]:
    """Poolers of `target`, by kind and settings: tests with the same settings share one."""
    running: _Running = {}
    yield running
    bad = []
    for (kind, _), process in running.items():
        status = process.close()
        if kind == "pgpool_core" and status != 0:
            bad.append(f"exit status {status} at SIGQUIT; it said:\n{_end_of(process.log)}")
    assert not bad, "\n".join(bad)


@pytest.fixture(params=["direct", "pgpool_core", "pgbouncer"])
def target(request: pytest.FixtureRequest, postgres: PostgresServer, _running_targets: _Running) -> Target:
    """The same test direct, through us and through PgBouncer, so that every difference is one that somebody chose.

    `@pytest.mark.pooler(pool_mode="session", default_pool_size=2)` gives settings; transaction mode is the default.
    """
    kind: str = request.param
    marker = request.node.get_closest_marker("pooler")
    settings: dict[str, Any] = {"pool_mode": "transaction", **(marker.kwargs if marker else {})}
    if kind == "direct":
        assert postgres.socket_dir is not None
        return Target(
            kind=kind,
            host=postgres.host,
            port=postgres.port,
            unix_dir=postgres.socket_dir,
            pool_mode="session",
            url=postgres.dsn,
        )
    if kind == "pgbouncer":
        _need_pgbouncer()
    key = (kind, frozenset(settings.items()))
    process = _running_targets.get(key)
    if process is None or not process.running:
        process = in_front_of(postgres, "pgpool_core" if kind == "pgpool_core" else "pgbouncer", **settings)
        process.__enter__()
        _running_targets[key] = process
    return Target(
        kind=kind,
        host=process.host,
        port=process.port,
        unix_dir=process.unix_dir,
        pool_mode=str(settings["pool_mode"]),
        url=process.url,
        pooler=process,
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what its poolers have said."""
    report = yield
    if report.failed and report.when == "call":
        for process in item.stash.get(_POOLERS, []):
            report.sections.append((f"log of {process.kind} at port {process.port}", _end_of(process.log)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Keep the reason of a skip inside an async test, which the runner replaces by a skip without one."""
    try:
        return (yield)
    except pytest.skip.Exception as skipped:
        group = skipped.__context__
        if skipped.msg or not isinstance(group, BaseExceptionGroup):
            raise
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            (leaf,) = leaf.exceptions
        raise leaf from None
