"""The configuration as values: frozen, checked, and the table of all settings at once.

An attribute is called as in pgbouncer.ini. Times are seconds (float), sizes bytes or counts (int), booleans bool, lists tuples of
text; what a database or user does not say is None. Passwords and SQL never show in a repr.
Sources: PgBouncer docs, "Configuration" (names, defaults, meanings); settings that only pgpool_core has say so.
"""

# ruff: noqa: RUF009 (`_setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, cast

import attrs

from pgpool_core.config.leak_check import LeakCheck
from pgpool_core.config.passwords import CommandLine, Password, PasswordText
from pgpool_core.config.problems import Place, bad_name, invalid_value, not_supported_value, quoted
from pgpool_core.config.tls import DHPARAMS, SSLMODES, Protocols
from pgpool_core.config.units import (
    Choice,
    FileMode,
    Flag,
    Hosts,
    Integer,
    Kind,
    ListenAt,
    Names,
    Networks,
    NotBuilt,
    Seconds,
    Text,
    is_clean,
)
from pgpool_core.errors import ConfigError, ConfigProblem

AuthType = Literal["any", "trust", "plain", "md5", "scram-sha-256", "hba", "cert", "ldap"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
SslNegotiation = Literal["postgres", "direct"]
ChannelBinding = Literal["disable", "prefer", "require"]
PoolMode = Literal["session", "transaction", "statement"]
SessionState = Literal["off", "auto", "pin", "refuse", "warn"]
DhParams = Literal["none", "auto", "legacy"]
IoBackend = Literal["auto", "epoll", "io_uring"]
LoadBalance = Literal["round-robin", "disable"]

AUTH_TYPES: Final = ("any", "trust", "plain", "md5", "scram-sha-256", "hba", "cert", "ldap")
POOL_MODES: Final = ("session", "transaction", "statement")
SESSION_STATES: Final = ("off", "auto", "pin", "refuse", "warn")
"""Like AUTH_TYPES in the order of the engine's numbers."""

FALLBACK_DATABASE: Final = "*"
CONSOLE_DATABASE: Final = "pgbouncer"
MAX_DATABASE_LEN: Final = 63  # bytes, as PostgreSQL's NAMEDATALEN - 1
MAX_PEER_ID: Final = 16383
MAX_USER_LEN: Final = 127  # bytes
MAX_PASSWORD_LEN: Final = 65530  # bytes
AUTH_QUERY: Final = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END"
    " FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)

TLS_WORDS: Final = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
_MODE: Final = Choice(POOL_MODES)
_STATE: Final = Choice(SESSION_STATES)


def _setting(default: object, kind: Kind, meaning: str, *, reload: bool = True) -> Any:
    """Declare a field with what SHOW CONFIG, the reader and the manual need to know about it."""
    secret = bool(getattr(kind, "secret", False))
    metadata = {"kind": kind, "meaning": meaning, "reload": reload}
    return attrs.field(default=default, metadata=metadata, repr=not secret)


def _checked(instance: attrs.AttrsInstance, place: Place) -> Iterator[ConfigProblem]:
    """Check each field with its kind, write back what the kind made of it, yield what it refused."""
    for field in attrs.fields(type(instance)):
        kind: Kind | None = field.metadata.get("kind")
        value = getattr(instance, field.name)
        if kind is None or (value is None and field.default is None):
            continue
        try:
            object.__setattr__(instance, field.name, kind.check(value))
        except NotBuilt:
            yield not_supported_value(place, field.name, value, kind)
        except ValueError:
            yield invalid_value(place, field.name, value, kind)


@attrs.frozen(kw_only=True)
class DatabaseConfig:
    """One line of [databases]: where a database lives and what is special about it.

    Raises:
        ConfigError: a value is not acceptable; carries every one.
    """

    dbname: str | None = _setting(
        None, Text(max_len=MAX_DATABASE_LEN, filled=True), "name on the server; else the name that the client asked for"
    )
    host: str | None = _setting(
        None, Hosts(), "server, or several with commas between; else the socket in unix_socket_dir"
    )
    port: int = _setting(5432, Integer(1, 65535), "port of the server, also part of its socket's name")
    user: str | None = _setting(
        None, Text(max_len=MAX_USER_LEN, filled=True), "log in as this user whoever the client is (forced user)"
    )
    password: Password | None = _setting(
        None,
        PasswordText(max_len=MAX_PASSWORD_LEN, filled=True, secret=True),
        "password or secret for the server; else that of [users], auth_file; `file:/path` is read for each connection",
    )
    password_command: str | None = _setting(
        None, CommandLine(), "ours: what this command prints is the password; run for each server connection"
    )
    auth_user: str | None = _setting(None, Text(max_len=MAX_USER_LEN, filled=True), "instead of the global one")
    auth_query: str | None = _setting(None, Text(filled=True), "instead of the global one")
    auth_dbname: str | None = _setting(
        None, Text(max_len=MAX_DATABASE_LEN, filled=True), "instead of the global one; else this entry"
    )
    pool_size: int | None = _setting(None, Integer(), "instead of default_pool_size")
    min_pool_size: int | None = _setting(None, Integer(), "instead of the global one")
    reserve_pool_size: int | None = _setting(None, Integer(), "instead of the global one; also written reserve_pool")
    pool_mode: PoolMode | None = _setting(None, _MODE, "instead of the global one")
    session_state: SessionState | None = _setting(None, _STATE, "ours: instead of the global one")
    max_prepared_statements: int | None = _setting(None, Integer(), "ours here: instead of the global one")
    max_pinned_connections: int | None = _setting(None, Integer(), "ours: instead of the global one")
    leak_check: int | None = _setting(None, LeakCheck(), "ours: instead of the global one")
    connect_query: str | None = _setting(
        None, Text(filled=True, secret=True), "SQL run on each new server connection before it is used"
    )
    max_db_connections: int | None = _setting(None, Integer(), "instead of the global one")
    max_db_client_connections: int | None = _setting(None, Integer(), "instead of the global one")
    server_lifetime: float | None = _setting(None, Seconds(), "instead of the global one")
    query_wait_timeout: float | None = _setting(None, Seconds(), "instead of the global one")
    query_timeout: float | None = _setting(None, Seconds(), "ours here: instead of the global one")
    transaction_timeout: float | None = _setting(None, Seconds(), "ours here: instead of the global one")
    idle_transaction_timeout: float | None = _setting(None, Seconds(), "ours here: instead of the global one")
    client_idle_timeout: float | None = _setting(None, Seconds(), "ours here: instead of the global one")
    sslmode: SslMode | None = _setting(None, Choice(SSLMODES), "ours: instead of server_tls_sslmode")
    sslrootcert: str | None = _setting(
        None, Text(filled=True), "ours: instead of server_tls_ca_file; `system` = whom the system trusts, verify-full"
    )
    sslcert: str | None = _setting(None, Text(filled=True), "ours: instead of server_tls_cert_file")
    sslkey: str | None = _setting(None, Text(filled=True), "ours: instead of server_tls_key_file")
    sslcrl: str | None = _setting(None, Text(filled=True), "ours: instead of server_tls_crl_file")
    sslnegotiation: SslNegotiation | None = _setting(
        None,
        Choice(("postgres", "direct")),
        "ours: direct (PostgreSQL 17) begins with TLS at once; postgres (as if unset) asks first",
    )
    sslsni: bool | None = _setting(None, Flag(), "ours: name the host to the server before TLS; 1 as if unset")
    ssl_min_protocol_version: str | None = _setting(
        None, Choice(TLS_WORDS), "ours: instead of the lowest of server_tls_protocols"
    )
    ssl_max_protocol_version: str | None = _setting(
        None, Choice(TLS_WORDS), "ours: instead of the highest of server_tls_protocols"
    )
    channel_binding: ChannelBinding | None = _setting(
        None,
        Choice(("disable", "prefer", "require")),
        "ours: bind SCRAM logins to the server's certificate; prefer (as if unset): where both can",
    )
    client_encoding: str | None = _setting(None, Text(filled=True), "sent to the server at login")
    datestyle: str | None = _setting(None, Text(filled=True), "sent to the server at login")
    timezone: str | None = _setting(None, Text(filled=True), "sent to the server at login")
    application_name: str | None = _setting(None, Text(filled=True), "sent to the server at login")
    load_balance_hosts: LoadBalance | None = _setting(
        None,
        Choice(("round-robin", "disable")),
        "round-robin (as if unset): take the hosts in turn; disable: stay until one fails",
    )

    def __attrs_post_init__(self) -> None:
        if problems := list(_checked(self, Place())):
            raise ConfigError(problems)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts one by one; none means the unix socket in unix_socket_dir."""
        return tuple(name.strip() for name in self.host.split(",")) if self.host else ()

    @property
    def written_password(self) -> str | None:
        """The password, where it need not be asked for."""
        return self.password if isinstance(self.password, str) else None


@attrs.frozen(kw_only=True)
class UserConfig:
    """One line of [users]: what is special about a user. It goes before [databases], which goes before [pgbouncer].

    Raises:
        ConfigError: a value is not acceptable; carries every one.
    """

    password: Password | None = _setting(
        None,
        PasswordText(max_len=MAX_PASSWORD_LEN, filled=True, secret=True),
        "ours here: password or secret of this user at servers, where the entry of [databases] has none; else auth_file",
    )
    password_command: str | None = _setting(
        None, CommandLine(), "ours: what this command prints is that password; run for each server connection"
    )
    pool_mode: PoolMode | None = _setting(None, _MODE, "instead of the database's or the global one")
    pool_size: int | None = _setting(None, Integer(), "instead of the database's or default_pool_size")
    min_pool_size: int | None = _setting(None, Integer(), "ours here: instead of the database's or the global one")
    server_lifetime: float | None = _setting(None, Seconds(), "ours here: instead of the database's or the global one")
    session_state: SessionState | None = _setting(None, _STATE, "ours: instead of the database's or the global one")
    reserve_pool_size: int | None = _setting(None, Integer(), "instead of the database's or the global one")
    max_user_connections: int | None = _setting(None, Integer(), "instead of the global one")
    max_user_client_connections: int | None = _setting(None, Integer(), "instead of the global one")
    query_wait_timeout: float | None = _setting(None, Seconds(), "instead of the database's or the global one")
    query_timeout: float | None = _setting(None, Seconds(), "instead of the database's or the global one")
    transaction_timeout: float | None = _setting(None, Seconds(), "instead of the database's or the global one")
    idle_transaction_timeout: float | None = _setting(None, Seconds(), "instead of the database's or the global one")
    client_idle_timeout: float | None = _setting(None, Seconds(), "instead of the database's or the global one")

    def __attrs_post_init__(self) -> None:
        if problems := list(_checked(self, Place())):
            raise ConfigError(problems)


@attrs.frozen(kw_only=True)
class PeerConfig:
    """One line of [peers]: another pooler process, to which cancel requests that are meant for it are passed on.

    Raises:
        ConfigError: a value is not acceptable; carries every one.
    """

    host: str | None = _setting(
        None, Text(filled=True), "where it listens: address, name, or folder of its unix socket"
    )
    port: int = _setting(6432, Integer(1, 65535), "port of the peer, also part of its socket's name")
    pool_size: int | None = _setting(
        None, Integer(), "cancel requests on their way to it at one time; else default_pool_size"
    )

    def __attrs_post_init__(self) -> None:
        if problems := list(_checked(self, Place())):
            raise ConfigError(problems)


def _own_databases(given: Mapping[str, DatabaseConfig]) -> Mapping[str, DatabaseConfig]:
    return dict(given)  # a copy, so that nobody changes it behind our back


def _own_users(given: Mapping[str, UserConfig]) -> Mapping[str, UserConfig]:
    return dict(given)


def _own_peers(given: Mapping[int, PeerConfig]) -> Mapping[int, PeerConfig]:
    return dict(given)


@attrs.frozen(kw_only=True)
class Config:
    """Everything the pooler can be told. `Config(databases={"app": DatabaseConfig(host="db1")})` is PgBouncer's default otherwise.

    Raises:
        ConfigError: a value or a name is not acceptable; carries every one.
    """

    databases: Mapping[str, DatabaseConfig] = attrs.field(factory=dict, converter=_own_databases)
    """By the name that clients ask for; `*` answers for names that are not here."""
    users: Mapping[str, UserConfig] = attrs.field(factory=dict, converter=_own_users)
    peers: Mapping[int, PeerConfig] = attrs.field(factory=dict, converter=_own_peers)
    """By their peer_id."""

    listen_addr: tuple[str, ...] = _setting(
        (), Names(words=False), "TCP addresses or names to listen on, `*` = all; empty = unix socket only", reload=False
    )
    listen_port: int = _setting(
        6432, Integer(0, 65535), "TCP port, and part of the unix socket's name; 0 = any free port (ours)", reload=False
    )
    unix_socket_dir: str = _setting(
        "/tmp",  # noqa: S108 (the default of PgBouncer)
        Text(),
        "folder of our unix socket and of servers without a host; `@name` = abstract, empty = none",
        reload=False,
    )
    unix_socket_mode: int = _setting(0o777, FileMode(), "permissions of our unix socket", reload=False)
    unix_socket_group: str = _setting(
        "", Text(), "group of our unix socket, name or number; empty = the process's", reload=False
    )

    listen_backlog: int = _setting(
        4096,
        Integer(1),
        "connections that the kernel holds until they are accepted; ours: 4096 where PgBouncer has 128",
        reload=False,
    )
    so_reuseport: bool = _setting(
        False, Flag(), "SO_REUSEPORT on TCP sockets, so that several processes may listen on one port", reload=False
    )
    tcp_defer_accept: bool = _setting(
        False,
        Flag(),
        "TCP_DEFER_ACCEPT: who connects and says nothing is the kernel's matter for 45 s; ours: off where PgBouncer has 1",
    )

    user: str = _setting("", Text(), "as root: become this user at start; empty = stay who we are", reload=False)
    pidfile: str = _setting("", Text(), "file with the number of our process, needed by -d; empty = none", reload=False)
    conffile: str = _setting("", Text(), "file that the next RELOAD reads; empty = the one named at start")
    logfile: str = _setting("", Text(), "file that log lines are added to, besides stderr; reopened by RELOAD")
    log_connections: bool = _setting(True, Flag(), "log successful logins and new server connections")
    log_disconnections: bool = _setting(True, Flag(), "log why connections were closed")
    log_pooler_errors: bool = _setting(True, Flag(), "log errors that the pooler itself sends to clients")
    log_stats: bool = _setting(True, Flag(), "write the statistics line every stats_period")
    stats_period: float = _setting(
        60.0, Seconds(positive=True), "how often averages and the statistics line are computed"
    )
    verbose: int = _setting(0, Integer(), "0 to 3 and beyond: how much more to log")

    auth_type: AuthType = _setting(
        "md5",
        Choice(AUTH_TYPES, not_built=("pam", "peer")),
        "any, trust, plain, md5, scram-sha-256, cert (client certificate), ldap, or hba (as auth_hba_file says): how clients prove who they are",
    )
    auth_file: str | None = _setting(None, Text(optional=True), 'file of "user" "secret" lines')
    auth_hba_file: str = _setting("", Text(), "rules for auth_type = hba, as in pg_hba.conf")
    auth_ident_file: str = _setting("", Text(), "maps for `peer` and `cert` rules, as in pg_ident.conf")
    auth_ldap_options: str = _setting(
        "", Text(), "where and how auth_type = ldap has passwords checked: options as on an ldap line of pg_hba.conf"
    )
    max_ldap_logins: int = _setting(
        16, Integer(1, 1000), "ours: so many passwords are checked by LDAP at one time; further logins wait"
    )
    auth_user: str = _setting(
        "", Text(max_len=MAX_USER_LEN), "runs auth_query for users who are not in auth_file; empty = nobody does"
    )
    auth_query: str = _setting(AUTH_QUERY, Text(), "SQL with one parameter that gives name and secret of a user")
    auth_dbname: str = _setting(
        "",
        Text(max_len=MAX_DATABASE_LEN),
        "entry of [databases] where auth_query runs; empty = that of the client's database",
    )
    auth_query_ttl: float = _setting(
        10.0, Seconds(), "ours: how long an answer of auth_query is remembered; 0 = asked at every login, as PgBouncer"
    )
    allow_open_auth: bool = _setting(
        False,
        Flag(),
        "ours: start although auth_type any or trust lets in whoever reaches listen_addr, or plain or ldap lets passwords come unencrypted",
    )
    auth_failure_delay: float = _setting(
        1.0,
        Seconds(),
        "ours: pause between answers to failed logins from one address, once there have been 10 within a minute; 0 = none",
    )
    scram_iterations: int = _setting(
        4096, Integer(1), "rounds of the SCRAM keys that are made of plain passwords in auth_file"
    )
    admin_users: tuple[str, ...] = _setting((), Names(), "users who may run every console command")
    stats_users: tuple[str, ...] = _setting((), Names(), "users who may run SHOW on the console")

    client_tls_sslmode: SslMode = _setting(
        "disable",
        Choice(SSLMODES),
        "TLS with clients: disable, allow and prefer (who asks for it), require, verify-ca and verify-full (and a certificate)",
    )
    client_tls_key_file: str = _setting("", Text(), "private key for it, PEM")
    client_tls_cert_file: str = _setting(
        "", Text(), "certificate that clients see, PEM, and those between it and a root"
    )
    client_tls_ca_file: str = _setting("", Text(), "authorities whose certificates clients may show, PEM")
    client_tls_crl_file: str = _setting("", Text(), "ours: what these have revoked, PEM; empty = nothing")
    client_tls_protocols: str = _setting("secure", Protocols(), "versions: secure = default = tlsv1.2,tlsv1.3; all")
    client_tls_ciphers: str = _setting(
        "default",
        Text(),
        "up to TLS 1.2, as OpenSSL writes them; default, secure, fast, normal = OpenSSL's choice; all",
    )
    client_tls13_ciphers: str = _setting("", Text(), "suites of TLS 1.3, as OpenSSL writes them; empty = its choice")
    client_tls_ecdhcurve: str = _setting(
        "auto", Text(), "curves for the key exchange; auto = OpenSSL's choice, none = no curves in TLS 1.2"
    )
    client_tls_dheparams: DhParams = _setting(
        "auto", Choice(DHPARAMS), "Diffie-Hellman without curves in TLS 1.2: auto, none, or legacy (1024 bits)"
    )

    server_tls_sslmode: SslMode = _setting(
        "prefer",
        Choice(SSLMODES),
        "TLS towards servers, as libpq's sslmode: disable, allow, prefer, require, verify-ca, verify-full",
    )
    server_tls_ca_file: str = _setting(
        "",
        Text(),
        "authorities whose certificates servers may show, PEM; empty = those of the system, for verify-ca and -full",
    )
    server_tls_key_file: str = _setting("", Text(), "private key of our certificate, PEM")
    server_tls_cert_file: str = _setting("", Text(), "certificate that servers see, PEM")
    server_tls_crl_file: str = _setting("", Text(), "ours: what the authorities have revoked, PEM; empty = nothing")
    server_tls_protocols: str = _setting("secure", Protocols(), "versions: secure = default = tlsv1.2,tlsv1.3; all")
    server_tls_ciphers: str = _setting(
        "default",
        Text(filled=True),
        "up to TLS 1.2, as OpenSSL writes them; default, secure, fast, normal = OpenSSL's choice; all",
    )
    server_tls13_ciphers: str = _setting("", Text(), "suites of TLS 1.3, as OpenSSL writes them; empty = its choice")

    pool_mode: PoolMode = _setting(
        "session", _MODE, "session, transaction or statement: when a server connection goes back to its pool"
    )
    session_state: SessionState = _setting(
        "auto",
        _STATE,
        "ours: what becomes of SET, LISTEN, temporary tables and their like in transaction and statement mode:"
        " auto (follows the client, or the client keeps its server), pin (it keeps its server), refuse, warn (the client is told),"
        " off (nothing is done)",
    )
    max_prepared_statements: int = _setting(
        200,
        Integer(),
        "named prepared statements kept on a server in transaction and statement mode; 0 = they are not tracked",
    )
    max_pinned_connections: int = _setting(
        0, Integer(), "ours: servers of a pool that clients may keep for their session state; 0 = all of them"
    )
    pin_notice: bool = _setting(
        False, Flag(), "ours: tell a client, once, that it keeps its server, why, and what would be better"
    )
    function_check_period: float = _setting(
        60.0,
        Seconds(),
        "ours: how often a database in use is asked again what its functions may do to a session, beside each time that a"
        " text changes one; 0 = never asked",
    )
    leak_check: int = _setting(
        0,
        LeakCheck(),
        "ours: ask a server that a client gives back whether session state is left on it: off, always,"
        " sample:N (at every N-th return); what is found is logged, and the server closed",
    )
    max_client_conn: int = _setting(
        100, Integer(), "clients at one time, those logging in included; cancel requests and the console are free"
    )
    default_pool_size: int = _setting(20, Integer(), "server connections per pair of database and user; 0 = any number")
    min_pool_size: int = _setting(0, Integer(), "server connections kept open in a pool that is in use")
    reserve_pool_size: int = _setting(
        0, Integer(), "further server connections for a pool whose clients have waited too long"
    )
    reserve_pool_timeout: float = _setting(
        5.0, Seconds(), "how long the oldest client must have waited for that; 0 = never"
    )
    pool_idle_timeout: float = _setting(
        0.0, Seconds(), "a pool without clients and servers for longer is forgotten until the next login; 0 = never"
    )
    autodb_idle_timeout: float = _setting(
        3600.0, Seconds(), "the same for a database that has no entry but `*`; 0 = never"
    )
    max_db_connections: int = _setting(0, Integer(), "server connections per database, over all users; 0 = any number")
    max_user_connections: int = _setting(
        0, Integer(), "server connections per server user, over all databases; 0 = any number"
    )
    max_logins: int = _setting(
        512,
        Integer(),
        "ours: clients that prove who they are at one time; the next ones wait for their turn, a second at most for each; 0 = any number",
    )
    max_db_client_connections: int = _setting(
        0, Integer(), "clients per database at one time, those logging in included; 0 = any number"
    )
    max_user_client_connections: int = _setting(
        0,
        Integer(),
        "clients per login user at one time, those logging in included; 0 = any number; the console is free",
    )
    application_name_add_host: bool = _setting(
        False, Flag(), "let application_name begin as `NAME - HOST:PORT` of the client"
    )
    disable_pqexec: bool = _setting(
        False, Flag(), "refuse the simple query protocol; the console has it all the same", reload=False
    )
    login_notify_message: str = _setting("", Text(max_len=4096), "notice that clients get at login; empty = none")
    track_extra_parameters: tuple[str, ...] = _setting(
        ("IntervalStyle",),
        Names(),
        "with session_state = off: further settings that follow a client, where PostgreSQL reports them; else all do",
        reload=False,
    )
    ignore_startup_parameters: tuple[str, ...] = _setting(
        (), Names(), "startup parameters that a client may send in vain; others that are not known are refused"
    )

    server_reset_query: str = _setting(
        "DISCARD ALL", Text(), "SQL run when a session client leaves its server; empty = none"
    )
    server_reset_query_always: bool = _setting(False, Flag(), "run it in transaction and statement mode too")
    server_check_query: str = _setting(
        "<empty>", Text(), "SQL that tests a server before reuse; `<empty>` = an empty query, empty = no test"
    )
    server_round_robin: bool = _setting(
        False, Flag(), "of idle servers take the one that has been idle for longest, not the one used last"
    )
    server_fast_close: bool = _setting(
        False,
        Flag(),
        "in session mode, close a server that is not to be used again, and its client, as soon as that is idle",
    )
    server_check_delay: float = _setting(30.0, Seconds(), "a server idle for longer is tested before reuse; 0 = always")
    server_lifetime: float = _setting(
        3600.0, Seconds(), "a server older than this is closed when unused; 0 = after one use"
    )
    server_idle_timeout: float = _setting(600.0, Seconds(), "a server idle for longer is closed; 0 = never")
    server_connect_timeout: float = _setting(15.0, Seconds(), "time for connecting and logging in to a server; 0 = any")
    server_login_retry: float = _setting(
        15.0, Seconds(), "pause after a failed login to a server; clients fail at once meanwhile"
    )

    query_wait_timeout: float = _setting(120.0, Seconds(), "longest wait of a client for a server; 0 = any")
    query_wait_notify: float = _setting(
        5.0, Seconds(), "a client that has waited for so long is told so by a notice, once; 0 = it is not"
    )
    query_timeout: float = _setting(
        0.0,
        Seconds(),
        "longest time for a query, its wait for a server included; 0 = any. Cancels it and ends the client",
    )
    transaction_timeout: float = _setting(
        0.0, Seconds(), "longest time for a transaction; 0 = any. Rolls it back and ends the client"
    )
    idle_transaction_timeout: float = _setting(
        0.0, Seconds(), "longest pause of a client inside a transaction; 0 = any. Rolls it back and ends the client"
    )
    client_idle_timeout: float = _setting(
        0.0, Seconds(), "longest silence of a client outside a transaction, without a server of its session; 0 = any"
    )
    cancel_wait_timeout: float = _setting(
        10.0, Seconds(), "longest wait of a cancel request for its turn, when many are on their way; 0 = any"
    )
    client_login_timeout: float = _setting(60.0, Seconds(), "time for a client to log in; 0 = any")

    suspend_timeout: float = _setting(
        10.0,
        Seconds(),
        "SUSPEND: time for what has been begun to get through; connections that need longer are dropped",
    )
    tcp_keepalive: bool = _setting(True, Flag(), "SO_KEEPALIVE on connections of both sides")
    tcp_keepcnt: int = _setting(0, Integer(0, 127), "TCP_KEEPCNT, lost probes; 0 = as the system has it")
    tcp_keepidle: int = _setting(
        0, Integer(0, 32767, unit="s"), "TCP_KEEPIDLE, quiet time before a probe; 0 = as the system has it"
    )
    tcp_keepintvl: int = _setting(
        0, Integer(0, 32767, unit="s"), "TCP_KEEPINTVL, time between probes; 0 = as the system has it"
    )
    tcp_user_timeout: int = _setting(
        0, Integer(unit="ms"), "TCP_USER_TIMEOUT on connections of both sides; 0 = as the system has it"
    )
    tcp_socket_buffer: int = _setting(
        0, Integer(unit="bytes"), "SO_SNDBUF and SO_RCVBUF on connections of both sides; 0 = as the system has them"
    )
    sbuf_loopcnt: int = _setting(
        5,
        Integer(),
        "times that one connection is received from, 64 KiB each, before the others get their turn; 0 = any",
    )
    pkt_buf: int = _setting(
        4096,
        Integer(1, unit="bytes"),
        "no effect, and a warning says so: each worker receives into one buffer of 64 KiB",
        reload=False,
    )
    max_packet_size: int = _setting(
        2**31 - 1, Integer(1, unit="bytes"), "largest message that is let through in either direction"
    )

    workers: int = _setting(1, Integer(0, 256), "ours: threads that move data; 0 = one per processor", reload=False)
    io_backend: IoBackend = _setting(
        "auto",
        Choice(("auto", "epoll", "io_uring")),
        "ours: how workers move data: epoll, io_uring, or auto: io_uring where the system allows it, while there is enough to do for it to be cheaper",
        reload=False,
    )
    proxy_protocol_networks: tuple[str, ...] = _setting(
        (),
        Networks(),
        "ours: whose connections begin with a PROXY header (version 1 or 2), which tells where the client really comes from:"
        " ADDRESS/BITS, `unix`; empty = nobody's",
    )
    peer_id: int = _setting(
        0, Integer(0, MAX_PEER_ID), "number of this process among [peers], inside its cancel keys; 0 = it has none"
    )
    dns_max_ttl: float = _setting(
        15.0,
        Seconds(),
        "how long the addresses of a host's name are remembered; then it is looked up again, and servers at addresses"
        " that have gone are closed when unused",
    )
    dns_nxdomain_ttl: float = _setting(
        15.0,
        Seconds(),
        "how long it is remembered that a host's name cannot be looked up; addresses that it had stay in use",
    )
    server_connect_parallel: int = _setting(
        4, Integer(1, 1024), "ours: server connections that one pool may be opening at one time"
    )
    message_stall_timeout: float = _setting(
        30.0,
        Seconds(positive=True),
        "ours: how long a client may pause in the middle of a message while it holds a server",
    )
    server_drain_timeout: float = _setting(
        5.0,
        Seconds(positive=True),
        "ours: how long a server whose client vanished may take to become clean before it is closed",
    )

    client_drain_timeout: float = _setting(
        0.0,
        Seconds(),
        "ours: when it ends and waits for its clients: each is sent away (57P01) once it holds no server, all others after this time;"
        " 0 = wait until they leave",
    )
    metrics_listen: str = _setting(
        "", ListenAt(), "ours: host:port of /metrics, /healthz and /readyz over HTTP, `*` = all addresses; empty = off"
    )

    def __attrs_post_init__(self) -> None:
        problems = list(_checked(self, Place()))
        databases: Mapping[str, object] = self.databases  # a program may have put anything there
        for name, database in databases.items():
            if text := database_name_problem(name):
                problems.append(bad_name(Place(section="databases"), text))
            if not isinstance(database, DatabaseConfig):
                problems.append(
                    bad_name(Place(section="databases"), f"database {quoted(name)} is not a DatabaseConfig")
                )
        users: Mapping[str, object] = self.users
        for name, user in users.items():
            if text := user_name_problem(name):
                problems.append(bad_name(Place(section="users"), text))
            if not isinstance(user, UserConfig):
                problems.append(bad_name(Place(section="users"), f"user {quoted(name)} is not a UserConfig"))
        peers: Mapping[Any, object] = self.peers
        for number, peer in peers.items():
            if text := peer_name_problem(str(number)):
                problems.append(bad_name(Place(section="peers"), text))
            if not isinstance(peer, PeerConfig):
                problems.append(bad_name(Place(section="peers"), f"peer {number} is not a PeerConfig"))
            elif peer.host is None:
                problems.append(Place(section="peers").problem(f"peer {number} has no host", str(number), ": host=..."))
        if problems:
            raise ConfigError(problems)

    @classmethod
    def of(
        cls,
        *,
        databases: Mapping[str, DatabaseConfig | Mapping[str, object] | str] | None = None,
        users: Mapping[str, UserConfig | Mapping[str, object]] | None = None,
        peers: Mapping[int, PeerConfig | Mapping[str, object]] | None = None,
        **settings: object,
    ) -> Config:
        """Make a Config from plain Python values.

        Args:
            databases: each a DatabaseConfig, a mapping of its keys, or a `postgres://` URL or `key=value` connection string.
            users: each a UserConfig or a mapping of its keys.
            peers: by peer_id; each a PeerConfig or a mapping of its keys.
            settings: by their ini names; what a file could hold as text may also be given as that text.

        Raises:
            ConfigError: carries every problem found.
        """
        from pgpool_core.config.build import build_config

        return build_config(databases or {}, users or {}, peers or {}, settings)


def database_name_problem(name: object) -> str | None:
    """Why no entry of [databases] can be called `name`; None when it can."""
    if name == CONSOLE_DATABASE:
        return f'database name "{CONSOLE_DATABASE}" is reserved for the console'
    return _name_problem("database", name, MAX_DATABASE_LEN)


def user_name_problem(name: object) -> str | None:
    """Why no entry of [users] can be called `name`; None when it can."""
    return _name_problem("user", name, MAX_USER_LEN)


def peer_name_problem(name: str) -> str | None:
    """Why no entry of [peers] can be called `name`; None when it can."""
    if name.isascii() and name.isdigit() and 1 <= int(name) <= MAX_PEER_ID:
        return None
    return f"invalid peer {quoted(name)}: expected a number from 1 to {MAX_PEER_ID}"


def _name_problem(what: str, name: object, limit: int) -> str | None:
    if not isinstance(name, str) or not name or not is_clean(name):
        return f"a {what} name must be a non-empty text without zero bytes"
    if len(name.encode()) > limit:
        return f"{what} name {quoted(name)} is too long: at most {limit} bytes"
    return None


def kind_of(field: attrs.Attribute[Any]) -> Kind | None:
    """The kind that a field was declared with; None for `databases` and `users`."""
    return cast("Kind | None", field.metadata.get("kind"))
