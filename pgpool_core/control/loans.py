"""Servers of the pools for the program around us: who waits for one, who has one.

A borrower stands in the same queue as clients and counts as one; the engine grants it a server as it would a client. What a borrower
does with the socket is its own affair: `client.shared` is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import attrs
import trio

from pgpool_core.config.words import POOL_MODES
from pgpool_core.control import routing
from pgpool_core.control.databases import Databases
from pgpool_core.control.functions import Functions
from pgpool_core.control.pools import PoolRecord, PoolRegistry
from pgpool_core.control.routing import Patience, PoolKey, ToPool
from pgpool_core.errors import ConfigError, PoolClosed, PoolError
from pgpool_core.tls.face import Session

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine

STOPPED: Final = "the proxy has stopped"
ELSEWHERE: Final = "a pool of a proxy is opened in the trio.run() that runs the proxy"


@attrs.frozen
class Lent:
    """A server, from "lent" to `give_back`."""

    token: int
    server: int  # its id
    fd: int  # moves to whoever takes this
    backend_pid: int
    backend_key: bytes = attrs.field(repr=False)
    host: str
    port: int
    is_unix: bool
    unread: bytes = attrs.field(repr=False)
    forgotten: int
    """How often it has forgotten its named statements."""
    waited: bool  # there was none at once
    tls: Session | None = None  # moves too


class Returned(NamedTuple):
    """What has become of a server while it was lent; see `Engine.give_back`."""

    broken: bool
    busy: bool
    dirty: bool
    spent: bool
    functions: bool
    tx_status: int
    received: int
    sent: int
    queries: bytes
    xacts: bytes
    parameters: bytes
    tls: Session | None = None


class Borrower(Protocol):
    """Somebody who has asked for a server. Both are called on the control loop and must not raise."""

    def lent(self, lent: Lent) -> None:
        """Here it is."""
        ...

    def ended(self, error: bytes) -> None:
        """There will be none, or it has been taken away: close its descriptor.

        Args:
            error: an ErrorResponse, or nothing where the proxy has stopped.
        """
        ...


class Loans:
    """All loans of one pooler."""

    def __init__(self, engine: Engine, pools: PoolRegistry, functions: Functions) -> None:
        self._engine = engine
        self._pools = pools
        self._functions = functions
        self._borrowers: dict[int, Borrower] = {}
        self._next_worker = 0
        self._stopped = False
        self.databases: Databases | None = None
        self.home: trio.lowlevel.TrioToken | None = None
        """The run that all of this belongs to."""
        self.statements: dict[int, list[bytes]] = {}
        """Names of statements on servers, by the server's id, that nobody will use any more: to be closed by who borrows it next."""
        self.watchers: set[Callable[[int], None]] = set()
        """Called with the id of each server that has ended."""
        self.lookers: set[Callable[[], None]] = set()
        """Called in each round of the janitor, for timeouts."""

    # -- where -----------------------------------------------------------------------------------------------------

    def pool_of(self, database: str, user: str) -> PoolRecord:
        """The pool that logins of `user` to `database` go to.

        Raises:
            ConfigError: there is none that lends servers.
            PoolClosed: it takes nobody in.
        """
        self._check()
        config, holds = self._pools.config, self._pools.holds
        entry = routing.entry_for(config, database)
        if entry is None:
            raise ConfigError(f"no such database: {database}")
        record = self._pools.pool_for(
            ToPool(PoolKey(database, entry.user or user), entry, database not in config.databases)
        )
        if POOL_MODES[record.settings.mode] == "statement":
            raise ConfigError(f'database "{database}" has no transactions: it cannot be borrowed from (pool_mode)')
        if holds.ending:
            raise PoolClosed("pooler is shutting down", sqlstate="57P01")
        if database in holds.disabled:
            raise PoolClosed(f'database "{database}" is disabled', sqlstate="55000")
        return record

    def patience(self, record: PoolRecord, user: str) -> Patience:
        """Timeouts of those who log in as `user` to a pool."""
        config, pools = self._pools.config, record.settings.patience
        if user not in config.users:
            return pools
        own = routing.user_terms(config, user).patience
        return Patience(*(theirs if mine is None else mine for mine, theirs in zip(own, pools, strict=True)))

    def look(self) -> None:
        """The janitor's round."""
        for looker in list(self.lookers):
            looker()

    def check_run(self) -> None:
        """Refuse to lend to another run.

        Raises:
            PoolError: this is not where the proxy lives.
        """
        try:
            here = trio.lowlevel.current_trio_token()
        except RuntimeError:
            raise PoolError(ELSEWHERE) from None
        if here is not self.home:
            raise PoolError(ELSEWHERE)

    def next_worker(self) -> int:
        """Whose queue the borrowers of one pool of the program stand in."""
        self._next_worker += 1
        return self._next_worker % self._engine.workers

    # -- lending ---------------------------------------------------------------------------------------------------

    def ask(self, pool: int, worker: int, startup: bytes, borrower: Borrower) -> int:
        """Have `borrower` wait for a server, as a client would that logs in with this startup packet; its token."""
        self._check()
        token = self._engine.borrow(pool, worker, startup)
        self._borrowers[token] = borrower
        return token

    def stop_waiting(self, token: int) -> None:
        """The borrower waits no more, and hears nothing more."""
        if self._borrowers.pop(token, None) is not None and not self._stopped:
            self._engine.stop_waiting(token)

    def give_back(self, token: int, returned: Returned) -> None:
        """The borrower has done; nothing where its server has been taken away."""
        if self._borrowers.pop(token, None) is not None and not self._stopped:
            self._engine.give_back(token, **returned._asdict())

    # -- what functions do -------------------------------------------------------------------------------------------

    def effects(self, record: PoolRecord) -> tuple[int, bytes | None] | None:
        """What is known of the functions of a database, and of which of their changes; None: it does not matter."""
        return self._functions.known_of(record)

    def functions_changed(self, record: PoolRecord) -> None:
        """A transaction that may have changed some is over."""
        if (mark := self._functions.mark_of(record)) is not None and not self._stopped:
            self._engine.functions_changed(mark)

    def databases_asked(self, text: bytes) -> None:
        """A text about databases goes to a server: let go of those that are in its way."""
        if self.databases is not None and not self._stopped:
            self.databases.asked(text, lent=True)

    def databases_done(self, texts: int) -> None:
        """The transactions of so many such texts are over."""
        if self.databases is not None and not self._stopped:
            self.databases.done(lent=texts)

    def sequences_read(self, record: PoolRecord) -> None:
        """A text uses sequences."""
        if not self._stopped:
            self._engine.reads_sequences(record.id)

    def row(self, pool: int) -> dict[str, int]:
        """Numbers of a pool, as in SHOW POOLS; empty where it is not shown."""
        if self._stopped:
            return {}
        return next((row for row in self._engine.pools() if row["id"] == pool), {})

    def retire(self, record: PoolRecord) -> None:
        """Replace the servers of a pool, each when nobody has it, and learn anew what they report and begin with."""
        self._check()
        self._engine.retire_servers(record.id, dedicated=False)
        self._pools.forget_greeting(record)

    # -- news ------------------------------------------------------------------------------------------------------

    def deliver_lent(self, lent: Lent) -> None:
        """A "lent" letter."""
        borrower = self._borrowers.get(lent.token)
        if borrower is None:
            os.close(lent.fd)
        else:
            borrower.lent(lent)

    def deliver_ended(self, token: int, error: bytes) -> None:
        """A "loan_ended" letter."""
        borrower = self._borrowers.pop(token, None)
        try:
            if borrower is not None:
                borrower.ended(error)
        finally:
            self._engine.forget_loan(token)

    def server_closed(self, server: int) -> None:
        """A server has ended."""
        self.statements.pop(server, None)
        for watcher in list(self.watchers):
            watcher(server)

    def stop(self) -> None:
        """The engine has stopped: nobody gets anything any more."""
        self._stopped = True
        borrowers, self._borrowers = self._borrowers, {}
        for borrower in borrowers.values():
            borrower.ended(b"")

    def _check(self) -> None:
        if self._stopped:
            raise PoolClosed(STOPPED)


def startup_packet(parameters: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The startup packet with these parameters, the user's and the database's names among them.

    Raises:
        ConfigError: a name or value cannot stand there.
    Source: PostgreSQL docs, "Message Formats", StartupMessage.
    """
    body = (196608).to_bytes(4, "big") + b"".join(name + b"\0" + value + b"\0" for name, value in parameters) + b"\0"
    if any(b"\0" in part for pair in parameters for part in pair) or not all(name for name, _ in parameters):
        raise ConfigError(
            "the name of a user, a database or a setting is empty, or has a zero byte in it or in its value"
        )
    return (len(body) + 4).to_bytes(4, "big") + body
