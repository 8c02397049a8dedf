"""PostgreSQL as far as prepared statements go, and a pooler around the probes that lends such servers to clients.

A client of the pooler is to read what it would read from a PostgreSQL of its own.
"""

from __future__ import annotations

import struct
from collections import deque

from pgpool_core_probes import statements_probe

PASS, SEND, NEED_MORE, WAIT, TOO_LONG, FULL = 0, 1, 2, 3, -1, -2
FORWARD, SWALLOW, AS_PARSE, BROKEN = 0, 1, 2, -1
OTHER, RENAMED, OUTDATED = 0, 1, 2

ASIDE = statements_probe.name_of(2**64 - 1)
SYNC, FLUSH, EXECUTE = b"S\0\0\0\4", b"H\0\0\0\4", b"E\0\0\0\x09\0\0\0\0\0"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def text_of(query: bytes, *oids: int) -> bytes:
    """A Parse body behind the name."""
    return query + b"\0" + struct.pack(f"!H{len(oids)}I", len(oids), *oids)


def parse(name: bytes, query: bytes, *oids: int) -> bytes:
    return message(b"P", name + b"\0" + text_of(query, *oids))


def bind(name: bytes, portal: bytes = b"") -> bytes:
    return message(b"B", portal + b"\0" + name + b"\0" + b"\0\0\0\0\0\0")


def describe(name: bytes) -> bytes:
    return message(b"D", b"S" + name + b"\0")


def close(name: bytes) -> bytes:
    return message(b"C", b"S" + name + b"\0")


def close_portal(name: bytes = b"") -> bytes:
    return message(b"C", b"P" + name + b"\0")


def query(sql: bytes) -> bytes:
    return message(b"Q", sql + b"\0")


def error(sqlstate: bytes, text: bytes, routine: bytes = b"raised") -> bytes:
    fields = (b"SERROR", b"VERROR", b"C" + sqlstate, b"M" + text, b"Fprepare.c", b"L1", b"R" + routine)
    return message(b"E", b"\0".join(fields) + b"\0\0")


def split(data: bytes) -> list[bytes]:
    """Whole messages."""
    found = []
    while data:
        end = 1 + struct.unpack("!I", data[1:5])[0]
        assert len(data) >= end, "the last message is not whole"
        found.append(data[:end])
        data = data[end:]
    return found


class ModelPostgres:
    """One backend: takes messages, and says what it has flushed."""

    def __init__(self) -> None:
        self.prepared: dict[bytes, tuple[bytes, bytes]] = {}  # what tells names apart -> name, text
        self.unnamed: bytes | None = None
        self.portal: bytes | None = None
        self.status = b"I"
        self.skipping = False
        self._out: list[bytes] = []

    def statements(self) -> dict[bytes, bytes]:
        return dict(self.prepared.values())

    def take(self, data: bytes) -> list[bytes]:
        """Messages that the client can read after this one; unflushed ones wait for the next."""
        kind, body = data[:1], data[5:]
        if self.skipping and kind != b"S":
            return []
        answer = {
            b"P": self._parse,
            b"B": self._bind,
            b"D": self._describe,
            b"C": self._close,
            b"E": self._execute,
            b"S": self._sync,
            b"Q": self._query,
            b"H": lambda body: [],
        }[kind](body)
        self._out += answer
        if answer and answer[-1][:1] == b"E" and kind != b"Q":
            self.skipping = True
            self._fail()
        if kind in (b"S", b"Q", b"H"):
            flushed, self._out = self._out, []
            return flushed
        return []

    def _fail(self) -> None:
        self.status = b"E" if self.status == b"T" else self.status

    def _aborted(self) -> list[bytes]:
        return [error(b"25P02", b"current transaction is aborted")] if self.status == b"E" else []

    def _missing(self, name: bytes) -> list[bytes]:
        said = b'prepared statement "' + name + b'" does not exist' if name else b"unnamed statement does not exist"
        return [error(b"26000", said, b"FetchPreparedStatement")]

    def _find(self, name: bytes) -> bytes | None:
        return self.prepared.get(name[:63], (b"", None))[1] if name else self.unnamed

    def _parse(self, body: bytes) -> list[bytes]:
        name, text = body.split(b"\0", 1)
        sql, counted = text.split(b"\0", 1)
        if len(counted) < 2 or len(counted) != 2 + 4 * struct.unpack("!H", counted[:2])[0]:
            return [error(b"08P01", b"invalid message format")]
        if sql.startswith(b"bad"):
            return [error(b"42601", b"syntax error")]
        if self.status == b"E":
            return self._aborted()
        if not name:
            self.unnamed = text
        elif name[:63] in self.prepared:
            said = b'prepared statement "' + name + b'" already exists'
            return [error(b"42P05", said, b"StorePreparedStatement")]
        else:
            self.prepared[name[:63]] = name, text
        return [message(b"1")]

    def _bind(self, body: bytes) -> list[bytes]:
        name = body.split(b"\0")[1]
        text = self._find(name)
        if text is None:
            return self._missing(name)
        if self.status == b"E":
            return self._aborted()
        self.portal = text
        return [message(b"2")]

    def _describe(self, body: bytes) -> list[bytes]:
        text = self._find(body[1:-1])
        if text is None:
            return self._missing(body[1:-1])
        return self._aborted() or [message(b"t", text)]

    def _close(self, body: bytes) -> list[bytes]:
        if body[:1] == b"P":
            self.portal = None
        elif body[1:-1]:
            self.prepared.pop(body[1:-1][:63], None)
        else:
            self.unnamed = None
        return [message(b"3")]

    def _execute(self, body: bytes) -> list[bytes]:
        if self.portal is None:
            return [error(b"34000", b'portal "" does not exist')]
        if self.status == b"E":
            return self._aborted()
        if self.portal.startswith(b"fail"):
            return [error(b"22012", b"division by zero")]
        return [message(b"D", self.portal), message(b"C", b"SELECT 1\0")]

    def _sync(self, body: bytes) -> list[bytes]:
        self.skipping = False
        if self.status != b"T":
            self.portal = None
        if self.status == b"I":
            self.unnamed = None  # not so in PostgreSQL; but it does not follow a client from server to server
        return [message(b"Z", self.status)]

    def _query(self, body: bytes) -> list[bytes]:
        sql = body[:-1]
        self.portal = self.unnamed = None
        if sql == b"ROLLBACK":
            self.status = b"I"
        elif self.status == b"E":
            return [*self._aborted(), message(b"Z", b"E")]
        elif sql == b"BEGIN":
            self.status = b"T"
        elif sql == b"DEALLOCATE ALL":
            self.prepared.clear()
        elif sql == b"fail":
            self._fail()
            return [error(b"22012", b"division by zero"), message(b"Z", self.status)]
        return [message(b"C", sql + b"\0"), message(b"Z", self.status)]


class PooledServer:
    """A model server, what has been sent to it, and what the pooler knows of it."""

    def __init__(self, texts: statements_probe.Texts) -> None:
        self.postgres = ModelPostgres()
        self.known = statements_probe.Server(texts)
        self.input: deque[bytes] = deque()
        self.client: PooledClient | None = None
        self.status = b"I"
        self.requests: deque[bytes] = deque()
        self.open_group = False
        self.chores = 0

    def send(self, data: bytes) -> None:
        """`data` are whole messages; those that a ReadyForQuery will answer are noted."""
        for one in split(data):
            self.input.append(one)
            if one[:1] in (b"S", b"Q"):
                self.known.request()
                self.requests.append(one)
                self.open_group = False
            else:
                self.open_group = True

    def work(self, most: int = 1 << 30) -> None:
        """The server takes up to so many messages, and its answers arrive."""
        while self.input and most:
            most -= 1
            for answer in self.postgres.take(self.input.popleft()):
                self._arrived(answer)

    def _arrived(self, answer: bytes) -> None:
        kind = answer[:1]
        if kind in (b"1", b"3"):
            verdict = self.known.answer(kind[0])
            assert verdict != BROKEN
            if verdict == SWALLOW:
                return
            if verdict == AS_PARSE:
                assert answer == message(b"3")
                answer = message(b"1")
        elif kind == b"E" and self.requests and self.requests[0][:1] == b"S":
            verdict, instead = self.known.failure(answer[5:])
            assert verdict != OUTDATED
            answer = instead if verdict == RENAMED else answer
        elif kind == b"C" and answer[5:] == b"DEALLOCATE ALL\0":
            self.known.clear()
            if self.client is not None:
                self.client.names.clear()
        elif kind == b"Z":
            self.requests.popleft()
            self.known.ready()
            self.status = answer[5:]
        if self.client is not None:
            self.client.read.append(answer)

    def settled(self) -> bool:
        return not self.input and not self.open_group

    def check(self) -> None:
        """Nothing is on its way: what is known is what there is."""
        assert self.known.owed_len == 0
        assert self.known.groups[0] == self.known.groups[1]
        here = self.known.here()
        assert here.keys() == self.postgres.statements().keys() - {ASIDE}
        for name, text in here.items():
            assert text is None or text == self.postgres.statements()[name]
        assert self.known.count == self.known.entries == len(here)


class PooledClient:
    """A client, its names, what it has read, and what a PostgreSQL of its own has said."""

    def __init__(self, texts: statements_probe.Texts) -> None:
        self.names = statements_probe.Client(texts)
        self.own = ModelPostgres()
        self.server: PooledServer | None = None
        self.read: list[bytes] = []
        self.expected: list[bytes] = []
        self.waits = 0

    def say(self, data: bytes, *, limit: int, salt: int = 0, cut: int = 1 << 30) -> None:
        """Send one message, of which `cut` bytes come first, through the linked server."""
        s = self.server
        assert s is not None
        self.expected += self.own.take(data)
        if data[:1] == b"Q" and data[5:] == b"DEALLOCATE ALL\0":
            s.known.barrier()
        if data[:1] not in (b"P", b"B", b"D", b"C"):
            s.send(data)
            return

        def plan(part: bytes) -> tuple[int, bytes, int, int]:
            return s.known.plan(
                self.names, part, limit=limit, salt=salt, failed=s.status == b"E", pending=bool(s.requests)
            )

        verdict, pieces, skip, _ = plan(data[: max(cut, 5)])
        if verdict == NEED_MORE:
            assert cut < len(data)
            verdict, pieces, skip, _ = plan(data)
        if verdict == WAIT:
            self.waits += 1
            s.work()
            verdict, pieces, skip, _ = plan(data)
            assert verdict != WAIT, "all that was sent has been answered"
        assert verdict in (PASS, SEND)
        s.send(pieces + data[skip:])

    def check(self) -> None:
        assert self.read == self.expected
        assert self.names.stands() == self.names.planned() == self.own.statements()
        assert self.names.count() == len(self.own.statements())
        self.read.clear()
        self.expected.clear()
