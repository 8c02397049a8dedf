"""What operators order on the console, and what becomes of clients and servers; PgBouncer obeys the same orders where it can."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2
from typing import Any

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.programs import pgbouncer_before
from tests.watching import until


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Runs what waits."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


def client_of(pooler: PoolerProcess, database: str = "app", user: str = "app") -> psycopg.Connection[Any]:
    return psycopg.connect(pooler.url(user, database), autocommit=True)


def one(connection: psycopg.Connection[Any]) -> object:
    row = connection.execute("select 1").fetchone()
    return row[0] if row else None


def suspending_pooler(any_pooler: PoolerFactory) -> PoolerProcess:
    """One that knows SUSPEND; the test is skipped where it is a PgBouncer that does not any more."""
    process = any_pooler()
    if process.kind == "pgbouncer" and not pgbouncer_before(1, 26):
        pytest.skip("PgBouncer 1.26 has no SUSPEND")
    return process


def backends(postgres: PostgresServer, database: str = "app") -> int:
    """How many connections PostgreSQL has from poolers, ours of psql aside."""
    where = f"datname = '{database}' and usename in ('app', 'legacy')"
    return int(postgres.sql(f"select count(*) from pg_stat_activity where {where}"))


def running(console: Console, order: str, threads: ThreadPoolExecutor) -> Future[str | None]:
    """The order, under way; returns when another console sees that it has been understood."""
    return threads.submit(console.run, order)


def suspending(console: Console, other: Console, threads: ThreadPoolExecutor) -> Future[str | None]:
    """SUSPEND, under way; returns when `other` sees that everybody is told to come to rest."""
    order = running(console, "SUSPEND", threads)
    until(lambda: {"key": "suspended", "value": "yes"} in other.rows("SHOW STATE"))
    return order


def paused(console: Console) -> bool:
    return {row["name"]: row["paused"] for row in console.rows("SHOW DATABASES")}["app"] == 1


@pytest.mark.parametrize("settings", [{}, {"workers": 3}], ids=["one worker", "three workers"])
def test_pause_waits_for_transactions_and_closes_servers(
    pooler: PoolerFactory, own_postgres: PostgresServer, aside: ThreadPoolExecutor, settings: dict[str, Any]
) -> None:
    process = pooler(server=own_postgres, **settings)
    with contextlib.ExitStack() as stack:
        console, other = stack.enter_context(Console(process)), stack.enter_context(Console(process))
        clients = [stack.enter_context(client_of(process)) for _ in range(5)]
        assert [one(client) for client in clients] == [1] * 5
        clients[0].execute("begin")
        pause = running(console, "PAUSE", aside)
        until(lambda: other.rows("SHOW STATE WHERE key = 'paused'")[0]["value"] == "yes")
        waiting = [aside.submit(one, client) for client in clients[1:]]
        until(lambda: other.waiting() == 4)
        assert not pause.done()
        assert one(clients[0]) == 1  # its transaction goes on
        clients[0].execute("commit")
        assert pause.result(10) == "PAUSE"
        assert backends(own_postgres) == 0
        assert not any(query.done() for query in waiting)
        assert console.run("RESUME") == "RESUME"
        assert [query.result(10) for query in waiting] == [1] * 4
        assert one(clients[0]) == 1


def test_pause_of_one_database_leaves_the_others_alone(any_pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = any_pooler()
    with Console(process) as console, client_of(process) as app, client_of(process, "other") as other:
        assert (one(app), one(other)) == (1, 1)
        assert console.run("PAUSE app") == "PAUSE"
        until(lambda: console.pool()["sv_idle"] == 0)
        query = aside.submit(one, app)
        until(lambda: console.waiting() == 1)
        assert one(other) == 1
        assert paused(console)
        assert console.run("RESUME app") == "RESUME"
        assert query.result(10) == 1
        assert not paused(console)


def test_pause_waits_for_session_clients_to_leave(any_pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = any_pooler(pool_mode="session")
    with Console(process) as console, Console(process) as other, client_of(process) as client:
        assert one(client) == 1
        pause = running(console, "PAUSE", aside)
        late = aside.submit(client_of, process)
        until(lambda: other.waiting() == 1 or late.done())
        assert one(client) == 1
        assert not pause.done()
        client.close()
        assert pause.result(10) == "PAUSE"
        assert other.run("RESUME") == "RESUME"
        with late.result(10) as newcomer:
            assert one(newcomer) == 1


def test_cancelling_a_pause_resumes(pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = pooler(workers=2)
    with Console(process) as console, Console(process) as other, client_of(process) as holder:
        holder.execute("begin")
        holder.execute("select 1")
        with client_of(process) as late:
            pause = running(console, "PAUSE", aside)
            until(lambda: other.pool()["sv_idle"] == 0)
            query = aside.submit(one, late)
            until(lambda: query.done() or other.waiting() == 1)
            console.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                pause.result(10)
            assert query.result(10) == 1
        with pytest.raises(psycopg.Error, match=r"pooler is not paused$"):
            other.run("RESUME")


def test_the_console_goes_on_after_a_cancelled_pause(pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = pooler()
    with Console(process) as console, Console(process) as other, client_of(process) as holder:
        holder.execute("begin")
        holder.execute("select 1")
        pause = running(console, "PAUSE app", aside)
        until(lambda: paused(other))
        console.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            pause.result(10)
        assert not paused(console)


def test_resume_ends_a_pause_that_still_waits(pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = pooler()
    with Console(process) as console, Console(process) as other, client_of(process) as holder:
        holder.execute("begin")
        holder.execute("select 1")
        pause = running(console, "PAUSE", aside)
        until(lambda: paused(other))
        assert other.run("RESUME") == "RESUME"
        with pytest.raises(psycopg.errors.QueryCanceled, match="RESUME came before"):
            pause.result(10)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("PAUSE nowhere", "no such database: nowhere"),
        ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
        ("RESUME", "pooler is not paused(/suspended)?"),  # the longer text before 1.26
        ("RESUME nowhere", "no such database: nowhere"),
        ("DISABLE", "a database is required"),
        ("DISABLE nowhere", "no such database: nowhere"),
        ("DISABLE pgbouncer", "cannot disable admin db: pgbouncer"),
        ("ENABLE", "a database is required"),
        ("KILL nowhere", "no such database: nowhere"),
        ("RECONNECT nowhere", "no such database: nowhere"),
        ("WAIT_CLOSE nowhere", "no such database: nowhere"),
    ],
)
def test_orders_that_make_no_sense_are_told_in_the_same_words(
    any_pooler: PoolerFactory, postgres: PostgresServer, order: str, text: str
) -> None:
    process = any_pooler(databases={"app": f"host={postgres.host} port={postgres.port}"})
    with Console(process) as console, pytest.raises(psycopg.errors.ProtocolViolation, match=f"^{text}$"):
        console.run(order)


def test_orders_that_come_twice_are_told_in_the_same_words(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    newest = process.kind == "pgpool_core" or not pgbouncer_before(1, 26)
    already = "already paused$" if newest else "already suspended/paused"
    with Console(process) as console, client_of(process) as client:
        assert one(client) == 1
        with pytest.raises(psycopg.Error, match="database app is not paused"):
            console.run("RESUME app")
        console.run("PAUSE")
        for order in ("PAUSE", "PAUSE app"):
            with pytest.raises(psycopg.Error, match=already):
                console.run(order)
        console.run("RESUME")
        console.run("PAUSE app")


def test_nobody_is_suspended_while_something_is_paused(any_pooler: PoolerFactory) -> None:
    process = suspending_pooler(any_pooler)
    with Console(process) as console, client_of(process) as client:
        assert one(client) == 1
        console.run("PAUSE")
        with pytest.raises(psycopg.Error, match=r"already (suspended/)?paused"):
            console.run("SUSPEND")
        console.run("RESUME")
        console.run("SUSPEND")
        for order in ("PAUSE", "SUSPEND"):
            with pytest.raises(psycopg.Error, match="already suspended"):
                console.run(order)
        console.run("RESUME")
        console.run("PAUSE app")
        with pytest.raises(psycopg.Error, match="cannot suspend with paused databases"):
            console.run("SUSPEND")


def test_a_disabled_database_takes_no_new_clients_and_keeps_those_it_has(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    with Console(process) as console, client_of(process) as old:
        assert one(old) == 1
        assert console.run("DISABLE app") == "DISABLE"
        assert {r["name"]: r["disabled"] for r in console.rows("SHOW DATABASES")}["app"] == 1
        with pytest.raises(psycopg.OperationalError, match=r'database "app" (is disabled|does not allow connections)'):
            client_of(process)
        assert one(old) == 1
        assert console.run("ENABLE app") == "ENABLE"
        with client_of(process) as new:
            assert one(new) == 1


def test_kill_drops_clients_and_servers_and_leaves_the_database_paused(
    any_pooler: PoolerFactory, own_postgres: PostgresServer, aside: ThreadPoolExecutor
) -> None:
    process = any_pooler(server=own_postgres)
    with Console(process) as console, client_of(process) as busy, client_of(process) as idle:
        with client_of(process, "other") as other:
            assert (one(busy), one(idle), one(other)) == (1, 1, 1)
            sleeper = aside.submit(busy.execute, "select pg_sleep(60)")
            until(lambda: console.pool()["sv_active"] == 1)
            assert console.run("KILL app") == "KILL"
            with pytest.raises(psycopg.OperationalError):
                sleeper.result(10)
            with pytest.raises(psycopg.OperationalError):
                one(idle)
            assert one(other) == 1
        assert paused(console)
        if process.kind == "pgpool_core":  # PgBouncer lets the query run on
            assert backends(own_postgres) == 0
        assert console.run("RESUME app") == "RESUME"
        with client_of(process) as client:
            assert one(client) == 1


def test_what_a_kill_of_everything_has_paused_is_resumed_by_name_too(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    if process.kind == "pgbouncer" and pgbouncer_before(1, 25):
        pytest.skip("KILL has a name before 1.25")
    with Console(process) as console, client_of(process) as app, client_of(process, "other") as other:
        assert (one(app), one(other)) == (1, 1)
        assert console.run("KILL") == "KILL"
        assert console.run("RESUME app") == "RESUME"
        with client_of(process) as client:
            assert one(client) == 1
        with pytest.raises(psycopg.Error, match="pooler is not paused"):
            console.run("RESUME")
        assert console.run("RESUME other") == "RESUME"  # which was paused until now


def test_where_any_database_may_come_one_is_paused_before_it_does(
    pooler: PoolerFactory, aside: ThreadPoolExecutor
) -> None:
    process = pooler()
    with Console(process) as console:
        assert console.run("PAUSE other") == "PAUSE"
        late = aside.submit(client_of, process, "other")
        until(lambda: console.waiting(database="other") == 1)
        assert console.run("RESUME other") == "RESUME"
        with late.result(10) as client:
            assert one(client) == 1


def test_kill_client_sends_one_client_away(pooler: PoolerFactory) -> None:
    process = pooler(workers=2)
    with Console(process) as console, client_of(process) as one_of_them, client_of(process) as another:
        assert (one(one_of_them), one(another)) == (1, 1)
        rows = [row for row in console.rows("SHOW CLIENTS") if row["database"] == "app"]
        assert len(rows) == 2
        console.run(f"KILL_CLIENT {rows[0]['id']}")
        console.run(f"KILL_CLIENT {rows[1]['ptr']}")
        for client in (one_of_them, another):
            with pytest.raises(psycopg.errors.AdminShutdown, match="admin forced disconnect"):
                one(client)
        with pytest.raises(psycopg.Error, match="client not found"):
            console.run(f"KILL_CLIENT {rows[0]['id']}")
        for nonsense in ("", "app", "0xzz", "0x", "1_0", '" 1"', '"-1"', '"+1"'):
            with pytest.raises(psycopg.Error, match="invalid client pointer supplied"):
                console.run(f"KILL_CLIENT {nonsense}")


def test_reconnect_replaces_servers_when_they_are_released_and_wait_close_waits_for_that(
    any_pooler: PoolerFactory, aside: ThreadPoolExecutor
) -> None:
    process = any_pooler()
    with Console(process) as console, Console(process) as other, client_of(process) as client:
        assert one(client) == 1
        client.execute("begin")
        before = client.execute("select pg_backend_pid()").fetchone()
        assert console.run("RECONNECT app") == "RECONNECT"
        close = running(console, "WAIT_CLOSE app", aside)
        assert client.execute("select pg_backend_pid()").fetchone() == before
        until(lambda: [row["close_needed"] for row in other.rows("SHOW SERVERS")] == [1])
        assert not close.done()
        client.execute("commit")
        assert close.result(10) == "WAIT_CLOSE"
        assert client.execute("select pg_backend_pid()").fetchone() != before


@pytest.mark.parametrize("settings", [{}, {"workers": 2}], ids=["one worker", "two workers"])
def test_after_reconnect_a_login_is_told_what_new_servers_report(
    pooler: PoolerFactory, postgres: PostgresServer, settings: dict[str, Any]
) -> None:
    def zone(process: PoolerProcess) -> str | None:
        with client_of(process, "other") as client:
            return client.info.parameter_status("TimeZone")

    process = pooler(**settings)
    try:
        postgres.sql("alter role app in database other set timezone = 'Asia/Tokyo'")
        with Console(process) as console:
            console.run("RECONNECT other")
            assert zone(process) == "Asia/Tokyo"
            with client_of(process, "other") as held:
                held.execute("begin; select 1")
                postgres.sql("alter role app in database other set timezone = 'Asia/Kolkata'")
                console.run("RECONNECT other")
                assert zone(process) == "Asia/Tokyo"  # nobody waits for a server that is in use
            until(lambda: console.rows("SHOW SERVERS") == [])
            assert zone(process) == "Asia/Kolkata"
            console.run("RECONNECT other")
            console.run("PAUSE other")
            assert zone(process) == "Asia/Kolkata"  # nor for RESUME
            console.run("RESUME other")
    finally:
        postgres.sql("alter role app in database other reset timezone")


@pytest.mark.parametrize("settings", [{}, {"workers": 2}], ids=["one worker", "two workers"])
def test_suspended_nobody_is_read_until_resume(
    pooler: PoolerFactory, aside: ThreadPoolExecutor, settings: dict[str, Any]
) -> None:
    process = pooler(**settings)
    with contextlib.ExitStack() as stack:
        console = stack.enter_context(Console(process))
        clients = [stack.enter_context(client_of(process)) for _ in range(4)]
        assert [one(client) for client in clients] == [1] * 4
        assert console.run("SUSPEND") == "SUSPEND"
        asked = [aside.submit(one, client) for client in clients]
        newcomer = aside.submit(client_of, process)
        for _ in range(5):  # each answer is proof of a turn in which nobody else was read
            assert {row["key"]: row["value"] for row in console.rows("SHOW STATE")} == {
                "active": "no",
                "paused": "no",
                "suspended": "yes",
            }
            assert console.pool()["sv_active"] == 0
        assert not any(query.done() for query in [*asked, newcomer])
        assert console.run("RESUME") == "RESUME"
        assert [query.result(10) for query in asked] == [1] * 4
        with newcomer.result(10) as client:
            assert one(client) == 1


def test_who_gets_a_server_while_everybody_comes_to_rest_is_read_on(
    pooler: PoolerFactory, aside: ThreadPoolExecutor
) -> None:
    """What came while it waited was left alone; half a message is not at rest once there is a server for it."""
    process = pooler(default_pool_size=1, suspend_timeout=60)
    query = b"select '" + b"x" * 90_000 + b"'\0"
    message = b"Q" + struct.pack("!I", 4 + len(query)) + query

    def held() -> int:
        return max(row["pkt_avail"] for row in looking.rows("SHOW SOCKETS"))

    with contextlib.ExitStack() as stack:
        console, looking = (stack.enter_context(Console(process)) for _ in range(2))
        busy, other = (stack.enter_context(client_of(process)) for _ in range(2))
        raw = stack.enter_context(socket.socket(fileno=os.dup(other.pgconn.socket)))
        raw.settimeout(20)
        for _ in range(600):  # so that `auto` sees no use in a ring
            one(busy)
        busy.pgconn.send_query(b"select repeat('y', 50000000)")  # and does not read the answer
        until(lambda: any(row["send_avail"] for row in looking.rows("SHOW SOCKETS")))
        for begin, end in ((0, 62_000), (62_000, 66_000)):  # more than is kept of a message that has no server
            raw.sendall(message[begin:end])
            until(lambda: held() >= end)  # noqa: B023
        suspended = suspending(console, looking, aside)
        raw.sendall(message[66_000:])
        looking.rows("SHOW VERSION")  # a turn is over
        while busy.pgconn.get_result() is not None:
            pass
        assert suspended.result(20) == "SUSPEND"
        assert console.run("RESUME") == "RESUME"
        answer = b""
        while not answer.endswith(b"Z\0\0\0\x05I"):
            answer += raw.recv(65536)
        assert answer.count(b"x") == 90_000


def test_who_has_to_end_a_group_of_messages_is_read_on(pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    """PostgreSQL keeps the end of a long row until Sync comes: without it nobody would come to rest."""
    process = pooler(suspend_timeout=60)
    with Console(process) as console, Console(process) as looking, contextlib.closing(client_of(process)) as client:
        link = client.pgconn
        link.enter_pipeline_mode()
        link.send_query_params(b"select 1", None)
        link.send_flush_request()  # so that the group goes to a server
        link.send_query_params(b"select repeat('x', 20000)", None)
        assert link.flush() == 0
        until(lambda: any(row["pkt_remain"] for row in looking.rows("SHOW SOCKETS")))
        suspended = suspending(console, looking, aside)
        link.pipeline_sync()
        assert link.flush() == 0
        assert suspended.result(20) == "SUSPEND"
        assert console.run("RESUME") == "RESUME"
        results = [link.get_result() for _ in range(3)]
        assert [result and result.get_value(0, 0) for result in results] == [b"1", None, b"x" * 20000]


def test_a_suspension_ends_with_the_console_that_ordered_it(
    any_pooler: PoolerFactory, aside: ThreadPoolExecutor
) -> None:
    process = suspending_pooler(any_pooler)
    with client_of(process) as client:
        assert one(client) == 1
        with Console(process) as console:
            assert console.run("SUSPEND") == "SUSPEND"
            query = aside.submit(one, client)
            assert console.rows("SHOW VERSION")
            assert not query.done()
        assert query.result(10) == 1


def test_who_is_not_through_by_suspend_timeout_is_dropped(pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = pooler(suspend_timeout=0.2)
    with Console(process) as console, client_of(process) as quiet, contextlib.closing(client_of(process)) as stuck:
        assert (one(quiet), one(stuck)) == (1, 1)
        stuck.pgconn.send_query(b"select repeat('x', 50000000)")  # and does not read the answer
        until(lambda: console.pool()["sv_active"] == 1)
        until(lambda: any(row["send_avail"] for row in console.rows("SHOW SOCKETS")))
        assert console.run("SUSPEND") == "SUSPEND"
        assert console.run("RESUME") == "RESUME"
        assert one(quiet) == 1
        process.wait_for_log("suspend_timeout")


def test_shutdown_wait_for_clients_goes_on_until_the_last_has_left(pooler: PoolerFactory) -> None:
    process = pooler()
    with Console(process) as console, client_of(process) as client:
        assert one(client) == 1
        assert console.run("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
        with pytest.raises(psycopg.OperationalError):
            client_of(process)
        with pytest.raises(psycopg.OperationalError, match="pooler is shutting down"):
            psycopg.connect(process.url("app", "app", unix=True))
        with pytest.raises(psycopg.Error, match="pooler is shutting down"):
            console.run("RESUME")
        assert one(client) == 1
        with psycopg.connect(process.url("admin", "pgbouncer", unix=True), autocommit=True) as late:
            assert late.execute(b"SHOW VERSION").fetchone()
        assert process.running
        client.close()
        assert process.process.wait() == 0


def test_shutdown_wait_for_servers_sends_away_who_needs_one(pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = pooler(default_pool_size=1)
    with (
        Console(process) as console,
        client_of(process) as holder,
        client_of(process) as waiter,
        client_of(process) as idle,
    ):
        holder.execute("begin")
        assert one(holder) == 1
        waiting = aside.submit(one, waiter)
        until(lambda: console.waiting() == 1)
        assert console.run("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
        with pytest.raises(psycopg.errors.AdminShutdown, match="server shutting down"):
            waiting.result(10)
        with pytest.raises(psycopg.errors.AdminShutdown, match="server shutting down"):
            one(idle)
        assert one(holder) == 1
        assert process.running
        holder.execute("commit")
        assert process.process.wait() == 0


def test_a_shutdown_that_waits_for_clients_need_only_wait_for_servers(any_pooler: PoolerFactory) -> None:
    process = any_pooler()
    if process.kind == "pgbouncer" and pgbouncer_before(1, 23):
        pytest.skip("PgBouncer waits for clients since 1.23")
    with Console(process) as console, client_of(process) as idle, client_of(process) as holder:
        assert one(idle) == 1
        holder.execute("begin")
        for _ in range(2):
            assert console.run("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
        assert console.rows("SHOW STATE")[:2] == [{"key": "active", "value": "yes"}, {"key": "paused", "value": "no"}]
        assert console.run("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
        assert console.rows("SHOW STATE")[:2] == [{"key": "active", "value": "no"}, {"key": "paused", "value": "yes"}]
        assert one(holder) == 1
        assert process.running
        holder.execute("commit")
        assert process.process.wait() == 0


def test_a_setting_is_changed_until_the_next_reload(any_pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = any_pooler(default_pool_size=1)
    with Console(process) as console, client_of(process) as holder, client_of(process) as second:
        holder.execute("begin")
        assert one(holder) == 1
        query = aside.submit(one, second)
        until(lambda: console.waiting() == 1)
        assert console.run("SET default_pool_size = 2") == "SET default_pool_size=2"
        assert query.result(10) == 1
        values = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
        assert values["default_pool_size"] == "2"
        console.run("RELOAD")
        values = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
        assert values["default_pool_size"] == "1"


def test_a_new_auth_file_is_read_at_once(pooler: PoolerFactory) -> None:
    process = pooler(passwords={"admin": "admin-secret"})
    other = process.folder / "other.txt"
    process._write(other, '"app" "app-secret"\n')
    with Console(process) as console:
        with pytest.raises(psycopg.errors.ProtocolViolation, match="SET failed") as refused:
            console.run(f"SET auth_file = '{process.folder}/none.txt'")
        assert "none.txt: cannot be read" in (refused.value.diag.message_detail or "")
        console.run(f"SET auth_file = '{other}'")
        psycopg.connect(process.url("app", "app", password="app-secret")).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            Console(process)
        console.run("RELOAD")
        Console(process).close()


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("SET no_such_thing = 1", "unknown parameter: pgbouncer/no_such_thing"),
        ("SET default_pool_size = many", 'invalid value "many" for parameter default_pool_size'),
        ("SET listen_port = 7000", "setting listen_port cannot be changed without a restart"),
    ],
)
def test_a_setting_that_cannot_be_changed_is_told_with_the_reason(pooler: PoolerFactory, order: str, why: str) -> None:
    with Console(pooler()) as console:
        with pytest.raises(psycopg.errors.ProtocolViolation, match="SET failed") as refused:
            console.run(order)
        assert why in (refused.value.diag.message_detail or "")


def test_the_same_uid_is_admin_on_the_unix_socket_without_a_password(pooler: PoolerFactory) -> None:
    process = pooler()
    with psycopg.connect(process.url("pgbouncer", "pgbouncer", unix=True), autocommit=True) as console:
        assert console.execute(b"RELOAD").statusmessage == "RELOAD"
        assert console.execute(b"SHOW FDS").fetchall()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(process.url("pgbouncer", "pgbouncer"))  # by TCP nobody knows who asks


def test_signals_pause_and_resume(any_pooler: PoolerFactory, aside: ThreadPoolExecutor) -> None:
    process = any_pooler()
    with Console(process) as console, client_of(process) as client:
        assert one(client) == 1
        process.process.signal(SIGUSR1)
        until(lambda: console.pool()["sv_idle"] == 0)
        query = aside.submit(one, client)
        until(lambda: console.waiting() == 1)
        process.process.signal(SIGUSR2)
        assert query.result(10) == 1


def test_sigterm_waits_for_clients_and_a_second_one_does_not(pooler: PoolerFactory) -> None:
    process = pooler()
    with contextlib.closing(client_of(process)) as client:
        assert one(client) == 1
        process.process.signal(SIGTERM)
        process.wait_for_log("SHUTDOWN WAIT_FOR_CLIENTS command issued")
        assert one(client) == 1
        process.process.signal(SIGUSR1)
        process.wait_for_log("PAUSE command issued")
        process.process.signal(SIGUSR2)  # a pause may be ended, or the clients could not
        process.wait_for_log("RESUME command issued")
        assert one(client) == 1
        process.process.signal(SIGTERM)
        assert process.process.wait() == 0


@pytest.mark.parametrize("order", ["RESUME app", "KILL app"])
def test_what_is_said_of_a_database_does_not_take_a_shutdown_back(
    pooler: PoolerFactory, aside: ThreadPoolExecutor, order: str
) -> None:
    process = pooler(default_pool_size=1)
    with Console(process) as console, Console(process) as other, contextlib.closing(client_of(process)) as holder:
        holder.execute("begin")
        assert one(holder) == 1
        pausing = running(other, "PAUSE app", aside)
        process.wait_for_log("PAUSE 'app' command issued")
        assert console.run("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
        if order == "RESUME app":
            assert console.run(order) == "RESUME"
            holder.execute("commit")
        else:
            running(console, order, aside)
        assert process.process.wait() == 0
        with contextlib.suppress(psycopg.Error):
            pausing.result(10)


def test_sigint_waits_for_servers(pooler: PoolerFactory) -> None:
    process = pooler()
    with contextlib.closing(client_of(process)) as holder, contextlib.closing(client_of(process)) as idle:
        holder.execute("begin")
        assert one(holder) == 1
        process.process.signal(SIGINT)
        process.wait_for_log("SHUTDOWN WAIT_FOR_SERVERS command issued")
        with pytest.raises(psycopg.errors.AdminShutdown, match="server shutting down"):
            until(lambda: one(idle) is None)
        assert one(holder) == 1
        holder.execute("commit")
        assert process.process.wait() == 0


@pytest.mark.parametrize(("workers", "io_backend"), [(2, "epoll"), (1, "auto")])
def test_suspended_under_load_again_and_again_nobody_is_dropped(
    pooler: PoolerFactory, postgres: PostgresServer, workers: int, io_backend: str
) -> None:
    process = pooler(workers=workers, io_backend=io_backend, default_pool_size=3, suspend_timeout=2)
    bench = [
        str(postgres.binaries.program("pgbench")),
        "-n",
        "-c",
        "8",
        "-t",
        "40",
        "-f",
        "-",
        process.url("app", "app"),
    ]
    load = subprocess.Popen(bench, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert load.stdin is not None
    load.stdin.write("set application_name = 'a:client_id';\nbegin;\nselect 1;\ncommit;\n")  # settings to be replayed
    load.stdin.close()
    load.stdin = None
    with Console(process) as console:
        while load.poll() is None:
            assert console.run("SUSPEND") == "SUSPEND"
            assert console.run("RESUME") == "RESUME"
    said = load.communicate()[0]
    assert load.returncode == 0, said
    assert "suspend_timeout" not in process.log
