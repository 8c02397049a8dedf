"""How many file descriptors a pooler may come to need, and the limit on them."""

from __future__ import annotations

import resource
from typing import Final

from pgpool_core import logs
from pgpool_core.config.model import Config

SPARE_DESCRIPTORS: Final = 100  # logs, listeners, event loops, cancel requests


def raise_descriptor_limit(config: Config) -> None:
    """Allow as many descriptors as clients and servers may need; say so where the system does not let us."""
    wanted = config.max_client_conn + servers_at_most(config) + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        _tell_limit(config, soft, hard, wanted)
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    _tell_limit(config, allowed, hard, wanted)
    if allowed < wanted:
        fields = {"limit": allowed, "max_client_conn": config.max_client_conn, "needed": wanted}
        logs.LOGGER.warning("%s", logs.line("", "too few file descriptors for all clients (ulimit -n)", fields))


def _tell_limit(config: Config, soft: int, hard: int, wanted: int) -> None:
    limits = f"kernel file descriptor limit: {soft} (hard: {hard})"
    text = f"{limits}; max_client_conn: {config.max_client_conn}, max expected fd use: {wanted}"
    logs.LOGGER.info("%s", logs.line("", text))


def servers_at_most(config: Config) -> int:
    """Server connections that may be open at once if one user uses each database; more users need more."""
    total = 0
    for entry in config.databases.values():
        size = config.default_pool_size if entry.pool_size is None else entry.pool_size
        reserve = config.reserve_pool_size if entry.reserve_pool_size is None else entry.reserve_pool_size
        limit = config.max_db_connections if entry.max_db_connections is None else entry.max_db_connections
        total += min(size + reserve, limit) if limit else size + reserve
    return total
