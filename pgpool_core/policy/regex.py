r"""Regular expressions of pg_hba.conf and pg_ident.conf, for Python's `re`.

An expression is taken apart and written anew. What both know stays as it is; what they write differently is written as Python has it: `$` is the
end and never before a line end there, a dot fits a line end, `[[:alpha:]]` and its kind are classes, `\y`, `\m` and `\M` are ends of words, `\b` is
a backspace and `\B` a backslash. Whatever else means something to one of them only is refused. Names are bytes, and letters and digits are
ASCII's, as where PostgreSQL reads these files.
Source: PostgreSQL docs, "POSIX Regular Expressions".
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

_CLASSES: Final = {
    "[:alpha:]": "A-Za-z",
    "[:alnum:]": "A-Za-z0-9",
    "[:digit:]": "0-9",
    "[:upper:]": "A-Z",
    "[:lower:]": "a-z",
    "[:xdigit:]": "0-9A-Fa-f",
    "[:word:]": r"\w",
    "[:space:]": r"\s",
    "[:blank:]": r" \t",
    "[:punct:]": r"!-/:-@\[-`{-~",
}
_CHARACTERS: Final = {
    **{rf"\{each}": rf"\{each}" for each in "fnrtv"},
    **{r"\a": r"\x07", r"\b": r"\x08", r"\e": r"\x1b", r"\B": r"\\"},
}
_SETS: Final = {rf"\{each}": rf"\{each}" for each in "dws"}
_ESCAPES: Final = {
    **_CHARACTERS,
    **_SETS,
    **{rf"\{each}": rf"\{each}" for each in "DWSAZ"},
    **{r"\y": r"\b", r"\m": r"\b(?=\w)", r"\M": r"\b(?<=\w)"},
}
_ENDS: Final = ("$", "^", r"\y", r"\m", r"\M", r"\A", r"\Z")
"""What has no length and cannot be repeated."""
_SET: Final = re.compile(r"\[(\^?)(\]?(?:\\.|\[:[^\]]*:\]|[^\]\\])*)\]", re.DOTALL)
_IN_SET: Final = re.compile(r"\\.|\[:[^\]]*:\]|\[[.=]|.", re.DOTALL)
_GROUP: Final = re.compile(r"\((?!\?)|\(\?(?::|=|!|<=|<!|#[^)]*\))")
_OPTIONS: Final = re.compile(r"\(\?([is]+)\)")  # at the very beginning only; `s` is how it is anyway
_REPEAT: Final = re.compile(r"(?:[*+?]|\{(\d+)(?:,(\d*))?\})\??")
_PARSER: Final[Any] = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")


FLAGS: Final = re.DOTALL | re.ASCII
REPEATED_MOST: Final = 255
FEW: Final = 3  # so often something of no fixed length may be repeated
OFTEN: Final = 16
OFTEN_MOST: Final = 3
"""Repetitions of more than `OFTEN` in one expression; a name of 127 letters can be shared among more of them in too many ways."""


@attrs.frozen
class Expression:
    """A regular expression of a file, about names."""

    pattern: re.Pattern[str]

    @property
    def captures(self) -> bool:
        return self.pattern.groups > 0

    def fits(self, name: str) -> bool:
        return self.pattern.search(_bytes(name)) is not None

    def captured(self, name: str) -> str | None:
        """What of a name that fits is `\\1`; None where there is no such thing."""
        found = self.pattern.search(_bytes(name))
        if found is None or found[1] is None:
            return None
        return found[1].encode("latin-1").decode("utf-8", "surrogateescape")


def compile_pattern(text: str) -> Expression:
    """A regular expression of a file.

    Raises:
        ValueError: it is none, or one that takes for ever with some names: `re` tries one way after the other, and a stranger chooses names.
    """
    rewritten = _rewritten(_bytes(text))
    try:
        pattern = re.compile(rewritten, FLAGS)
        parts = list(_within(_PARSER.parse(rewritten, FLAGS)))
    except (re.error, OverflowError, RecursionError):
        raise ValueError("not a regular expression") from None
    repeated = [of[2][0][0] for op, of in parts if op in (_PARSER.MAX_REPEAT, _PARSER.MIN_REPEAT)]
    if any(op in (_PARSER.ASSERT, _PARSER.ASSERT_NOT) for op in repeated):
        raise ValueError("not a regular expression")
    if _is_endless(parts):
        raise ValueError("repetitions inside each other, or more than three long ones, take for ever with some names")
    return Expression(pattern)


def captures_alike(text: str) -> bool:
    """Whether `re`, which takes the first way that fits, captures what PostgreSQL does, which takes the longest.

    So it is where the end of the name is part of the expression, and nothing up to the end of what is captured has alternatives.
    """
    tree = list(_PARSER.parse(_rewritten(_bytes(text)), FLAGS))
    if not tree or tree[-1] != (_PARSER.AT, _PARSER.AT_END_STRING):
        return False
    at = next((at for at, item in enumerate(tree) if _captures(item)), len(tree))
    return not any(op in (_PARSER.BRANCH, _PARSER.MIN_REPEAT) for op, _ in _within(tree[: at + 1]))


def _bytes(text: str) -> str:
    """A character for each byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _captures(item: tuple[Any, Any]) -> bool:
    return any(op is _PARSER.SUBPATTERN and of[0] == 1 for op, of in _within([item]))


def _within(tree: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Every part of an expression."""
    for op, of in tree:
        yield op, of
        for part in of if isinstance(of, (tuple, list)) else (of,):
            if isinstance(part, _PARSER.SubPattern):
                yield from _within(part)
            elif isinstance(part, list) and part and isinstance(part[0], _PARSER.SubPattern):  # alternatives
                for each in part:
                    yield from _within(each)


def _is_endless(parts: Sequence[tuple[Any, Any]]) -> bool:
    """Whether there are too many ways to take a name apart: something of no fixed length is repeated, or many things are repeated often."""
    repeats = [(of[1], of[2]) for op, of in parts if op in (_PARSER.MAX_REPEAT, _PARSER.MIN_REPEAT)]
    bodies = [body for most, body in repeats if most > FEW]
    lengths = [body.getwidth() for body in bodies]
    return (
        sum(most > OFTEN for most, _ in repeats) > OFTEN_MOST
        or any(shortest != longest for shortest, longest in lengths)
        or any(op is _PARSER.BRANCH for body in bodies for op, _ in _within(body))
    )


def _rewritten(text: str) -> str:
    """An expression as Python has it.

    Raises:
        ValueError: it means something in one of the two that it does not in the other.
    """
    out, at = "", 0
    if (options := _OPTIONS.match(text)) is not None:
        out, at = options[0], options.end()
    while at < len(text):
        item, piece = _item(text, at)
        at += len(item)
        repeat = _REPEAT.match(text, at) if item[0] not in "(|" or item[-1] == ")" else None
        if repeat is not None:
            numbers = [int(number) for number in repeat.groups() if number]
            if (
                item in _ENDS
                or max(numbers, default=0) > REPEATED_MOST
                or _REPEAT.match(text, repeat.end()) is not None
            ):
                raise ValueError("not a regular expression")
            piece, at = piece + repeat[0], repeat.end()
        out += piece
    return out


def _item(text: str, at: int) -> tuple[str, str]:
    """What stands at one place and can be repeated as a whole, or begins or ends a group: as it is there, and as Python has it."""
    first = text[at]
    if first == "[":
        if (found := _SET.match(text, at)) is None:
            raise ValueError("not a regular expression")
        return found[0], f"[{found[1]}{''.join(_members(found[2]))}]"
    if first == "(":
        if (found := _GROUP.match(text, at)) is None:
            raise ValueError("a group of this kind is not understood in a regular expression")
        return found[0], found[0]
    if first == "\\":
        item = text[at : at + 2]
        if len(item) < 2:
            raise ValueError("not a regular expression")
        return item, _escaped(item, _ESCAPES)
    if first == "{":
        if text[at + 1 : at + 2].isdigit():  # where nothing can be repeated, or not as a repetition is written
            raise ValueError("not a regular expression")
        return first, r"\{"
    return first, r"\Z" if first == "$" else first


def _escaped(item: str, known: Mapping[str, str]) -> str:
    if item not in known and item[1].isascii() and item[1].isalnum():
        raise ValueError(f"{item} is not understood in a regular expression")
    return known.get(item, item)


def _members(text: str) -> Iterator[str]:
    """What is between brackets, as Python has it."""
    items = _IN_SET.findall(text)
    ended = 0  # where the last range did
    for at, item in enumerate(items):
        if item == "-" and 0 < at < len(items) - 1:
            ends = (items[at - 1], items[at + 1])
            if at - 1 < ended or any(each == "-" or each in _SETS or len(each) > 2 for each in ends):
                raise ValueError("a range is not understood in a regular expression")
            ended = at + 2
            yield "-"
        elif item[0] == "[" and len(item) > 1:
            if item not in _CLASSES:
                raise ValueError(f"{item} is not understood in a regular expression")
            yield _CLASSES[item]
        elif item[0] == "\\":
            yield _escaped(item, _CHARACTERS | _SETS)
        else:
            yield f"\\{item}" if item in "[]&|~^-" else item
