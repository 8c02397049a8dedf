"""A link over a server that a proxy has lent: it belongs to the proxy's pool, was somebody else's before and will be again.

The object outlives the loan, because it knows what is prepared on that server: when the pool of the program is lent the same server
again, it goes on with the same link.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable
from itertools import count
from time import perf_counter_ns
from typing import Final

import attrs
import trio

from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.line import IDLE
from pgpool_core.client.link import Link
from pgpool_core.client.secure import TlsSocket
from pgpool_core.client.sqlstate import PostgresError
from pgpool_core.control.loans import Lent, Returned
from pgpool_core.control.server_tls import Secured
from pgpool_core.errors import PgPoolError
from pgpool_core.rows import inbox as codes
from pgpool_core.rows.statement import DOES_DATABASES, DOES_FUNCTIONS, DOES_LEAVE, DOES_LOAD, DOES_SEQUENCES, text_does
from pgpool_core.tls.face import Session

LEAVES: Final = DOES_LEAVE | DOES_FUNCTIONS | DOES_LOAD

_numbers = count(1)  # of links, for the names of their statements: several pools may be lent the same server


@attrs.define
class _Opened:
    """What Link wants to know of a server."""

    host: str
    port: int
    backend_pid: int
    backend_key: bytes
    parameters: list[tuple[bytes, bytes]]
    unread: bytes
    secured: Secured | None
    _fd: int
    _session: Session | None

    def detach(self) -> tuple[int, Session | None]:
        """The descriptor, and the TLS session on it."""
        return self._fd, self._session


@attrs.define
class Knowledge:
    """What is known of the functions of a database while a server is lent."""

    changes: int
    effects: bytes | None  # None: not known at the moment, so that any text may do anything
    matters: bool = True


NO_MATTER: Final = Knowledge(0, None, matters=False)


class LentLink(Link):
    """A link that goes back to a proxy, with an account of what has been done."""

    def __init__(
        self,
        lent: Lent,
        parameters: list[tuple[bytes, bytes]],
        catalogue: Catalogue,
        *,
        statement_cache_size: int,
        cancel_timeout_s: float,
        on_sequences: Callable[[], None],
        on_databases: Callable[[bytes], None],
        secured: Secured | None = None,
    ) -> None:
        opened = _Opened(
            host=lent.host,
            port=lent.port,
            backend_pid=lent.backend_pid,
            backend_key=lent.backend_key,
            parameters=parameters,
            unread=b"",
            secured=secured,
            fd=lent.fd,
            session=lent.tls,
        )
        super().__init__(
            opened,
            catalogue,
            statement_cache_size=statement_cache_size,
            cancel_timeout_s=cancel_timeout_s,
            statement_prefix=b"pgpool_lent_%d_" % next(_numbers),
        )
        self.server = lent.server
        self._on_sequences, self._on_databases = on_sequences, on_databases
        self.about_databases = 0  # so many texts of this loan were
        self._forgotten = lent.forgotten
        self._knows = NO_MATTER
        self._does = 0  # of texts whose statements are kept
        self._begin(lent)

    def lend(self, lent: Lent, knows: Knowledge) -> None:
        """The server has been lent: to be called at the beginning of every loan, of the first one too."""
        if self.closed:
            family = socket.AF_UNIX if lent.is_unix else socket.AF_INET
            plain = socket.socket(family, socket.SOCK_STREAM, fileno=lent.fd)
            self.socket = plain if lent.tls is None else TlsSocket(plain, lent.tls)
            self._begin(lent)
        if self._forgotten != lent.forgotten:
            self._forgotten = lent.forgotten
            self.statements.forget_closed()
            self._does = 0
        elif knows.matters and (knows.effects is None or knows.effects is not self._knows.effects):
            self.statements.forget(self)  # they were judged by what was known then
            self._does = 0
        self._knows = knows
        if lent.unread:
            self.inbox.feed(lent.unread)
            self.inbox.stash()

    def _begin(self, lent: Lent) -> None:
        self.closed = self.dirty = self.sending = False
        self.closed_because = ""
        self.status = IDLE
        self.owed = 0
        self.error = None
        self.on_notification = self.on_notice = None
        self._sent = 0
        self.taken = 0
        self._since = self._xact_since = 0
        self._rested = perf_counter_ns()
        self._queries, self._xacts = array("Q"), array("Q")
        self._reported = b""
        self._busy, self.about_databases = False, 0

    def take_away(self, why: str, error: PostgresError | None = None) -> None:
        """The proxy has taken the server back: whoever waits for it gets `error`, or ConnectionLost, as does who uses it later."""
        self.closed_because = why
        if self.owed:
            self.error = error
        self.lost()

    def clocks(self) -> tuple[int, int, int]:
        """When the query that runs was sent, when the transaction began, since when nothing has been asked; of `perf_counter_ns`,
        0 where it is not so.
        """
        asked = self._since if self.owed else 0
        return asked, self._xact_since or asked, 0 if self.owed else self._rested

    def returned(self, changes: int) -> Returned:
        """The end of the loan, and the account of it; `changes` as in `Knowledge`."""
        broken = self.closed or bool(self.owed) or self.sending or not self._in_step()
        session: Session | None = None
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self.socket)
            if isinstance(self.socket, TlsSocket):
                session = self.socket.give()
                broken = broken or session is None
            else:
                self.socket.close()
        if self._knows.matters and changes != self._knows.changes:
            self.dirty = True  # functions do other things since
        return Returned(
            broken=broken,
            busy=broken and (self._busy or bool(self.owed)),
            dirty=self.dirty,
            spent=self.dirty and bool(self._does & DOES_LOAD),
            functions=self.dirty and bool(self._does & DOES_FUNCTIONS),
            tx_status=self.status,
            received=self._sent,
            sent=self.taken,
            queries=self._queries.tobytes(),
            xacts=self._xacts.tobytes(),
            parameters=self._reported,
            tls=session,
        )

    def _in_step(self) -> bool:
        """Whether nothing is left of a message; whole ones that have come meanwhile are read."""
        if not self.inbox.pending():
            return True
        try:
            while code := self.inbox.next():
                self.aside(code)
        except PgPoolError:
            return False
        return self.error is None and not self.inbox.pending()

    def statement_names(self) -> list[bytes]:
        """What is prepared there."""
        return [statement.name for statement in self.statements.known.values()]

    def close_statements(self, names: list[bytes]) -> None:
        """Close those of others, with what is sent next."""
        for name in names:
            self.outbox.close(name)

    def leaves(self, raw: bytes) -> bool:
        """As for any link, and what the functions that it calls leave."""
        knows = self._knows
        does = text_does(raw, knows.effects)
        if knows.matters and knows.effects is None:
            does |= DOES_LEAVE
        self._does |= does
        if does & DOES_SEQUENCES:
            self._on_sequences()
        if does & DOES_DATABASES:
            self.about_databases += 1
            self._on_databases(raw)
        return bool(does & LEAVES)

    def close(self) -> None:
        """Close this end of it; the account says that the server is of no more use."""
        self._busy = self._busy or bool(self.owed)
        super().close()

    async def send(self) -> None:
        """As for any link, and counted."""
        if size := len(self.outbox):
            self._sent += size
            self._since = self._since or perf_counter_ns()
        await super().send()

    def take_ready(self) -> None:
        super().take_ready()
        at = perf_counter_ns()
        begun = self._since or at
        self._queries.append((at - begun) // 1000)
        self._xact_since = self._xact_since or begun
        if self.status == IDLE:
            self._xacts.append((at - self._xact_since) // 1000)
            self._xact_since = 0
        self._since = at if self.owed else 0
        self._rested = at

    def aside(self, code: int) -> None:
        if code == codes.PARAMETER_STATUS:
            self._reported += self.inbox.body()
        super().aside(code)
