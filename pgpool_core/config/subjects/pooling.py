"""Settings of [pgbouncer]: how many servers and clients there may be, and when a server goes back."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.units import Choice, Integer, Seconds
from pgpool_core.config.words import POOL_MODES, PoolMode


@attrs.frozen(kw_only=True, slots=False)
class Pooling:
    """How many servers and clients there may be, and when a server goes back."""

    pool_mode: PoolMode = setting(
        "session",
        Choice(POOL_MODES),
        "session, transaction or statement: when a server connection goes back to its pool",
    )
    max_client_conn: int = setting(
        100, Integer(), "clients at one time, those logging in included; cancel requests and the console are free"
    )
    default_pool_size: int = setting(20, Integer(), "server connections per pair of database and user; 0 = any number")
    min_pool_size: int = setting(0, Integer(), "server connections kept open in a pool that is in use")
    reserve_pool_size: int = setting(
        0, Integer(), "further server connections for a pool whose clients have waited too long"
    )
    reserve_pool_timeout: float = setting(
        5.0, Seconds(), "how long the oldest client must have waited for that; 0 = never"
    )
    pool_idle_timeout: float = setting(
        0.0, Seconds(), "a pool without clients and servers for longer is forgotten until the next login; 0 = never"
    )
    autodb_idle_timeout: float = setting(
        3600.0, Seconds(), "the same for a database that has no entry but `*`; 0 = never"
    )
    max_db_connections: int = setting(0, Integer(), "server connections per database, over all users; 0 = any number")
    max_user_connections: int = setting(
        0, Integer(), "server connections per server user, over all databases; 0 = any number"
    )
    max_db_client_connections: int = setting(
        0, Integer(), "clients per database at one time, those logging in included; 0 = any number"
    )
    max_user_client_connections: int = setting(
        0,
        Integer(),
        "clients per login user at one time, those logging in included; 0 = any number; the console is free",
    )
