"""The tables that SHOW prints: for each its columns, in PgBouncer's names, order and types, and its rows of a Snapshot.

A column of ours stands only at the end of a PgBouncer table, so that readers by position keep working.
Source: what `RowDescription` of a running PgBouncer 1.26.1 says; meanings from its `doc/usage.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from pgpool_core.admin.reply import BYTEA, INT4, INT8, NUMERIC, TEXT, Cells, Column, columns
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
    balance = {row.name: row.load_balance_hosts for row in snapshot.databases}
    yield [CONSOLE_DATABASE, CONSOLE_USER, snapshot.console_clients(), *nothing, "statement", None]
    for pool in snapshot.pools:
        counts = [getattr(pool, name) for name in _POOL_COUNTS]
        wait, mode = divmod(pool.maxwait_us, 1_000_000), POOL_MODES[pool.mode]
        yield [pool.database, pool.user, *counts, *wait, mode, balance.get(pool.database)]


def _pointer(connection_id: int) -> str:
    """Return the `ptr` of a connection: the same text stands as `link` at its other end; "" for none."""
    return f"0x{connection_id:x}" if connection_id else ""


def _socket(snapshot: Snapshot, kind: str, row: ClientRow | ServerRow, user: str, database: str, wait_us: int) -> Cells:
    """Return one row of SHOW CLIENTS or SHOW SERVERS."""
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
        row.tls,
        row.application_name,
        row.prepared,
        row.id,
    ]


def _clients(snapshot: Snapshot) -> Iterable[Cells]:
    """Return the clients that have logged in; the others are only counted, in SHOW LISTS. Those of the console hold no server: idle."""
    for client in snapshot.clients:
        if client.state != "login":
            row = attrs.evolve(client, state="idle") if client.database == CONSOLE_DATABASE else client
            yield _socket(snapshot, "C", row, client.user, client.database, client.wait_us)


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


def _owned_servers(snapshot: Snapshot) -> Iterable[tuple[ServerRow, str, str]]:
    """Return the servers, each with its user and database."""
    pools = {pool.id: pool for pool in snapshot.pools}
    for server in snapshot.servers:
        pool = pools.get(server.pool)  # None: its database was removed, and it is being closed
        user, database = (pool.user, pool.database) if pool else ("(nouser)", "(nodb)")
        yield server, user, database


def _servers(snapshot: Snapshot) -> Iterable[Cells]:
    for server, user, database in _owned_servers(snapshot):
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


def _active(row: ClientRow | ServerRow) -> bool:
    return row.state == "active"


def _sockets(snapshot: Snapshot, keep: Callable[[ClientRow | ServerRow], bool] = lambda row: True) -> Iterable[Cells]:
    """Return clients and servers with what is in their buffers. States carry their side, as in `cl_active`; idle clients are active."""
    states = {"idle": "active", "waiting": "waiting", "login": "login"}
    for client in filter(keep, snapshot.clients):
        row = _socket(snapshot, "C", client, client.user, client.database, client.wait_us)
        yield [*row[:4], f"cl_{states.get(client.state, client.state)}", *row[5:], *_buffers(client)]
    for server, user, database in _owned_servers(snapshot):
        if keep(server):
            row = _socket(snapshot, "S", server, user, database, 0)
            yield [*row[:4], f"sv_{server.state}", *row[5:], *_buffers(server)]


def _active_sockets(snapshot: Snapshot) -> Iterable[Cells]:
    """Return the sockets of clients and servers that are linked."""
    return _sockets(snapshot, _active)


def _buffers(row: ClientRow | ServerRow) -> Cells:
    """Return recv_pos, pkt_pos, pkt_remain, send_pos, send_remain, pkt_avail, send_avail: our buffers are empty, or hold this."""
    return [row.held, 0, row.remain, 0, row.unsent, row.held, row.unsent]


def _hosts(snapshot: Snapshot) -> Iterable[Cells]:
    for row in snapshot.hosts:
        since = snapshot.time_text(row.since_us) if row.since_us else None
        told = (row.servers, row.opened, row.failed, ",".join(row.addresses))
        yield [row.database, row.host, row.port, row.state, since, row.error, *told]


def _logins(snapshot: Snapshot) -> Iterable[Cells]:
    for row in snapshot.login_steps:
        yield [row.step, row.active, row.waiting, row.max_active, row.total, row.queued, row.failed]


def _peer_pools(snapshot: Snapshot) -> Iterable[Cells]:
    for row in snapshot.peers:
        waits = (row.cl_active_cancel_req, row.cl_waiting_cancel_req)
        yield [row.id, *waits, row.sv_active_cancel, row.sv_login]


def _memory(snapshot: Snapshot) -> Iterable[Cells]:
    return ([row.name, row.size, row.used, row.free, row.total] for row in snapshot.memory)


def _workers(snapshot: Snapshot) -> Iterable[Cells]:
    for row in snapshot.workers:
        counts = (row.xacts, row.steals, row.handoffs, row.wakeups, row.locks, row.lock_waits)
        yield [row.worker, row.thread, row.cpu_ns // 1000, row.clients, *counts, row.lock_wait_ns // 1000, row.held_ns]


def _state(snapshot: Snapshot) -> Iterable[Cells]:
    state = snapshot.state
    words = {"active": not (state.paused or state.suspended), "paused": state.paused, "suspended": state.suspended}
    return ([name, "yes" if is_so else "no"] for name, is_so in words.items())


def _fds(snapshot: Snapshot) -> Iterable[Cells]:
    """Return every open socket: listeners, then clients, then servers. Secrets are never shown."""
    nothing = [None] * 7
    for listener in snapshot.listeners:
        yield [listener.fd, "pooler", None, None, listener.addr, listener.port, 0, 0, *nothing]
    fds = {row.id: row.fd for row in snapshot.clients} | {row.id: row.fd for row in snapshot.servers}
    for client in snapshot.clients:
        if client.state != "login":
            owner = (client.user, client.database, client.addr, client.port)
            yield [client.fd, "client", *owner, 0, fds.get(client.link, 0), *nothing]
    for server, user, database in _owned_servers(snapshot):
        if server.state == "new":
            continue  # and what it has by now is not open for long
        owner = (user, database, server.addr, server.port)
        yield [server.fd, "server", *owner, server.remote_pid, fds.get(server.link, 0), *nothing]


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
_BUFFER_COLUMNS = columns(INT4, "recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail")
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
    "SOCKETS": Table((*_SOCKET_COLUMNS, *_BUFFER_COLUMNS), _sockets),
    "ACTIVE_SOCKETS": Table((*_SOCKET_COLUMNS, *_BUFFER_COLUMNS), _active_sockets),
    "PEERS": Table(
        (*columns(INT4, "peer_id"), *columns(TEXT, "host"), *columns(INT4, "port pool_size")),
        lambda snapshot: ([row.id, row.host, row.port, row.pool_size] for row in snapshot.peers),
    ),
    "PEER_POOLS": Table(
        columns(INT4, "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"), _peer_pools
    ),
    "HOSTS": Table(
        (
            *columns(TEXT, "database host"),
            *columns(INT4, "port"),
            *columns(TEXT, "state since error"),
            *columns(INT4, "servers"),
            *columns(NUMERIC, "opened failed"),
            *columns(TEXT, "addrs"),
        ),
        _hosts,
    ),
    "LOGINS": Table(
        (
            *columns(TEXT, "step"),
            *columns(INT4, "active waiting max_active"),
            *columns(NUMERIC, "total queued failed"),
        ),
        _logins,
    ),
    "MEM": Table((*columns(TEXT, "name"), *columns(INT4, "size used free memtotal")), _memory),
    "WORKERS": Table(
        (
            *columns(INT4, "worker thread"),
            *columns(NUMERIC, "cpu_us"),
            *columns(INT4, "clients"),
            *columns(NUMERIC, "xact_count steals handoffs wakeups locks lock_waits lock_wait_us lock_held_ns"),
        ),
        _workers,
    ),
    "DNS_HOSTS": Table(
        (*columns(TEXT, "hostname"), *columns(INT8, "ttl"), *columns(TEXT, "addrs")),
        lambda snapshot: ([row.name, row.ttl_s, ",".join(row.addresses)] for row in snapshot.names),
    ),
    "DNS_ZONES": Table(
        (*columns(TEXT, "zonename"), *columns(INT8, "serial"), *columns(INT4, "count")),
        lambda snapshot: (),
    ),
    "STATE": Table(columns(TEXT, "key value"), _state),
    "FDS": Table(
        (
            *columns(INT4, "fd"),
            *columns(TEXT, "task user database addr"),
            *columns(INT4, "port"),
            *columns(INT8, "cancel"),
            *columns(INT4, "link"),
            *columns(TEXT, "client_encoding std_strings datestyle timezone password"),
            *columns(BYTEA, "scram_client_key scram_server_key"),
        ),
        _fds,
    ),
}
"""The SHOW commands that need a Snapshot."""

CONFIG_COLUMNS = columns(TEXT, "key value default changeable")
VERSION_COLUMNS = columns(TEXT, "version")
OTHER_COLUMNS: Mapping[str, tuple[Column, ...]] = {"CONFIG": CONFIG_COLUMNS, "VERSION": VERSION_COLUMNS}
"""The SHOW commands that need none."""


def config_rows(rows: Iterable[ConfigRow]) -> list[Cells]:
    """Return the rows of SHOW CONFIG, by key."""
    ordered = sorted(rows, key=lambda row: row.key)
    return [[row.key, row.value, row.default, "yes" if row.changeable else "no"] for row in ordered]
