"""What users who do not exist are made of, and that it goes over to the process that takes another one's place."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from pgpool_core.control.host_key import KEY_LEN, host_key
from pgpool_core.errors import ConfigError
from pgpool_core.process.takeover import Door, Sockets, Successor

MACHINE = "3d1219c7c4c5404aaa1f6d2a48adfda4"


def of(folder: Path, text: str) -> bytes:
    path = folder / "machine-id"
    path.write_text(text)
    return host_key(path)


def test_it_is_the_machines_and_tells_nothing_of_its_id(tmp_path: Path) -> None:
    key = of(tmp_path, MACHINE + "\n")
    assert key == of(tmp_path, MACHINE) == of(tmp_path, MACHINE.upper() + "\n")
    assert key != of(tmp_path, MACHINE.replace("3d", "3e"))
    # printf 'fd208f4f08c557a1d05d185a5c3b287f' | xxd -r -p | openssl dgst -sha256 -mac hmac -macopt hexkey:3d12...
    assert key.hex() == "22cabe055b75b507ea8dadbebd4f378a0790caeda0df12eda518f5ce096bcd53"


@pytest.mark.parametrize("text", ["", "\n", "uninitialized\n", "0" * 32, MACHINE[:31], MACHINE + "0", "g" * 32])
def test_a_machine_without_an_id_has_a_random_one(tmp_path: Path, text: str) -> None:
    keys = {of(tmp_path, text) for _ in range(3)} | {host_key(tmp_path / "missing")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {KEY_LEN}


async def nothing(*_: object) -> None:
    await trio.lowlevel.checkpoint()


async def at_a_door(path: Path, key: bytes, visit: Callable[[str], Awaitable[None]]) -> None:
    """Visit a process that has this key."""
    listening = socket.socket(socket.AF_UNIX)

    try:
        door = Door(str(path), lambda: Sockets([listening], "", [], mock_key=key), nothing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.serve)
            await trio.testing.wait_all_tasks_blocked()
            await visit(str(path))
            nursery.cancel_scope.cancel()
    finally:
        listening.close()


@pytest.mark.parametrize("key", [b"k" * KEY_LEN, b""])
async def test_it_goes_over_with_the_sockets(tmp_path: Path, key: bytes, autojump_clock: trio.abc.Clock) -> None:
    async def visit(path: str) -> None:
        successor = await Successor.knock(path)
        assert successor is not None
        for sock in successor.sockets.clients:
            sock.close()
        assert successor.sockets.mock_key == key
        await successor.wait_ended(nothing)

    await at_a_door(tmp_path / "door", key, visit)


async def test_half_a_key_is_none(tmp_path: Path) -> None:
    async def visit(path: str) -> None:
        with pytest.raises(ConfigError, match="cannot take over"):
            await Successor.knock(path)

    await at_a_door(tmp_path / "door", b"k" * 31, visit)
