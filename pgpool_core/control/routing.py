"""Where a login goes: to a pool, to the console, or away; and which settings a pool runs with. Pure functions of a Config.

A pool is a pair of database entry and server user. Values of [users] go before those of [databases], which go before [pgbouncer].
Source: PgBouncer docs, "Configuration" and "Authentication"; its error texts where tools know them.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import attrs

from pgpool_core.config.doubts import open_addresses
from pgpool_core.config.model import Config, DatabaseConfig, UserConfig
from pgpool_core.config.names import CONSOLE_DATABASE, FALLBACK_DATABASE, MAX_DATABASE_LEN
from pgpool_core.config.passwords import PasswordCommand, PasswordSource
from pgpool_core.config.subjects.logins import AUTH_QUERY
from pgpool_core.config.words import AUTH_TYPES, POOL_MODES, SESSION_STATES
from pgpool_core.control.connect import ServerTarget
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.names import Names
from pgpool_core.control.server_tls import TlsContexts, tls_wish, wish_problems, wishes_of
from pgpool_core.errors import ConfigError, ConfigProblem, error_response
from pgpool_core.policy.secrets import Secret

EMPTY_QUERY: Final = "<empty>"  # server_check_query: an empty query, not no query
NAMELESS_REPLICATION: Final = "replication"  # what pg_basebackup and pg_receivewal call the database they do not name
NAMELESS_HINT: Final = "pg_basebackup and pg_receivewal need a database entry named replication, or *."
CERT_FAILED: Final = "certificate authentication failed"
TRUSTED_USER: Final = "pgbouncer"  # may use the console over the unix socket from our own uid without a password

T = TypeVar("T")


class Verdict(enum.IntEnum):
    """What the engine is told about a login that it asked about; its VERDICT_* numbers."""

    RETRY = 0  # route and credential are there now
    CONSOLE_ADMIN = 1
    CONSOLE_STATS = 2
    CONSOLE_TRUSTED = 3
    REFUSE = 4
    REFUSE_LATE = 5
    WRONG = 6  # the password that came with the question is


@attrs.frozen
class PoolKey:
    """Names a pool: the database as clients call it, and the user that its servers log in as."""

    database: str
    user: str

    def __str__(self) -> str:
        return f"{self.database}/{self.user}"


@attrs.frozen
class ToPool:
    """The login belongs to a pool; it still has to authenticate."""

    key: PoolKey
    entry: DatabaseConfig
    auto: bool  # the entry is `*`


@attrs.frozen
class ToConsole:
    """The login belongs to the console; `verdict` says with which rights."""

    verdict: Verdict


@attrs.frozen
class Refusal:
    """The login is not to be had; `late` ones must authenticate first, so that strangers learn nothing from the text."""

    sqlstate: str
    text: str
    late: bool = False
    hint: str = ""

    @property
    def verdict(self) -> Verdict:
        return Verdict.REFUSE_LATE if self.late else Verdict.REFUSE

    def error_response(self) -> bytes:
        """The whole ErrorResponse message, FATAL."""
        return error_response({"C": self.sqlstate, "M": self.text, "H": self.hint})


@attrs.frozen(kw_only=True)
class PoolSettings:
    """What `Engine.configure_pool` takes: numbers in the engine's units, every default filled in."""

    mode: int
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    reserve_pool_timeout_us: int
    server_check_delay_us: int
    server_lifetime_us: int
    server_idle_timeout_us: int
    reset_query: bytes
    reset_always: bool
    check_query: bytes
    session_state: int  # index into SESSION_STATES
    max_prepared_statements: int
    max_pinned: int  # 0 = any number
    pin_notice: bool
    round_robin: bool
    leak_every: int  # leak_check: servers are asked at every so-manieth return; 0 = never
    connect_query: bytes = attrs.field(repr=False)  # what it does to a server is no leak
    prewarm: bool  # keep min_pool_size even while no client is logged in
    patience: Patience

    @property
    def watches_text(self) -> bool:
        """Whether session state is told by the text of statements."""
        return self.mode != POOL_MODES.index("session") and self.session_state != SESSION_STATES.index("off")

    @property
    def keeping(self) -> str:
        """What a server has of its clients: all that one left, until server_reset_query ("session"); all that any left ("anything"); or
        nothing that the next one could meet, without its being followed or cleaned away ("watched").
        """
        if self.mode == POOL_MODES.index("session"):
            return "session"
        loose = self.session_state in (SESSION_STATES.index("off"), SESSION_STATES.index("warn"))
        return "anything" if loose else "watched"

    def may_keep(self, keeping: str) -> bool:
        """Whether a server that was used like that is as good as one that was used like this."""
        return keeping in ("watched", self.keeping)


class Patience(NamedTuple):
    """Timeouts of clients in microseconds, in the engine's order; 0 = none, None = as the pool says."""

    query_wait_us: int | None
    query_us: int | None
    transaction_us: int | None
    idle_transaction_us: int | None
    client_idle_us: int | None


@attrs.frozen
class UserTerms:
    """What an entry of [users] says of the clients that log in by its name: a row of `Engine.set_users`."""

    user: bytes
    max_clients: int | None
    patience: Patience


def as_name(raw: bytes) -> str:
    """A name from the wire as text; bytes that are not UTF-8 come back unchanged by `as_bytes`."""
    return raw.decode("utf-8", "surrogateescape")


def as_bytes(name: str) -> bytes:
    """A name as PostgreSQL has it."""
    return name.encode("utf-8", "surrogateescape")


def microseconds(seconds: float) -> int:
    """A time of the configuration in the engine's unit."""
    return round(seconds * 1_000_000)


def route(
    config: Config,
    database: bytes,
    user: bytes,
    *,
    secret: Secret | None,
    is_unix: bool = False,
    peer_uid: int | None = None,
    own_uid: int = -1,
    method: str = "",
    looked_up: bool = False,
) -> ToPool | ToConsole | Refusal:
    """Decide about one login.

    Args:
        secret: what auth_file or auth_query has for `user`; None for a user who is not there.
        method: how this login is to be proved, where that is not auth_type.
        looked_up: auth_query has been asked.
        is_unix, peer_uid: whether the client came over the unix socket, and its uid there.
        own_uid: the uid that we run as.
    """
    name, login = as_name(database), as_name(user)
    if name == CONSOLE_DATABASE:
        if is_unix and login == TRUSTED_USER and peer_uid is not None and peer_uid == own_uid:
            return ToConsole(Verdict.CONSOLE_TRUSTED)
        return _console(config, login, secret, method or config.auth_type, looked_up)
    entry = entry_for(config, name)
    if (stranger := _stranger(method or config.auth_type, secret, looked_up)) is not None:
        return stranger
    if entry is None:
        hint = NAMELESS_HINT if name == NAMELESS_REPLICATION else ""
        return Refusal("3D000", f"no such database: {database.decode(errors='replace')}", late=True, hint=hint)
    if config.auth_type == "any" and entry.user is None:
        return Refusal("F0000", "bouncer config error", hint="auth_type any needs a database entry with user=.")
    auto = name not in config.databases or name == FALLBACK_DATABASE
    return ToPool(PoolKey(name, entry.user or login), entry, auto)


def _console(config: Config, login: str, secret: Secret | None, method: str, looked_up: bool) -> ToConsole | Refusal:
    if config.auth_type == "any":
        return ToConsole(Verdict.CONSOLE_ADMIN)  # names prove nothing then: everybody is admin, as with PgBouncer
    if login in config.admin_users:
        verdict = Verdict.CONSOLE_ADMIN
    elif login in config.stats_users:
        verdict = Verdict.CONSOLE_STATS
    else:
        return Refusal("28000", "not allowed", hint="The console is for admin_users and stats_users.")
    return _stranger(method, secret, looked_up) or ToConsole(verdict)


def _stranger(method: str, secret: Secret | None, looked_up: bool) -> Refusal | None:
    """The refusal of a user who cannot log in to anything; None for the others."""
    if method in ("any", "peer", "ldap"):
        return None
    if method == "cert" and secret is None:
        return Refusal("28000", CERT_FAILED)
    if method in ("trust", "cert"):
        text = "no such user" if looked_up else '"trust" authentication failed'
        return Refusal("28000", text) if secret is None else None
    if secret is None or secret == _NO_SECRET:
        return Refusal("28P01", "password authentication failed", late=True)
    return None


_NO_SECRET: Final = Secret()


@attrs.frozen
class Lookup:
    """Where and how users are looked up who are not in auth_file."""

    database: str  # entry of [databases]
    user: str  # auth_user
    query: str = attrs.field(repr=False)
    in_pause: bool = False  # `database` is asked while it is paused, too

    def __str__(self) -> str:
        return f"{self.database}/{self.user}"


def lookup_for(config: Config, database: str) -> Lookup | None:
    """How users who log in to `database` are looked up; None where they are not.

    Who comes to the console does not wait for RESUME: they may be about to say it.
    """
    entry = entry_for(config, database) or _NO_DATABASE
    user = entry.auth_user or config.auth_user
    where = entry.auth_dbname or config.auth_dbname or (database if entry is not _NO_DATABASE else "")
    if not (user and where):
        return None
    return Lookup(where, user, entry.auth_query or config.auth_query or AUTH_QUERY, in_pause=entry is _NO_DATABASE)


_NO_DATABASE: Final = DatabaseConfig()  # the console, and names that are not there


def open_to_all(config: Config) -> str | None:
    """What is wrong with how clients come in, where others than this machine may come; None where nothing is."""
    reachable = ", ".join(open_addresses(config))
    if config.allow_open_auth or not reachable:
        return None
    if config.auth_type in ("any", "trust"):
        what = f"lets in without a password whoever reaches listen_addr {reachable}"
    elif config.auth_type in ("plain", "ldap") and not tls_is_required(config):
        what = f"lets passwords come unencrypted over the network to listen_addr {reachable}"
    else:
        return None
    return (
        f"auth_type = {config.auth_type} {what}: choose another auth_type or address, or set allow_open_auth = 1"
        " (auth_type)"
    )


def tls_is_required(config: Config) -> bool:
    """Whether no client comes over TCP without TLS."""
    return config.client_tls_sslmode in ("require", "verify-ca", "verify-full")


def entry_for(config: Config, database: str) -> DatabaseConfig | None:
    """The entry that answers for a database name: its own, or `*`; None where there is neither."""
    if database in config.databases and database != FALLBACK_DATABASE:
        return config.databases[database]
    if database == CONSOLE_DATABASE or not 0 < len(as_bytes(database)) <= MAX_DATABASE_LEN:
        return None
    return config.databases.get(FALLBACK_DATABASE)


def auth_type_number(config: Config) -> int:
    """The engine's number of auth_type."""
    return AUTH_TYPES.index(config.auth_type)


def pool_settings(config: Config, key: PoolKey, entry: DatabaseConfig) -> PoolSettings:
    """The settings that are in force for a pool. A pool that new logins no longer reach keeps no spare servers."""
    user = config.users.get(key.user, _NO_USER)
    pool_size = _first(user.pool_size, entry.pool_size, config.default_pool_size)
    spare = _first(user.min_pool_size, entry.min_pool_size, config.min_pool_size)
    if entry.user not in (None, key.user):
        spare = 0
    check = config.server_check_query
    return PoolSettings(
        mode=POOL_MODES.index(_first(user.pool_mode, entry.pool_mode, config.pool_mode)),
        pool_size=pool_size,
        min_pool_size=min(spare, pool_size) if pool_size else spare,
        reserve_pool_size=_first(user.reserve_pool_size, entry.reserve_pool_size, config.reserve_pool_size),
        reserve_pool_timeout_us=microseconds(config.reserve_pool_timeout),
        server_check_delay_us=microseconds(config.server_check_delay),
        server_lifetime_us=microseconds(_first(user.server_lifetime, entry.server_lifetime, config.server_lifetime)),
        server_idle_timeout_us=microseconds(config.server_idle_timeout),
        reset_query=as_bytes(config.server_reset_query),
        reset_always=config.server_reset_query_always,
        check_query=b";" if check == EMPTY_QUERY else as_bytes(check),
        session_state=SESSION_STATES.index(_first(user.session_state, entry.session_state, config.session_state)),
        max_prepared_statements=_first(entry.max_prepared_statements, config.max_prepared_statements),
        max_pinned=_first(entry.max_pinned_connections, config.max_pinned_connections),
        pin_notice=config.pin_notice,
        round_robin=config.server_round_robin,
        leak_every=_first(entry.leak_check, config.leak_check),
        connect_query=as_bytes(entry.connect_query or ""),
        prewarm=entry.user == key.user,
        patience=pool_patience(config, user, entry),
    )


_NO_USER: Final = UserConfig()


_PATIENCE: Final = (  # settings in the order of Patience
    "query_wait_timeout",
    "query_timeout",
    "transaction_timeout",
    "idle_transaction_timeout",
    "client_idle_timeout",
)


def pool_patience(config: Config, user: UserConfig, entry: DatabaseConfig) -> Patience:
    """Timeouts of clients whose login user has none of their own; `user` is that of the servers."""
    levels = (user, entry, config)
    return Patience(*(microseconds(_first(*(getattr(level, name) for level in levels))) for name in _PATIENCE))


def user_terms(config: Config, name: str) -> UserTerms:
    """What [users] says of those who log in as `name`."""
    user = config.users[name]
    times = (getattr(user, setting) for setting in _PATIENCE)
    patience = Patience(*(None if time_s is None else microseconds(time_s) for time_s in times))
    return UserTerms(as_bytes(name), user.max_user_client_connections, patience)


def database_limit(config: Config, database: str) -> int:
    """max_db_connections in force for a database; 0 = any number."""
    entry = entry_for(config, database)
    return _first(entry.max_db_connections if entry else None, config.max_db_connections)


def database_clients(config: Config, database: str) -> int:
    """max_db_client_connections in force for a database; 0 = any number."""
    entry = entry_for(config, database)
    return _first(entry.max_db_client_connections if entry else None, config.max_db_client_connections)


def user_clients(config: Config, user: str) -> int:
    """max_user_client_connections in force for who logs in by this name; 0 = any number."""
    own = config.users.get(user, _NO_USER).max_user_client_connections
    return _first(own, config.max_user_client_connections)


def user_limit(config: Config, user: str) -> int:
    """max_user_connections in force for a server user; 0 = any number."""
    return _first(config.users.get(user, _NO_USER).max_user_connections, config.max_user_connections)


def _first(*values: T | None) -> T:
    """The first value that is set; the last one always is."""
    return next(value for value in values if value is not None)


def server_target(
    config: Config,
    key: PoolKey,
    entry: DatabaseConfig,
    secret_of: Callable[[bytes], Secret | None],
    host_order: HostOrder,
    names: Names,
    contexts: TlsContexts | None = None,
) -> ServerTarget:
    """Where a pool's servers are and how to log in there.

    Args:
        secret_of: looks a user up in auth_file; asked only where neither the entry nor [users] has a password.
        host_order: whose turn it is among several hosts; one object for all pools of an entry.
        names: turns names of hosts into addresses; one object for the whole pooler.
        contexts: what TLS sessions are made with; the same.
    """
    user = as_bytes(key.user)
    given = _password(config, entry, key.user)
    parameters = (
        ("client_encoding", entry.client_encoding),
        ("datestyle", entry.datestyle),
        ("timezone", entry.timezone),
        ("application_name", entry.application_name),
    )
    return ServerTarget(
        hosts=entry.hosts or (config.unix_socket_dir,),
        port=entry.port,
        dbname=as_bytes(entry.dbname or key.database),
        user=user,
        secret=secret_of(user) if given is None else Secret.parse(given.encode()) if isinstance(given, str) else None,
        password=None if isinstance(given, str) else given,
        parameters=tuple((name, value) for name, value in parameters if value is not None),
        connect_query=entry.connect_query or "",
        tcp_keepalive=config.tcp_keepalive,
        tcp_keepidle=config.tcp_keepidle,
        tcp_keepintvl=config.tcp_keepintvl,
        tcp_keepcnt=config.tcp_keepcnt,
        tcp_user_timeout=config.tcp_user_timeout,
        tcp_socket_buffer=config.tcp_socket_buffer,
        host_order=host_order,
        names=names,
        tls=tls_wish(config, entry),
        contexts=contexts or TlsContexts(),
    )


def _password(config: Config, entry: DatabaseConfig, user: str) -> str | PasswordSource | None:
    """Of the entry, where that is about this user; else of [users]."""
    for level in (entry if entry.user in (None, user) else _NO_DATABASE, config.users.get(user, _NO_USER)):
        if level.password_command is not None:
            return PasswordCommand.parse(level.password_command)
        if level.password is not None:
            return level.password
    return None


def target_digest(target: ServerTarget) -> str:
    """Where servers are, as a text that tells nothing and is equal for targets that `must_reconnect` calls the same."""
    return hashlib.sha256(repr(_identity(target)).encode("utf-8", "surrogateescape")).hexdigest()


def _identity(t: ServerTarget) -> tuple[object, ...]:
    return (t.hosts, t.port, t.dbname, t.user, t.parameters, t.connect_query, t.tls)


def must_reconnect(old: ServerTarget, new: ServerTarget) -> bool:
    """Whether servers of the old target are no longer right; a new password or keepalive is no reason to close them."""
    return _identity(old) != _identity(new)


def connect_timeout_s(config: Config) -> float:
    """server_connect_timeout in seconds; 0 in the file means any time."""
    return config.server_connect_timeout or math.inf


def check_entries(config: Config) -> None:
    """Refuse entries that could never reach a server.

    Raises:
        ConfigError: names every one.
    """
    problems: list[ConfigProblem] = []
    if config.auth_type == "cert" and config.client_tls_sslmode not in ("verify-ca", "verify-full"):
        needs = "auth_type = cert needs client_tls_sslmode = verify-full (auth_type)"
        problems.append(ConfigProblem(needs, section="pgbouncer", key="auth_type"))
    if (text := open_to_all(config)) is not None:
        problems.append(ConfigProblem(text, section="pgbouncer", key="auth_type"))
    if config.auth_dbname == CONSOLE_DATABASE:
        text = "auth_dbname cannot be the console (auth_dbname)"
        problems.append(ConfigProblem(text, section="pgbouncer", key="auth_dbname"))
    problems += wish_problems(wishes_of(config))
    problems += _password_problems("database", config.databases)
    problems += _password_problems("user", config.users)
    for name, entry in config.databases.items():
        if entry.auth_dbname == CONSOLE_DATABASE:
            text = f'database "{name}": auth_dbname cannot be the console (auth_dbname)'
            problems.append(ConfigProblem(text, section="databases", key="auth_dbname"))
        if not entry.hosts and not config.unix_socket_dir:
            text = f'database "{name}" has no host, and unix_socket_dir is empty (host)'
            problems.append(ConfigProblem(text, section="databases", key="host"))
    if problems:
        raise ConfigError(problems)


def _password_problems(what: str, entries: Mapping[str, DatabaseConfig | UserConfig]) -> Iterator[ConfigProblem]:
    section = f"{what}s"
    for name, entry in entries.items():
        if entry.password is not None and entry.password_command is not None:
            text = f'{what} "{name}" has both a password and a password_command (password_command)'
            yield ConfigProblem(text, section=section, key="password_command")
        if isinstance(entry.password, str):
            try:
                Secret.parse(entry.password.encode())
            except ValueError as error:
                yield ConfigProblem(f'{what} "{name}": {error} (password)', section=section, key="password")
