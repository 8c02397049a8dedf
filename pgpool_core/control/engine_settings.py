"""The engine as the configuration wants it: made, and told what holds for every client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pgpool_core.config.model import Config
from pgpool_core.config.names import MAX_WORKERS
from pgpool_core.config.units import network_parts
from pgpool_core.control import routing
from pgpool_core.control.routing import microseconds
from pgpool_core.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

ALSO_REPORTED: Final = ("default_transaction_read_only", "scram_iterations", "search_path", "session_authorization")
"""What else newer releases of PostgreSQL report of what a client can change, as PgBouncer 1.26 tracks it: it follows with session_state = off, too."""


def worker_count(config: Config) -> int:
    """How many workers there are to be: where nobody says, one for each processor that we may use, as far as there is room."""
    return config.workers or min(len(os.sched_getaffinity(0)), MAX_WORKERS)


def make_engine(workers: int, io_backend: str) -> Engine:
    """The compiled data plane; imported here so that everything else works without it.

    Raises:
        ConfigError: io_uring is asked for and cannot be had.
    """
    from pgpool_core.engine.plane import Engine

    try:
        return Engine(workers=workers, io_backend=io_backend)
    except OSError as refused:
        if io_backend != "io_uring":
            raise
        text = f"io_uring cannot be had: {refused.strerror} (io_backend)"
        raise ConfigError([ConfigProblem(text, section="pgbouncer", key="io_backend")]) from None


def configure_engine(engine: Engine, c: Config) -> None:
    """Tell `engine` what [pgbouncer] says of clients and connections."""
    engine.configure(
        max_client_conn=c.max_client_conn,
        client_login_timeout_us=microseconds(c.client_login_timeout),
        auth_type=routing.auth_type_number(c),
        max_packet_size=c.max_packet_size,
        log_connections=c.log_connections,
        log_disconnections=c.log_disconnections,
        log_pooler_errors=c.log_pooler_errors,
        disable_pqexec=c.disable_pqexec,
        server_fast_close=c.server_fast_close,
        application_name_add_host=c.application_name_add_host,
        login_notify_message=c.login_notify_message.encode(),
        looks_up=_looks_up(c),
        scram_iterations=c.scram_iterations,
        tcp_user_timeout=c.tcp_user_timeout,
        tcp_socket_buffer=c.tcp_socket_buffer,
        packets_a_turn=c.sbuf_loopcnt,
        max_opening=c.server_connect_parallel,
        track_extra_parameters=[name.encode() for name in (*ALSO_REPORTED, *c.track_extra_parameters)],
        ignore_startup_parameters=[name.encode() for name in c.ignore_startup_parameters],
        tcp_keepalive=c.tcp_keepalive,
        tcp_keepidle=c.tcp_keepidle,
        tcp_keepintvl=c.tcp_keepintvl,
        tcp_keepcnt=c.tcp_keepcnt,
        message_stall_timeout_us=microseconds(c.message_stall_timeout),
        drain_timeout_us=microseconds(c.server_drain_timeout),
        query_wait_notify_us=microseconds(c.query_wait_notify),
        peer_id=c.peer_id,
        max_logins=c.max_logins,
        tcp_defer_accept=c.tcp_defer_accept,
        auth_failure_delay_us=microseconds(c.auth_failure_delay),
        proxy_networks=[network_parts(network) for network in c.proxy_protocol_networks],
    )


def _looks_up(config: Config) -> int:
    """The engine's number: secrets come from auth_file alone, from auth_query too, or from there anew for every login."""
    if not (config.auth_user or any(entry.auth_user for entry in config.databases.values())):
        return 0
    return 1 if config.auth_query_ttl else 2
