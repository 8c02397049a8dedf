"""What our own tests stand on, for programs that embed the pooler too: real servers, scripted peers, a clock that waits.

The pytest fixtures are in `pgpool_core.testing.plugin`, which pytest finds by itself.
"""

from pgpool_core.testing.binaries import PostgresBinaries, PostgresMissing, find_pgbouncer, find_postgres
from pgpool_core.testing.clock import ManualClock
from pgpool_core.testing.messages import Message, Messages, Startup, backend, frontend
from pgpool_core.testing.peer import (
    PeerMismatch,
    ScriptedPeer,
    ScriptedServer,
    connect_peer,
    open_scripted_server,
)
from pgpool_core.testing.pooler import PoolerProcess
from pgpool_core.testing.ports import can_connect, free_port
from pgpool_core.testing.postgres import PostgresServer, PostgresUser, ServerTls
from pgpool_core.testing.process import GuardedProcess, ProcessFailed

__all__ = [
    "GuardedProcess",
    "ManualClock",
    "Message",
    "Messages",
    "PeerMismatch",
    "PoolerProcess",
    "PostgresBinaries",
    "PostgresMissing",
    "PostgresServer",
    "PostgresUser",
    "ProcessFailed",
    "ScriptedPeer",
    "ScriptedServer",
    "ServerTls",
    "Startup",
    "backend",
    "can_connect",
    "connect_peer",
    "find_pgbouncer",
    "find_postgres",
    "free_port",
    "frontend",
    "open_scripted_server",
]
