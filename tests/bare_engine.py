"""An engine without control: the test says what control would."""

from __future__ import annotations

from typing import Any

from pgpool_core.engine.plane import Engine

__all__ = ["LONG_US", "bare_engine"]

TRUST = 1
LONG_US = 3_600_000_000


def bare_engine(
    *, workers: int = 1, io_backend: str = "epoll", log_disconnections: bool = False, auth_type: int = TRUST
) -> Any:
    """Configured, with no time limit that a test could meet; not started."""
    engine: Any = Engine(workers=workers, io_backend=io_backend)
    engine.configure(
        max_client_conn=100,
        client_login_timeout_us=LONG_US,
        auth_type=auth_type,
        max_packet_size=2**31 - 1,
        log_connections=False,
        log_disconnections=log_disconnections,
        log_pooler_errors=True,
        max_opening=1,
        ignore_startup_parameters=[],
        tcp_keepalive=False,
        tcp_keepidle=0,
        tcp_keepintvl=0,
        tcp_keepcnt=0,
        message_stall_timeout_us=LONG_US,
        drain_timeout_us=LONG_US,
    )
    return engine
