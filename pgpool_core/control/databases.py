"""Databases that somebody wants to have for himself: DROP DATABASE, CREATE DATABASE ... TEMPLATE, RENAME, SET TABLESPACE.

PostgreSQL refuses these while others are connected, after waiting five seconds for them to leave. So when such a text
goes by, the idle servers of the pools that lead to the databases it names are let go, and so is what listens there;
until its transaction has ended, but for HOLD_S at most, no new ones are opened, and clients that need one wait.
Source: PostgreSQL, CountOtherDBBackends, which asks again every 100 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.routing import microseconds

if TYPE_CHECKING:
    from pgpool_core.control.channels import Channels
    from pgpool_core.engine.plane import Engine

HOLD_S: Final = 6.0  # a little longer than PostgreSQL waits
TEMPLATE: Final = b"template1"  # what CREATE DATABASE copies if it does not say

_ALONE: Final = re.compile(rb"\s*(?:drop\s|create\s|alter\s.*\s(?:rename|tablespace)\s)", re.IGNORECASE | re.DOTALL)
_CREATE: Final = re.compile(rb"\s*create\s", re.IGNORECASE)
_COMMENT: Final = re.compile(rb"""("(?:[^"]|"")*"|'(?:[^']|'')*')|--[^\r\n]*|/\*.*?\*/""", re.DOTALL)
_NAME: Final = re.compile(rb'"((?:[^"]|"")+)"|([\w$\x80-\xff]+)')


def wanted_alone(text: bytes) -> frozenset[bytes]:
    """Names in a statement about databases that needs one without connections; more than it means, never fewer."""
    text = _COMMENT.sub(lambda found: found[1] or b" ", text)
    if not _ALONE.match(text):
        return frozenset()
    names = {quoted.replace(b'""', b'"') or plain.lower() for quoted, plain in _NAME.findall(text)}
    return frozenset(names | {TEMPLATE} if _CREATE.match(text) else names)


class Databases:
    """Lets servers go for such statements."""

    def __init__(self, engine: Engine, pools: PoolRegistry, channels: Channels, *, now_us: Callable[[], int]) -> None:
        """Begin with nothing held."""
        self._engine = engine
        self._pools = pools
        self._channels = channels
        self._now_us = now_us
        self._held: dict[int, int] = {}  # pools, and until when

    def asked(self, text: bytes) -> None:
        """A "database" letter: such a text has gone to a server."""
        names = wanted_alone(text)
        until_us = self._now_us() + microseconds(HOLD_S)
        for record in self._pools:
            if record.target.dbname in names:
                self._held[record.id] = until_us
                self._engine.hold_pool(record.id, until_us)
                self._engine.retire_servers(record.id)
                self._channels.let_go(record.id, HOLD_S)

    def holds(self, pool: int) -> bool:
        """Whether a pool's database is to be left alone."""
        return self._now_us() < self._held.get(pool, 0)

    def done(self) -> None:
        """A "database_done" letter: a transaction with such a text has ended."""
        for pool in self._held:
            self._engine.hold_pool(pool, 0)
            self._channels.let_come(pool)
        self._held.clear()
