"""Databases that somebody wants to have for himself: DROP DATABASE, CREATE DATABASE ... TEMPLATE, RENAME, SET TABLESPACE.

PostgreSQL refuses these while others are connected, after waiting five seconds for them to leave. So when such a text
goes by, the idle servers of the pools that lead to the databases it names are let go, and so are what listens there and what
auth_query has kept; until its transaction has ended, but for HOLD_S at most, no new ones are opened, and clients that
need one wait. The statement itself need not wait: PostgreSQL looks for so long.
Source: PostgreSQL, CountOtherDBBackends, which asks again every 100 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pgpool_core.control.pools import PoolRecord, PoolRegistry
from pgpool_core.control.routing import microseconds

if TYPE_CHECKING:
    from pgpool_core.control.auth_query import AuthQuery
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

    def __init__(
        self,
        engine: Engine,
        pools: PoolRegistry,
        channels: Channels,
        auth_query: AuthQuery,
        *,
        now_us: Callable[[], int],
    ) -> None:
        """Begin with nothing held."""
        self._engine = engine
        self._pools = pools
        self._channels = channels
        self._auth_query = auth_query
        self._now_us = now_us
        self._held: dict[bytes, int] = {}  # databases, and until when
        self._at_servers = False  # a client's statement is under way
        self._lent = 0  # statements of those who borrow servers

    def asked(self, text: bytes, *, lent: bool = False) -> None:
        """A "database" letter: such a text has gone to a server; or to one that is lent."""
        self._lent += lent
        self._at_servers |= not lent
        names = wanted_alone(text)
        until_us = self._now_us() + microseconds(HOLD_S)
        self._held.update(dict.fromkeys(names, until_us))
        for record in self._pools:
            if record.target.dbname in names:
                self.keep_shut(record)
                self._engine.retire_servers(record.id, dedicated=False)
        self._auth_query.let_go(names)

    def keep_shut(self, record: PoolRecord) -> None:
        """Have nothing opened for a pool while its database is held."""
        until_us = self._held[record.target.dbname]
        self._engine.hold_pool(record.id, until_us)
        self._channels.let_go(record.id, (until_us - self._now_us()) / 1e6)

    def holds(self, database: bytes) -> bool:
        """Whether a database is to be left alone."""
        return self._now_us() < self._held.get(database, 0)

    def done(self, *, lent: int = 0) -> None:
        """A "database_done" letter: no client's transaction with such a text is open any more; or so many of borrowers are over."""
        self._lent -= lent
        self._at_servers &= lent != 0
        if self._at_servers or self._lent > 0:
            return
        for record in self._pools:
            if record.target.dbname in self._held:
                self._engine.hold_pool(record.id, 0)
                self._channels.let_come(record.id)
        self._held.clear()
