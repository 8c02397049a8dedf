"""An entry of [databases] as a value."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

import attrs

from pgpool_core.config.declare import checked, setting
from pgpool_core.config.leak_check import LeakCheck
from pgpool_core.config.names import MAX_DATABASE_LEN, MAX_PASSWORD_LEN, MAX_USER_LEN
from pgpool_core.config.passwords import CommandLine, Password, PasswordText
from pgpool_core.config.problems import Place
from pgpool_core.config.tls import SSLMODES
from pgpool_core.config.units import Choice, Flag, Hosts, Seconds, Text, decimal
from pgpool_core.config.words import (
    POOL_MODES,
    SESSION_STATES,
    TLS_WORDS,
    ChannelBinding,
    LoadBalance,
    PoolMode,
    SessionState,
    SslMode,
    SslNegotiation,
)
from pgpool_core.errors import ConfigError


@attrs.frozen(kw_only=True)
class DatabaseConfig:
    """One line of [databases]: where a database lives and what is special about it.

    Raises:
        ConfigError: a value is not acceptable; carries every one.
    """

    dbname: str | None = setting(
        None, Text(max_len=MAX_DATABASE_LEN, filled=True), "name on the server; else the name that the client asked for"
    )
    host: str | None = setting(
        None, Hosts(), "server, or several with commas between; else the socket in unix_socket_dir"
    )
    port: int = setting(5432, decimal(1, 65535), "port of the server, also part of its socket's name")
    user: str | None = setting(
        None, Text(max_len=MAX_USER_LEN, filled=True), "log in as this user whoever the client is (forced user)"
    )
    password: Password | None = setting(
        None,
        PasswordText(max_len=MAX_PASSWORD_LEN, filled=True, secret=True),
        "password or secret for the server; else that of [users], auth_file; `file:/path` is read for each connection",
    )
    password_command: str | None = setting(
        None, CommandLine(), "ours: what this command prints is the password; run for each server connection"
    )
    auth_user: str | None = setting(None, Text(max_len=MAX_USER_LEN, filled=True), "instead of the global one")
    auth_query: str | None = setting(None, Text(filled=True), "instead of the global one")
    auth_dbname: str | None = setting(
        None, Text(max_len=MAX_DATABASE_LEN, filled=True), "instead of the global one; else this entry"
    )
    pool_size: int | None = setting(None, decimal(), "instead of default_pool_size")
    min_pool_size: int | None = setting(None, decimal(), "instead of the global one")
    reserve_pool_size: int | None = setting(None, decimal(), "instead of the global one; also written reserve_pool")
    pool_mode: PoolMode | None = setting(None, Choice(POOL_MODES), "instead of the global one")
    session_state: SessionState | None = setting(None, Choice(SESSION_STATES), "ours: instead of the global one")
    max_prepared_statements: int | None = setting(None, decimal(), "ours here: instead of the global one")
    max_pinned_connections: int | None = setting(None, decimal(), "ours: instead of the global one")
    leak_check: int | None = setting(None, LeakCheck(), "ours: instead of the global one")
    connect_query: str | None = setting(
        None,
        Text(filled=True, secret=True),
        "SQL run on each new server connection before it is used; cancelled after `server_connect_timeout`",
    )
    max_db_connections: int | None = setting(None, decimal(), "instead of the global one")
    max_db_client_connections: int | None = setting(None, decimal(), "instead of the global one")
    server_lifetime: float | None = setting(None, Seconds(), "instead of the global one")
    query_wait_timeout: float | None = setting(
        None, Seconds(optional=True), "instead of the global one; -1 as if unset"
    )
    query_timeout: float | None = setting(None, Seconds(), "ours here: instead of the global one")
    transaction_timeout: float | None = setting(None, Seconds(), "ours here: instead of the global one")
    idle_transaction_timeout: float | None = setting(None, Seconds(), "ours here: instead of the global one")
    client_idle_timeout: float | None = setting(None, Seconds(), "ours here: instead of the global one")
    sslmode: SslMode | None = setting(None, Choice(SSLMODES), "ours: instead of server_tls_sslmode")
    sslrootcert: str | None = setting(
        None, Text(filled=True), "ours: instead of server_tls_ca_file; `system` = whom the system trusts, verify-full"
    )
    sslcert: str | None = setting(None, Text(filled=True), "ours: instead of server_tls_cert_file")
    sslkey: str | None = setting(None, Text(filled=True), "ours: instead of server_tls_key_file")
    sslcrl: str | None = setting(None, Text(filled=True), "ours: instead of server_tls_crl_file")
    sslnegotiation: SslNegotiation | None = setting(
        None,
        Choice(("postgres", "direct")),
        "ours: direct (PostgreSQL 17) begins with TLS at once; postgres (as if unset) asks first",
    )
    sslsni: bool | None = setting(None, Flag(), "ours: name the host to the server before TLS; 1 as if unset")
    ssl_min_protocol_version: str | None = setting(
        None, Choice(TLS_WORDS), "ours: instead of the lowest of server_tls_protocols"
    )
    ssl_max_protocol_version: str | None = setting(
        None, Choice(TLS_WORDS), "ours: instead of the highest of server_tls_protocols"
    )
    channel_binding: ChannelBinding | None = setting(
        None,
        Choice(("disable", "prefer", "require")),
        "ours: bind SCRAM logins to the server's certificate; prefer (as if unset): where both can",
    )
    client_encoding: str | None = setting(None, Text(filled=True), "sent to the server at login")
    datestyle: str | None = setting(None, Text(filled=True), "sent to the server at login")
    timezone: str | None = setting(None, Text(filled=True), "sent to the server at login")
    application_name: str | None = setting(None, Text(filled=True), "sent to the server at login")
    load_balance_hosts: LoadBalance | None = setting(
        None,
        Choice(("round-robin", "disable")),
        "round-robin (as if unset): take the hosts in turn; disable: stay until one fails",
    )

    def __attrs_post_init__(self) -> None:
        if problems := list(checked(self, Place())):
            raise ConfigError(problems)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts one by one; none means the unix socket in unix_socket_dir."""
        return tuple(name.strip() for name in self.host.split(",")) if self.host else ()

    @property
    def written_password(self) -> str | None:
        """The password, where it need not be asked for."""
        return self.password if isinstance(self.password, str) else None
