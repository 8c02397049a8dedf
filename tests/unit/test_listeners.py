"""Which sockets listen_addr opens."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

import pytest
import trio

from pgpool_core.config import Config
from pgpool_core.control.listeners import Listener, open_listeners, unix_listener
from pgpool_core.control.pooler import Pooler
from pgpool_core.errors import ConfigError
from pgpool_core.policy.userlist import Userlist


async def places_of(*listen_addr: str) -> list[str]:
    """The IPv4 addresses that are listened on."""
    config = Config.of(databases={}, listen_addr=listen_addr, listen_port=0, unix_socket_dir="", auth_type="md5")
    with contextlib.ExitStack() as opened:
        listeners = await open_listeners(config)
        for listener in listeners:
            opened.callback(listener.close)
        return [listener.host for listener in listeners if "." in listener.host]


@pytest.mark.parametrize(
    ("listen_addr", "places"),
    [
        (("127.0.0.1", "localhost", "127.0.0.1"), ["127.0.0.1"]),
        (("127.0.0.1", "127.0.0.2"), ["127.0.0.1", "127.0.0.2"]),
        (("*", "127.0.0.1"), ["0.0.0.0"]),
        (("127.0.0.1", "*"), ["0.0.0.0"]),
        (("127.0.0.1", "0.0.0.0"), ["0.0.0.0"]),
    ],
)
async def test_an_address_that_comes_twice_is_listened_on_once(
    listen_addr: tuple[str, ...], places: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert await places_of(*listen_addr) == places
    assert not any("in use" in message for message in caplog.messages)


async def test_what_workers_cannot_watch_is_told_instead_of_listening_to_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as no_socket, (tmp_path / "file").open("w") as file:
        os.dup2(file.fileno(), no_socket.fileno())  # which no epoll takes

        async def listen(config: Config) -> list[Listener]:
            return [Listener(no_socket, "/run/somewhere", config.listen_port, is_unix=True)]

        config = Config.of(databases={}, auth_type="md5")
        pooler = Pooler(config, userlist=Userlist({}), listen=listen)
        with (
            pytest.raises(ConfigError, match=r"cannot watch unix:/run/somewhere/.s.PGSQL.6432: .* \(epoll\)"),
            trio.fail_after(10),
        ):
            await pooler.run()


def test_a_group_that_the_socket_may_not_have_is_told_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, uid: int, gid: int) -> None:  # as for a user who is not in that group
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.chown", refuse)
    config = Config.of(databases={}, listen_addr=(), unix_socket_dir=str(tmp_path), unix_socket_group="0")
    with pytest.raises(ConfigError, match=r"cannot give .* to group 0: Operation not permitted \(unix_socket_group\)"):
        unix_listener(config, 6432)
    assert not list(tmp_path.iterdir())
