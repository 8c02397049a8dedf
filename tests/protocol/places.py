"""Where a transcript is played: on a script behind the pooler, on PostgreSQL, on the pooler before PostgreSQL."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import trio

import pgpool_core
from pgpool_core.config.load import parse_config
from pgpool_core.testing import PostgresServer
from tests.conftest import PASSWORDS
from tests.protocol.player import Player, ServerSide
from tests.protocol.transcript import Transcript
from tests.watching import until_async

__all__ = ["play_direct", "play_pooler", "play_scripted"]


async def play_scripted(transcript: Transcript, cut: str, seed: int) -> None:
    """The pooler between the clients and the servers of the transcript, all on Unix sockets."""
    player = Player(transcript, "scripted", cut, seed)
    with _folder() as folder:
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await sock.bind(str(folder / ".s.PGSQL.5432"))
        sock.listen(16)
        async with trio.SocketListener(sock) as listener, trio.open_nursery() as nursery:
            servers = player.servers = ServerSide(transcript, player, nursery)
            nursery.start_soon(servers.serve, listener)
            async with _pooler(player, transcript, folder, f"host={folder} port=5432 user=app"):
                await player.play()
                for party in list(servers.parties.values()):
                    nursery.start_soon(servers.see_off, party)
            servers.accepting.cancel()


async def play_pooler(transcript: Transcript, cut: str, seed: int, postgres: PostgresServer) -> None:
    """The pooler between the clients of the transcript and a real server."""
    player = Player(transcript, "pooler", cut, seed)
    server = f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"
    with _folder() as folder:
        async with _pooler(player, transcript, folder, server):
            await player.play()


async def play_direct(transcript: Transcript, cut: str, seed: int, postgres: PostgresServer) -> None:
    """The clients of the transcript at a real server."""
    player = Player(transcript, "direct", cut, seed)
    player.address = (postgres.host, postgres.port)
    async with player:
        await player.play()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder with a short name, for the names of Unix sockets are short."""
    folder = Path(tempfile.mkdtemp(prefix="transcript-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def _pooler(player: Player, transcript: Transcript, folder: Path, server: str) -> AsyncGenerator[None]:
    """A pooler of one server unless the transcript wants more, whose own invariants hold before, while and after it is used."""
    users = transcript.users or {"app": PASSWORDS["app"]}
    (folder / "userlist.txt").write_text("".join(f'"{name}" "{secret}"\n' for name, secret in users.items()))
    settings = {
        "listen_addr": "",
        "unix_socket_dir": folder,
        "listen_port": 6432,
        "auth_type": "trust",
        "auth_file": folder / "userlist.txt",
        "pool_mode": "transaction",
        "default_pool_size": 1,
        "function_check_period": 0,  # a script knows nothing of catalogues
        **transcript.settings,
    }
    lines = ["[databases]", f"app = {server}{transcript.server}", "[pgbouncer]"]
    config = parse_config(
        "\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())]), file=transcript.name
    )
    async with pgpool_core.open_proxy(config) as proxy:
        player.proxy = proxy
        player.address = folder / ".s.PGSQL.6432"
        async with player:
            yield
        engine = proxy._pooler.engine
        await until_async(lambda: not engine.invariants(), what="the counts of its pools agree")
