"""A PostgreSQL connection pooler: a drop-in for PgBouncer, and embeddable in Python.

    async with pgpool_core.open_pool("postgresql://app@db/app") as pool: ...         # trio: queries
    async with pgpool_core.open_proxy("postgresql://app@db/app") as proxy: ...      # trio
    with pgpool_core.run_proxy_in_thread("postgresql://app@db/app") as proxy: ...   # any program
    with pgpool_core.run_proxy_process("postgresql://app@db/app") as proxy: ...     # and all that it forks
    async with pgpool_core.open_proxy_asyncio("postgresql://app@db/app") as proxy: ...

Names are imported when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection
    from pgpool_core.client.pool import Pool, open_pool
    from pgpool_core.client.sqlstate import PostgresError
    from pgpool_core.client.statistics import PoolStatistics
    from pgpool_core.client.values import Notification, Range, Reconnected
    from pgpool_core.config.load import load_config, parse_config
    from pgpool_core.config.model import Config, DatabaseConfig, UserConfig
    from pgpool_core.embedded.address import ProxyAddress, Reachable, django_database
    from pgpool_core.embedded.aio import AsyncioProxy, open_proxy_asyncio
    from pgpool_core.embedded.process import ProcessProxy, run_proxy_process
    from pgpool_core.embedded.proxy import Proxy, open_proxy, serve
    from pgpool_core.embedded.thread import ThreadedProxy, run_proxy_in_thread
    from pgpool_core.errors import (
        BadPassword,
        ClientProtocolError,
        ConfigError,
        ConfigProblem,
        ConnectionLost,
        DecodeError,
        EncodeError,
        InternalError,
        LoginError,
        LoginTimeout,
        PgPoolError,
        PoolClosed,
        PoolError,
        PoolTimeout,
        QueryWaitTimeout,
        ServerLoginRefused,
        ServerProtocolError,
        ServerUnavailable,
        TooManyClients,
    )
    from pgpool_core.metrics.snapshot import Snapshot
    from pgpool_core.rows.record import Record

__all__ = [
    "AsyncioProxy",
    "BadPassword",
    "ClientProtocolError",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "Connection",
    "ConnectionLost",
    "DatabaseConfig",
    "DecodeError",
    "EncodeError",
    "InternalError",
    "LoginError",
    "LoginTimeout",
    "Notification",
    "PgPoolError",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolStatistics",
    "PoolTimeout",
    "PostgresError",
    "ProcessProxy",
    "Proxy",
    "ProxyAddress",
    "QueryWaitTimeout",
    "Range",
    "Reachable",
    "Reconnected",
    "Record",
    "ServerLoginRefused",
    "ServerProtocolError",
    "ServerUnavailable",
    "Snapshot",
    "ThreadedProxy",
    "TooManyClients",
    "UserConfig",
    "__version__",
    "django_database",
    "load_config",
    "open_pool",
    "open_proxy",
    "open_proxy_asyncio",
    "parse_config",
    "run_proxy_in_thread",
    "run_proxy_process",
    "serve",
]

_HOMES = {
    "AsyncioProxy": "embedded.aio",
    "Config": "config.model",
    "Connection": "client.connection",
    "DatabaseConfig": "config.model",
    "Notification": "client.values",
    "Pool": "client.pool",
    "PoolStatistics": "client.statistics",
    "PostgresError": "client.sqlstate",
    "ProcessProxy": "embedded.process",
    "Proxy": "embedded.proxy",
    "ProxyAddress": "embedded.address",
    "Range": "client.values",
    "Reconnected": "client.values",
    "Reachable": "embedded.address",
    "Record": "rows.record",
    "Snapshot": "metrics.snapshot",
    "ThreadedProxy": "embedded.thread",
    "UserConfig": "config.model",
    "django_database": "embedded.address",
    "load_config": "config.load",
    "open_pool": "client.pool",
    "open_proxy": "embedded.proxy",
    "open_proxy_asyncio": "embedded.aio",
    "parse_config": "config.load",
    "run_proxy_in_thread": "embedded.thread",
    "run_proxy_process": "embedded.process",
    "serve": "embedded.proxy",
}
"""Where a public name lives; those that are not here are in `errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
