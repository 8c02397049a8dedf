"""What is of use only inside of its block says so to whoever takes it for something else; no server is needed for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import pgpool_core
from pgpool_core import PoolError

URL = "postgresql://app:secret@127.0.0.1:1/app"
ASYNC: dict[str, Callable[[str], Any]] = {
    "open_pool": pgpool_core.open_pool,
    "open_proxy": pgpool_core.open_proxy,
    "open_proxy_asyncio": pgpool_core.open_proxy_asyncio,
}
SYNC: dict[str, Callable[[str], Any]] = {
    "run_proxy_in_thread": pgpool_core.run_proxy_in_thread,
    "run_proxy_process": pgpool_core.run_proxy_process,
}
RUN: dict[str, Callable[[Callable[[], Awaitable[None]]], None]] = {
    "trio": trio.run,
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", ASYNC)
def test_an_asynchronous_block_is_neither_awaited_nor_entered_by_with(name: str) -> None:
    block = ASYNC[name](URL)

    async def await_it() -> None:
        await block

    async def iterate() -> None:
        async for _ in block:
            pass

    for misuse in (lambda: trio.run(await_it), lambda: trio.run(iterate), block.__enter__):
        with pytest.raises(TypeError, match=rf"{name}\(\.\.\.\) is a block: `async with {name}\(\.\.\.\) as"):
            misuse()


@pytest.mark.parametrize("name", SYNC)
def test_a_block_is_not_entered_by_async_with(name: str) -> None:
    async def enter() -> None:
        async with SYNC[name](URL):
            pass

    with pytest.raises(TypeError, match=rf"is a block: `with {name}\(\.\.\.\) as proxy`"):
        asyncio.run(enter())


@pytest.mark.parametrize("name", [*ASYNC, *SYNC])
def test_a_block_says_that_it_is_not_yet_what_it_gives(name: str) -> None:
    block = {**ASYNC, **SYNC}[name](URL)
    with pytest.raises(
        AttributeError, match=rf"{name}\(\.\.\.\) has no 'url' before it is entered: `.*with .*, then p\w+\.url"
    ):
        _ = block.url
    assert not hasattr(block, "__len__")
    assert not hasattr(block, "_of_ours")


@pytest.mark.parametrize(
    ("name", "loop", "cure"),
    [
        ("open_pool", "asyncio", "open_proxy_asyncio"),
        ("open_proxy", "asyncio", "open_proxy_asyncio"),
        ("open_proxy_asyncio", "trio", r"open_proxy\(\.\.\.\) is for trio"),
    ],
)
def test_the_wrong_loop_is_told_what_is_right_there(name: str, loop: str, cure: str) -> None:
    async def enter() -> None:
        async with ASYNC[name](URL):
            pass

    with pytest.raises(PoolError, match=cure):
        RUN[loop](enter)


@pytest.mark.parametrize(
    ("name", "cure"), [("open_pool", r"trio\.run\(\)"), ("open_proxy_asyncio", r"asyncio\.run\(\)")]
)
def test_without_a_loop_it_is_said_how_to_start_one(name: str, cure: str) -> None:
    with pytest.raises(PoolError, match=f"start with {cure}"):
        ASYNC[name](URL).__aenter__().send(None)


def test_documentation_and_names_are_those_of_the_functions() -> None:
    for name, function in {**ASYNC, **SYNC}.items():
        assert function.__name__ == name
        assert function.__doc__
