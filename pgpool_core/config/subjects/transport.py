"""Settings of [pgbouncer]: the connections of both sides, as the kernel and the workers treat them."""

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.units import Flag, Integer


@attrs.frozen(kw_only=True, slots=False)
class Transport:
    """The connections of both sides, as the kernel and the workers treat them."""

    tcp_keepalive: bool = setting(True, Flag(), "SO_KEEPALIVE on connections of both sides")
    tcp_keepcnt: int = setting(0, Integer(0, 127), "TCP_KEEPCNT, lost probes; 0 = as the system has it")
    tcp_keepidle: int = setting(
        0, Integer(0, 32767, unit="s"), "TCP_KEEPIDLE, quiet time before a probe; 0 = as the system has it"
    )
    tcp_keepintvl: int = setting(
        0, Integer(0, 32767, unit="s"), "TCP_KEEPINTVL, time between probes; 0 = as the system has it"
    )
    tcp_user_timeout: int = setting(
        0, Integer(unit="ms"), "TCP_USER_TIMEOUT on connections of both sides; 0 = as the system has it"
    )
    tcp_socket_buffer: int = setting(
        0, Integer(unit="bytes"), "SO_SNDBUF and SO_RCVBUF on connections of both sides; 0 = as the system has them"
    )
    sbuf_loopcnt: int = setting(
        5,
        Integer(),
        "packets of 4 KiB that are received from one connection, then the others get their turn; 0 = any number",
    )
    pkt_buf: int = setting(
        4096,
        Integer(1, unit="bytes"),
        "no effect, and a warning says so: each worker receives into one buffer of 64 KiB",
        reload=False,
    )
    max_packet_size: int = setting(
        2**31 - 1, Integer(1, unit="bytes"), "largest message that is let through in either direction"
    )
