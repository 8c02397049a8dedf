"""What the pooler looks like from outside: rows for the console and `proxy.statistics()`, averages for the log.

Clients are known to their workers only, so they are asked by mail; everything else the engine answers at once.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.control import routing
from pgpool_core.control.hosts import HostState
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.metrics.counters import Averages, StatsPeriods
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import (
    ChannelRow,
    DatabaseRow,
    HostRow,
    LeakRow,
    ListenerRow,
    LoginStepRow,
    MemoryRow,
    NameRow,
    PeerRow,
    PoolerState,
    Snapshot,
    UserRow,
)
from pgpool_core.policy.userlist import Userlist

if TYPE_CHECKING:
    from pgpool_core.control.channels import ListenerStatus
    from pgpool_core.control.listeners import Listener
    from pgpool_core.control.login_steps import LoginStep
    from pgpool_core.control.opener import Opener
    from pgpool_core.control.peers import Peers
    from pgpool_core.engine.plane import Engine

LEAKS_KEPT: Final = 100
CLIENTS_WAIT_S: Final = 1.0  # for all workers to tell their clients; a worker answers between two turns of its loop

MEMORY_NAMES: Final = (
    *("user_cache", "credentials_cache", "db_cache", "peer_cache", "peer_pool_cache", "pool_cache"),
    *("outstanding_request_cache", "server_cache", "client_cache", "iobuf_cache", "var_list_cache"),
    "server_prepared_statement_cache",
)
QUIET: Final = {"prepared": 0, "held": 0, "remain": 0, "unsent": 0}
NOT_YET: Final = {
    **QUIET,
    **{"id": 0, "state": "new", "local_addr": "", "local_port": 0, "request_us": 0, "link": 0, "remote_pid": 0},
    **{"close_needed": False, "application_name": "", "worker": 0, "fd": -1, "tls": ""},
}
"""What a server connection that is being opened has none of."""
NOTHING: Final[Mapping[int, Mapping[str, int]]] = {}

Rows = list[dict[str, Any]]


class Report:
    """Collects what is told about clients, keeps the periods of the averages, and builds snapshots."""

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        now_us: Callable[[], int],
        listeners: Callable[[], Mapping[int, ListenerStatus]],
    ) -> None:
        """Begin the first period of the averages now; `listeners` tells the listening connections by pool."""
        self.periods = StatsPeriods(now_us())
        self._engine = engine
        self._pools = pools
        self._now_us = now_us
        self._listeners = listeners
        self._channels: dict[tuple[int, bytes], int] = {}  # pool and channel: clients, as last told
        self._telling: dict[int, dict[tuple[int, bytes], int]] = {}
        self._asked: dict[int, tuple[dict[int, Rows], trio.Event]] = {}
        self._leaks: deque[LeakRow] = deque(maxlen=LEAKS_KEPT)
        self._sockets: dict[int, dict[int, dict[str, int]]] = {}  # by token and server: what only workers may look at
        self._told_sockets: dict[int, dict[str, int]] = {}
        self.listeners: Sequence[Listener] = ()
        self.opener: Opener | None = None
        self.peers: Peers | None = None
        self.login_steps: Sequence[LoginStep] = ()

    def clients_told(self, token: int, worker: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """A worker has told its clients; too late an answer is dropped."""
        if token not in self._asked:
            return
        told, complete = self._asked[token]
        told[worker] = [dict(row) for row in rows]
        if len(told) == self._engine.workers:
            complete.set()

    def leak_found(
        self,
        pool: int,
        kind: str,
        name: str,
        application_name: str,
        fingerprint: int,
        client: int,
        server: int,
        pid: int,
    ) -> None:
        """leak_check has found something: it is logged, and kept for SHOW LEAKS."""
        record = self._pools.get(pool)
        if record is None:
            return
        leak = LeakRow(
            at_us=self._now_us(),
            database=record.key.database,
            user=record.key.user,
            kind=kind,
            name=name,
            application_name=application_name,
            fingerprint=fingerprint,
            client_id=client,
            server_id=server,
            server_pid=pid,
        )
        self._leaks.append(leak)
        fields = {"client": f"C-0x{client:x}", "application_name": application_name}
        if fingerprint:
            fields["fingerprint"] = f"{fingerprint:016x}"
        what = f"left behind in the session: {kind} {name}".rstrip() + "; closing (leak_check)"
        logs.LOGGER.warning("%s", logs.line(f"S-0x{server:x}: {record.key}", what, fields))

    def channels_told(self, token: int, rows: Iterable[tuple[int, bytes, int]]) -> None:
        """A worker has told its channels, which it does before its clients."""
        if token in self._telling:
            told = self._telling[token]
            for pool, channel, clients in rows:
                told[pool, channel] = told.get((pool, channel), 0) + clients

    def sockets_told(self, token: int, rows: Iterable[tuple[int, dict[str, int]]]) -> None:
        """A worker has told of its servers, which it does before its clients."""
        if token in self._sockets:
            self._sockets[token].update(rows)

    async def clients(self) -> Rows:
        """The clients of all workers; those of a worker that does not answer in time are missing, and the log says so."""
        token = self._engine.ask_clients()
        told: dict[int, Rows] = {}
        complete = trio.Event()
        self._asked[token] = told, complete
        self._telling[token] = {}
        self._sockets[token] = {}
        try:
            with trio.move_on_after(CLIENTS_WAIT_S) as scope:
                await complete.wait()
        finally:
            del self._asked[token]
            self._channels = self._telling.pop(token)
            self._told_sockets = self._sockets.pop(token)
        if scope.cancelled_caught:
            fields = {"workers": self._engine.workers, "answered": len(told)}
            logs.LOGGER.error("%s", logs.line("", "not every worker has told its clients", fields))
        return [row for rows in told.values() for row in rows]

    def end_period(self) -> Averages:
        """End a period of the averages (stats_period) now; returns those of all databases together."""
        counters = self._engine.counters()
        self.periods.console_logins = self._engine.console_logins()
        self.periods.tick(counters, self._now_us())
        return self.periods.statistics(counters, self._pools.databases_ever)[1].averages

    async def snapshot(self, config: Config, userlist: Userlist, port: int) -> Snapshot:
        """The pooler as it is now, clients included; `port` is the one that it listens on."""
        clients = await self.clients()
        return self.build(clients, config, userlist, port, self._told_sockets)

    def features(self) -> SessionFeatures:
        """Which session features have been used, over all pools."""
        return SessionFeatures.of(self._engine.counters().values())

    def build(
        self,
        clients: Iterable[dict[str, Any]],
        config: Config,
        userlist: Userlist,
        port: int,
        sockets: Mapping[int, Mapping[str, int]] = NOTHING,
    ) -> Snapshot:
        """The pooler as it is now, with these clients; `sockets` is what workers have told of servers."""
        engine = self._engine
        holds = self._pools.holds
        users = list(_users(config, userlist))
        databases = list(self._databases(config))
        servers, counters = engine.servers(), engine.counters()
        self.periods.console_logins = engine.console_logins()
        return Snapshot.build(
            now_us=self._now_us(),
            unix_us=time.time_ns() // 1000,
            listen_port=port,
            pools=engine.pools(),
            clients=clients,
            servers=[*self._opening(), *({**row, **QUIET, **sockets.get(row["id"], {})} for row in servers)],
            counters=counters,
            periods=self.periods,
            past_pools=self._pools.databases_ever,
            channels=self._channel_rows(),
            databases=databases,
            users=users,
            leaks=self._leaks,
            listeners=[ListenerRow(listener.fd, listener.host, listener.port) for listener in self.listeners],
            memory=_memory(engine, len(users), len(databases)),
            workers=engine.worker_rows(),
            names=self._name_rows(),
            names_asked=self._pools.names.under_way,
            peers=self._peer_rows(config),
            hosts=self._host_rows(servers),
            login_steps=[_proving(engine.logins(), counters, config), *(step.row() for step in self.login_steps)],
            state=PoolerState(paused=holds.paused_all or holds.ending == "WAIT_FOR_SERVERS", suspended=holds.suspended),
        )

    def _name_rows(self) -> Iterable[NameRow]:
        """A row for each host name that is remembered; one that several ports have comes once."""
        found: dict[str, NameRow] = {}
        for name in self._pools.names:
            left_s = max(0, math.ceil(name.expires - trio.current_time()))
            found[name.host] = NameRow(name.host, left_s, tuple(sorted(name.hosts)))
        return found.values()

    def _host_rows(self, servers: Iterable[Mapping[str, Any]]) -> Iterable[HostRow]:
        """A row for each host of each database that has a pool, in the order of the entry.

        A server at an address that several of the hosts have is counted once: where the entry has the address itself, else at the first.
        """
        open_at: Counter[tuple[str, str]] = Counter()
        for row in servers:
            if (record := self._pools.get(row["pool"])) is not None:
                open_at[record.key.database, row.get("host", "")] += 1
        told = set[str]()
        for record in self._pools.shown():
            database, target = record.key.database, record.target
            if database in told:
                continue
            told.add(database)
            named = dict.fromkeys(target.hosts)
            counted = set[str]()
            for host in named:
                state = target.host_order.states.get(host, HostState())
                mine = {host} | (state.addresses - counted - named.keys())
                counted |= mine
                yield HostRow(
                    database=database,
                    host=host,
                    port=target.port,
                    state="unknown" if state.up is None else "up" if state.up else "down",
                    since_us=state.since_us,
                    error=state.error or None,
                    opened=state.opened,
                    failed=state.failed,
                    servers=sum(open_at[database, address] for address in mine),
                    addresses=tuple(sorted(state.addresses)),
                )

    def _opening(self) -> Iterable[dict[str, Any]]:
        """A row for each server connection that is being opened, with the hosts that its entry names."""
        for opening in self.opener.opening.values() if self.opener is not None else ():
            hosts, target = ",".join(opening.target.hosts), opening.target
            addr = "unix" if target.hosts[0][:1] in ("/", "@") else hosts
            yield {
                **NOT_YET,
                "pool": opening.pool,
                "addr": addr,
                "host": hosts,
                "port": target.port,
                "connect_us": opening.since_us,
                "replication": opening.replication,
            }

    def _peer_rows(self, config: Config) -> Iterable[PeerRow]:
        """A row for each entry of [peers]."""
        for number, peer in config.peers.items():
            size = _first(peer.pool_size, config.default_pool_size)
            under_way = self.peers.under_way(number) if self.peers is not None else 0
            waiting = self.peers.waiting.get(number, 0) if self.peers is not None else 0
            yield PeerRow(
                number,
                peer.host,
                peer.port,
                size,
                cl_active_cancel_req=under_way,
                cl_waiting_cancel_req=waiting,
                sv_active_cancel=under_way,
            )

    def _channel_rows(self) -> Iterable[ChannelRow]:
        """A row for each channel that clients listen to without a server."""
        listeners = self._listeners()
        for (pool, channel), clients in self._channels.items():
            if (record := self._pools.get(pool)) is None or (listener := listeners.get(pool)) is None:
                continue
            yield ChannelRow(
                database=record.key.database,
                user=record.key.user,
                channel=channel,
                clients=clients,
                state=listener.state,
                remote_pid=listener.backend_pid,
                notifications=listener.notifications,
                reconnects=listener.reconnects,
            )

    def _databases(self, config: Config) -> Iterable[DatabaseRow]:
        """A row for each entry, and for each database that came into being through `*`."""
        holds = self._pools.holds
        names = dict.fromkeys(config.databases) | dict.fromkeys(record.key.database for record in self._pools.shown())
        names |= dict.fromkeys(sorted(holds.paused | holds.disabled))
        for name in names:
            entry = config.databases.get(name) or routing.entry_for(config, name)
            if entry is None:
                continue
            lifetime_s = entry.server_lifetime if entry.server_lifetime is not None else config.server_lifetime
            yield DatabaseRow(
                name=name,
                host=entry.host,
                port=entry.port,
                database=entry.dbname or name,
                force_user=entry.user,
                pool_size=_first(entry.pool_size, config.default_pool_size),
                min_pool_size=_first(entry.min_pool_size, config.min_pool_size),
                reserve_pool_size=_first(entry.reserve_pool_size, config.reserve_pool_size),
                server_lifetime_s=lifetime_s,
                pool_mode=entry.pool_mode,
                load_balance_hosts=(entry.load_balance_hosts or "round-robin") if len(entry.hosts) > 1 else None,
                max_connections=_first(entry.max_db_connections, config.max_db_connections),
                max_client_connections=routing.database_clients(config, name),
                paused=holds.pauses(name),
                disabled=name in holds.disabled,
            )


def _memory(engine: Engine, users: int, databases: int) -> Iterable[MemoryRow]:
    """PgBouncer's rows. What is no block of records of one size here has size 0."""
    known = {"user_cache": (0, users, 0), "db_cache": (0, databases, 0)}
    known |= {name: (size, used, free) for name, size, used, free in engine.memory()}
    for name in MEMORY_NAMES:
        size, used, free = known.get(name, (0, 0, 0))
        yield MemoryRow(name, size, used, free, size * (used + free))


def _proving(
    logins: tuple[int, int, int, int], counters: Mapping[int, Mapping[str, Any]], config: Config
) -> LoginStepRow:
    """The whole of a login, which takes place in the workers."""
    active, waiting, queued, failed = logins
    done = sum(row["client_logins"] for row in counters.values())
    return LoginStepRow(
        step="login",
        active=active,
        waiting=waiting,
        max_active=config.max_logins,
        total=done + failed,
        queued=queued,
        failed=failed,
    )


def _users(config: Config, userlist: Userlist) -> Iterable[UserRow]:
    """A row for each user of auth_file, of [users] and of a forced `user=`."""
    names = {routing.as_name(user) for user in userlist} | set(config.users)
    names |= {entry.user for entry in config.databases.values() if entry.user is not None}
    for name in names:
        user = config.users.get(name)
        yield UserRow(
            name=name,
            pool_size=user.pool_size if user else None,
            reserve_pool_size=user.reserve_pool_size if user else None,
            pool_mode=user.pool_mode if user else None,
            max_user_connections=routing.user_limit(config, name),
            max_user_client_connections=routing.user_clients(config, name),
        )


def _first(own: int | None, common: int) -> int:
    return common if own is None else own
