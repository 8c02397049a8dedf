"""A snapshot as a page for Prometheus, under the names of pgbouncer_exporter, so that dashboards and alerts go on working.

What only pgpool_core has is called `pgpool_core_...`. Histograms have a bound at each doubling; the engine's eight buckets per
doubling are added up between them.
Source: prometheus-community/pgbouncer_exporter 0.12 (names, labels, types); Prometheus docs, "Exposition formats".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pgpool_core.metrics.counters import CONSOLE_DATABASE, DatabaseStats, bucket_bounds_us
from pgpool_core.metrics.features import PIN_REASONS, WARNED_KINDS
from pgpool_core.metrics.snapshot import CONSOLE_USER, DatabaseRow, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_LISTS: Final = {
    "databases": "databases",
    "users": "users",
    "pools": "pools",
    "free_clients": "free_clients",
    "used_clients": "used_clients",
    "login_clients": "login_clients",
    "free_servers": "free_servers",
    "used_servers": "used_servers",
    "dns_names": "cached_dns_names",
    "dns_zones": "cached_dns_zones",
    "dns_queries": "in_flight_dns_queries",
}
"""Rows of SHOW LISTS that the exporter takes, and what it calls them."""

_POOLS: Final = {
    "cl_active": ("client_active_connections", "clients that are logged in and do not wait for a server"),
    "cl_active_cancel_req": ("client_active_cancel_connections", "cancel requests on their way to a server"),
    "cl_waiting": ("client_waiting_connections", "clients that wait for a server"),
    "cl_waiting_cancel_req": ("client_waiting_cancel_connections", "cancel requests that wait to be sent"),
    "sv_active": ("server_active_connections", "servers linked to a client"),
    "sv_active_cancel": ("server_active_cancel_connections", "servers that forward a cancel request"),
    "sv_being_canceled": ("server_being_canceled_connections", "servers that drain, or wait for the end of a cancel"),
    "sv_idle": ("server_idle_connections", "servers ready for a query"),
    "sv_used": ("server_used_connections", "servers idle for longer than server_check_delay"),
    "sv_tested": ("server_testing_connections", "servers that run a check, a reset or a rollback"),
    "sv_login": ("server_login_connections", "servers that are being logged in to"),
}

_STATS: Final = {
    "queries": ("queries_pooled_total", 1.0, "queries"),
    "query_us": ("queries_duration_seconds_total", 1e-6, "seconds spent in queries"),
    "received": ("received_bytes_total", 1.0, "bytes received from clients"),
    "sent": ("sent_bytes_total", 1.0, "bytes sent to clients"),
    "wait_us": ("client_wait_seconds_total", 1e-6, "seconds that clients have waited for a server"),
    "xacts": ("sql_transactions_pooled_total", 1.0, "transactions"),
    "xact_us": ("server_in_transaction_seconds_total", 1e-6, "seconds spent in transactions, idle in them or not"),
    "client_parses": ("client_parses_total", 1.0, "statements that clients have prepared, with a name or without"),
    "server_parses": ("server_parses_total", 1.0, "statements that were prepared on servers, with a name or without"),
    "binds": ("binds_total", 1.0, "statements that clients have bound, with a name or without"),
    "server_assignments": ("server_assignments_total", 1.0, "times that a client was given a server"),
}

_OURS: Final = {
    "client_logins": ("client_logins_total", "logins of clients"),
    "pins": ("pins_total", "times that a client began to keep its server for its session state"),
    "state_refusals": ("state_refusals_total", "statements refused by session_state = refuse"),
    "probes": ("state_probes_total", "questions to PostgreSQL about session state"),
    "leak_checks": ("leak_checks_total", "questions of leak_check"),
    "leaks": ("leaks_total", "servers on which leak_check has found something left behind"),
    "listens": ("listens_total", "LISTENs that were answered without a server"),
    "notifications": ("notifications_total", "notifications delivered to clients that listen without a server"),
}

_TIMES: Final = {
    "wait": ("client_wait_seconds", "how long a client waited for a server"),
    "query": ("query_seconds", "how long a query took"),
    "xact": ("transaction_seconds", "how long a transaction took"),
    "login": ("client_login_seconds", "how long a login of a client took, from its connection to its greeting"),
}

_WORKERS: Final = {
    "cpu_ns": ("cpu_seconds", 1e-9, "processor time that its thread has used"),
    "xacts": ("transactions", 1.0, "transactions of its clients"),
    "steals": ("steals", 1.0, "idle servers that it has taken over from another"),
    "handoffs": ("handoffs", 1.0, "servers that it has given to a client of another"),
    "wakeups": ("handoff_wakeups", 1.0, "times that it had to wake another for that"),
    "locks": ("pool_locks", 1.0, "locks of pools taken: to ask for a server, and to give one back"),
    "lock_waits": ("pool_lock_waits", 1.0, "those that were not free at once"),
    "lock_wait_ns": ("pool_lock_wait_seconds", 1e-9, "seconds waited for them"),
}

_HELD_FIRST_NS: Final = 64
"""Where the engine's first bucket ends; the next ones end at twice that each (`sync/watched.pxd`)."""

_FIRST_BOUND_US: Final = 1 << 6
_LAST_BOUND_US: Final = 1 << 27  # 134 s: more than query_wait_timeout
BOUNDS_US: Final = tuple(1 << bit for bit in range(_FIRST_BOUND_US.bit_length() - 1, _LAST_BOUND_US.bit_length()))


@attrs.frozen(kw_only=True)
class Facts:
    """What the page tells besides the snapshot."""

    version: str  # as SHOW VERSION has it
    max_client_conn: int
    max_user_connections: int
    logins: tuple[int, int, int, int] = (
        0,
        0,
        0,
        0,
    )  # in progress, waiting for their turn; ever: have had to, have failed


def page(snapshot: Snapshot, facts: Facts) -> bytes:
    """Return the whole page, in Prometheus's text format (`CONTENT_TYPE`). Takes milliseconds per thousand clients."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families(snapshot, facts)))
    ProcessCollector(namespace="pgbouncer", pid=os.getpid, registry=registry)
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def families(snapshot: Snapshot, facts: Facts) -> Iterator[Metric]:
    """Every family of metrics, in a fixed order."""
    yield GaugeMetricFamily("pgbouncer_up", "1: this page was made by the pooler itself", 1)
    version = InfoMetricFamily("pgbouncer_version", "the version that SHOW VERSION tells")
    version.add_metric([], {"version": facts.version})
    yield version
    lists = snapshot.lists()
    for name, called in _LISTS.items():
        yield GaugeMetricFamily(f"pgbouncer_{called}", f"{name} in SHOW LISTS", lists[name])
    limits = {"max_client_connections": facts.max_client_conn, "max_user_connections": facts.max_user_connections}
    for name, value in limits.items():
        yield GaugeMetricFamily(f"pgbouncer_config_{name}", "the limit of the configuration, 0 = none", value)
    yield _clients(snapshot)
    yield from _databases(snapshot)
    yield from _stats(snapshot.stats)
    yield from _pools(snapshot)
    yield from _ours(snapshot)
    yield from _logins(facts)
    yield from _login_steps(snapshot)
    yield from _hosts(snapshot)
    yield from _workers(snapshot)
    yield from _histograms(snapshot.stats)


def _logins(facts: Facts) -> Iterator[Metric]:
    in_progress, waiting, queued, failed = facts.logins
    yield GaugeMetricFamily("pgpool_core_logins_in_progress", "clients that prove who they are", in_progress)
    yield GaugeMetricFamily("pgpool_core_logins_waiting", "clients that wait for their turn (max_logins)", waiting)
    yield CounterMetricFamily("pgpool_core_logins_queued_total", "logins that have waited for their turn", queued)
    yield CounterMetricFamily("pgpool_core_logins_failed_total", "clients that could not prove who they are", failed)


def _login_steps(snapshot: Snapshot) -> Iterator[Metric]:
    """What a login may have to wait for; the whole of it is told by `_logins`."""
    labels, prefix = ("step",), "pgpool_core_login_step"
    active = GaugeMetricFamily(f"{prefix}_active", "logins that wait for this answer now", labels=labels)
    waiting = GaugeMetricFamily(f"{prefix}_waiting", "logins that wait for their turn to ask", labels=labels)
    total = CounterMetricFamily(f"{prefix}_total", "logins that have needed this answer", labels=labels)
    queued = CounterMetricFamily(f"{prefix}_queued_total", "logins that have waited for their turn", labels=labels)
    failed = CounterMetricFamily(f"{prefix}_failed_total", "logins that have got no answer", labels=labels)
    for row in snapshot.login_steps:
        if row.step == "login":
            continue
        for family, value in ((active, row.active), (waiting, row.waiting), (total, row.total)):
            family.add_metric(_labels(row.step), value)
        queued.add_metric(_labels(row.step), row.queued)
        failed.add_metric(_labels(row.step), row.failed)
    yield from (active, waiting, total, queued, failed)


def _clients(snapshot: Snapshot) -> Metric:
    labels = ("database", "user", "application_name", "state")
    family = GaugeMetricFamily("pgbouncer_client_connections", "clients that are logged in", labels=labels)
    counts = Counter(
        (row.database, row.user, row.application_name, row.state) for row in snapshot.clients if row.state != "login"
    )
    for names, count in sorted(counts.items()):
        family.add_metric(_labels(*names), count)
    return family


def _databases(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("name", "host", "port", "database", "force_user", "pool_mode")
    servers = snapshot.servers_by("database")

    def family(name: str, about: str, values: Iterable[tuple[DatabaseRow, int]]) -> Metric:
        made = GaugeMetricFamily(f"pgbouncer_databases_{name}", about, labels=labels)
        for row, value in values:
            names = (row.name, row.host, str(row.port), row.database, row.force_user, row.pool_mode)
            made.add_metric(_labels(*names), value)
        return made

    rows = snapshot.databases
    yield family("pool_size", "pool_size in force", ((row, row.pool_size) for row in rows))
    yield family("reserve_pool", "reserve_pool_size in force", ((row, row.reserve_pool_size) for row in rows))
    yield family("max_connections", "max_db_connections in force", ((row, row.max_connections) for row in rows))
    yield family(
        "current_connections", "servers, as PostgreSQL counts them", ((row, servers[row.name]) for row in rows)
    )
    yield family("paused", "1: paused", ((row, int(row.paused)) for row in rows))
    yield family("disabled", "1: disabled", ((row, int(row.disabled)) for row in rows))


def _stats(stats: Sequence[DatabaseStats]) -> Iterator[Metric]:
    for name, (called, factor, about) in _STATS.items():
        family = CounterMetricFamily(f"pgbouncer_stats_totals_{called}", about, labels=("database",))
        for row in stats:
            family.add_metric(_labels(row.database), getattr(row.totals, name) * factor)
        yield family
    requests = CounterMetricFamily(
        "pgbouncer_stats_totals_queries_total", "queries, by an older name", labels=("database",)
    )
    for row in stats:
        requests.add_metric(_labels(row.database), row.totals.queries)
    yield requests


def _pools(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("database", "user")
    console = (CONSOLE_DATABASE, CONSOLE_USER)
    for name, (called, about) in _POOLS.items():
        family = GaugeMetricFamily(f"pgbouncer_pools_{called}", about, labels=labels)
        family.add_metric(console, snapshot.console_clients() if name == "cl_active" else 0)
        for pool in snapshot.pools:
            family.add_metric(_labels(pool.database, pool.user), getattr(pool, name))
        yield family
    wait = GaugeMetricFamily(
        "pgbouncer_pools_client_maxwait_seconds", "how long the first client has waited", labels=labels
    )
    wait.add_metric(console, 0)
    for pool in snapshot.pools:
        wait.add_metric(_labels(pool.database, pool.user), pool.maxwait_us / 1e6)
    yield wait


def _ours(snapshot: Snapshot) -> Iterator[Metric]:
    for name, (called, about) in _OURS.items():
        family = CounterMetricFamily(f"pgpool_core_{called}", about, labels=("database",))
        for row in snapshot.stats:
            family.add_metric(_labels(row.database), getattr(row.totals, name))
        yield family
    for called, about, label, kinds, counted in (
        ("pins_by_reason", "the reasons for pins; a pin may have several", "reason", PIN_REASONS, "pinned_for"),
        (
            "state_warnings",
            "texts that leave something on their server (session_state = warn)",
            "kind",
            WARNED_KINDS,
            "warned_of",
        ),
    ):
        family = CounterMetricFamily(f"pgpool_core_{called}_total", about, labels=("database", label))
        for row in snapshot.stats:
            for kind, times in zip(kinds, getattr(row.totals, counted), strict=False):
                family.add_metric(_labels(row.database, kind), times)
        yield family
    pinned = GaugeMetricFamily(
        "pgpool_core_pinned_clients", "clients that keep their server now", labels=("database", "user")
    )
    keepers = Counter((row.database, row.user) for row in snapshot.clients if row.pins)
    for pool in snapshot.pools:
        pinned.add_metric(_labels(pool.database, pool.user), keepers[pool.database, pool.user])
    yield pinned
    labels = ("database", "user", "state")
    channels = GaugeMetricFamily("pgpool_core_channels", "channels listened to without a server", labels=labels)
    for names, count in sorted(Counter((row.database, row.user, row.state) for row in snapshot.channels).items()):
        channels.add_metric(_labels(*names), count)
    yield channels


def _hosts(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("database", "host", "port")
    up = GaugeMetricFamily("pgpool_core_host_up", "1: the last attempt to open a server has reached one", labels=labels)
    servers = GaugeMetricFamily("pgpool_core_host_servers", "servers that are open", labels=labels)
    opened = CounterMetricFamily("pgpool_core_host_opened_total", "servers that have been opened", labels=labels)
    failed = CounterMetricFamily("pgpool_core_host_failed_total", "attempts that have failed", labels=labels)
    for row in snapshot.hosts:
        names = _labels(row.database, row.host, str(row.port))
        if row.state != "unknown":
            up.add_metric(names, int(row.state == "up"))
        servers.add_metric(names, row.servers)
        opened.add_metric(names, row.opened)
        failed.add_metric(names, row.failed)
    yield from (up, servers, opened, failed)


def _workers(snapshot: Snapshot) -> Iterator[Metric]:
    clients = GaugeMetricFamily("pgpool_core_worker_clients", "clients of a worker", labels=("worker",))
    for row in snapshot.workers:
        clients.add_metric([str(row.worker)], row.clients)
    yield clients
    for name, (called, factor, about) in _WORKERS.items():
        family = CounterMetricFamily(f"pgpool_core_worker_{called}_total", about, labels=("worker",))
        for row in snapshot.workers:
            family.add_metric([str(row.worker)], getattr(row, name) * factor)
        yield family
    held = HistogramMetricFamily(
        "pgpool_core_worker_pool_lock_held_seconds", "how long the lock of a pool is held", labels=("worker",)
    )
    for row in snapshot.workers:
        held.add_metric([str(row.worker)], _held(row.lock_held), row.lock_held_ns * 1e-9)
    yield held


def _held(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus has them."""
    bounds = [*(str((_HELD_FIRST_NS << index) / 1e9) for index in range(len(counts) - 1)), "+Inf"]
    return [(bound, sum(counts[: index + 1])) for index, bound in enumerate(bounds)]


def _histograms(stats: Sequence[DatabaseStats]) -> Iterator[Metric]:
    for name, (called, about) in _TIMES.items():
        family = HistogramMetricFamily(f"pgpool_core_{called}", about, labels=("database",))
        for row in stats:
            if row.database != CONSOLE_DATABASE:  # no worker has measured the console
                seconds = getattr(row.totals, f"{name}_us") / 1e6
                family.add_metric(_labels(row.database), cumulative(getattr(row.totals, name)), seconds)
        yield family


def cumulative(histogram: Sequence[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus has them: for each bound, in seconds, how many were shorter; the last has no bound."""
    found: list[tuple[str, float]] = []
    at = seen = 0
    for bound_us in BOUNDS_US:
        while at < len(histogram) - 1 and bucket_bounds_us(at)[1] < bound_us:
            seen += histogram[at]
            at += 1
        found.append((str(bound_us / 1e6), seen))
    found.append(("+Inf", sum(histogram)))
    return found


def _labels(*values: str | None) -> list[str]:
    """Label values as Prometheus can read them: UTF-8. A byte that is none stands as \\xNN: two names may differ in it alone."""
    return [(value or "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for value in values]
