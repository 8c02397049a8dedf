"""What the clients of one run do, as data that can be printed, cut short and played again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

__all__ = ["Again", "Beginning", "Item", "Script", "Talk"]

Leaving = Literal["terminate", "cut"]


@attrs.frozen
class Beginning:
    """How a client logs in."""

    user: str = "app"
    parameters: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Talk:
    """Something to send, and how many ReadyForQuery belong to it.

    Attributes:
        text: for people.
        keeps: it may leave state that keeps the client on its server, so that others may have to wait.
        told_later: what PostgreSQL reports of it is right with the client's next answer.
    """

    data: bytes
    ready: int
    text: str
    keeps: bool = False
    told_later: bool = False


@attrs.frozen
class Again:
    """The client leaves, after sending something whose answer it does not read, and comes back as a fresh one."""

    how: Leaving
    beginning: Beginning
    data: bytes = b""
    text: str = ""


Item = Talk | Again


@attrs.frozen
class Script:
    """One run: who begins how, and whose turn it is with what."""

    seed: int
    servers: int
    clients: Sequence[Beginning]
    turns: Sequence[tuple[int, Item]]

    def of(self, client: int) -> list[Item]:
        return [item for who, item in self.turns if who == client]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {len(self.clients)} clients, {self.servers} servers"]
        lines += [f"  C{who} begins as {_begins(how)}" for who, how in enumerate(self.clients)]
        for who, item in self.turns:
            if isinstance(item, Talk):
                lines.append(f"  C{who}: {item.text}")
            else:
                lines.append(
                    f"  C{who}: {item.text + ', ' if item.text else ''}{item.how}, again as {_begins(item.beginning)}"
                )
        return "\n".join(lines)


def _begins(how: Beginning) -> str:
    return " ".join([how.user, *(f"{name}={value!r}" for name, value in how.parameters.items())])
