"""What functions, triggers and views may do to a session, worked out from their definitions. Pure functions of values.

A definition is read for statements that matter (`session.bodies`) and for the names in it; whatever names something that
matters, matters too. Names are compared without schema and case, so this may say too much. Not seen are names that a
function puts together while it runs, and operators and casts, which are called without a name.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Final, Literal

import attrs

from pgpool_core.session.bodies import OPAQUE, SEQUENCES, SETS, TEMPS, text_flags, words_flags

Kind = Literal["function", "read", "written"]
"""Where the name of a thing matters: everywhere (function, view, type, table with policies), or where rows are changed too."""

READ_LANGUAGES: Final = (b"sql", b"plpgsql")

_TOKEN: Final = re.compile(
    rb"""(?P<gap>\s+|--[^\n\r]*)
    |(?P<comment>/\*)
    |(?P<string>[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z))
    |(?P<dollar>\$\$.*?(?:\$\$|\Z)|\$(?P<tag>[A-Za-z_\x80-\xff][\w\x80-\xff]*)\$.*?(?:\$(?P=tag)\$|\Z))
    |(?P<name>"(?:[^"]|"")*(?:"|\Z))
    |(?P<word>[A-Za-z_\x80-\xff][\w$\x80-\xff]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(rb"/\*|\*/")
_WORD: Final = re.compile(rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*")
_SETTING: Final = re.compile(
    rb"""set_config\s*\(\s*[eE]?'+([^',()]+\.[^',()]+)'
    |\bset\s+(?:session\s+|local\s+)?("?[A-Za-z_\x80-\xff][\w$\x80-\xff]*"?\s*\.[\s\w".$\x80-\xff]*?)\s*(?:=|\bto\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_ESCAPE: Final = re.compile(rb"\\([0-7]{1,3}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_CONTROL: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_NO_LITERAL: Final = re.compile(rb"""set_config"?\s*\((?!\s*[eE]?'+[^',()]+'+\s*,)""", re.IGNORECASE)
_DOTTED: Final = re.compile(
    rb"(?<![\w$\x80-\xff])[A-Za-z_\x80-\xff][\w$\x80-\xff]*(?:\.[A-Za-z_\x80-\xff][\w$\x80-\xff]*)+"
)
_HARMLESS: Final = re.compile(
    rb"\s*(?:(?:select|insert|update|delete|merge|with|values|truncate|refresh|lock|analyze|notify)\s"
    rb"|(?:create|alter|drop)\s+\w+\s|(?:grant|revoke|comment)\s)",
    re.IGNORECASE,
)
_WRITES: Final = frozenset((b"insert", b"update", b"delete", b"merge", b"copy", b"truncate", b"refresh"))
_SPLITS: Final = frozenset((b"begin", b"then", b"else", b"loop", b"declare"))
_AS_SELECT: Final = {b"call": b"select", b"perform": b"select"}
_EXECUTE_ENDS: Final = frozenset((b"into", b"using", b"loop"))


@attrs.frozen
class Thing:
    """One definition in a database, under the name that a text uses."""

    kind: Kind
    name: bytes
    language: bytes = b"sql"
    text: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class Effects:
    """What the names of a database lead to: for each the scan's flags where it stands, and where rows are changed too."""

    names: Mapping[bytes, tuple[int, int]] = attrs.field(factory=dict)
    settings: Set[bytes] = frozenset()  # custom ones that may be set


@attrs.define
class _Body:
    flags: int = 0
    words: set[bytes] = attrs.field(factory=set)
    settings: set[bytes] = attrs.field(factory=set)
    strings: set[bytes] = attrs.field(factory=set)  # names with dots in its strings: perhaps of settings
    names_settings: bool = False  # it sets what a value names, or calls what does: one of `strings` may be meant

    def read(self, text: bytes) -> None:
        """Take in the text of statements that are run as they stand."""
        self.flags |= text_flags(text)
        self.take_settings(text)

    def take_settings(self, text: bytes) -> None:
        """Take in the settings that a text names, or that it does so by something other than a string."""
        self.settings |= _settings(text)
        self.names_settings = self.names_settings or _NO_LITERAL.search(text) is not None


def effects_of(things: Iterable[Thing]) -> Effects:
    """What the things do, each also through those that its definition names."""
    found: dict[bytes, list[int]] = defaultdict(lambda: [0, 0])
    bodies: list[tuple[Thing, _Body]] = []
    named_in: dict[bytes, list[int]] = defaultdict(list)
    for thing in things:
        body = read_body(thing.language, thing.text)
        for word in body.words:
            named_in[word].append(len(bodies))
        bodies.append((thing, body))
    settings: set[bytes] = set()
    due = list(range(len(bodies)))
    while due:
        thing, body = bodies[due.pop()]
        if _spread(thing, body, found):
            due += named_in[thing.name.lower()]
    _spread_names(bodies, named_in)
    for thing, body in bodies:
        if thing.name.lower() in found:
            settings |= body.settings
            if body.names_settings:
                settings |= body.strings
    return Effects({name: (flags, written) for name, (flags, written) in found.items()}, frozenset(settings))


def _spread(thing: Thing, body: _Body, found: dict[bytes, list[int]]) -> bool:
    """Bring `found` up to date about one thing; whether anything is new."""
    here, written = body.flags, 0
    for word in body.words & found.keys():
        here |= found[word][0]
        written |= found[word][1]
    if thing.kind == "read" and b"pg_settings" in body.words:
        written |= SETS  # UPDATE of a view of it is a SET
    if thing.kind == "written":
        here, written = 0, here | written
    elif body.words & _WRITES:
        here, written = here | written, 0
    elif thing.kind == "function":
        written = 0
    if not here | written:
        return False
    place = found[thing.name.lower()]
    before = list(place)
    place[0] |= here
    place[1] |= written
    return place != before


def _spread_names(bodies: list[tuple[Thing, _Body]], named_in: Mapping[bytes, list[int]]) -> None:
    """Who calls a function that sets what a value names, or has a trigger call it, may be the one that gives the name."""
    due = [thing.name.lower() for thing, body in bodies if body.names_settings]
    while due:
        for number in named_in.get(due.pop(), ()):
            thing, body = bodies[number]
            if not body.names_settings:
                body.names_settings = True
                if thing.kind == "function":
                    due.append(thing.name.lower())


def _tokens(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The kinds and texts of what a definition is made of; comments, which hold others, are gaps."""
    at = 0
    while (token := _TOKEN.match(text, at)) is not None:
        kind, end = token.lastgroup or "other", token.end()
        if kind == "comment":
            kind, end = "gap", _past_comment(text, end)
        yield kind, text[at:end]
        at = end


def _past_comment(text: bytes, at: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == b"/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def read_body(language: bytes, text: bytes) -> _Body:
    """What one definition may do by itself, and the names in it."""
    body = _Body()
    if language not in READ_LANGUAGES:
        body.flags = words_flags(text)
        body.words = {word.lower() for word in _WORD.findall(text)}
        body.take_settings(text)
        body.strings = _dotted(text)
        return body
    pieces: list[bytes] = []
    dynamic: list[bytes] | None = None  # what has come of an EXECUTE
    for kind, piece in _tokens(text):
        if kind == "gap":
            pieces.append(b" ")
            continue
        if kind in ("string", "dollar"):
            body.strings |= _dotted(_unquoted(piece))
        if kind == "word":
            word = piece.lower()
            body.words.add(word)
            if dynamic is not None and word in _EXECUTE_ENDS:
                _run(body, dynamic)
                dynamic = None
            if word == b"execute":
                dynamic = []
                piece = b" "
            elif word in _SPLITS:
                piece = b";"
            else:
                piece = _AS_SELECT.get(word, piece)
        elif kind == "name":
            body.words.add(piece[1:-1].replace(b'""', b'"').lower())
        elif piece == b";" and dynamic is not None:
            _run(body, dynamic)
            dynamic = None
        if dynamic is None:
            pieces.append(piece)
        elif kind != "gap" and piece != b" ":
            dynamic.append(piece)
    if dynamic is not None:
        _run(body, dynamic)
    body.read(b"".join(pieces))
    if b"drop" in body.words:
        body.flags |= TEMPS  # perhaps of a temporary table, which may have kept its client where it is
    if body.words & {b"currval", b"lastval"}:
        body.flags |= SEQUENCES
    return body


def _run(body: _Body, expression: list[bytes]) -> None:
    """EXECUTE of plpgsql: a text that begins with a string is read, any other may do anything."""
    strings = [piece for piece in expression if piece[-1:] in (b"'", b"$") and len(piece) > 1]
    for string in strings:
        body.words |= {word.lower() for word in _WORD.findall(string)}
    body.words |= {piece.lower() for piece in expression if _WORD.fullmatch(piece)}
    start = expression[:3]
    if len(start) == 3 and start[0].lower() == b"format" and start[1] == b"(":
        start = start[2:]
    first = start[0] if start and start[0] in strings else b""
    inner = _unquoted(first)
    for string in strings:
        body.read(_unquoted(string))
    body.read(b" ".join(piece for piece in expression if piece not in strings))
    if not _HARMLESS.match(inner) and not text_flags(inner):
        body.flags |= OPAQUE


def _unquoted(string: bytes) -> bytes:
    if string[:1] == b"$":
        tag = string.index(b"$", 1) + 1
        return string[tag:-tag]
    if b"'" not in string:
        return b""
    inner = string[string.index(b"'") + 1 : -1].replace(b"''", b"'")
    return _ESCAPE.sub(_escaped, inner) if string[:1] in (b"e", b"E") else inner


def _escaped(escape: re.Match[bytes]) -> bytes:
    """What an escape in E'...' stands for."""
    sign = escape[1]
    if sign[:1] in b"01234567":
        return bytes((int(sign, 8) & 0xFF,))
    if len(sign) > 1:
        number = int(sign[1:], 16)
        return chr(number).encode(errors="replace") if number <= sys.maxunicode else b"?"
    return _CONTROL.get(sign, sign)


def _dotted(text: bytes) -> set[bytes]:
    return {name.lower() for name in _DOTTED.findall(text)}


def _settings(text: bytes) -> set[bytes]:
    found = set[bytes]()
    for by_function, by_set in _SETTING.findall(text):
        name = re.sub(rb'[\s"]+', b"", by_function or by_set)
        if name.count(b".") and not name.startswith(b".") and not name.endswith(b"."):
            found.add(name.lower())
    return found
