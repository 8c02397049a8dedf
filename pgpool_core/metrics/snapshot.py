"""What the pooler looked like at one instant, as frozen rows.

The engine answers with dicts of numbers; this module makes rows of them that the console, the metrics endpoint and
`proxy.statistics()` read. Nothing here knows a socket, a clock or a setting: times come in as arguments, in
microseconds on the monotonic clock, and resolved settings come in as rows (`DatabaseRow`, `UserRow`).
Source: PgBouncer `doc/usage.md`, "SHOW POOLS", "SHOW CLIENTS" (what the states and columns mean).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from pgpool_core.metrics.counters import (
    CONSOLE_DATABASE,
    CONSOLE_POOL,
    Averages,
    CounterRow,
    DatabaseStats,
    StatsPeriods,
    reader,
)

__all__ = [
    "CONSOLE_DATABASE",
    "CONSOLE_POOL",
    "CONSOLE_USER",
    "POOL_MODES",
    "Averages",
    "ChannelRow",
    "ClientRow",
    "ConfigRow",
    "CounterRow",
    "DatabaseRow",
    "DatabaseStats",
    "LeakRow",
    "ListenerRow",
    "LoginStepRow",
    "MemoryRow",
    "NameRow",
    "PeerRow",
    "PoolRow",
    "PoolerState",
    "ServerRow",
    "Snapshot",
    "StatsPeriods",
    "UserRow",
    "WorkerRow",
]

CONSOLE_USER = "pgbouncer"
POOL_MODES = ("session", "transaction", "statement")
"""Names of the engine's numeric pool modes."""


def as_text(value: str | bytes | None) -> str:
    """Return a name as text; bytes that are not UTF-8 survive as surrogates and go out again unchanged."""
    if value is None:
        return ""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


@attrs.frozen
class ClientRow:
    """One client connection. `id` counts over clients and servers together; `link` is the id of its server, or 0.

    Times are monotonic microseconds; `wait_us` is how long it has been waiting for a server, 0 when it is not.
    State "login" lasts until the password is verified; who then waits for the pool's first server is "waiting".
    """

    id: int
    pool: int
    user: str = attrs.field(converter=as_text)
    database: str = attrs.field(converter=as_text)
    state: str
    addr: str = attrs.field(converter=as_text)
    port: int
    local_addr: str = attrs.field(converter=as_text)
    local_port: int
    connect_us: int
    request_us: int
    wait_us: int
    link: int
    application_name: str = attrs.field(converter=as_text)
    close_needed: bool = attrs.field(converter=bool)
    worker: int
    remote_pid: int
    replication: str  # "none", "physical" or "logical"
    pins: tuple[str, ...] = attrs.field(converter=tuple)
    """Why it keeps its server between transactions."""
    pinned_us: int
    pin_cause: int
    """Fingerprint of the statement that did it: the same for texts that differ in their constants only."""
    prepared: int
    """Named statements."""
    held: int
    """Bytes received and not passed on."""
    remain: int
    """Bytes to come of the message that is passing through."""
    unsent: int
    """Bytes that its socket has not taken yet."""
    fd: int
    tls: str
    """Version, cipher and key exchange; empty without TLS."""


@attrs.frozen
class ServerRow:
    """One connection to PostgreSQL; `link` is the id of its client, or 0. `remote_pid` is the backend's process id."""

    id: int
    pool: int
    state: str
    addr: str = attrs.field(converter=as_text)
    port: int
    local_addr: str = attrs.field(converter=as_text)
    local_port: int
    connect_us: int
    request_us: int
    link: int
    remote_pid: int
    close_needed: bool = attrs.field(converter=bool)
    application_name: str = attrs.field(converter=as_text)
    worker: int
    replication: str  # "none", "physical" or "logical"
    prepared: int
    held: int
    remain: int
    unsent: int
    fd: int
    tls: str
    host: str = attrs.field(converter=as_text)  # as `addr`; of a unix socket its folder


@attrs.frozen(kw_only=True)
class HostRow:
    """One host of an entry of [databases]: what the last attempt to open a server there has come to, and how many are open."""

    database: str
    host: str
    port: int
    state: str  # "up", "down", or "unknown" before the first attempt
    since_us: int  # 0: unknown
    error: str | None  # of the last attempt that failed
    opened: int
    failed: int
    servers: int
    addresses: tuple[str, ...]


@attrs.frozen(kw_only=True)
class LoginStepRow:
    """How many logins are at one step, such as having their password checked by LDAP; and since the start."""

    step: str
    active: int
    waiting: int  # for their turn
    max_active: int  # 0 = any number
    total: int
    queued: int  # those that have had to wait for their turn
    failed: int


@attrs.frozen
class ListenerRow:
    """A socket that clients connect to."""

    fd: int
    addr: str
    port: int


@attrs.frozen
class MemoryRow:
    """Records of one kind: bytes of each, how many are in use and how many are kept for later, bytes of all."""

    name: str
    size: int
    used: int
    free: int
    total: int


@attrs.frozen
class NameRow:
    """A host name that is remembered: seconds until it is looked up again, and its addresses."""

    name: str
    ttl_s: int
    addresses: tuple[str, ...]


@attrs.frozen
class PeerRow:
    """Another pooler that cancel requests are passed to, and how many are under way."""

    id: int
    host: str | None
    port: int
    pool_size: int
    cl_active_cancel_req: int = 0
    cl_waiting_cancel_req: int = 0
    sv_active_cancel: int = 0
    sv_login: int = 0


@attrs.frozen
class PoolerState:
    """Whether the pooler as a whole stands still."""

    paused: bool = False
    suspended: bool = False


@attrs.frozen
class PoolRow:
    """One pool. `cl_active` counts every logged-in client that is not waiting, idle ones included, as PgBouncer does.

    `maxwait_us` is the age of the oldest waiter, also of one that waits at its login for the first server; `servers_total` counts what PostgreSQL counts, logins included. The last three are
    the highest numbers that there have been at one moment.
    """

    id: int
    database: str = attrs.field(converter=as_text)
    user: str = attrs.field(converter=as_text)
    mode: int
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    cl_active: int
    cl_waiting: int
    cl_active_cancel_req: int
    cl_waiting_cancel_req: int
    sv_active: int
    sv_active_cancel: int
    sv_being_canceled: int
    sv_idle: int
    sv_used: int
    sv_tested: int
    sv_login: int
    maxwait_us: int
    servers_total: int
    most_clients: int
    most_waiting: int
    most_servers: int


@attrs.frozen
class WorkerRow:
    """One worker since the start: what it has done, and how much of it had to do with other workers.

    `thread` is the number that the system knows it by (0 before it runs). A lock is taken when a client asks for a server, and when one is
    given back. Waits for it are timed all, how long it is held only now and then: `locks_timed` times, `lock_held_ns` in sum, and `lock_held`
    by length: below 64 ns, below twice that, and so on, the last without a bound.
    """

    worker: int
    thread: int
    cpu_ns: int
    clients: int
    xacts: int
    steals: int
    handoffs: int
    wakeups: int
    locks: int
    lock_waits: int
    lock_wait_ns: int
    locks_timed: int
    lock_held_ns: int
    lock_held: tuple[int, ...] = attrs.field(converter=tuple)

    @property
    def held_ns(self) -> int:
        """How long it holds the lock of a pool, on average; 0 before it was timed."""
        return self.lock_held_ns // self.locks_timed if self.locks_timed else 0


@attrs.frozen(kw_only=True)
class LeakRow:
    """Session state that was found on a server after a client had given it back (leak_check).

    `name` is that of a setting, else empty; `client_id` who sent the last text that may have left something, or who had
    the server last; `fingerprint` that of the text, 0 where there was none.
    """

    at_us: int
    database: str
    user: str
    kind: str
    name: str
    application_name: str
    fingerprint: int
    client_id: int
    server_id: int
    server_pid: int


@attrs.frozen
class ChannelRow:
    """One channel that clients of a pool listen to without a server; the rest is about the connection that listens."""

    database: str
    user: str
    channel: str = attrs.field(converter=as_text)
    clients: int
    state: str
    """opening, listening, or lost: another connection is being opened."""
    remote_pid: int
    notifications: int
    reconnects: int


_read_client, _read_server, _read_pool = reader(ClientRow), reader(ServerRow), reader(PoolRow)
_read_worker = reader(WorkerRow)


@attrs.frozen(kw_only=True)
class DatabaseRow:
    """One entry of [databases] with every default filled in; None where the entry has no value of its own to show.

    `host` is None for a unix socket, `pool_mode` where the entry sets none, `server_lifetime_s` is in seconds,
    `max_connections` is max_db_connections and `max_client_connections` max_db_client_connections, 0 for no limit.
    """

    name: str
    host: str | None
    port: int
    database: str
    force_user: str | None
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    server_lifetime_s: float
    pool_mode: str | None
    load_balance_hosts: str | None = None
    max_connections: int = 0
    max_client_connections: int = 0
    paused: bool = False
    disabled: bool = False


@attrs.frozen(kw_only=True)
class UserRow:
    """One known user: sizes and mode are None where it has none of its own; the limits are in force, 0 for none."""

    name: str
    pool_size: int | None = None
    reserve_pool_size: int | None = None
    pool_mode: str | None = None
    max_user_connections: int = 0
    max_user_client_connections: int = 0


@attrs.frozen
class ConfigRow:
    """One line of SHOW CONFIG: values as they would be written in the ini, None if unset; whether RELOAD applies it."""

    key: str
    value: str | None
    default: str | None
    changeable: bool


def _with_wait(pool: PoolRow, longest_us: Mapping[int, int]) -> PoolRow:
    """`pool` with the longest wait that its clients tell, where that is longer: who waits at a login is in no queue."""
    wait_us = longest_us.get(pool.id, 0)
    return attrs.evolve(pool, maxwait_us=wait_us) if wait_us > pool.maxwait_us else pool


@attrs.frozen(kw_only=True)
class Snapshot:
    """The pooler at one instant. Pools, clients and servers come sorted as the console shows them."""

    now_us: int
    unix_us: int
    listen_port: int
    pools: tuple[PoolRow, ...]
    clients: tuple[ClientRow, ...]
    servers: tuple[ServerRow, ...]
    databases: tuple[DatabaseRow, ...]
    users: tuple[UserRow, ...]
    channels: tuple[ChannelRow, ...]
    stats: tuple[DatabaseStats, ...]
    overall: DatabaseStats
    leaks: tuple[LeakRow, ...] = ()
    """The last ones, oldest first."""
    listeners: tuple[ListenerRow, ...] = ()
    memory: tuple[MemoryRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    names: tuple[NameRow, ...] = ()
    names_asked: int = 0
    """Look-ups that are under way."""
    peers: tuple[PeerRow, ...] = ()
    hosts: tuple[HostRow, ...] = ()
    login_steps: tuple[LoginStepRow, ...] = ()
    state: PoolerState = PoolerState()

    @classmethod
    def build(
        cls,
        *,
        now_us: int,
        unix_us: int,
        listen_port: int,
        pools: Iterable[Mapping[str, Any]],
        clients: Iterable[Mapping[str, Any]],
        servers: Iterable[Mapping[str, Any]],
        counters: Mapping[int, Mapping[str, Any]],
        periods: StatsPeriods,
        databases: Iterable[DatabaseRow],
        users: Iterable[UserRow],
        past_pools: Mapping[int, str] | None = None,
        leaks: Iterable[LeakRow] = (),
        channels: Iterable[ChannelRow] = (),
        listeners: Iterable[ListenerRow] = (),
        memory: Iterable[MemoryRow] = (),
        workers: Iterable[Mapping[str, Any]] = (),
        names: Iterable[NameRow] = (),
        names_asked: int = 0,
        peers: Iterable[PeerRow] = (),
        hosts: Iterable[HostRow] = (),
        login_steps: Iterable[LoginStepRow] = (),
        state: PoolerState | None = None,
    ) -> Snapshot:
        """Return the engine's answers as rows; console database and console user are added where they are missing.

        Args:
            now_us: the monotonic clock in microseconds, read together with `unix_us`.
            unix_us: the wall clock in microseconds since 1970; only used to print times.
            listen_port: what SHOW DATABASES says for the console database.
            pools, clients, servers: rows as the engine gives them; more keys than the fields of a row do no harm.
            counters, periods: counters by pool id, and the periods that were ticked with them.
            past_pools: the database of pools that are not in `pools` any more, by id: they have counted for it.
        """
        told = [_read_client(row) for row in clients]
        longest_us = dict[int, int]()
        for client in told:
            longest_us[client.pool] = max(client.wait_us, longest_us.get(client.pool, 0))
        pool_rows = sorted(
            (_with_wait(_read_pool(row), longest_us) for row in pools), key=lambda p: (p.database, p.user, p.id)
        )
        rank = {pool.id: number for number, pool in enumerate(pool_rows)} | {CONSOLE_POOL: -1}
        client_rows = sorted(told, key=lambda c: (rank.get(c.pool, len(rank)), c.id))
        server_rows = sorted((_read_server(row) for row in servers), key=lambda s: (rank.get(s.pool, len(rank)), s.id))
        owners = {**(past_pools or {}), **{pool.id: pool.database for pool in pool_rows}}
        stats, overall = periods.statistics(counters, owners, {pool.database for pool in pool_rows})
        console = DatabaseRow(
            name=CONSOLE_DATABASE,
            host=None,
            port=listen_port,
            database=CONSOLE_DATABASE,
            force_user=CONSOLE_USER,
            pool_size=2,
            min_pool_size=0,
            reserve_pool_size=0,
            server_lifetime_s=0,
            pool_mode="statement",
        )
        entries = {console.name: console} | {row.name: row for row in databases}
        known = {CONSOLE_USER: UserRow(name=CONSOLE_USER)} | {row.name: row for row in users}
        return cls(
            now_us=now_us,
            unix_us=unix_us,
            listen_port=listen_port,
            pools=tuple(pool_rows),
            clients=tuple(client_rows),
            servers=tuple(server_rows),
            databases=tuple(entries[name] for name in sorted(entries)),
            users=tuple(known[name] for name in sorted(known)),
            channels=tuple(sorted(channels, key=lambda row: (row.database, row.user, row.channel))),
            stats=stats,
            overall=overall,
            leaks=tuple(leaks),
            listeners=tuple(listeners),
            memory=tuple(memory),
            workers=tuple(_read_worker(row) for row in workers),
            names=tuple(sorted(names, key=lambda row: row.name)),
            names_asked=names_asked,
            peers=tuple(sorted(peers, key=lambda row: row.id)),
            hosts=tuple(sorted(hosts, key=lambda row: row.database)),
            login_steps=tuple(login_steps),
            state=state or PoolerState(),
        )

    def time_text(self, at_us: int) -> str:
        """Return a monotonic time as `YYYY-MM-DD HH:MM:SS UTC`."""
        seconds = (self.unix_us + at_us - self.now_us) // 1_000_000
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def lists(self) -> dict[str, int]:
        """Return the sizes of PgBouncer's lists. Free objects are kept in no list here, so those are 0."""
        return {
            "databases": len(self.databases),
            "users": len(self.users),
            "peers": len(self.peers),
            "pools": len(self.pools) + 1,
            "peer_pools": len(self.peers),
            "free_clients": 0,
            "used_clients": len(self.clients),
            "login_clients": sum(client.state == "login" for client in self.clients),
            "free_servers": 0,
            "used_servers": len(self.servers),
            "dns_names": len(self.names),
            "dns_zones": 0,
            "dns_queries": self.names_asked,
            "dns_pending": 0,
        }

    def console_clients(self) -> int:
        """Return how many clients are logged in to the console."""
        return sum(client.pool == CONSOLE_POOL and client.state != "login" for client in self.clients)

    def clients_by(self, attribute: str) -> Counter[str]:
        """Return the number of logged-in clients by "database" or by "user"."""
        return Counter(getattr(client, attribute) for client in self.clients if client.state != "login")

    def servers_by(self, attribute: str) -> Counter[str]:
        """Return the number of server connections by the pool's "database" or "user", as PostgreSQL counts them."""
        counts: Counter[str] = Counter()
        for pool in self.pools:
            counts[getattr(pool, attribute)] += pool.servers_total
        return counts
