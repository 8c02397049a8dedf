"""Several hosts: which one is up, since when, what was wrong, and how many servers are open there."""

from __future__ import annotations

import urllib.request
from typing import Any

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from pgpool_core.testing.ports import free_port
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.watching import until


def hosts(console: Console) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["database"], row["host"]): row for row in console.rows("SHOW HOSTS")}


def client_of(process: PoolerProcess, database: str = "app") -> psycopg.Connection:
    return psycopg.connect(process.url("app", database), autocommit=True)


def test_a_host_that_is_down_is_told_with_its_error_and_one_that_is_up_with_its_servers(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """PostgreSQL listens on 127.0.0.1 and a unix socket; nobody does on 127.0.0.9."""
    port, metrics = f"port={postgres.port}", free_port()
    process = pooler(
        metrics_listen=f"127.0.0.1:{metrics}",
        databases={
            "app": f"host=127.0.0.9,127.0.0.1 {port} load_balance_hosts=disable",
            "local": f"host={postgres.socket_dir} {port} dbname=app",
            "wrong": f"host=127.0.0.1 {port} dbname=no_such_database",
        },
    )
    with Console(process) as console:
        assert hosts(console) == {}
        with client_of(process) as one, client_of(process) as other, client_of(process, "local") as local:
            for client in (one, other, local):
                client.execute("begin")
            found = hosts(console)
            down, up = found["app", "127.0.0.9"], found["app", "127.0.0.1"]
            assert (down["state"], down["servers"], down["opened"], down["failed"], down["addrs"]) == (
                "down",
                0,
                0,
                1,
                "",
            )
            assert "127.0.0.9" in down["error"]
            assert "refused" in down["error"]
            assert (up["state"], up["servers"], up["opened"], up["error"], up["addrs"]) == (
                "up",
                2,
                2,
                None,
                "127.0.0.1",
            )
            assert up["port"] == postgres.port
            assert up["since"].endswith(" UTC")
            assert found["local", str(postgres.socket_dir)]["servers"] == 1
            with psycopg.connect(process.url("app", "local")) as second:
                second.execute("select 1")
            assert (
                hosts(console)["local", str(postgres.socket_dir)]["since"]
                == found["local", str(postgres.socket_dir)]["since"]
            )
        try:
            client_of(process, "wrong").close()
        except psycopg.OperationalError as error:
            assert "no_such_database" in str(error)
        wrong = hosts(console)["wrong", "127.0.0.1"]
        assert (wrong["state"], wrong["failed"]) == ("up", 1)
        assert "3D000" in wrong["error"]
        console.run("RECONNECT")
        until(lambda: hosts(console)["app", "127.0.0.1"]["servers"] == 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        at = f'database="app",host="127.0.0.{{}}",port="{postgres.port}"'
        assert f"pgpool_core_host_up{{{at.format(9)}}} 0.0" in page
        assert f"pgpool_core_host_up{{{at.format(1)}}} 1.0" in page
        assert f"pgpool_core_host_failed_total{{{at.format(9)}}} 1.0" in page


def test_a_host_that_comes_back_is_up_again(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    databases = {"app": f"host=127.0.0.9 port={postgres.port}"}
    process = pooler(databases=databases, server_login_retry=1, client_login_timeout=1)
    with Console(process) as console:
        with pytest.raises(psycopg.OperationalError, match="server down"):
            client_of(process)
        assert hosts(console)["app", "127.0.0.9"]["state"] == "down"
        process.databases = {"app": f"host=127.0.0.1,127.0.0.9 port={postgres.port}"}
        process.write()
        console.run("RELOAD")
        assert {row["state"] for row in hosts(console).values()} == {"unknown"}  # another list: nothing is known of it
        with client_of(process) as client:
            client.execute("select 1")
            assert hosts(console)["app", "127.0.0.1"]["state"] == "up"


def test_a_host_that_is_named_twice_has_one_row_and_a_server_counts_at_one_name(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    process = pooler(databases={"app": f"host=localhost,127.0.0.1,localhost port={postgres.port}"})
    with Console(process) as console, client_of(process) as one, client_of(process) as other:
        for client in (one, other):
            client.execute("begin")
        rows = console.rows("SHOW HOSTS")
        assert [row["host"] for row in rows] == ["localhost", "127.0.0.1"]
        assert sum(row["opened"] for row in rows) == 2
        assert sum(row["servers"] for row in rows) == 2
