r"""The words of what is typed on the console: cut at semicolons, comments left out, quotes honoured.

Every repetition is possessive: a hostile text costs time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import attrs

Kind = Literal["word", "name", "string", "number", "parameter", "operator", "other"]

_TOKEN = re.compile(
    r"""
      (?P<blank>  [ \t\n\r\f\v]++ | --[^\n]*+ | /\*(?:[^*]|\*(?!/))*+\*/ )
    | (?P<word>   [A-Za-z_][A-Za-z0-9_$]*+ )
    | (?P<name>   "(?:[^"]|"")*+" )
    | (?P<string> '(?:[^']|'')*+' )
    | (?P<number> -?[0-9]++(?:\.[0-9]++)?+ )
    | (?P<parameter> \$[0-9]{1,5}+ )
    | (?P<operator> <> | != | <= | >= | [=<>,*();.] )
    | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@attrs.frozen
class Token:
    """One word: `text` as it was written, `value` without its quotes."""

    kind: Kind
    text: str
    value: str
    at: int

    @property
    def upper(self) -> str:
        """The word in capitals; empty for what is quoted."""
        return self.text.upper() if self.kind == "word" else ""


def tokens(text: str) -> Iterator[Token]:
    """The words of `text`, without blanks and comments."""
    for found in _TOKEN.finditer(text):
        kind, written = found.lastgroup, found[0]
        if kind is None or kind == "blank":
            continue
        value = written
        if kind in ("name", "string"):
            quote = written[0]
            value = written[1:-1].replace(quote * 2, quote)
        yield Token(kind, written, value, found.start())  # type: ignore[arg-type]  # the groups of the expression


def split(text: str) -> list[str]:
    """The statements in `text`, without their semicolons; those without a word are left out."""
    parts, start, filled = list[str](), 0, False
    for token in tokens(text):
        if token.text == ";":
            if filled:
                parts.append(text[start : token.at])
            start, filled = token.at + 1, False
        else:
            filled = True
    if filled:
        parts.append(text[start:])
    return parts
