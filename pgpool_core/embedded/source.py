"""What a proxy is opened from, a connection string, a Config or a file, made into one thing: configuration, users, default login."""

from __future__ import annotations

import getpass
import os
import secrets
from pathlib import Path
from typing import Any, Final

import attrs

from pgpool_core.config.dsn import parse_dsn
from pgpool_core.config.load import load_config
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.config.names import FALLBACK_DATABASE
from pgpool_core.control.routing import as_name
from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.policy.secrets import Secret
from pgpool_core.policy.userlist import Userlist, load_users

Source = Config | str | os.PathLike[str]

ANYWHERE: Final = "127.0.0.1:0"  # loopback, any free port
UNIX: Final = "unix"  # a socket in a new folder that only we may enter
UNIX_PORT: Final = 6432  # only part of the socket's name
WHERE: Final = 'listen is "host:port" (port 0 = any free one), "unix", or the folder of a unix socket'

_SERVER_SOCKETS: Final = ("/var/run/postgresql", "/tmp")  # noqa: S108 (where libpq looks too)

SETTINGS_FROM_URL: Final[dict[str, object]] = {
    "auth_type": "scram-sha-256",
    "pool_mode": "transaction",
    "max_client_conn": 1000,
    "ignore_startup_parameters": ("extra_float_digits",),
    "unix_socket_dir": "",
}
"""What a proxy in front of a single URL runs with unless the caller says otherwise."""


@attrs.frozen(kw_only=True)
class Prepared:
    """A proxy that only has to be opened."""

    config: Config
    userlist: Userlist | None  # None: as auth_file says
    user: str  # the default login
    database: str
    private_dir: bool  # listen on a unix socket in a folder of our own making


def prepare(source: Source, listen: str | None, settings: dict[str, object]) -> Prepared:
    """Read `source`; see `open_proxy` for the arguments.

    Raises:
        ConfigError: it cannot be used.
    """
    if not isinstance(source, Config | str | os.PathLike):
        raise ConfigError(
            f"a proxy is opened from a connection string, a Config or the path of a file, not from {type(source).__name__}"
        )
    if isinstance(source, str) and is_connection_string(source):
        prepared = _from_url(source, settings)
        listen = listen or ANYWHERE
    else:
        config = source if isinstance(source, Config) else load_config(source)
        if settings:
            values: dict[str, Any] = {**_values(config), **settings}
            config = Config.of(**values)
        user, database = _default_login(config)
        prepared = Prepared(config=config, userlist=None, user=user, database=database, private_dir=False)
    return prepared if listen is None else listening(prepared, listen)


def is_connection_string(source: Source) -> bool:
    """Whether it is a URL or `key=value` words rather than the path of a file."""
    return isinstance(source, str) and ("=" in source or "://" in source)


def _values(config: Config) -> dict[str, object]:
    return {field.name: getattr(config, field.name) for field in attrs.fields(Config)}


def _from_url(url: str, settings: dict[str, object]) -> Prepared:
    entry = parse_dsn(url)
    user = entry.user or getpass.getuser()
    database = entry.dbname or user
    entry = attrs.evolve(entry, user=user, dbname=database, host=entry.host or server_socket_dir())
    values: dict[str, Any] = {**SETTINGS_FROM_URL, "admin_users": (user,), **settings}
    databases = {database: entry, FALLBACK_DATABASE: attrs.evolve(entry, dbname=None)}
    config = Config.of(databases=databases, **values)
    password = secrets.token_urlsafe(24).encode()  # of this run only, so that other local users cannot use the pool
    userlist = Userlist({user.encode(): Secret.plain_password(password)}) if config.auth_file is None else None
    return Prepared(config=config, userlist=userlist, user=user, database=database, private_dir=False)


def server_socket_dir() -> str:
    """Where a connection string without a host leads: the first folder of server sockets that exists."""
    return next((folder for folder in _SERVER_SOCKETS if Path(folder).is_dir()), _SERVER_SOCKETS[-1])


def _default_login(config: Config) -> tuple[str, str]:
    """User and database of `proxy.url` for a whole configuration: its first ones."""
    users = [as_name(name) for name in load_users(config.auth_file)]
    for name, entry in config.databases.items():
        if name != FALLBACK_DATABASE:
            return (users[0] if users else entry.user or getpass.getuser()), name
    user = users[0] if users else getpass.getuser()
    return user, _fallback_name(config.databases.get(FALLBACK_DATABASE), user)


def _fallback_name(entry: DatabaseConfig | None, user: str) -> str:
    return (entry.dbname if entry is not None else None) or user


def listening(prepared: Prepared, listen: str) -> Prepared:
    """The same, listening at `listen` only."""
    if not isinstance(listen, str):
        raise ConfigError([ConfigProblem(WHERE, key="listen_addr")])
    config = _with_server_hosts(prepared.config)
    if listen == UNIX:
        config = attrs.evolve(config, listen_addr=(), listen_port=config.listen_port or UNIX_PORT)
        return attrs.evolve(prepared, config=config, private_dir=True)
    if listen.startswith(("/", "@")):
        config = attrs.evolve(
            config, listen_addr=(), unix_socket_dir=listen, listen_port=config.listen_port or UNIX_PORT
        )
        return attrs.evolve(prepared, config=config)
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ConfigError([ConfigProblem(WHERE, key="listen_addr")])
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return attrs.evolve(
        prepared, config=attrs.evolve(config, listen_addr=(host,), listen_port=int(port), unix_socket_dir="")
    )


def _with_server_hosts(config: Config) -> Config:
    """The same, with unix_socket_dir written into the entries that mean it, because we are about to listen elsewhere."""
    if not config.unix_socket_dir:
        return config
    databases = {
        name: entry if entry.host else attrs.evolve(entry, host=config.unix_socket_dir)
        for name, entry in config.databases.items()
    }
    return attrs.evolve(config, databases=databases)
