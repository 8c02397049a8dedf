"""Settings of [pgbouncer]: the process, what it writes, how it ends."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.names import MAX_PEER_ID, MAX_WORKERS
from pgpool_core.config.units import Choice, Flag, Integer, ListenAt, Seconds, Text
from pgpool_core.config.words import SYSLOG_FACILITIES, IoBackend


@attrs.frozen(kw_only=True, slots=False)
class Process:
    """The process, what it writes, how it ends."""

    user: str = setting("", Text(), "as root: become this user at start; empty = stay who we are", reload=False)
    pidfile: str = setting("", Text(), "file with the number of our process, needed by -d; empty = none", reload=False)
    conffile: str = setting("", Text(), "file that the next RELOAD reads; empty = the one named at start")
    workers: int = setting(
        1, Integer(0, MAX_WORKERS), "ours: threads that move data, at most 64; 0 = one per processor", reload=False
    )
    io_backend: IoBackend = setting(
        "auto",
        Choice(("auto", "epoll", "io_uring")),
        "ours: how workers move data: epoll, io_uring, or auto: io_uring where the system allows it, while there is enough to do for it to be cheaper",
        reload=False,
    )
    peer_id: int = setting(
        0, Integer(0, MAX_PEER_ID), "number of this process among [peers], inside its cancel keys; 0 = it has none"
    )
    metrics_listen: str = setting(
        "", ListenAt(), "ours: host:port of /metrics, /healthz and /readyz over HTTP, `*` = all addresses; empty = off"
    )
    suspend_timeout: float = setting(
        10.0,
        Seconds(),
        "SUSPEND: time for what has been begun to get through; connections that need longer are dropped",
    )
    client_drain_timeout: float = setting(
        0.0,
        Seconds(),
        "ours: when it ends and waits for its clients: each is sent away (57P01) once it holds no server, all others after this time;"
        " 0 = wait until they leave",
    )
    logfile: str = setting("", Text(), "file that log lines are added to, besides stderr; reopened by RELOAD")
    syslog: bool = setting(False, Flag(), "log to the system's log too, by its socket")
    syslog_ident: str = setting("pgbouncer", Text(), "under what name")
    syslog_facility: str = setting("daemon", Choice(SYSLOG_FACILITIES), "and what facility")
    log_connections: bool = setting(True, Flag(), "log successful logins and new server connections")
    log_disconnections: bool = setting(True, Flag(), "log why connections were closed")
    log_pooler_errors: bool = setting(True, Flag(), "log errors that the pooler itself sends to clients")
    log_stats: bool = setting(True, Flag(), "write the statistics line every stats_period")
    stats_period: float = setting(
        60.0, Seconds(positive=True), "how often averages and the statistics line are computed"
    )
    verbose: int = setting(0, Integer(), "0 to 3 and beyond: how much more to log")
