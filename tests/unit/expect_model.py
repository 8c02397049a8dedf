"""The rules of wire/expect.pxd on a Python list, to compare the queue with."""

from __future__ import annotations

import itertools

NONE, QUERY, SYNC, CHORE, ASK, ASK_END, COPY_END, STRUCK, NAMED, BIND, DESCRIBE, EXECUTE = range(12)
SYNCS, IN_READY = (SYNC, ASK, ASK_END), (QUERY, SYNC, CHORE, ASK, ASK_END)
EXTENDED = (NAMED, BIND, DESCRIBE, EXECUTE)
# The type bytes that are the last answer to an extended message.
LAST = {NAMED: b"13", BIND: b"2", DESCRIBE: b"Tn", EXECUTE: b"CsI"}


class ExpectModel:
    """What a server owes, message by message; nothing is optimised."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.copying = False
        self.skipping = False
        self.silent = False

    @property
    def owed(self) -> int:
        return sum(kind in IN_READY for kind in self.entries)

    def _over(self) -> None:
        self.copying, self.silent = False, False

    def push(self, kind: int) -> None:
        if kind in SYNCS:
            if self.copying:
                self.silent = True
                return
            self.skipping = False
        elif self.skipping:
            return
        else:
            self.copying = False
        self.entries.append(kind)

    def head(self) -> int:
        while self.entries and self.entries[0] == COPY_END:
            del self.entries[0]
        return self.entries[0] if self.entries else NONE

    def answer(self, be_type: int) -> None:
        kind = self.head()
        if be_type in LAST.get(kind, b""):
            del self.entries[0]
            if kind == EXECUTE:
                self._over()

    def error(self) -> bool:
        kind, doubt = self.head(), self.silent
        self._over()
        if doubt:
            first = kind not in EXTENDED  # a Query itself is answered
            rest = itertools.dropwhile(lambda entry: entry != ASK, self.entries[first:])
            self.entries = [*self.entries[:first], *rest]
            return True
        if kind in EXTENDED:
            while self.entries and self.entries[0] not in SYNCS:
                del self.entries[0]
            self.skipping = not self.entries
        return False

    def ready(self) -> int:
        self._over()
        self.skipping = False
        if not self.owed:
            return NONE
        while (kind := self.entries.pop(0)) not in IN_READY:
            pass
        return kind

    def copy_begins(self) -> None:
        self.head()
        self._over()
        rest = self.entries[1:]
        syncs = list(itertools.takewhile(lambda kind: kind == SYNC, rest))
        del rest[: len(syncs)]
        if rest and rest[0] != COPY_END:
            return
        self.silent, self.copying = bool(syncs), not rest
        self.entries = self.entries[:1] + rest[1:]

    def copy_ends(self) -> None:
        if self.copying:
            self.copying = False
        elif self.entries and not self.skipping:
            self.entries.append(COPY_END)
