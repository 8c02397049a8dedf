"""What a new configuration changes in the pools that run: worked out as a whole first, applied only when nothing is wrong.

`config.diff` compares the two files; here its answer meets the pools. Pure functions of values; `PoolRegistry.apply` carries a plan out.
Source: PgBouncer docs, RELOAD and "Configuration" (which keys are not reloadable, which changes close servers).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from pgpool_core.config import diff
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control import routing
from pgpool_core.control.connect import ServerTarget
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.routing import PoolKey, PoolSettings
from pgpool_core.policy.userlist import Userlist


@attrs.frozen(kw_only=True)
class PoolChange:
    """What a running pool is from now on."""

    settings: PoolSettings
    target: ServerTarget
    reconnect: bool  # its servers are of the old target: close each when it is next idle


@attrs.frozen(kw_only=True)
class PoolsPlan:
    """Everything that a reload does to the pools; nothing in it can fail any more."""

    config: Config  # what is in force from now on
    userlist: Userlist
    warnings: tuple[str, ...]  # settings that keep their old value until a restart, a line each
    pools: Mapping[PoolKey, PoolChange]
    gone: frozenset[PoolKey]  # their database has no entry any more
    orders: Mapping[str, HostOrder]  # by database: whose turn it is; entries that changed begin anew


def plan_pools(old: Config, new: Config, userlist: Userlist, pools: Mapping[PoolKey, ServerTarget]) -> PoolsPlan:
    """Work out what it takes to run with `new` instead of `old`.

    Args:
        userlist: auth_file of the new configuration, read again.
        pools: the pools that exist, with the targets of their servers.

    Raises:
        ConfigError: the new configuration cannot be used; nothing has been changed.
    """
    change = diff.reload_config(old, new)
    config = change.config
    routing.check_entries(config)
    changes: dict[PoolKey, PoolChange] = {}
    gone: set[PoolKey] = set()
    orders: dict[str, HostOrder] = {}
    for key, before in pools.items():
        entry = routing.entry_for(config, key.database)
        if entry is None:
            gone.add(key)
            continue
        if key.database not in orders:
            same = _hosts(entry) == _hosts(routing.entry_for(old, key.database))
            orders[key.database] = before.host_order if same else HostOrder(entry.load_balance_hosts or "round-robin")
        target = routing.server_target(
            config, key, entry, userlist.get, orders[key.database], before.names, before.contexts
        )
        changes[key] = PoolChange(
            settings=routing.pool_settings(config, key, entry),
            target=target,
            reconnect=routing.must_reconnect(before, target) or target.host_order is not before.host_order,
        )
    return PoolsPlan(
        config=config,
        userlist=userlist,
        warnings=change.warnings,
        pools=changes,
        gone=frozenset(gone),
        orders=orders,
    )


def _hosts(entry: DatabaseConfig | None) -> tuple[object, ...]:
    """What decides whose turn it is."""
    return (entry.hosts, entry.load_balance_hosts or "round-robin") if entry is not None else ()
