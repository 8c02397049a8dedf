"""/metrics, /healthz and /readyz of a real pooler."""

from __future__ import annotations

import concurrent.futures
import urllib.error
import urllib.request
from collections.abc import Iterator
from signal import SIGTERM

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgpool_core.testing import PoolerProcess
from pgpool_core.testing.ports import can_connect, free_port
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.watching import until


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def sample(port: int, name: str, **labels: str) -> float:
    """The one sample of that name with these labels among its own."""
    status, text = get(port, "/metrics")
    assert status == 200
    [value] = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    return value


@pytest.fixture
def place(pooler: PoolerFactory) -> Iterator[tuple[PoolerProcess, int]]:
    port = free_port()
    process = pooler(metrics_listen=f"127.0.0.1:{port}", default_pool_size=3)
    process.process.wait_for_listener(("127.0.0.1", port))
    yield process, port


def test_what_clients_do_is_counted(place: tuple[PoolerProcess, int]) -> None:
    process, port = place
    with psycopg.connect(process.url("app", "app"), application_name="shop", autocommit=True) as client:
        for _ in range(5):
            client.execute("select 1")
        client.execute("create temp table kept (x int)")
        at = {"database": "app"}
        assert sample(port, "pgbouncer_stats_totals_queries_pooled_total", **at) == 6
        assert sample(port, "pgpool_core_query_seconds_count", **at) == 6
        assert 0 < sample(port, "pgpool_core_query_seconds_sum", **at) < 60
        assert sample(port, "pgpool_core_client_login_seconds_count", **at) == 1
        assert 0 < sample(port, "pgpool_core_client_login_seconds_sum", **at) < 60
        assert sample(port, "pgpool_core_pins_by_reason_total", reason="temporary object", **at) == 1
        assert sample(port, "pgbouncer_client_connections", application_name="shop", **at) == 1
        assert sample(port, "pgbouncer_pools_server_active_connections", user="app", **at) == 1
        with Console(process) as console:
            lists = console.lists()
            assert sample(port, "pgbouncer_used_clients") == lists["used_clients"]
            assert sample(port, "pgbouncer_databases") == lists["databases"]
    assert sample(port, "pgbouncer_process_open_fds") > 3


def test_who_waits_at_login_for_the_first_server_is_seen_waiting(place: tuple[PoolerProcess, int]) -> None:
    process, port = place
    with Console(process) as console, concurrent.futures.ThreadPoolExecutor(1) as threads:
        console.run("PAUSE")
        coming = threads.submit(psycopg.connect, process.url("app", "app"))
        try:
            until(lambda: console.waiting() == 1)
            waiter = until(
                lambda: [row for row in console.rows("SHOW CLIENTS") if row["state"] == "waiting" and row["wait_us"]]
            )
            assert len(waiter) == 1
            pool = console.pool()
            assert (pool["maxwait"], pool["maxwait_us"]) > (waiter[0]["wait"], waiter[0]["wait_us"])
            assert sample(port, "pgbouncer_pools_client_maxwait_seconds", database="app", user="app") > 0
        finally:
            console.run("RESUME")
        with coming.result(timeout=30):
            pool = console.pool()
            assert (pool["cl_waiting"], pool["maxwait"], pool["maxwait_us"]) == (0, 0, 0)


def test_alive_and_ready(place: tuple[PoolerProcess, int]) -> None:
    _, port = place
    assert get(port, "/healthz") == (200, "alive\n")
    assert get(port, "/readyz") == (200, "ready\n")
    assert get(port, "/")[0] == 404


@pytest.mark.parametrize(("order", "reason"), [("PAUSE", "paused"), ("SUSPEND", "suspended")])
def test_who_stands_still_is_not_ready(place: tuple[PoolerProcess, int], order: str, reason: str) -> None:
    process, port = place
    with Console(process) as console:
        console.run(order)
        assert get(port, "/readyz") == (503, f"not ready: {reason}\n")
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/metrics")[0] == 200
        console.run("RESUME")
        assert get(port, "/readyz")[0] == 200


def test_who_waits_for_the_last_client_is_not_ready(place: tuple[PoolerProcess, int]) -> None:
    process, port = place
    with psycopg.connect(process.url("app", "app")):
        process.process.signal(SIGTERM)
        until(lambda: get(port, "/readyz") == (503, "not ready: shutting down\n"))
    assert process.process.wait() == 0


def test_a_reload_moves_it_or_says_why_not(place: tuple[PoolerProcess, int]) -> None:
    process, port = place
    other = free_port()
    with Console(process) as console:
        process.settings["metrics_listen"] = f"127.0.0.1:{process.port}"  # the pooler itself listens there
        process.write()
        with pytest.raises(psycopg.Error, match="RELOAD failed") as refused:
            console.run("RELOAD")
        assert "(metrics_listen)" in (refused.value.diag.message_detail or "")
        assert get(port, "/healthz")[0] == 200
        process.settings["metrics_listen"] = f"127.0.0.1:{other}"
        process.write()
        console.run("RELOAD")
        assert get(other, "/healthz")[0] == 200
        assert not can_connect(("127.0.0.1", port))
        process.settings["metrics_listen"] = ""
        process.write()
        console.run("RELOAD")
        until(lambda: not can_connect(("127.0.0.1", other)))


def test_it_is_off_unless_asked_for(pooler: PoolerFactory) -> None:
    process = pooler()
    with Console(process) as console:
        shown = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
    assert shown["metrics_listen"] == ""
    assert "for metrics" not in process.log
