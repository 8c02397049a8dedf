"""The console's replies, exact where tools depend on it: columns, types, NULLs, tags, errors; and real drivers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from struct import unpack_from
from typing import Any

import attrs
import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.admin import reply
from pgpool_core.errors import CommandRefused, ConfigError, PgPoolError
from pgpool_core.metrics.snapshot import Snapshot, StatsPeriods
from tests.unit.console_model import Pooler, Reply, link, sample, session_of

SOCKET_COLUMNS = """type t, user t, database t, replication t, state t, addr t, port i, local_addr t, local_port i,
    connect_time t, request_time t, wait i, wait_us i, close_needed i, ptr t, link t, remote_pid i, tls t,
    application_name t, prepared_statements i, id i"""
BUFFER_COLUMNS = """, recv_pos i, pkt_pos i, pkt_remain i, send_pos i, send_remain i, pkt_avail i, send_avail i"""
COLUMNS = {
    "STATS": """database t, total_server_assignment_count N, total_xact_count N, total_query_count N, total_received N,
        total_sent N, total_xact_time N, total_query_time N, total_wait_time N, total_client_parse_count N,
        total_server_parse_count N, total_bind_count N, total_client_login_count N, avg_server_assignment_count N,
        avg_xact_count N, avg_query_count N, avg_recv N, avg_sent N, avg_xact_time N, avg_query_time N, avg_wait_time N,
        avg_client_parse_count N, avg_server_parse_count N, avg_bind_count N, avg_client_login_count N,
        query_p50_us N, query_p99_us N, wait_p50_us N, wait_p99_us N, xact_p50_us N, xact_p99_us N""",
    "STATS_TOTALS": """database t, server_assignment_count N, xact_count N, query_count N, bytes_received N,
        bytes_sent N, xact_time N, query_time N, wait_time N, client_parse_count N, server_parse_count N, bind_count N,
        client_login_count N""",
    "STATS_AVERAGES": """database t, server_assignment_count N, xact_count N, query_count N, bytes_received N,
        bytes_sent N, xact_time N, query_time N, wait_time N, avg_client_parse_count N, avg_server_parse_count N,
        avg_bind_count N, avg_client_login_count N""",
    "TOTALS": "name t, value N",
    "POOLS": """database t, user t, cl_active i, cl_waiting i, cl_active_cancel_req i, cl_waiting_cancel_req i,
        sv_active i, sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, sv_tested i, sv_login i, maxwait i,
        maxwait_us i, pool_mode t, load_balance_hosts t""",
    "CLIENTS": SOCKET_COLUMNS,
    "SERVERS": SOCKET_COLUMNS,
    "PINS": """database t, user t, addr t, port i, application_name t, reasons t, fingerprint t, age_s i, server_pid i,
        client_id i, server_id i""",
    "PIN_TOTALS": "database t, reason t, pins N, warnings N",
    "LEAKS": """database t, user t, kind t, name t, application_name t, fingerprint t, age_s i, server_pid i, client_id i,
        server_id i""",
    "DATABASES": """name t, host t, port i, database t, force_user t, pool_size i, min_pool_size i, reserve_pool_size i,
        server_lifetime i, pool_mode t, load_balance_hosts t, max_connections i, current_connections i,
        max_client_connections i, current_client_connections i, paused i, disabled i""",
    "USERS": """name t, pool_size t, reserve_pool_size t, pool_mode t, max_user_connections i, current_connections i,
        max_user_client_connections i, current_client_connections i""",
    "LISTS": "list t, items i",
    "CONFIG": "key t, value t, default t, changeable t",
    "VERSION": "version t",
    "STATE": "key t, value t",
    "SOCKETS": SOCKET_COLUMNS + BUFFER_COLUMNS,
    "ACTIVE_SOCKETS": SOCKET_COLUMNS + BUFFER_COLUMNS,
    "PEERS": "peer_id i, host t, port i, pool_size i",
    "PEER_POOLS": "peer_id i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active_cancel i, sv_login i",
    "HOSTS": """database t, host t, port i, state t, since t, error t, servers i, opened N, failed N, addrs t""",
    "LOGINS": "step t, active i, waiting i, max_active i, total N, queued N, failed N",
    "MEM": "name t, size i, used i, free i, memtotal i",
    "WORKERS": """worker i, thread i, cpu_us N, clients i, xact_count N, steals N, handoffs N, wakeups N, locks N, lock_waits N,
        lock_wait_us N, lock_held_ns N""",
    "DNS_HOSTS": "hostname t, ttl q, addrs t",
    "DNS_ZONES": "zonename t, serial q, count i",
    "FDS": """fd i, task t, user t, database t, addr t, port i, cancel q, link i, client_encoding t, std_strings t,
        datestyle t, timezone t, password t, scram_client_key b, scram_server_key b""",
}
EMPTY = {"DNS_ZONES"}
OIDS = {"t": 25, "i": 23, "q": 20, "N": 1700, "b": 17}


def ask(query: str | bytes, *, is_admin: bool = True, pooler: Pooler | None = None) -> Reply:
    session = session_of(pooler or Pooler(), is_admin=is_admin)
    text = query.encode() if isinstance(query, str) else query
    return Reply(trio.run(session.answer, b"Q", text))


@pytest.mark.parametrize("what", COLUMNS)
def test_a_table_has_exactly_the_columns_and_types_that_tools_know(what: str) -> None:
    found = ask(f"SHOW {what}", is_admin=what == "FDS")
    expected = [entry.split() for entry in COLUMNS[what].split(",")]
    assert found.columns == [(name, OIDS[kind]) for name, kind in expected]
    assert found.codes == b"T" + b"D" * len(found.rows) + b"CZ"
    assert bool(found.rows) == (what not in EMPTY)
    assert found.tag == "SHOW"


def test_pins_are_the_clients_that_keep_a_server_and_why() -> None:
    (row,) = ask("SHOW PINS", is_admin=False).table()
    assert (row["reasons"], row["fingerprint"], row["age_s"]) == ("listen, advisory lock", "0000000000000abc", "3")
    assert (row["client_id"], row["server_id"], row["server_pid"]) == ("17", "18", "4242")


def test_pins_and_warnings_are_counted_by_reason() -> None:
    rows = {(row["database"], row["reason"]): (row["pins"], row["warnings"]) for row in ask("SHOW PIN_TOTALS").table()}
    assert rows["zoo", "PREPARE"] == ("2", "0")
    assert rows["zoo", "setting"] == ("0", "3")


def test_logins_says_where_they_are() -> None:
    assert ask("SHOW LOGINS").rows == [["ldap", "16", "3", "16", "4000000000", "7", "2"]]


def test_a_worker_tells_what_locks_cost_it() -> None:
    first, second = ask("SHOW WORKERS", is_admin=False).table()
    assert (first["worker"], first["thread"], first["cpu_us"]) == ("0", "4711", "70")
    assert (first["clients"], first["xact_count"]) == ("3", "30")
    assert (first["steals"], first["handoffs"], first["wakeups"]) == ("5", "6", "4")
    assert (first["locks"], first["lock_waits"], first["lock_wait_us"], first["lock_held_ns"]) == ("60", "2", "9", "90")
    assert (second["worker"], second["locks"], second["lock_held_ns"]) == ("1", "0", "0")


def test_stats_has_a_row_for_each_database_with_a_pool_sorted_by_name() -> None:
    found = ask("SHOW STATS")
    assert [row[0] for row in found.rows] == ["app", "pgbouncer", "zoo"]
    totals = [str(10 * n) for n in range(1, 13)]
    averages = [
        "1",
        "2",
        "3",
        "4",
        "5",
        "3",
        "2",
        "8",
        "9",
        "10",
        "11",
        "12",
    ]  # times: 60/20, 70/30; waiting per second
    assert found.rows[0] == ["app", *totals, *averages, *["0"] * 6]
    assert ask("SHOW STATS_TOTALS").rows[0] == ["app", *totals]
    assert ask("SHOW STATS_AVERAGES").rows[0] == ["app", *averages]


def test_totals_are_twelve_sums_and_then_twelve_averages() -> None:
    names = [
        *("server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes"),
        *("xact_time", "query_time", "wait_time"),
        *("ps_client_parse_count", "ps_server_parse_count", "ps_bind_count", "client_login_count"),
    ]
    found = ask("SHOW TOTALS")
    assert [row[0] for row in found.rows] == [f"total_{n}" for n in names] + [f"avg_{n}" for n in names]
    values = {row[0]: row[1] for row in found.rows}
    assert (values["total_query_count"], values["total_client_bytes"], values["avg_client_bytes"]) == ("31", "40", "4")


def test_pools_begin_with_the_console_and_split_the_longest_wait_into_seconds_and_the_rest() -> None:
    rows = ask("SHOW POOLS").rows
    assert rows[0] == ["pgbouncer", "pgbouncer", "1", *["0"] * 12, "statement", None]
    assert rows[1] == ["app", "ann", *"21341561789", "1", "250000", "transaction", None]
    assert [(row[0], row[1], row[15]) for row in rows[2:]] == [("app", "zed", "statement"), ("zoo", "bob", "session")]


def test_clients_are_those_logged_in_and_name_their_server() -> None:
    rows = ask("SHOW CLIENTS").table()
    assert [(row["id"], row["state"]) for row in rows] == [
        ("40", "idle"),
        ("17", "active"),
        ("29", "idle"),
        ("30", "waiting"),
    ]
    assert rows[1] == {
        **{"type": "C", "user": "ann", "database": "app", "replication": "logical", "state": "active"},
        **{"addr": "10.0.0.8", "port": "50000", "local_addr": "10.0.0.1", "local_port": "6432"},
        **{"connect_time": "2023-11-14 22:11:40 UTC", "request_time": "2023-11-14 22:13:18 UTC"},
        **{"wait": "0", "wait_us": "0", "close_needed": "1", "ptr": "0x11", "link": "0x12", "remote_pid": "77"},
        **{"tls": "", "application_name": "psql", "prepared_statements": "0", "id": "17"},
    }
    assert (rows[3]["wait"], rows[3]["wait_us"]) == ("1", "250000")
    assert rows[2]["request_time"] == rows[2]["connect_time"] == "2023-11-14 22:11:40 UTC"
    assert rows[2]["link"] == ""


def test_servers_carry_the_names_of_their_pool_and_the_link_back() -> None:
    rows = ask("SHOW SERVERS").table()
    assert [(row["type"], row["id"], row["state"]) for row in rows] == [("S", "18", "active"), ("S", "19", "idle")]
    assert (rows[0]["user"], rows[0]["database"], rows[0]["remote_pid"]) == ("ann", "app", "4242")
    assert (rows[0]["ptr"], rows[0]["link"]) == ("0x12", "0x11")


def test_a_server_whose_pool_is_gone_is_still_listed() -> None:
    periods = StatsPeriods(now_us=0)
    orphan = link(5, 99, "active")
    nothing: Mapping[str, Any] = {"pools": [], "clients": [], "counters": {}, "databases": [], "users": []}
    snapshot = Snapshot.build(now_us=0, unix_us=0, listen_port=1, servers=[orphan], periods=periods, **nothing)

    class Closing(Pooler):
        async def snapshot(self) -> Snapshot:
            return snapshot

    (row,) = ask("SHOW SERVERS", pooler=Closing()).table()
    assert (row["user"], row["database"]) == ("(nouser)", "(nodb)")


def test_databases_have_nulls_where_nothing_is_set_and_count_connections() -> None:
    rows = ask("SHOW DATABASES").rows
    assert rows == [
        ["app", "db1", "5432", "app_db", None, "20", "1", "2", "3600", None, None, "50", "2", "60", "3", "0", "0"],
        ["pgbouncer", None, "6432", "pgbouncer", "pgbouncer", *"2000", "statement", None, *"000100"],
        ["zoo", None, "5432", "zoo", "bob", "3", "1", "2", "3600", "session", None, "0", "0", "0", "0", "0", "0"],
    ]


def test_users_print_sizes_as_padded_text() -> None:
    assert ask("SHOW USERS").rows == [
        ["ann", "", "", None, "0", "2", "0", "3"],
        ["pgbouncer", "", "", None, "0", "0", "0", "0"],
        ["zed", "        7", "", "session", "4", "0", "0", "0"],
    ]


def test_lists_have_the_rows_of_the_exporters() -> None:
    assert ask("SHOW LISTS").rows == [
        *[["databases", "3"], ["users", "3"], ["peers", "1"], ["pools", "4"], ["peer_pools", "1"]],
        *[["free_clients", "0"], ["used_clients", "5"], ["login_clients", "1"]],
        *[["free_servers", "0"], ["used_servers", "2"]],
        *[["dns_names", "1"], ["dns_zones", "0"], ["dns_queries", "0"], ["dns_pending", "0"]],
    ]


def test_config_is_sorted_and_unset_values_are_null() -> None:
    assert ask("SHOW CONFIG").rows == [["auth_file", None, None, "no"], ["verbose", "0", "0", "yes"]]


def test_version_reads_as_the_compatible_pgbouncer_and_names_us() -> None:
    assert ask("SHOW VERSION").rows == [["PgBouncer 1.26.1 (pgpool_core 9.8.7)"]]
    assert ask("SHOW STATE").rows == [["active", "yes"], ["paused", "no"], ["suspended", "no"]]


def test_leaks_are_told_latest_first() -> None:
    ends = ["9", "7", "8"]
    assert ask("SHOW LEAKS").rows == [
        ["app", "ann", "listen", None, "shop", None, "1", *ends],
        ["app", "ann", "setting", "work_mem", "shop", "00000000000000ab", "3", *ends],
    ]


def test_help_is_a_notice() -> None:
    found = ask("SHOW HELP")
    assert found.codes == b"NCZ"
    assert found.notice is not None
    assert (found.notice["S"], found.notice["C"], found.notice["M"]) == ("NOTICE", "00000", "Console usage")
    assert "\n\tSHOW HELP|CONFIG|" in found.notice["D"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_encoding", "UTF-8"),
        ("DEFAULT_transaction_isolation", "read committed"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO"),
        ("timezone", "GMT"),
    ],
)
def test_what_drivers_ask_and_set_after_login_is_faked(name: str, value: str) -> None:
    shown = ask(f"SHOW {name}", is_admin=False)
    assert (shown.columns, shown.rows) == ([(name.lower(), 25)], [[value]])
    ignored = ask(f"SET {name} TO 'x'", is_admin=False)
    assert (ignored.codes, ignored.tag) == (b"NCZ", "SET")
    assert ignored.notice is not None
    assert ignored.notice["M"] == "SET ignored"


@pytest.mark.parametrize("query", ["show pools", "SELECT pools", '"SHOW" "Pools" ;', "-- x\nshow pools"])
def test_spellings_of_the_same_command_get_the_same_answer(query: str) -> None:
    assert ask(query).rows == ask("SHOW POOLS").rows


def test_an_empty_query_is_answered_as_postgresql_does() -> None:
    assert ask("").messages == ask(" ; ").messages == [(b"I", b""), (b"Z", b"I")]


@pytest.mark.parametrize(
    "query", ["SHOW", "SHOW server_versions", "BOO", "SET x", "SELECT 1 2", "SELECT now()", "BEGINN", "INSERT x"]
)
@pytest.mark.parametrize("is_admin", [True, False])
def test_an_unknown_command_is_told_as_pgbouncer_tells_it(query: str, is_admin: bool) -> None:
    found = ask(query, is_admin=is_admin)
    assert found.codes == b"EZ"
    assert found.error == {"S": "ERROR", "C": "08P01", "M": f"invalid command '{query}', use SHOW HELP;"}


@pytest.mark.parametrize("query", ["RELOAD x", "SHUTDOWN now", "SHOW POOLS x"])
def test_arguments_that_mean_nothing_are_refused_and_nothing_happens(query: str) -> None:
    pooler = Pooler()
    found = ask(query, pooler=pooler)
    assert found.error == {"S": "ERROR", "C": "08P01", "M": f"invalid command '{query}', use SHOW HELP;"}
    assert pooler.done == []


@pytest.mark.parametrize(
    "query", ["RELOAD", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS", "PAUSE", "KILL app", "SET verbose=1", "SHOW FDS"]
)
def test_who_may_only_look_changes_nothing(query: str) -> None:
    pooler = Pooler()
    found = ask(query, is_admin=False, pooler=pooler)
    assert found.error == {"S": "ERROR", "C": "08P01", "M": "admin access needed"}
    assert pooler.done == []


def test_reload_and_shutdown_reach_the_pooler() -> None:
    pooler = Pooler()
    assert ask("RELOAD;", pooler=pooler).tag == "RELOAD"
    assert ask("shutdown", pooler=pooler).tag == "SHUTDOWN"
    assert pooler.done == ["reload", "shutdown None"]


@pytest.mark.parametrize(
    ("query", "tag", "done"),
    [
        *[(word, word, f"{word.lower()} None") for word in ("PAUSE", "RESUME", "KILL", "RECONNECT", "WAIT_CLOSE")],
        *[(f"{word} app;", word, f"{word.lower()} app") for word in ("PAUSE", "RESUME", "KILL", "RECONNECT")],
        ('PAUSE "My ""Db"""', "PAUSE", 'pause My "Db"'),
        ("SUSPEND", "SUSPEND", "suspend 40"),
        ("disable app", "DISABLE", "disable app"),
        ("DISABLE", "DISABLE", "disable None"),
        ("ENABLE app", "ENABLE", "enable app"),
        ("KILL_CLIENT 0x1f", "KILL_CLIENT", "kill_client 0x1f"),
        ("WAIT_CLOSE app", "WAIT_CLOSE", "wait_close app"),
        ("SHUTDOWN wait_for_servers", "SHUTDOWN", "shutdown WAIT_FOR_SERVERS"),
        ("SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN", "shutdown WAIT_FOR_CLIENTS"),
        ("set Verbose = 1", "SET verbose=1", "set verbose 1"),
        (
            "SET server_reset_query TO 'DISCARD ALL'",
            "SET server_reset_query=DISCARD ALL",
            "set server_reset_query DISCARD ALL",
        ),
    ],
)
def test_an_order_reaches_the_pooler_and_is_answered_with_its_tag(query: str, tag: str, done: str) -> None:
    pooler = Pooler()
    found = ask(query, pooler=pooler)
    assert (found.codes, found.tag) == (b"CZ", tag)
    assert pooler.done == [done]


def test_an_order_that_cannot_be_obeyed_is_an_error_with_the_reason() -> None:
    refused = CommandRefused("no such database: nowhere")
    assert ask("PAUSE nowhere", pooler=Pooler(order_error=refused)).error == {
        "S": "ERROR",
        "C": "08P01",
        "M": str(refused),
    }


def test_a_setting_that_cannot_be_changed_is_told_with_the_reason_as_detail() -> None:
    problem = ConfigError("setting listen_port cannot be changed without a restart")
    found = ask("SET listen_port = 1", pooler=Pooler(reload_error=problem))
    assert found.error == {"S": "ERROR", "C": "08P01", "M": "SET failed", "D": str(problem)}


def test_a_failed_reload_has_the_text_and_code_that_tools_know_and_the_reason_as_detail() -> None:
    problem = ConfigError("pgbouncer.ini:3: unknown key")
    found = ask("RELOAD", pooler=Pooler(reload_error=problem))
    assert found.error is not None
    assert (found.error["C"], found.error["M"]) == ("F0000", "RELOAD failed, see logs for additional details")
    assert found.error["D"] == str(problem)


def test_a_pooler_that_cannot_answer_gives_an_error_and_not_silence() -> None:
    found = ask(
        "SHOW POOLS",
        pooler=Pooler(snapshot_error=PgPoolError("a worker does not answer", detail="worker 3", sqlstate="57P03")),
    )
    assert found.codes == b"EZ"
    assert found.error is not None
    assert found.error == {"S": "ERROR", "C": "57P03", "M": "a worker does not answer", "D": "worker 3"}


def test_names_that_are_not_utf8_go_out_as_they_came_and_zero_bytes_do_not() -> None:
    assert reply.data_row(["a\udcff"]) == b"D\0\0\0\x0c\0\1\0\0\0\2a\xff"
    assert b"\0" not in reply.encode_text("a\0b")
    assert reply.encode_text("\ud800") == b"?"
    assert ask(b"\xff\0\xfe").error is not None


def test_the_greeting_is_that_of_a_pgbouncer() -> None:
    assert dict(reply.GREETING_PARAMETERS) == {
        b"pgbouncer.version": b"1.26.1",
        **{b"server_version": b"1.26.1/bouncer", b"client_encoding": b"UTF8", b"server_encoding": b"UTF8"},
        **{b"DateStyle": b"ISO", b"TimeZone": b"GMT", b"standard_conforming_strings": b"on", b"is_superuser": b"on"},
    }
    assert reply.parameter_status(b"a", b"b") == b"S\0\0\0\x08a\0b\0"


WORDS = ["show", "SELECT", "set", "pools", "stats", "reload", "shutdown", "pause", '"', "'", ";", "=", "to", "--", "/*"]
QUERIES = st.binary(max_size=300) | st.lists(st.sampled_from([*WORDS, "clients", "*/", "\0", "\n", "x"])).map(
    lambda words: " ".join(words).encode()
)


@given(QUERIES, st.booleans())
def test_any_bytes_get_a_whole_reply_that_ends_ready(query: bytes, is_admin: bool) -> None:
    found = ask(query, is_admin=is_admin)
    assert found.messages[-1][0] == b"Z"
    assert found.codes.count(b"Z") == 1
    assert found.codes.count(b"E") <= 1
    if found.error:
        assert found.codes.endswith(b"EZ")
        assert {"S", "C", "M"} <= found.error.keys()


def test_a_long_table_lets_other_tasks_run() -> None:
    class Crowded(Pooler):
        async def snapshot(self) -> Snapshot:
            return attrs.evolve(sample(), clients=sample().clients[:1] * 2_000)

    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(1)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            found = Reply(await session_of(Crowded(), is_admin=False).answer(b"Q", b"SHOW CLIENTS\0"))
            nursery.cancel_scope.cancel()
        assert len(found.rows) == 2_000

    trio.run(main)
    assert len(turns) >= 3


async def serve_console(stream: trio.SocketStream) -> None:
    """Be a pooler without passwords whose only database is the console."""
    session = session_of(Pooler())
    buffer = b""

    async def take(size: int) -> bytes:
        nonlocal buffer
        while len(buffer) < size:
            more = await stream.receive_some()
            if not more:
                raise trio.EndOfChannel
            buffer += more
        found, buffer = buffer[:size], buffer[size:]
        return found

    try:
        await take(unpack_from("!I", await take(4))[0] - 4)
        greeting = b"".join(reply.parameter_status(*item) for item in reply.GREETING_PARAMETERS)
        await stream.send_all(reply.message(b"R", b"\0\0\0\0") + greeting + reply.READY_FOR_QUERY)
        while (code := await take(1)) != b"X":
            body = await take(unpack_from("!I", await take(4))[0] - 4)
            await stream.send_all(await session.answer(code, body))
    except trio.EndOfChannel:
        pass


def read_with_psycopg(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.info.parameter_status("server_version") == "1.26.1/bouncer"
        with pytest.raises(psycopg.errors.ProtocolViolation):
            connection.execute("SHOW nothing")
        return connection.execute("SHOW DATABASES").fetchall()


def read_with_psycopg2(dsn: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    connection.close()
    return rows


def read_with_psql(dsn: str) -> list[tuple[Any, ...]]:
    if not (psql := shutil.which("psql")):
        pytest.skip("psql is not installed")
    command = [psql, "-X", "-A", "-t", "-P", "null=NULL", "-c", "SHOW DATABASES", dsn]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    cells = [[None if cell == "NULL" else cell for cell in line.split("|")] for line in lines]
    return [tuple(int(cell) if cell and cell.isdigit() else cell for cell in row) for row in cells]


@pytest.mark.parametrize("read", [read_with_psycopg, read_with_psycopg2, read_with_psql])
def test_real_clients_read_the_tables(read: Any) -> None:
    async def main() -> list[tuple[Any, ...]]:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve_console, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
            dsn = f"host=127.0.0.1 port={port} user=a dbname=pgbouncer sslmode=disable gssencmode=disable"
            with trio.fail_after(30):
                rows: list[tuple[Any, ...]] = await trio.to_thread.run_sync(read, dsn)
            nursery.cancel_scope.cancel()
        return rows

    rows = trio.run(main)
    assert rows[0] == ("app", "db1", 5432, "app_db", None, 20, 1, 2, 3600, None, None, 50, 2, 60, 3, 0, 0)
    assert [row[0] for row in rows] == ["app", "pgbouncer", "zoo"]
