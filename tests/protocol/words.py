"""The words of a transcript line: bare or quoted, with or without a key in front; `*` stands for any one, `...` for any rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs

__all__ = ["NULL", "Kind", "TranscriptError", "Word", "Words", "number", "quoted", "read_words", "write_words"]

Kind = Literal["text", "null", "any", "rest"]

_WORD = re.compile(r'(?:(?P<key>[A-Za-z_][\w.-]*)=)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"#=]+))(?=\s|$)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"'}
_BARE: dict[str, Kind] = {"NULL": "null", "*": "any", "...": "rest"}
_NEEDS_QUOTES = re.compile(rb"[^\w.,:/+-]|^NULL$|^$|^\.\.\.$")


class TranscriptError(Exception):
    """A line that means nothing; the text names file and line."""


@attrs.frozen
class Word:
    """One value of a message as written or as read off the wire."""

    data: bytes = b""
    kind: Kind = "text"

    def __str__(self) -> str:
        if self.kind != "text":
            return {"null": "NULL", "any": "*", "rest": "..."}[self.kind]
        return quoted(self.data) if _NEEDS_QUOTES.search(self.data) else self.data.decode()


NULL = Word(kind="null")


def number(value: int) -> Word:
    """An integer as a word."""
    return Word(str(value).encode())


def quoted(data: bytes) -> str:
    """`data` between quotes, as `read_words` reads it."""
    written = []
    for byte in data:
        char = chr(byte)
        if char in '"\\':
            written.append("\\" + char)
        elif char in "\n\t\r\0":
            written.append("\\" + {"\n": "n", "\t": "t", "\r": "r", "\0": "0"}[char])
        else:
            written.append(char if 32 <= byte < 127 else f"\\x{byte:02x}")
    return '"' + "".join(written) + '"'


@attrs.frozen
class Words:
    """What stands behind a message's name: values in order, and values with a key."""

    values: Sequence[Word] = ()
    named: dict[str, Word] = attrs.field(factory=dict)

    @property
    def has_wildcard(self) -> bool:
        return any(word.kind in ("any", "rest") for word in (*self.values, *self.named.values()))

    def matches(self, came: Words) -> bool:
        """Whether `came`, read off the wire, is what these words say."""
        wanted = list(self.values)
        if wanted and wanted[-1].kind == "rest":
            wanted.pop()
            if len(came.values) < len(wanted):
                return False
        elif len(came.values) != len(wanted):
            return False
        if self.named.keys() != came.named.keys():
            return False
        pairs = [
            *zip(wanted, came.values, strict=False),
            *((word, came.named[key]) for key, word in self.named.items()),
        ]
        return all(word.kind == "any" or word == other for word, other in pairs)


def read_words(text: str) -> Words:
    """Cut `text` into words.

    Raises:
        TranscriptError: it cannot be cut, or a key stands there twice; the text says where in the line.
    """
    values: list[Word] = []
    named: dict[str, Word] = {}
    at = 0
    while rest := text[at:].lstrip():
        if rest.startswith("#"):
            break
        at = len(text) - len(rest)
        found = _WORD.match(text, at)
        if found is None:
            raise TranscriptError(f"no word at {rest[:30]!r}")
        at = found.end()
        word = _word(found)
        key = found["key"]
        if key is None:
            values.append(word)
        elif key in named:
            raise TranscriptError(f"{key}= stands there twice")
        else:
            named[key] = word
    if any(word.kind == "rest" for word in [*values[:-1], *named.values()]):
        raise TranscriptError("`...` stands last or not at all")
    return Words(values, named)


def write_words(words: Words) -> str:
    """The text that `read_words` reads as `words`."""
    return " ".join([*(str(word) for word in words.values), *(f"{key}={word}" for key, word in words.named.items())])


def _word(found: re.Match[str]) -> Word:
    if found["quoted"] is not None:
        return Word(_ESCAPE.sub(_unescape, found["quoted"]).encode("utf-8", "surrogateescape"))
    bare = found["bare"]
    return Word(kind=_BARE[bare]) if bare in _BARE else Word(bare.encode())


def _unescape(found: re.Match[str]) -> str:
    if found[1]:
        byte = int(found[1], 16)
        return chr(byte) if byte < 128 else bytes([byte]).decode("utf-8", "surrogateescape")
    if found[2] not in _PLAIN:
        raise TranscriptError(f"unknown escape \\{found[2]}")
    return _PLAIN[found[2]]
