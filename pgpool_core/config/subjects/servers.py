"""Settings of [pgbouncer]: servers: how they are found, opened, tested, cleaned and closed."""

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.units import Flag, Integer, Seconds, Text


@attrs.frozen(kw_only=True, slots=False)
class Servers:
    """Servers: how they are found, opened, tested, cleaned and closed."""

    server_reset_query: str = setting(
        "DISCARD ALL", Text(), "SQL run when a session client leaves its server; empty = none"
    )
    server_reset_query_always: bool = setting(False, Flag(), "run it in transaction and statement mode too")
    server_check_query: str = setting(
        "<empty>", Text(), "SQL that tests a server before reuse; `<empty>` = an empty query, empty = no test"
    )
    server_round_robin: bool = setting(
        False, Flag(), "of idle servers take the one that has been idle for longest, not the one used last"
    )
    server_fast_close: bool = setting(
        False,
        Flag(),
        "in session mode, close a server that is not to be used again, and its client, as soon as that is idle",
    )
    server_check_delay: float = setting(30.0, Seconds(), "a server idle for longer is tested before reuse; 0 = always")
    server_lifetime: float = setting(
        3600.0, Seconds(), "a server older than this is closed when unused; 0 = after one use"
    )
    server_idle_timeout: float = setting(600.0, Seconds(), "a server idle for longer is closed; 0 = never")
    server_connect_timeout: float = setting(15.0, Seconds(), "time for connecting and logging in to a server; 0 = any")
    server_login_retry: float = setting(
        15.0, Seconds(), "pause after a failed login to a server; new clients fail at once meanwhile"
    )
    server_connect_parallel: int = setting(
        4, Integer(1, 1024), "ours: server connections that one pool may be opening at one time"
    )
    server_drain_timeout: float = setting(
        5.0,
        Seconds(positive=True),
        "ours: how long a server whose client vanished may take to become clean before it is closed",
    )
    dns_max_ttl: float = setting(
        15.0,
        Seconds(),
        "how long the addresses of a host's name are remembered; then it is looked up again, and servers at addresses"
        " that have gone are closed when unused",
    )
    dns_nxdomain_ttl: float = setting(
        15.0,
        Seconds(),
        "how long it is remembered that a host's name cannot be looked up; addresses that it had stay in use",
    )
