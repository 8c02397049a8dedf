"""What a pool has been told: where its servers are, how many links, how long."""

from __future__ import annotations

import getpass
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from pgpool_core.config.dsn import parse_dsn
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control.connect import ServerTarget
from pgpool_core.control.server_tls import tls_wish
from pgpool_core.embedded.source import server_socket_dir
from pgpool_core.errors import ConfigError, PasswordUnavailable
from pgpool_core.policy.secrets import Secret

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection

Hook = Callable[["Connection"], Awaitable[object]]
Password = str | Callable[[], str | Awaitable[str]]

_ENVIRONMENT: Final = {
    "PGHOST": "host",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGAPPNAME": "application_name",
    "PGDATESTYLE": "datestyle",
    "PGTZ": "timezone",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLCRL": "sslcrl",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLSNI": "sslsni",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGCHANNELBINDING": "channel_binding",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGHOSTADDR": "hostaddr",
    "PGSERVICE": "service",
    "PGREQUIREAUTH": "require_auth",
}
"""Which word of a connection string a variable stands for. The last four are here to be refused, where they ask for something."""

_OWN: Final = frozenset({"host", "port", "dbname", "user", "password", "connect_query", "application_name", "client_encoding", "datestyle", "timezone", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding"})  # fmt: skip
_SAID_BY_ITSELF: Final = {
    "client_encoding": "always UTF8",
    "user": "part of the connection string",
    "database": "part of the connection string",
    "replication": "a connection of a pool is an ordinary one",
}


def _number(value: object, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _positive(_: object, field: attrs.Attribute[float], value: object) -> None:
    if not _number(value) or not value > 0:  # type: ignore[operator]
        raise ConfigError(
            f"{field.name} must be a number greater than 0, in seconds (math.inf: for ever), not {value!r}"
        )


def _not_negative(_: object, field: attrs.Attribute[float], value: object) -> None:
    if not _number(value) or not value >= 0:  # type: ignore[operator]
        raise ConfigError(f"{field.name} must be a number from 0 on, in seconds, not {value!r}")


def _count(_: object, field: attrs.Attribute[int], value: object) -> None:
    if not _number(value, int) or value < 0:  # type: ignore[operator]
        raise ConfigError(f"{field.name} must be a whole number from 0 on, not {value!r}")


def _function(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigError(f"{field.name} must be a function, not {type(value).__name__}")


@attrs.frozen(kw_only=True)
class LendingSettings:
    """What holds for every pool of a program, whoever has opened its connections; times are seconds."""

    max_waiting: int | None = attrs.field(validator=attrs.validators.optional(_count))
    acquire_timeout: float = attrs.field(validator=_positive)
    cancel_timeout: float = attrs.field(validator=_positive)
    leak_after: float | None = attrs.field(validator=attrs.validators.optional(_positive))
    statement_cache_size: int = attrs.field(validator=_count)
    on_connect: Hook | None = attrs.field(default=None, validator=_function)
    on_acquire: Hook | None = attrs.field(validator=_function)
    on_release: Hook | None = attrs.field(validator=_function)
    on_close: Callable[[int, str], object] | None = attrs.field(default=None, validator=_function)
    name: str


@attrs.frozen(kw_only=True)
class PoolSettings(LendingSettings):
    """The arguments of `open_pool`."""

    min_size: int
    max_size: int
    max_lifetime: float = attrs.field(validator=_positive)
    max_idle: float = attrs.field(validator=_positive)
    check_after_idle: float = attrs.field(validator=_not_negative)
    connect_timeout: float = attrs.field(validator=_positive)
    password: Password | None = attrs.field(repr=False)

    @password.validator
    def _text_or_function(self, _: object, password: object) -> None:
        if password is not None and not callable(password):
            check_password(password)

    def __attrs_post_init__(self) -> None:
        check_sizes(self.min_size, self.max_size)


_OF_THE_PROXY: Final = {
    "dsn": "it borrows from the proxy's own servers",
    "password": "it needs none",
    "min_size": "set min_pool_size, of the proxy or of its database",
    "max_size": "set default_pool_size of the proxy, or pool_size of its database",
    "max_lifetime": "set server_lifetime of the proxy",
    "max_idle": "set server_idle_timeout of the proxy",
    "check_after_idle": "set server_check_delay of the proxy",
    "connect_timeout": "set server_connect_timeout of the proxy",
    "on_connect": "use server_settings, on_acquire, or connect_query of the proxy's database",
    "on_close": "its servers are closed by the proxy",
}


def refused(argument: str) -> Exception:
    """What `Proxy.open_pool` raises for an argument that it has not."""
    if argument in _OF_THE_PROXY:
        return ConfigError(f"the pool of a proxy has no {argument}: {_OF_THE_PROXY[argument]}")
    return TypeError(f"Proxy.open_pool() got an unexpected keyword argument {argument!r}")


def check_sizes(min_size: int, max_size: int) -> None:
    """Refuse sizes that contradict each other.

    Raises:
        ConfigError: they do.
    """
    for name, size in (("min_size", min_size), ("max_size", max_size)):
        if not _number(size, int):
            raise ConfigError(f"{name} must be a whole number, not {size!r}")
    if max_size < 1:
        raise ConfigError("max_size must be at least 1")
    if not 0 <= min_size <= max_size:
        raise ConfigError("min_size must be between 0 and max_size")


def target_of(dsn: str | None, server_settings: Mapping[str, str]) -> ServerTarget:
    """Where the servers of a connection string are; without one, where libpq's environment variables say.

    Raises:
        ConfigError: it cannot be used.
    """
    check_session(server_settings)
    entry = parse_dsn(_from_environment() if dsn is None else dsn)
    strange = [
        field.name
        for field in attrs.fields(DatabaseConfig)
        if field.name not in _OWN and getattr(entry, field.name) not in (None, (), field.default)
    ]
    if strange:
        raise ConfigError(f"connection parameter {strange[0]} is a setting of the proxy, not of open_pool")
    user = entry.user or getpass.getuser()
    given = {
        "application_name": entry.application_name,
        "datestyle": entry.datestyle,
        "timezone": entry.timezone,
        "options": os.environ.get("PGOPTIONS") if dsn is None else None,
        **server_settings,
    }
    if (entry.client_encoding or "UTF8").upper() not in ("UTF8", "UTF-8"):
        raise ConfigError("client_encoding is always UTF8")
    parameters = [("client_encoding", "UTF8"), *((name, value) for name, value in given.items() if value is not None)]
    return ServerTarget(
        hosts=entry.hosts or (server_socket_dir(),),
        port=entry.port,
        dbname=entry.dbname or user,
        user=user,
        secret=Secret.parse(entry.written_password.encode()) if entry.written_password else None,
        parameters=tuple(parameters),
        connect_query=entry.connect_query or "",
        tls=tls_wish(Config(), entry),
    )


def check_session(server_settings: Mapping[str, str]) -> None:
    """Refuse what is no text, and what the startup packet says by itself.

    Raises:
        ConfigError: it cannot be used.
    """
    if not isinstance(server_settings, Mapping):
        raise ConfigError(f"server_settings is a mapping of names to texts, not {type(server_settings).__name__}")
    for name, value in server_settings.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(f'server_settings: {name} must be text, such as "{value}", not {type(value).__name__}')
        if name.lower() in _SAID_BY_ITSELF:
            raise ConfigError(f"server_settings: {name} is not for it to set ({_SAID_BY_ITSELF[name.lower()]})")
        if not name or "\0" in name or "\0" in value:
            raise ConfigError(
                f"server_settings: {name!r} and its value must be without zero bytes, and the name not empty"
            )


def _from_environment() -> str:
    words = []
    for variable, key in _ENVIRONMENT.items():
        if value := os.environ.get(variable):
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            words.append(f"{key}='{quoted}'")
    return " ".join(words)


def check_password(password: object) -> None:
    """Refuse what is no password.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(password, str):
        raise ConfigError(f"password must be text, or a function that gives it, not {type(password).__name__}")


async def with_password(target: ServerTarget, password: Password | None, *, timeout_s: float) -> ServerTarget:
    """The same target with the password of now.

    Raises:
        ConfigError: a function gave something else.
        PasswordUnavailable: it gave nothing in time.
    """
    if password is None:
        return target
    if callable(password):
        with trio.move_on_after(timeout_s) as scope:
            given = password()
            password = await given if inspect.isawaitable(given) else given
        if scope.cancelled_caught:
            raise PasswordUnavailable(f"the function of password gave none within {timeout_s:g} s (connect_timeout)")
        check_password(password)
        assert isinstance(password, str)
    return attrs.evolve(target, secret=Secret.plain_password(password.encode()))
