"""Regular expressions of pg_hba.conf and pg_ident.conf, for Python's `re`.

What both write differently is written anew: `$` is the end and never before a line end there, a dot fits a line end, `[[:alpha:]]` and its
kind are classes, `\\y`, `\\m` and `\\M` are ends of words. Letters and digits are ASCII's, as in PostgreSQL's files. Anything else is Python's.
Source: PostgreSQL docs, "POSIX Regular Expressions".
"""

from __future__ import annotations

import re
from typing import Final

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
_SET: Final = re.compile(r"\[(\^?)(\]?(?:\\.|\[:[a-z]*:\]|[^\]\\])*)\]", re.DOTALL)
_IN_SET: Final = re.compile(r"\\.|\[:[a-z]*:\]|\[[.=]|.", re.DOTALL)


def compile_pattern(text: str) -> re.Pattern[str]:
    """A regular expression of a file.

    Raises:
        ValueError: it is none.
    """
    try:
        return re.compile(_rewritten(text), re.DOTALL | re.ASCII)
    except (re.error, OverflowError, RecursionError):
        raise ValueError("not a regular expression") from None


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
