"""What is measured: the table of cases, each with the pgbench options that make it and the ratios we aim for.

A case is data. `targets.py` starts what it needs, `load.py` or `idle.py` runs it, `report.py` prints it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

SCALE: Final = 10
"""`pgbench -i -s`: a million rows in pgbench_accounts, all of them in shared_buffers."""

POOL_SIZE: Final = 20
"""`default_pool_size` of both poolers."""

SESSION_POOL_SIZE: Final = 40
"""`pool_size` of the session-mode database: every client of a session case keeps a server, so above 32."""

OURS_OFF: Final = "pgpool_core (off)"
"""Ourselves with `session_state = off`."""

PGBOUNCER_WIDE: Final = "pgbouncer (pkt_buf=65536)"
"""PgBouncer with a buffer for large results, sixteen times the usual."""

PGBOUNCER_QUEUE: Final = "pgbouncer (listen_backlog=4096)"
"""PgBouncer with as long a queue of connections to accept as ours: with its own 128 most of a wave waits a second outside."""

BESIDE: Final[Mapping[str, Mapping[str, object]]] = {
    OURS_OFF: {"session_state": "off"},
    PGBOUNCER_WIDE: {"pkt_buf": 65536},
    PGBOUNCER_QUEUE: {"listen_backlog": 4096},
}
"""What a case may want to be measured as well, after the pooler it begins with: the settings that make it."""

SELECT_ONE: Final = "SELECT 1;\n"
SETS: Final = (
    "\\set aid random(1, 100000 * :scale)\n"
    "SET statement_timeout = 5000;\n"
    "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
    "RESET statement_timeout;\n"
)
"""What a framework does that sets something for a request and takes it back: three transactions."""
LARGE: Final = "SELECT repeat('x', 1000) FROM generate_series(1, 20000);\n"
LARGE_MB: Final = 20000 * (1 + 4 + 2 + 4 + 1000) / 1e6
"""Megabytes (10**6 bytes) of DataRow messages that LARGE returns: type, length, column count, column length, value."""


class Company(enum.Enum):
    """What goes on besides a case's own clients; `company.py` makes it. The value says it in the report."""

    LARGE_RESULTS = "Alone first, then while 2 more clients fetch results of 20 MB without a pause."
    OVERLOAD = "As fast as it goes first, then asked for twice that rate, whether answers come or not."
    LOGINS = "Alone first, then while 5000 clients log in at once, again and again."
    SECOND_USER = "Half of the clients are another user's; both users share max_db_connections."


@attrs.frozen(kw_only=True)
class Goal:
    """What we aim for in one figure: a ratio to PgBouncer, or, where `is_absolute`, a bound on our own figure.

    `to`: the target that the ratio is to, where it is not PgBouncer as it comes.
    """

    figure: str
    bound: float
    at_least: bool = False
    is_absolute: bool = False
    to: str | None = None


@attrs.frozen(kw_only=True)
class Case:
    """One row of the benchmark.

    `script` None is pgbench's built-in select-only script (`-S`). `unix` is about the client side; poolers reach
    PostgreSQL by TCP always. `reconnect` (`-C`) wants a thread per client, because libpq's login blocks the thread. `megabytes` per transaction turns the rate into MB/s. `sampling` is the share of
    transactions whose latency is logged. `at_once`: idle clients log in together rather than in turn. `direct` is False where PostgreSQL alone has no such case.
    `pgbouncer_since` is the first release of PgBouncer that can do it, None where none can. `beside`: what is measured
    as well, of BESIDE. `tls` is about the client side; a case that `resumes` has a client of our own. `listeners` clients of one channel hear every NOTIFY.
    `settings` go into both poolers' [pgbouncer] section.
    """

    name: str
    title: str
    protocol: str = "simple"
    clients: int = 32
    threads: int = 1
    script: str | None = None
    reconnect: bool = False
    unix: bool = False
    session: bool = False
    scram: bool = False
    md5: bool = False
    tls: bool = False
    resumes: bool = False
    idle_clients: int = 0
    at_once: bool = False
    megabytes: float | None = None
    sampling: float = 1.0
    direct: bool = True
    pgbouncer_since: tuple[int, int] | None = (1, 0)
    beside: tuple[str, ...] = ()
    listeners: int = 0
    company: Company | None = None
    settings: Mapping[str, object] = {}
    goals: tuple[Goal, ...] = ()

    @property
    def spreads(self) -> bool:
        """Whether several processes of PgBouncer can share it: no Unix socket, no server kept, nothing counted per process."""
        return not (self.unix or self.session or self.idle_clients or self.listeners or self.company)

    @property
    def auth(self) -> str:
        """auth_type of the poolers."""
        return "scram-sha-256" if self.scram else "md5" if self.md5 else "trust"

    @property
    def unit(self) -> str:
        """The unit of the rate."""
        return "messages/s" if self.listeners else "tps" if self.megabytes is None else "MB/s"

    @property
    def cost_unit(self) -> str:
        """The unit of the pooler's CPU time per piece of work."""
        return "us/message" if self.listeners else "us/txn" if self.megabytes is None else "us/MB"

    def options(self, *, seconds: int, script_path: str | None, log_prefix: str) -> list[str]:
        """pgbench options of one run of `seconds`, without host, port, user and database."""
        options = ["-n", "-M", self.protocol, "-c", str(self.clients), "-j", str(self.threads)]
        options += ["-f", script_path] if script_path is not None else ["-S"]
        options += ["-C"] if self.reconnect else []
        options += ["-T", str(seconds), "-P", "1", "-l", f"--log-prefix={log_prefix}"]
        return options + ([f"--sampling-rate={self.sampling:g}"] if self.sampling < 1 else [])


def cost(bound: float) -> Goal:
    """CPU time per unit of work, at most so many times PgBouncer's."""
    return Goal(figure="cost", bound=bound)


def rate(bound: float) -> Goal:
    """Throughput, at least so many times PgBouncer's."""
    return Goal(figure="rate", bound=bound, at_least=True)


NO_MORE_CPU: Final = cost(1.0)
AS_CHEAP_AS_OFF: Final = Goal(figure="cost", bound=1.02, to=OURS_OFF)
LITTLE_MEMORY: Final = Goal(figure="memory_kb", bound=0.5, is_absolute=True)

CASES: Final[Sequence[Case]] = (
    Case(
        name="select1-simple-32",
        title="`SELECT 1`, simple protocol, 32 clients, TCP",
        script=SELECT_ONE,
        sampling=0.05,
        beside=(OURS_OFF,),
        goals=(cost(0.65), rate(1.12), AS_CHEAP_AS_OFF),
    ),
    Case(
        name="select1-simple-1",
        title="`SELECT 1`, simple protocol, 1 client, TCP",
        script=SELECT_ONE,
        clients=1,
        sampling=0.2,
        goals=(cost(0.95), rate(1.0)),
    ),
    Case(
        name="select1-extended-32",
        title="`SELECT 1`, extended protocol, 32 clients, TCP",
        script=SELECT_ONE,
        protocol="extended",
        sampling=0.05,
        goals=(cost(0.70), rate(1.10)),
    ),
    Case(
        name="select1-extended-1",
        title="`SELECT 1`, extended protocol, 1 client, TCP",
        script=SELECT_ONE,
        protocol="extended",
        clients=1,
        sampling=0.2,
        goals=(cost(0.95), rate(1.0)),
    ),
    Case(
        name="select1-unix-32",
        title="`SELECT 1`, simple protocol, 32 clients, unix socket on the client side",
        script=SELECT_ONE,
        unix=True,
        sampling=0.05,
        goals=(cost(0.70), rate(1.12)),
    ),
    Case(
        name="lookup-simple-32",
        title="`pgbench -S`, simple protocol, 32 clients, TCP",
        sampling=0.05,
        goals=(cost(0.65), rate(1.12)),
    ),
    Case(
        name="lookup-unix-32",
        title="`pgbench -S`, simple protocol, 32 clients, unix socket on the client side",
        unix=True,
        sampling=0.05,
        goals=(cost(0.70), rate(1.12)),
    ),
    Case(
        name="lookup-extended-32",
        title="`pgbench -S`, extended protocol, 32 clients, TCP",
        protocol="extended",
        sampling=0.05,
        beside=(OURS_OFF,),
        goals=(cost(0.70), rate(1.10), AS_CHEAP_AS_OFF),
    ),
    Case(
        name="lookup-simple-1000",
        title=f"`pgbench -S`, simple protocol, 1000 clients on a pool of {POOL_SIZE}, TCP",
        clients=1000,
        threads=2,
        sampling=0.1,
        direct=False,
        goals=(cost(0.65), rate(1.20), Goal(figure="spread", bound=1.5, is_absolute=True)),
    ),
    Case(
        name="beside-large-results",
        title="`pgbench -S`, 8 clients, TCP, beside clients with large results",
        clients=8,
        sampling=0.2,
        company=Company.LARGE_RESULTS,
        goals=(Goal(figure="raised", bound=1.5, is_absolute=True),),
    ),
    Case(
        name="overload-1000",
        title=f"`pgbench -S`, 1000 clients on a pool of {POOL_SIZE} that ask for twice what can be had, TCP",
        clients=1000,
        threads=2,
        sampling=0.1,
        direct=False,
        company=Company.OVERLOAD,
        goals=(Goal(figure="kept", bound=0.9, at_least=True, is_absolute=True),),
    ),
    Case(
        name="beside-logins",
        title="`pgbench -S`, 8 clients, md5, TCP, beside waves of 5000 logins",
        clients=8,
        md5=True,
        sampling=0.2,
        direct=False,
        company=Company.LOGINS,
        settings={"max_client_conn": 6000},
        beside=(PGBOUNCER_QUEUE,),
        goals=(Goal(figure="raised", bound=2.0, is_absolute=True),),
    ),
    Case(
        name="two-users",
        title=f"`SELECT 1`, two users with 32 clients each, max_db_connections = {POOL_SIZE}, TCP",
        script=SELECT_ONE,
        sampling=0.05,
        direct=False,
        company=Company.SECOND_USER,
        settings={"max_db_connections": POOL_SIZE},
        goals=(Goal(figure="evenness", bound=0.8, at_least=True, is_absolute=True),),
    ),
    Case(
        name="lookup-prepared-32",
        title="`pgbench -S -M prepared`, 32 clients, TCP, session mode",
        protocol="prepared",
        session=True,
        sampling=0.05,
        goals=(cost(0.60), rate(1.15)),
    ),
    Case(
        name="lookup-prepared-transaction-32",
        title="`pgbench -S -M prepared`, 32 clients, TCP, transaction mode",
        protocol="prepared",
        sampling=0.05,
        pgbouncer_since=(1, 24),
        goals=(cost(0.60), rate(1.15)),
    ),
    Case(
        name="sets-32",
        title="SET, `pgbench -S`, RESET, 32 clients, TCP (through PgBouncer and with `off` they reach other clients)",
        script=SETS,
        sampling=0.05,
        beside=(OURS_OFF,),
    ),
    Case(
        name="listeners-2000",
        title="2000 clients that LISTEN in transaction mode hear every NOTIFY, TCP",
        listeners=2000,
        direct=False,
        pgbouncer_since=None,
    ),
    Case(
        name="large-result",
        title=f"results of {LARGE_MB:.1f} MB, simple protocol, 4 clients, TCP",
        script=LARGE,
        clients=4,
        megabytes=LARGE_MB,
        beside=(PGBOUNCER_WIDE,),
        goals=(
            cost(0.30),
            rate(2.0),
            Goal(figure="cost", bound=1.0, to=PGBOUNCER_WIDE),
            Goal(figure="rate", bound=1.0, at_least=True, to=PGBOUNCER_WIDE),
        ),
    ),
    Case(
        name="connect-trust",
        title="connect per transaction (`-C -S`), trust, 10 clients, TCP",
        reconnect=True,
        clients=10,
        threads=10,
        goals=(cost(0.85), rate(1.05)),
    ),
    Case(
        name="connect-scram",
        title="connect per transaction (`-C`, `SELECT 1`), SCRAM-SHA-256, 10 clients, TCP",
        script=SELECT_ONE,
        reconnect=True,
        scram=True,
        clients=10,
        threads=10,
        goals=(cost(0.9),),
    ),
    Case(
        name="connect-md5",
        title="connect per transaction (`-C`, `SELECT 1`), md5, 10 clients, TCP",
        script=SELECT_ONE,
        reconnect=True,
        md5=True,
        clients=10,
        threads=10,
        goals=(NO_MORE_CPU,),
    ),
    Case(
        name="lookup-tls-32",
        title="`pgbench -S`, simple protocol, 32 clients, TLS to the clients",
        tls=True,
        sampling=0.05,
        direct=False,
        goals=(cost(0.9),),
    ),
    Case(
        name="connect-tls",
        title="connect per transaction (`-C -S`), trust, 10 clients, a full TLS handshake each (P-256)",
        reconnect=True,
        tls=True,
        clients=10,
        threads=10,
        direct=False,
        goals=(NO_MORE_CPU,),
    ),
    Case(
        name="connect-tls-resumed",
        title="connect per transaction (`SELECT 1`), trust, 1 client of our own that resumes its TLS session",
        tls=True,
        resumes=True,
        clients=1,
        direct=False,
        goals=(NO_MORE_CPU,),
    ),
    Case(
        name="idle-memory",
        title="memory per idle, logged-in client, TCP, trust",
        idle_clients=2000,
        direct=False,
        goals=(LITTLE_MEMORY, Goal(figure="rss_mb", bound=30.0, is_absolute=True)),
    ),
    Case(
        name="idle-memory-scram",
        title="memory per idle, logged-in client, TCP, SCRAM-SHA-256, all of them logged in at once",
        scram=True,
        idle_clients=2000,
        at_once=True,
        direct=False,
        goals=(LITTLE_MEMORY,),
    ),
)


def find_cases(names: Sequence[str]) -> list[Case]:
    """The named cases in the table's order, or all of them for no names.

    Raises:
        KeyError: a name that is not in the table; its argument is the name.
    """
    known = {case.name for case in CASES}
    for name in names:
        if name not in known:
            raise KeyError(name)
    return [case for case in CASES if not names or case.name in names]
