"""Raw clients, logged in: what was said is compared message by message."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from pgpool_core.testing import Message, ScriptedPeer, connect_peer
from tests.conftest import PASSWORDS

__all__ = ["letters", "logged_in", "values"]


class Place(Protocol):
    """Where to connect: a `Target` or a `PoolerProcess`."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


@contextlib.asynccontextmanager
async def logged_in(
    place: Place,
    user: str = "app",
    database: str = "app",
    *,
    patience_s: float = 30.0,
    parameters: Mapping[str, str] | None = None,
    **more: str,
) -> AsyncGenerator[ScriptedPeer]:
    """A client that has seen its first ReadyForQuery; startup parameters as a mapping or by name."""
    async with await connect_peer((place.host, place.port), patience_s=patience_s) as peer:
        await peer.log_in(user, database, PASSWORDS.get(user, ""), **{**(parameters or {}), **more})
        yield peer


def letters(messages: Sequence[Message]) -> str:
    """The types in order, such as "TDCZ"."""
    return "".join(message.type.decode("latin-1") for message in messages)


def values(messages: Sequence[Message]) -> list[list[bytes | None]]:
    """The columns of every DataRow."""
    return [message.values for message in messages if message.type == b"D"]
