"""The tables that SHOW prints: for each its columns, in PgBouncer's names, order and types, and its rows of a Snapshot.

A column of ours stands only at the end of a PgBouncer table, so that readers by position keep working.
Source: what `RowDescription` of a running PgBouncer 1.25.2 says; meanings from its `doc/usage.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from pgpool_core.admin.reply import INT4, NUMERIC, TEXT, Cell, Column, columns
from pgpool_core.metrics.features import PIN_REASONS, WARNED_KINDS
from pgpool_core.metrics.snapshot import (
    CONSOLE_DATABASE,
    CONSOLE_USER,
    POOL_MODES,
    Averages,
    ClientRow,
    ConfigRow,
    CounterRow,
    ServerRow,
    Snapshot,
)

Cells = Sequence[Cell]


@attrs.frozen
class Table:
    """One SHOW command: what it is called on the wire and how its rows are read off a snapshot."""

    columns: tuple[Column, ...]
    rows: Callable[[Snapshot], Iterable[Cells]]


# What is counted, in the order of every statistics table.
_COUNTED = (
    *("server_assignments", "xacts", "queries", "received", "sent", "xact_us", "query_us", "wait_us"),
    *("client_parses", "server_parses", "binds", "client_logins"),
)
_PERCENTILES = ("query_p50_us", "query_p99_us", "wait_p50_us", "wait_p99_us", "xact_p50_us", "xact_p99_us")
_TOTALS_NAMES = (
    *("server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes"),
    *("xact_time", "query_time", "wait_time"),
    *("ps_client_parse_count", "ps_server_parse_count", "ps_bind_count", "client_login_count"),
)
_POOL_COUNTS = (
    *("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req"),
    *("sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login"),
)


def _counted(row: CounterRow | Averages) -> list[int]:
    return [getattr(row, name) for name in _COUNTED]


def _stats(snapshot: Snapshot) -> Iterable[Cells]:
    for row in snapshot.stats:
        percentiles = [getattr(row.averages, name) for name in _PERCENTILES]
        yield [row.database, *_counted(row.totals), *_counted(row.averages), *percentiles]


def _stats_totals(snapshot: Snapshot) -> Iterable[Cells]:
    return ([row.database, *_counted(row.totals)] for row in snapshot.stats)


def _stats_averages(snapshot: Snapshot) -> Iterable[Cells]:
    return ([row.database, *_counted(row.averages)] for row in snapshot.stats)


def _totals(snapshot: Snapshot) -> Iterable[Cells]:
    overall = snapshot.overall
    for prefix, values in (("total_", _counted(overall.totals)), ("avg_", _counted(overall.averages))):
        for name, value in zip(_TOTALS_NAMES, values, strict=True):
            yield [prefix + name, value]


def _pools(snapshot: Snapshot) -> Iterable[Cells]:
    """Return the console's pool first, then the others by database and user."""
    nothing = [0] * (len(_POOL_COUNTS) + 1)
    yield [CONSOLE_DATABASE, CONSOLE_USER, snapshot.console_clients(), *nothing, "statement", None]
    for pool in snapshot.pools:
        counts = [getattr(pool, name) for name in _POOL_COUNTS]
        yield [pool.database, pool.user, *counts, *divmod(pool.maxwait_us, 1_000_000), POOL_MODES[pool.mode], None]


def _pointer(connection_id: int) -> str:
    """Return the `ptr` of a connection: the same text stands as `link` at its other end; "" for none."""
    return f"0x{connection_id:x}" if connection_id else ""


def _socket(snapshot: Snapshot, kind: str, row: ClientRow | ServerRow, user: str, database: str, wait_us: int) -> Cells:
    """Return one row of SHOW CLIENTS or SHOW SERVERS. No TLS or named statements in this version."""
    return [
        kind,
        user,
        database,
        row.replication,
        row.state,
        row.addr,
        row.port,
        row.local_addr,
        row.local_port,
        snapshot.time_text(row.connect_us),
        snapshot.time_text(row.request_us or row.connect_us),
        *divmod(wait_us, 1_000_000),
        int(row.close_needed),
        _pointer(row.id),
        _pointer(row.link),
        row.remote_pid,
        "",
        row.application_name,
        0,
        row.id,
    ]


def _clients(snapshot: Snapshot) -> Iterable[Cells]:
    """Return the clients that have logged in; the others are only counted, in SHOW LISTS."""
    for client in snapshot.clients:
        if client.state != "login":
            yield _socket(snapshot, "C", client, client.user, client.database, client.wait_us)


def _pins(snapshot: Snapshot) -> Iterable[Cells]:
    """Return the clients that keep their server because of session state that cannot follow them."""
    servers = {server.id: server for server in snapshot.servers}
    for client in snapshot.clients:
        if client.pins:
            server = servers.get(client.link)
            yield [
                client.database,
                client.user,
                client.addr,
                client.port,
                client.application_name,
                ", ".join(client.pins),
                f"{client.pin_cause:016x}" if client.pin_cause else None,
                max(snapshot.now_us - client.pinned_us, 0) // 1_000_000,
                server.remote_pid if server else None,
                client.id,
                client.link,
            ]


def _pin_totals(snapshot: Snapshot) -> Iterable[Cells]:
    """Return, for each database and reason, how often clients began to keep a server, and texts that were warned of."""
    for row in snapshot.stats:
        pins = dict(zip(PIN_REASONS, row.totals.pinned_for, strict=False))
        warnings = dict(zip(WARNED_KINDS, row.totals.warned_of, strict=False))
        for reason in dict.fromkeys((*PIN_REASONS, *WARNED_KINDS)):
            yield [row.database, reason, pins.get(reason, 0), warnings.get(reason, 0)]


def _leaks(snapshot: Snapshot) -> Iterable[Cells]:
    """Return what leak_check has found, the latest first."""
    for leak in reversed(snapshot.leaks):
        yield [
            leak.database,
            leak.user,
            leak.kind,
            leak.name or None,
            leak.application_name,
            f"{leak.fingerprint:016x}" if leak.fingerprint else None,
            max(snapshot.now_us - leak.at_us, 0) // 1_000_000,
            leak.server_pid,
            leak.client_id,
            leak.server_id,
        ]


def _channels(snapshot: Snapshot) -> Iterable[Cells]:
    """Return the channels that clients listen to without holding a server."""
    for row in snapshot.channels:
        counts = (row.notifications, row.reconnects)
        yield [row.database, row.user, row.channel, row.clients, row.state, row.remote_pid or None, *counts]


def _servers(snapshot: Snapshot) -> Iterable[Cells]:
    pools = {pool.id: pool for pool in snapshot.pools}
    for server in snapshot.servers:
        pool = pools.get(server.pool)  # None: its database was removed, and it is being closed
        user, database = (pool.user, pool.database) if pool else ("(nouser)", "(nodb)")
        yield _socket(snapshot, "S", server, user, database, 0)


def _databases(snapshot: Snapshot) -> Iterable[Cells]:
    servers, clients = snapshot.servers_by("database"), snapshot.clients_by("database")
    for row in snapshot.databases:
        yield [
            row.name,
            row.host,
            row.port,
            row.database,
            row.force_user,
            row.pool_size,
            row.min_pool_size,
            row.reserve_pool_size,
            int(row.server_lifetime_s),
            row.pool_mode,
            row.load_balance_hosts,
            row.max_connections,
            servers[row.name],
            row.max_client_connections,
            clients[row.name],
            int(row.paused),
            int(row.disabled),
        ]


def _size_text(size: int | None) -> str:
    """Return a size as PgBouncer prints it in SHOW USERS: text, right-aligned in 9; "" where the user has none."""
    return "" if size is None else f"{size:9d}"


def _users(snapshot: Snapshot) -> Iterable[Cells]:
    servers, clients = snapshot.servers_by("user"), snapshot.clients_by("user")
    for row in snapshot.users:
        yield [
            row.name,
            _size_text(row.pool_size),
            _size_text(row.reserve_pool_size),
            row.pool_mode,
            row.max_user_connections,
            servers[row.name],
            row.max_user_client_connections,
            clients[row.name],
        ]


def _lists(snapshot: Snapshot) -> Iterable[Cells]:
    return snapshot.lists().items()


_SOCKET_COLUMNS = (
    *columns(TEXT, "type user database replication state addr"),
    *columns(INT4, "port"),
    *columns(TEXT, "local_addr"),
    *columns(INT4, "local_port"),
    *columns(TEXT, "connect_time request_time"),
    *columns(INT4, "wait wait_us close_needed"),
    *columns(TEXT, "ptr link"),
    *columns(INT4, "remote_pid"),
    *columns(TEXT, "tls application_name"),
    *columns(INT4, "prepared_statements id"),
)
_DATABASE = columns(TEXT, "database")
_PLAIN_COUNTS = columns(
    NUMERIC,
    "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time",
)

TABLES: Mapping[str, Table] = {
    "STATS": Table(
        (
            *_DATABASE,
            *columns(NUMERIC, "total_server_assignment_count total_xact_count total_query_count total_received"),
            *columns(NUMERIC, "total_sent total_xact_time total_query_time total_wait_time"),
            *columns(NUMERIC, "total_client_parse_count total_server_parse_count total_bind_count"),
            *columns(NUMERIC, "total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count"),
            *columns(NUMERIC, "avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time"),
            *columns(NUMERIC, "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count"),
            *columns(NUMERIC, " ".join(_PERCENTILES)),
        ),
        _stats,
    ),
    "STATS_TOTALS": Table(
        (
            *_DATABASE,
            *_PLAIN_COUNTS,
            *columns(NUMERIC, "client_parse_count server_parse_count bind_count client_login_count"),
        ),
        _stats_totals,
    ),
    "STATS_AVERAGES": Table(
        (
            *_DATABASE,
            *_PLAIN_COUNTS,
            *columns(NUMERIC, "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count"),
        ),
        _stats_averages,
    ),
    "TOTALS": Table((*columns(TEXT, "name"), *columns(NUMERIC, "value")), _totals),
    "POOLS": Table(
        (
            *columns(TEXT, "database user"),
            *columns(INT4, " ".join(_POOL_COUNTS)),
            *columns(INT4, "maxwait maxwait_us"),
            *columns(TEXT, "pool_mode load_balance_hosts"),
        ),
        _pools,
    ),
    "CLIENTS": Table(_SOCKET_COLUMNS, _clients),
    "PINS": Table(
        (
            *columns(TEXT, "database user addr"),
            *columns(INT4, "port"),
            *columns(TEXT, "application_name reasons fingerprint"),
            *columns(INT4, "age_s server_pid client_id server_id"),
        ),
        _pins,
    ),
    "PIN_TOTALS": Table((*columns(TEXT, "database reason"), *columns(NUMERIC, "pins warnings")), _pin_totals),
    "LEAKS": Table(
        (
            *columns(TEXT, "database user kind name application_name fingerprint"),
            *columns(INT4, "age_s server_pid client_id server_id"),
        ),
        _leaks,
    ),
    "CHANNELS": Table(
        (
            *columns(TEXT, "database user channel"),
            *columns(INT4, "clients"),
            *columns(TEXT, "state"),
            *columns(INT4, "server_pid"),
            *columns(NUMERIC, "notifications reconnects"),
        ),
        _channels,
    ),
    "SERVERS": Table(_SOCKET_COLUMNS, _servers),
    "DATABASES": Table(
        (
            *columns(TEXT, "name host"),
            *columns(INT4, "port"),
            *columns(TEXT, "database force_user"),
            *columns(INT4, "pool_size min_pool_size reserve_pool_size server_lifetime"),
            *columns(TEXT, "pool_mode load_balance_hosts"),
            *columns(INT4, "max_connections current_connections max_client_connections current_client_connections"),
            *columns(INT4, "paused disabled"),
        ),
        _databases,
    ),
    "USERS": Table(
        (
            *columns(TEXT, "name pool_size reserve_pool_size pool_mode"),
            *columns(INT4, "max_user_connections current_connections"),
            *columns(INT4, "max_user_client_connections current_client_connections"),
        ),
        _users,
    ),
    "LISTS": Table((*columns(TEXT, "list"), *columns(INT4, "items")), _lists),
}
"""The SHOW commands that need a Snapshot."""

CONFIG_COLUMNS = columns(TEXT, "key value default changeable")
VERSION_COLUMNS = columns(TEXT, "version")
STATE_COLUMNS = columns(TEXT, "key value")

STATE_ROWS: Sequence[Cells] = (("active", "yes"), ("paused", "no"), ("suspended", "no"))
"""This version cannot be paused or suspended."""


def config_rows(rows: Iterable[ConfigRow]) -> list[Cells]:
    """Return the rows of SHOW CONFIG, by key."""
    ordered = sorted(rows, key=lambda row: row.key)
    return [[row.key, row.value, row.default, "yes" if row.changeable else "no"] for row in ordered]
