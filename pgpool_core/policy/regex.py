"""Regular expressions of pg_hba.conf and pg_ident.conf, for Python's `re`.

What both write differently is written anew: `$` is the end and never before a line end there, a dot fits a line end, `[[:alpha:]]` and its
kind are classes, `\\y`, `\\m` and `\\M` are ends of words. Letters and digits are ASCII's, as in PostgreSQL's files. Anything else is Python's.
Source: PostgreSQL docs, "POSIX Regular Expressions".
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

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
_ESCAPES: Final = {r"\y": r"\b", r"\m": r"\b(?=\w)", r"\M": r"\b(?<=\w)"}
_PARSER: Final[Any] = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
_SET: Final = re.compile(r"\[(\^?)(\]?(?:\\.|\[:[a-z]*:\]|[^\]\\])*)\]", re.DOTALL)
_IN_SET: Final = re.compile(r"\\.|\[:[a-z]*:\]|\[[.=]|.", re.DOTALL)


FLAGS: Final = re.DOTALL | re.ASCII
FEW: Final = 3  # so often something of no fixed length may be repeated
OFTEN: Final = 16
OFTEN_MOST: Final = 3
"""Repetitions of more than `OFTEN` in one expression; a name of 127 letters can be shared among more of them in too many ways."""


def compile_pattern(text: str) -> re.Pattern[str]:
    """A regular expression of a file.

    Raises:
        ValueError: it is none, or one that takes for ever with some names: `re` tries one way after the other, and a stranger chooses names.
    """
    rewritten = _rewritten(text)
    try:
        pattern = re.compile(rewritten, FLAGS)
        if _is_endless(list(_within(_PARSER.parse(rewritten, FLAGS)))):
            raise ValueError(
                "repetitions inside each other, or more than three long ones, take for ever with some names"
            )
        return pattern
    except (re.error, OverflowError, RecursionError):
        raise ValueError("not a regular expression") from None


def captures_alike(text: str) -> bool:
    """Whether `re`, which takes the first way that fits, captures what PostgreSQL does, which takes the longest.

    So it is where the end of the name is part of the expression, and nothing up to the end of what is captured has alternatives.
    """
    tree = list(_PARSER.parse(_rewritten(text), FLAGS))
    if not tree or tree[-1] != (_PARSER.AT, _PARSER.AT_END_STRING):
        return False
    at = next((at for at, item in enumerate(tree) if _captures(item)), len(tree))
    return not any(op in (_PARSER.BRANCH, _PARSER.MIN_REPEAT) for op, _ in _within(tree[: at + 1]))


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
    out, at = "", 0
    while at < len(text):
        if text[at] == "[" and (found := _SET.match(text, at)) is not None:
            out, at = f"{out}[{found[1]}{''.join(map(_in_set, _IN_SET.findall(found[2])))}]", found.end()
            continue
        item = text[at : at + 2] if text[at] == "\\" else text[at]
        out, at = out + (r"\Z" if item == "$" else _ESCAPES.get(item, item)), at + len(item)
    return out


def _in_set(item: str) -> str:
    if item[0] == "[" and len(item) > 1:
        if item not in _CLASSES:
            raise ValueError(f"{item} is not understood in a regular expression")
        return _CLASSES[item]
    return f"\\{item}" if item in "[]&|~" else item
