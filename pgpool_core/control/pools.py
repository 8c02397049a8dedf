"""The pools that exist, and what the engine has been told about them: groups, routes, credentials, settings.

A pool is made when the first login to it has been proved, or at start where a forced user makes it known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.config.names import FALLBACK_DATABASE
from pgpool_core.control import routing
from pgpool_core.control.connect import Began, LoggedInServer, Pairs, ServerTarget
from pgpool_core.control.holds import Holds
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.names import Names
from pgpool_core.control.reload import PoolsPlan
from pgpool_core.control.routing import PoolKey, PoolSettings, ToPool
from pgpool_core.control.server_tls import Secured, TlsContexts
from pgpool_core.errors import PoolClosed, PoolError, error_response
from pgpool_core.policy.client_keys import ClientKeys
from pgpool_core.policy.secrets import Secret
from pgpool_core.policy.userlist import Userlist

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

NOBODIES: Final = 1000  # users who do not exist, whom the engine knows as such; the oldest go first
DATABASE_REMOVED: Final = error_response(PoolClosed("database removed", sqlstate="57P01"))


@attrs.define(eq=False)
class PoolRecord:
    """What control knows of one pool of the engine."""

    id: int
    key: PoolKey
    settings: PoolSettings
    target: ServerTarget
    welcome: tuple[tuple[bytes, bytes], ...] = ()  # ParameterStatus for new clients; empty before the first server
    began: Began | None = None  # what servers, and so clients, begin with beside that; None: not known yet
    failures: int = 0  # failed attempts in a row
    retry_us: int = 0  # no attempt before then
    away_us: int = 0  # since then it has no server, and none can be reached
    empty_since_us: int = 0  # nobody has been seen there since; 0 = somebody is
    layered: bool = False  # its servers are another pooler's, and the log says so
    parked: bool = False  # forgotten until the next login: not shown
    host_names: dict[str, str] = attrs.field(
        factory=dict
    )  # by address: what the entry calls the host that was there last
    looked_up: Secret | None = attrs.field(default=None, repr=False)  # of its user, from auth_query
    shown: Secret | None = attrs.field(
        default=None, repr=False
    )  # the password that its user has shown, and LDAP has found right

    def secured(self, host: str) -> Secured:
        """How a server of the pool at this address is encrypted, where it is."""
        return Secured(self.target.tls, self.target.contexts, self.host_names.get(host, host))


class PoolRegistry:
    """Pools by key and by id. All of it belongs to the control loop."""

    def __init__(self, engine: Engine, config: Config, userlist: Userlist) -> None:
        """Begin with no pools; `make_known` adds those that need no client."""
        self.config = config
        self.userlist = userlist
        self.names = Names(config.dns_max_ttl, config.dns_nxdomain_ttl)
        self.contexts = TlsContexts()
        self._engine = engine
        self._by_key: dict[PoolKey, PoolRecord] = {}
        self._by_id: dict[int, PoolRecord] = {}
        self._database_groups: dict[str, int] = {}
        self._user_groups: dict[str, int] = {}
        self._orders: dict[str, HostOrder] = {}
        self._credentials: dict[bytes, trio.Event] = {}
        self._nobodies: dict[tuple[bytes, bytes], None] = {}
        self.holds = Holds()
        self.keys = ClientKeys()
        self.salt_of: Callable[[bytes], bytes | None] = lambda user: None
        """The salt of keys that are made of the plain password of a user; None: one that the process has drawn."""
        self.hear: Callable[[], None] = lambda: None
        """Reads the workers' mail: the key of the client that a server is wanted for may have come, and not been read."""

    def __iter__(self) -> Iterator[PoolRecord]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, pool: int) -> PoolRecord | None:
        """The pool with this id; also one that is being closed."""
        return self._by_id.get(pool)

    @property
    def databases_ever(self) -> dict[int, str]:
        """The database of each pool that there has been, by its id, which no other pool gets."""
        return {pool: record.key.database for pool, record in self._by_id.items()}

    def greet(self, record: PoolRecord, parameters: Pairs, began: Began) -> None:
        """From now on clients of a pool are told `parameters` at login, and begin with what servers begin with."""
        record.welcome, record.began = parameters, began
        self._engine.set_welcome(record.id, parameters, began.settings, began.at_login, began.fixed)

    def forget_greeting(self, record: PoolRecord) -> None:
        """Another server may greet differently: the next one says how."""
        record.welcome, record.began = (), None
        self._engine.forget_welcome(record.id)

    def knows(self, database: str) -> bool:
        """Whether there is such a database: an entry, or any name where there is `*`."""
        return routing.entry_for(self.config, database) is not None

    def make_known(self) -> None:
        """Make the pools of all entries with a forced user, so that min_pool_size is kept without clients."""
        for name, entry in self.config.databases.items():
            if name != FALLBACK_DATABASE and entry.user is not None:
                self.pool_for(ToPool(PoolKey(name, entry.user), entry, auto=False))

    def shown(self) -> Iterator[PoolRecord]:
        """The pools that are there for whoever looks: not those that were forgotten and are still unused."""
        return (record for record in self if not record.parked)

    def forget_empty(self, now_us: int) -> None:
        """Forget pools that have been empty for pool_idle_timeout, and databases of `*` for autodb_idle_timeout.

        A forgotten pool keeps its place, so that whoever comes while it is being forgotten is served as ever.
        """
        config = self.config
        if not config.pool_idle_timeout and all(record.key.database in config.databases for record in self):
            return
        empty = set(self._engine.empty_pools())
        in_use = {record.key.database for record in self if record.id not in empty}
        for record in self:
            if record.id not in empty:
                record.empty_since_us = 0
                self._park(record, False)
                continue
            record.empty_since_us = record.empty_since_us or now_us
            times = [config.pool_idle_timeout]
            if record.key.database not in config.databases and record.key.database not in in_use:
                times.append(config.autodb_idle_timeout)
            if any(time_s and now_us - record.empty_since_us >= routing.microseconds(time_s) for time_s in times):
                self._park(record, True)

    def _park(self, record: PoolRecord, parked: bool) -> None:
        if record.parked == parked:
            return
        record.parked = parked
        record.empty_since_us = 0
        self._engine.park_pool(record.id, parked)
        if parked:
            logs.LOGGER.info("%s", logs.line(str(record.key), "forgotten: nobody has been here for long"))

    def tell_users(self) -> None:
        """Tell the engine what [users] says of those who log in, and have it look at their timeouts anew."""
        terms = [routing.user_terms(self.config, name) for name in self.config.users]
        everybody = self.config.max_user_client_connections
        self._engine.set_users([attrs.astuple(each, recurse=False) for each in terms], max_clients=everybody)

    def add_login(self, database: bytes, user: bytes, to: ToPool) -> PoolRecord:
        """Tell the engine that logins of `user` to `database` go to this pool; the pool is made where it is missing."""
        record = self.pool_for(to)
        self._engine.add_route(database, user, record.id)
        return record

    async def ensure_credential(self, user: bytes) -> None:
        """Tell the engine how `user` proves who they are. Many may ask at once; keys are computed once, off the loop."""
        if (told := self._credentials.get(user)) is not None:
            await told.wait()
            return
        secret = self.userlist.get(user)
        if secret is None:
            return
        told = self._credentials[user] = trio.Event()
        try:
            credential = await secret.client_credential(
                user,
                scram=self.config.auth_type in ("scram-sha-256", "hba"),
                iterations=self.config.scram_iterations,
                salt=self.salt_of(user),
            )
            if self._credentials.get(user) is told:  # else a reload came in between: whoever asks next does it anew
                self._engine.set_credential(user, **credential, asks_key=self.keys.missing(secret))
        except BaseException:
            if self._credentials.get(user) is told:
                del self._credentials[user]
            raise
        finally:
            told.set()

    def set_nobody(self, database: bytes, user: bytes) -> None:
        """Tell the engine that logins of `user` to `database` fail: the next ones take as long as those of a user who is known."""
        self._nobodies.pop((database, user), None)
        self._nobodies[database, user] = None
        self._engine.set_nobody(user, database)
        if len(self._nobodies) > NOBODIES:
            old_database, old_user = next(iter(self._nobodies))
            del self._nobodies[old_database, old_user]
            self._engine.forget_credential(old_user, old_database)

    def is_somebody(self, database: bytes, user: bytes) -> None:
        """The engine has been told, or has forgotten, what logins of `user` to `database` are checked against."""
        self._nobodies.pop((database, user), None)

    def login_target(self, record: PoolRecord) -> ServerTarget:
        """The pool's target with what logs in there now: keys and secrets come and go with clients."""
        secret = record.target.secret or record.shown or record.looked_up
        return attrs.evolve(record.target, secret=secret, unlock=self.unlock)

    def looked_up(self, to: ToPool, secret: Secret | None) -> None:
        """What auth_query says now of the user of a login to a pool: if that is there, its servers are opened with it."""
        record = self._by_key.get(to.key)
        if record is None or to.entry.user is not None or record.looked_up == secret:
            return
        record.looked_up = secret
        self._may_work_now(record)

    def was_shown(self, record: PoolRecord, secret: Secret) -> None:
        """Its user has shown a password that LDAP finds right: its servers are opened with it."""
        if record.shown != secret:
            record.shown = secret
            self._may_work_now(record)

    def _may_work_now(self, record: PoolRecord) -> None:
        """What servers are opened with has changed: where that has failed, it is tried anew."""
        if record.failures:
            record.failures = record.retry_us = record.away_us = 0
            self._engine.fail_pool(record.id, b"", b"", 0)

    def unlock(self, secret: Secret | None) -> Secret | None:
        """The secret with what a client has revealed of it, also just now."""
        if secret is not None and self.keys.missing(secret):
            self.hear()
        return self.keys.unlock(secret)

    def apply(self, plan: PoolsPlan) -> None:
        """Carry out a reload. Routes and credentials are forgotten: the next login of each user asks again."""
        engine = self._engine
        self.config, self.userlist = plan.config, plan.userlist
        self.names.configure(plan.config.dns_max_ttl, plan.config.dns_nxdomain_ttl)
        self._orders = dict(plan.orders)
        engine.clear_routes()
        engine.clear_credentials()
        self._credentials.clear()
        self._nobodies.clear()
        for name, group in self._database_groups.items():
            engine.set_group_limit(group, routing.database_limit(plan.config, name))
            engine.set_group_clients(group, routing.database_clients(plan.config, name))
        for name, group in self._user_groups.items():
            engine.set_group_limit(group, routing.user_limit(plan.config, name))
        for key in plan.gone:
            engine.close_pool(self._by_key.pop(key).id, DATABASE_REMOVED)
        for key, change in plan.pools.items():
            record = self._by_key[key]
            if change.settings != record.settings:
                engine.configure_pool(record.id, **attrs.asdict(change.settings))
            if not change.settings.may_keep(record.settings.keeping):
                engine.retire_servers(record.id, dedicated=False)  # what clients have left there nobody knows
            if change.settings.leak_every and not record.settings.leak_every:
                engine.retire_servers(record.id)  # nobody has looked at what they began with
            if change.target != record.target:
                self._may_work_now(record)
            if change.reconnect:
                engine.retire_servers(record.id)
                self.forget_greeting(record)
            record.settings, record.target = change.settings, change.target
            if routing.lookup_for(plan.config, key.database) is None:
                record.looked_up = None
        self.holds.keep_only({name for name in self.holds.paused | self.holds.disabled if self.knows(name)})
        self.make_known()
        self.tell_users()

    def is_there(self, server: LoggedInServer) -> bool:
        """Whether the name of its host still leads to it."""
        return self.names.has(server.called, server.port, server.host)

    def want_names(self) -> None:
        """Have the names looked up that servers have come from, as long as there are any, also when no further one is opened."""
        empty = set(self._engine.empty_pools())
        for record in self:
            if record.id not in empty:
                for host, state in record.target.host_order.states.items():
                    if state.addresses:
                        self.names.want(host, record.target.port)

    def follow_names(self) -> None:
        """Close the servers at addresses that their names do not have any more, each when nobody is linked to it."""
        gone: dict[HostOrder, frozenset[str]] = {}
        for record in self:
            order = record.target.host_order
            if order not in gone:
                gone[order] = order.gone(partial(self.names.known, port=record.target.port))
                if gone[order]:
                    fields = {"addresses": ",".join(sorted(gone[order]))}
                    logs.LOGGER.info("%s", logs.line(record.key.database, "addresses of its hosts have gone", fields))
            for address in sorted(gone[order]):
                self._engine.retire_servers(record.id, address.encode(), dedicated=False)

    def pool_for(self, to: ToPool) -> PoolRecord:
        """The pool of a login; made where it is missing.

        Raises:
            PoolError: no more fit into the engine.
        """
        record = self._by_key.get(to.key)
        if record is not None:
            self._park(record, False)
            return record
        key, config = to.key, self.config
        settings = routing.pool_settings(config, key, to.entry)
        order = self._orders.get(key.database)
        if order is None:
            order = self._orders[key.database] = HostOrder(to.entry.load_balance_hosts or "round-robin")
        target = routing.server_target(config, key, to.entry, self.userlist.get, order, self.names, self.contexts)
        database_group, user_group = self.groups_for(key.database, key.user)
        names = routing.as_bytes(key.database), routing.as_bytes(key.user)
        try:
            pool = self._engine.add_pool(*names, database_group=database_group, user_group=user_group)
        except MemoryError:
            raise _full() from None
        self._engine.set_group_clients(
            self._database_groups[key.database], routing.database_clients(config, key.database)
        )
        self._engine.configure_pool(pool, **attrs.asdict(settings))
        if self.holds.pauses(key.database):
            self._engine.pause_pool(pool, True)
        record = PoolRecord(pool, key, settings, target)
        self._by_key[key] = self._by_id[pool] = record
        if to.auto:
            logs.LOGGER.info("%s", logs.line("", f"registered new auto-database: {key.database}"))
        return record

    def groups_for(self, database: str, user: str) -> tuple[int, int]:
        """The shared limits that count a server connection of `user` for `database`."""
        config = self.config
        return (
            self._group(self._database_groups, database, routing.database_limit(config, database)),
            self._group(self._user_groups, user, routing.user_limit(config, user)),
        )

    def known_groups(self, database: str, user: str) -> tuple[int, int] | None:
        """The same where there are both; None: no server connection is counted yet."""
        if database not in self._database_groups or user not in self._user_groups:
            return None
        return self._database_groups[database], self._user_groups[user]

    def is_limited(self, database: str, user: str) -> bool:
        """Whether there is such a limit."""
        return bool(routing.database_limit(self.config, database) or routing.user_limit(self.config, user))

    def _group(self, groups: dict[str, int], name: str, limit: int) -> int:
        if name not in groups:
            try:
                groups[name] = self._engine.add_group(limit)
            except MemoryError:
                raise _full() from None
        return groups[name]


def _full() -> PoolError:
    """The places of pools and of shared limits are not used again."""
    return PoolError("no more pools fit: too many databases and users since the start", sqlstate="53300")
