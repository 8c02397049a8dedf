"""Blocks that say how they are entered, to whoever awaits them, takes them for what they give, or enters them from another loop."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, ParamSpec, TypeVar

import trio

from pgpool_core.errors import PoolError

P = ParamSpec("P")
T = TypeVar("T")
Loop = Literal["trio", "asyncio", "any"]


class Entered:
    """What is of use only inside of its block.

    Attributes:
        _written: how the block is written, such as `async with open_pool(...) as pool`.
        _call: the call in it.
        _gives: what the block calls that which it gives.
    """

    _written = _call = _gives = ""

    if not TYPE_CHECKING:  # a type checker finds these mistakes by itself

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(
                f"{self._call} has no {name!r} before it is entered: `{self._written}`, then {self._gives}.{name}"
            )

        def _refuse(self, *_: object) -> NoReturn:
            raise TypeError(f"{self._call} is a block: `{self._written}`")

        __await__ = __aiter__ = __iter__ = _refuse


class AsyncEntered(Entered):
    """One that is entered by `async with`."""

    if not TYPE_CHECKING:
        __enter__ = __exit__ = Entered._refuse


class AsyncBlock(AsyncEntered, AbstractAsyncContextManager[T], Generic[T]):
    """A context manager made of a generator."""

    def __init__(self, call: str, gives: str, loop: Loop, block: AbstractAsyncContextManager[T]) -> None:
        self._call, self._gives = call, gives
        self._written = f"async with {call} as {gives}"
        self._loop = loop
        self._block = block

    async def __aenter__(self) -> T:
        if self._loop != "any":
            check_loop(self._call, self._loop)
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, trace)


class SyncBlock(Entered, AbstractContextManager[T], Generic[T]):
    """The same, entered by `with`."""

    def __init__(self, call: str, gives: str, block: AbstractContextManager[T]) -> None:
        self._call, self._gives = call, gives
        self._written = f"with {call} as {gives}"
        self._block = block

    def __enter__(self) -> T:
        return self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, trace)

    if not TYPE_CHECKING:
        __aenter__ = __aexit__ = Entered._refuse


def async_block(
    call: str, gives: str, *, loop: Loop = "any"
) -> Callable[[Callable[P, AsyncIterator[T]]], Callable[P, AbstractAsyncContextManager[T]]]:
    """As `asynccontextmanager`.

    Args:
        call: how the function is called, such as `open_pool(...)`.
        gives: a name for what the block gives.
        loop: in which it can be entered.
    """

    def decorate(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
        make = asynccontextmanager(function)

        @wraps(function)
        def block(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
            return AsyncBlock(call, gives, loop, make(*args, **kwargs))

        return block

    return decorate


def sync_block(call: str, gives: str) -> Callable[[Callable[P, Iterator[T]]], Callable[P, AbstractContextManager[T]]]:
    """As `contextmanager`; arguments as for `async_block`."""

    def decorate(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
        make = contextmanager(function)

        @wraps(function)
        def block(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
            return SyncBlock(call, gives, make(*args, **kwargs))

        return block

    return decorate


def check_loop(call: str, wanted: Loop) -> None:
    """Refuse to enter from another loop than the one that is needed.

    Raises:
        PoolError: it tells what to use there.
    """
    try:
        trio.lowlevel.current_trio_token()
        here = "trio"
    except RuntimeError:
        try:
            asyncio.get_running_loop()
            here = "asyncio"
        except RuntimeError:
            here = "any"
    if here == wanted:
        return
    if wanted == "trio":
        cure = (
            "open_proxy_asyncio(...) and a driver such as asyncpg are for asyncio"
            if here == "asyncio"
            else "start with trio.run()"
        )
        raise PoolError(f"{call} is for programs that run trio, and this is not inside trio.run(): {cure}")
    cure = "open_proxy(...) is for trio" if here == "trio" else "start with asyncio.run()"
    raise PoolError(f"{call} is for programs that run asyncio, whose loop does not run here: {cure}")
