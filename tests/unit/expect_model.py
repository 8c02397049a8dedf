"""The rules of wire/expect.pxd on a Python list, to compare the queue with."""

from __future__ import annotations

NONE, QUERY, SYNC, CHORE, COPY_END, STRUCK = range(6)


class ExpectModel:
    """What a server owes, entry by entry; nothing is optimised."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.copying = False

    @property
    def owed(self) -> int:
        return sum(kind != COPY_END for kind in self.entries)

    def push(self, kind: int) -> None:
        if not (kind == SYNC and self.copying):
            self.entries.append(kind)

    def head(self) -> int:
        return next((kind for kind in self.entries if kind != COPY_END), NONE)

    def ready(self) -> int:
        kind = self.head()
        self.copying = False
        if kind != NONE:
            del self.entries[: self.entries.index(kind) + 1]
        if not self.owed:
            self.entries.clear()
        return kind

    def copy_begins(self) -> None:
        at = 0
        if self.head() == QUERY:
            at = self.entries.index(QUERY) + 1
            del self.entries[: at - 1]
            at = 1
        while at < len(self.entries) and self.entries[at] != COPY_END:
            if self.entries[at] == SYNC:
                del self.entries[at]
            else:
                at += 1
        if at < len(self.entries):
            del self.entries[at]
        else:
            self.copying = True

    def copy_ends(self) -> None:
        if self.copying:
            self.copying = False
        else:
            self.entries.append(COPY_END)
