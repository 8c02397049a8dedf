"""What queries give beside rows and Python's own types: ranges, command tags, notifications."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(init=False)
class Range:
    """A range of PostgreSQL; a bound that is None is infinite."""

    lower: Any
    upper: Any
    lower_inc: bool
    upper_inc: bool
    empty: bool

    def __init__(
        self,
        lower: Any = None,
        upper: Any = None,
        *,
        lower_inc: bool = True,
        upper_inc: bool = False,
        empty: bool = False,
    ) -> None:
        """As `[lower, upper)` unless `lower_inc`, `upper_inc` or `empty` say otherwise."""
        if empty:
            lower = upper = None
        self.__attrs_init__(lower, upper, lower is not None and lower_inc, upper is not None and upper_inc, empty)

    def __contains__(self, value: Any) -> bool:
        if self.empty or value is None:
            return False
        if self.lower is not None and (value < self.lower or (value == self.lower and not self.lower_inc)):
            return False
        return self.upper is None or value < self.upper or (value == self.upper and self.upper_inc)


class CommandTag(str):
    """What a command says when it is done, such as `INSERT 0 5`."""

    __slots__ = ()

    @property
    def command(self) -> str:
        """The words in front of the numbers."""
        return self.rstrip("0123456789 ")

    @property
    def rows(self) -> int:
        """How many rows it was about; 0 where the tag does not say."""
        last = self.rpartition(" ")[2]
        return int(last) if last.isascii() and last.isdecimal() else 0


@attrs.frozen
class Notification:
    """A NOTIFY of somebody, perhaps of our own."""

    channel: str
    payload: str
    pid: int
    """The server process of the session that sent it."""


@attrs.frozen
class Reconnected:
    """The connection that listens was lost and there is a new one: notifications in between are lost."""

    reason: str
    """Why the old one ended."""
