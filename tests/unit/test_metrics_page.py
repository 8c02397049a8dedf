"""The page for Prometheus: the exporter's names, labels and types, and what the numbers say."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgpool_core.metrics.counters import bucket_bounds_us, bucket_of
from pgpool_core.metrics.prometheus import BOUNDS_US, Facts, cumulative, page
from pgpool_core.metrics.snapshot import ChannelRow, DatabaseRow, LoginStepRow, Snapshot, StatsPeriods
from tests.unit.console_model import WORKER, counted, link, pool

FACTS = Facts(version="PgBouncer 1.26.1 (pgpool_core x)", max_client_conn=100, max_user_connections=7)
SECOND = 1_000_000

DATABASE = ("database", "force_user", "host", "name", "pool_mode", "port")
POOL = ("database", "user")
EXPORTER = {
    "pgbouncer_up": ("gauge", ()),
    "pgbouncer_version_info": ("gauge", ("version",)),
    **{
        f"pgbouncer_{name}": ("gauge", ())
        for name in (
            *("databases", "users", "pools", "free_clients", "used_clients", "login_clients", "free_servers"),
            *("used_servers", "cached_dns_names", "cached_dns_zones", "in_flight_dns_queries"),
            *("config_max_client_connections", "config_max_user_connections"),
        )
    },
    "pgbouncer_client_connections": ("gauge", ("application_name", "database", "state", "user")),
    **{
        f"pgbouncer_databases_{name}": ("gauge", DATABASE)
        for name in ("pool_size", "reserve_pool", "max_connections", "current_connections", "paused", "disabled")
    },
    **{
        f"pgbouncer_stats_totals_{name}_total": ("counter", ("database",))
        for name in (
            *("queries_pooled", "queries_duration_seconds", "received_bytes", "queries", "sent_bytes"),
            *("client_wait_seconds", "sql_transactions_pooled", "server_in_transaction_seconds", "client_parses"),
            *("server_parses", "binds", "server_assignments"),
        )
    },
    **{
        f"pgbouncer_pools_{name}": ("gauge", POOL)
        for name in (
            *("client_active_connections", "client_active_cancel_connections", "client_waiting_connections"),
            *("client_waiting_cancel_connections", "server_active_connections", "server_active_cancel_connections"),
            *("server_being_canceled_connections", "server_idle_connections", "server_used_connections"),
            *("server_testing_connections", "server_login_connections", "client_maxwait_seconds"),
        )
    },
}
"""Name, type and labels of everything that pgbouncer_exporter 0.12 offers."""


def sample(**first: Any) -> Snapshot:
    """A pooler with one pool, whose counters `first` names."""
    row = DatabaseRow(
        name="app",
        host="10.0.0.5",
        port=5433,
        database="real",
        force_user=None,
        pool_size=20,
        min_pool_size=0,
        reserve_pool_size=3,
        server_lifetime_s=60,
        pool_mode="transaction",
        max_connections=9,
    )
    return Snapshot.build(
        now_us=0,
        unix_us=0,
        listen_port=6432,
        pools=[
            pool(1, "app", "ann", mode=1, cl_active=2, cl_waiting=1, sv_idle=4, maxwait_us=1_250_000, servers_total=5)
        ],
        clients=[
            link(1, 1, "active", application_name='say "hi"\n\\', pins=["LISTEN"]),
            link(2, 1, "active", application_name='say "hi"\n\\'),
            link(3, 1, "idle", application_name=b"\xff".decode("utf-8", "surrogateescape")),
            link(4, -2, "idle", user="root", database="pgbouncer"),
            link(5, -1, "login", user="", database=None),
        ],
        servers=[link(6, 1, "idle")],
        counters={1: counted(**first)},
        periods=StatsPeriods(0),
        databases=[row],
        users=[],
        workers=[WORKER],
        channels=[
            ChannelRow("app", "ann", b"one", 1, "listening", 1, 0, 0),  # type: ignore[arg-type]
            ChannelRow("app", "ann", b"two", 1, "listening", 1, 0, 0),  # type: ignore[arg-type]
        ],
    )


def read(snapshot: Snapshot) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The page's samples by name and labels, as Prometheus would read them."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(page(snapshot, FACTS).decode()):
        for each in family.samples:
            found.setdefault(each.name, {})[tuple(sorted(each.labels.items()))] = each.value
    return found


def test_every_name_type_and_label_of_the_exporter_is_there() -> None:
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for family in text_string_to_metric_families(page(sample(), FACTS).decode()):
        for each in family.samples:
            found[each.name] = (family.type, tuple(sorted(each.labels)))
    assert {name: found.get(name) for name in EXPORTER} == EXPORTER


def test_what_is_not_the_exporters_has_our_name() -> None:
    others = {name for name in read(sample()) if name not in EXPORTER and not name.startswith("pgbouncer_process_")}
    assert {name[: len("pgpool_core_")] for name in others} == {"pgpool_core_"}


def test_times_are_seconds() -> None:
    found = read(sample(query_us=2_500_000, wait_us=1, xact_us=3 * SECOND, queries=4))
    at = (("database", "app"),)
    assert found["pgbouncer_stats_totals_queries_duration_seconds_total"][at] == 2.5
    assert found["pgbouncer_stats_totals_client_wait_seconds_total"][at] == 1e-6
    assert found["pgbouncer_stats_totals_queries_pooled_total"][at] == 4
    assert found["pgbouncer_stats_totals_queries_total"][at] == 4
    assert found["pgbouncer_pools_client_maxwait_seconds"][(("database", "app"), ("user", "ann"))] == 1.25


def test_each_step_that_logins_wait_at_is_told() -> None:
    step = LoginStepRow(step="ldap", active=16, waiting=3, max_active=16, total=40, queued=7, failed=2)
    found = read(attrs.evolve(sample(), login_steps=(attrs.evolve(step, step="login"), step)))
    told = {name: values for name, values in found.items() if name.startswith("pgpool_core_login_step_")}
    expected = {"active": 16, "waiting": 3, "total": 40, "queued_total": 7, "failed_total": 2}
    assert told == {f"pgpool_core_login_step_{name}": {(("step", "ldap"),): value} for name, value in expected.items()}


def test_labels_say_where_a_database_lives() -> None:
    labels = {"name": "app", "host": "10.0.0.5", "port": "5433", "database": "real", "force_user": ""}
    found = read(sample())["pgbouncer_databases_current_connections"]
    assert found[tuple(sorted({**labels, "pool_mode": "transaction"}.items()))] == 5


def test_clients_are_counted_by_application_and_those_logging_in_are_not() -> None:
    found = read(sample())["pgbouncer_client_connections"]
    counts = {(dict(labels)["application_name"], dict(labels)["state"]): value for labels, value in found.items()}
    assert counts == {('say "hi"\n\\', "active"): 2, ("\\xff", "idle"): 1, ("", "idle"): 1}


def test_pins_channels_and_leaks_are_told() -> None:
    found = read(sample(pins=3, leaks=2, pinned_for=[0, 2, 0, 1, *[0] * 12]))
    reasons = found["pgpool_core_pins_by_reason_total"]
    assert reasons[(("database", "app"), ("reason", "PREPARE"))] == 2
    assert reasons[(("database", "app"), ("reason", "LISTEN"))] == 1
    assert found["pgpool_core_pins_total"][(("database", "app"),)] == 3
    assert found["pgpool_core_leaks_total"][(("database", "app"),)] == 2
    assert found["pgpool_core_pinned_clients"][(("database", "app"), ("user", "ann"))] == 1
    assert found["pgpool_core_channels"][(("database", "app"), ("state", "listening"), ("user", "ann"))] == 2


def test_each_worker_tells_what_it_has_to_do_with_the_others() -> None:
    found = read(sample())
    at = (("worker", "0"),)
    counts = {name: found[f"pgpool_core_worker_{name}_total"][at] for name in ("steals", "handoffs", "handoff_wakeups")}
    assert counts == {"steals": 5, "handoffs": 6, "handoff_wakeups": 4}
    assert found["pgpool_core_worker_clients"][at] == 3
    assert found["pgpool_core_worker_cpu_seconds_total"][at] == pytest.approx(70_001e-9)
    assert found["pgpool_core_worker_pool_locks_total"][at] == 60
    assert found["pgpool_core_worker_pool_lock_waits_total"][at] == 2
    assert found["pgpool_core_worker_pool_lock_wait_seconds_total"][at] == pytest.approx(9.999e-6)
    assert found["pgpool_core_worker_pool_lock_held_seconds_sum"][at] == pytest.approx(1.81e-7)
    buckets = found["pgpool_core_worker_pool_lock_held_seconds_bucket"]
    assert {dict(labels)["le"]: count for labels, count in buckets.items()} == {
        **{"6.4e-08": 1, "1.28e-07": 1, "2.56e-07": 2, "5.12e-07": 2, "1.024e-06": 2, "2.048e-06": 2},
        **{"4.096e-06": 2, "8.192e-06": 2, "1.6384e-05": 2, "+Inf": 2},
    }


@pytest.mark.parametrize("name", ["wait", "query", "xact", "login"])
def test_each_histogram_counts_up_to_its_bounds(name: str) -> None:
    histogram = [0] * 256
    for value_us in (0, 63, 64, 127, 128, 1_000_000, 10**9):
        histogram[bucket_of(value_us, 256)] += 1
    called = {"wait": "client_wait", "query": "query", "xact": "transaction", "login": "client_login"}[name]
    found = read(sample(**{name: histogram, f"{name}_us": 5}))
    buckets = {dict(labels)["le"]: value for labels, value in found[f"pgpool_core_{called}_seconds_bucket"].items()}
    assert (buckets["6.4e-05"], buckets["0.000128"], buckets["0.000256"]) == (2, 4, 5)
    assert (buckets["134.217728"], buckets["+Inf"]) == (6, 7)
    assert found[f"pgpool_core_{called}_seconds_sum"][(("database", "app"),)] == 5e-6
    assert found[f"pgpool_core_{called}_seconds_count"][(("database", "app"),)] == 7


def test_no_bucket_of_the_engine_lies_across_a_bound() -> None:
    for index in range(256):
        low, high = bucket_bounds_us(index)
        assert not any(low < bound <= high for bound in BOUNDS_US)


def test_an_empty_histogram_has_all_its_bounds() -> None:
    assert [count for _, count in cumulative(())] == [0] * (len(BOUNDS_US) + 1)
