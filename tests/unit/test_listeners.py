"""Which sockets listen_addr opens."""

from __future__ import annotations

import contextlib

import pytest

from pgpool_core.config import Config
from pgpool_core.control.listeners import open_listeners


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
