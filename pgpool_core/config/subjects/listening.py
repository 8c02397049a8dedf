"""Settings of [pgbouncer]: where clients are listened for."""

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.units import FileMode, Flag, Integer, Names, Networks, Text


@attrs.frozen(kw_only=True, slots=False)
class Listening:
    """Where clients are listened for."""

    listen_addr: tuple[str, ...] = setting(
        (), Names(words=False), "TCP addresses or names to listen on, `*` = all; empty = unix socket only", reload=False
    )
    listen_port: int = setting(
        6432, Integer(0, 65535), "TCP port, and part of the unix socket's name; 0 = any free port (ours)", reload=False
    )
    unix_socket_dir: str = setting(
        "/tmp",  # noqa: S108 (the default of PgBouncer)
        Text(),
        "folder of our unix socket and of servers without a host; `@name` = abstract, empty = none",
        reload=False,
    )
    unix_socket_mode: int = setting(0o777, FileMode(), "permissions of our unix socket", reload=False)
    unix_socket_group: str = setting(
        "", Text(), "group of our unix socket, name or number; empty = the process's", reload=False
    )
    listen_backlog: int = setting(
        4096,
        Integer(1),
        "connections that the kernel holds until they are accepted; ours: 4096 where PgBouncer has 128",
        reload=False,
    )
    so_reuseport: bool = setting(
        False, Flag(), "SO_REUSEPORT on TCP sockets, so that several processes may listen on one port", reload=False
    )
    tcp_defer_accept: bool = setting(
        False,
        Flag(),
        "TCP_DEFER_ACCEPT: who connects and says nothing is the kernel's matter for 45 s; ours: off where PgBouncer has 1",
    )
    proxy_protocol_networks: tuple[str, ...] = setting(
        (),
        Networks(),
        "ours: whose connections begin with a PROXY header (version 1 or 2), which tells where the client really comes from:"
        " ADDRESS/BITS, `unix`; empty = nobody's",
    )
