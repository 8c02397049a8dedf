r"""One console command, parsed: bytes of a simple Query in, a statement out. Holds no list of commands.

The grammar is PgBouncer's, `word [word] [;]` or `SET key =|TO value [;]`, letters in either case:

    word   = [0-9a-z_]+  |  "anything, "" for a quote"
    value  = word        |  'anything, '' for a quote'

with at most 15 bytes in the command, 63 in its argument or the key, 255 in the value. Ours beyond that: SQL comments
are blanks (drivers ping with `-- ping`, tracing tools add `/* ... */`), and an empty command is an empty query as in
PostgreSQL, where PgBouncer reports an error. Several statements in one message are cut apart before (`sqlwords`).
Source: PgBouncer `doc/usage.md`, "Admin console", and what a running 1.18 answers.
"""

from __future__ import annotations

import re

import attrs

MAX_COMMAND_BYTES = 15
MAX_ARGUMENT_BYTES = 63
MAX_VALUE_BYTES = 255
MAX_ECHO = 400
"""Characters of a refused command that its error repeats."""

BAD_ARGUMENTS = "bad arguments"

# Every repetition is possessive: a hostile text costs time in proportion to its length.
_BLANK = r"(?:[ \t\n\r]|--[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)"
_WORD = r'(?:"(?:[^"]|"")*+"|[0-9a-z_]++)'
_STRING = r"(?:'(?:[^']|'')*+')"
_END = rf"{_BLANK}*+(?:;{_BLANK}*+)*+\Z"
_FLAGS = re.IGNORECASE | re.ASCII

_EMPTY = re.compile(_END, _FLAGS)
_COMMAND = re.compile(rf"{_BLANK}*+(?P<word>{_WORD})(?:{_BLANK}++(?P<argument>{_WORD}))?{_END}", _FLAGS)
_SET = re.compile(
    rf"{_BLANK}*+set{_BLANK}++(?P<key>{_WORD})"
    rf"(?:{_BLANK}*+={_BLANK}*+|{_BLANK}++to{_BLANK}++|{_BLANK}++to(?=[\"']))"
    rf"(?P<value>{_WORD}|{_STRING}){_END}",
    _FLAGS,
)


@attrs.frozen
class EmptyQuery:
    """Nothing but blanks, comments and semicolons."""


@attrs.frozen
class Command:
    """`word [argument]`. The word is in capitals, SELECT has become SHOW; the argument is as it was written."""

    text: str
    word: str
    argument: str | None


@attrs.frozen
class Assignment:
    """`SET key = value`; the key is in small letters."""

    text: str
    key: str
    value: str


@attrs.frozen
class Refused:
    """Not a console command; `message` is the text of the error."""

    message: str


Statement = EmptyQuery | Command | Assignment | Refused


def invalid_command(text: str) -> str:
    """Return PgBouncer's error text for a command that it does not know; long commands are cut."""
    return f"invalid command '{text[:MAX_ECHO]}', use SHOW HELP;"


def parse(query: bytes) -> Statement:
    """Return the statement in the body of a Query message, with or without its closing zero byte.

    Bytes that are not UTF-8 survive as surrogates, so that names and error texts go out as they came in.
    """
    text = query.removesuffix(b"\0").decode("utf-8", "surrogateescape")
    if _EMPTY.match(text):
        return EmptyQuery()
    if found := _COMMAND.match(text):
        word = _unquoted(found["word"], MAX_COMMAND_BYTES)
        argument = _unquoted(found["argument"], MAX_ARGUMENT_BYTES)
        if word is None or (argument is None and found["argument"]):
            return Refused(BAD_ARGUMENTS)
        word = word.upper()
        return Command(text, "SHOW" if word == "SELECT" else word, argument)
    if found := _SET.match(text):
        key = _unquoted(found["key"], MAX_ARGUMENT_BYTES)
        value = _unquoted(found["value"], MAX_VALUE_BYTES)
        if key is None or value is None:
            return Refused(BAD_ARGUMENTS)
        return Assignment(text, key.lower(), value)
    return Refused(invalid_command(text))


def _unquoted(token: str | None, limit: int) -> str | None:
    """Return what a word or string stands for; None if there is none, or if it has more than `limit` bytes."""
    if token is None:
        return None
    if token[0] in "\"'":
        quote = token[0]
        token = token[1:-1].replace(quote * 2, quote)
    return token if len(token.encode("utf-8", "surrogateescape")) <= limit else None
