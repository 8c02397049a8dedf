"""The fields that messages are made of: each turns words into bytes and bytes into words."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Protocol

import attrs

from tests.protocol.words import NULL, TranscriptError, Word, Words, number

__all__ = [
    "Body",
    "Choice",
    "Columns",
    "CopyFormat",
    "ErrorFields",
    "Fixed",
    "Given",
    "Hex",
    "Mechanisms",
    "Names",
    "Number",
    "Oids",
    "Part",
    "Rest",
    "Result",
    "Text",
    "Undecodable",
    "Values",
]


class Undecodable(Exception):
    """A body that does not have its message's layout."""


class Given:
    """The words of one line while parts take theirs."""

    def __init__(self, words: Words) -> None:
        self.values = list(words.values)
        self.named = dict(words.named)

    def next(self, what: str) -> Word:
        if not self.values:
            raise TranscriptError(f"{what} is missing")
        return self.values.pop(0)


class Body:
    """A body on its way into words."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.values: list[Word] = []
        self.named: dict[str, Word] = {}

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data):
            raise Undecodable
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def string(self) -> bytes:
        end = self.data.find(b"\0")
        if end < 0:
            raise Undecodable
        return self.take(end + 1)[:-1]

    def integer(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)


class Part(Protocol):
    """One field, or one list of them. A word that is a wildcard packs as nothing: such a line is only compared."""

    def pack(self, given: Given) -> bytes: ...
    def unpack(self, body: Body) -> None: ...


def _integer(word: Word, what: str, form: str) -> bytes:
    try:
        return b"" if word.kind in ("any", "rest") else struct.pack(form, int(word.data))
    except (ValueError, struct.error) as error:
        raise TranscriptError(f"{what}: {word} is no number that fits") from error


@attrs.frozen
class Text:
    """A string with its zero byte; with a default it is written with its name, and only where it differs."""

    name: str
    default: bytes | None = None

    def pack(self, given: Given) -> bytes:
        word = given.next(self.name) if self.default is None else given.named.pop(self.name, Word(self.default))
        if b"\0" in word.data or word.kind == "null":
            raise TranscriptError(f"{self.name} cannot be {word}")
        return word.data + b"\0"

    def unpack(self, body: Body) -> None:
        data = body.string()
        if self.default is None:
            body.values.append(Word(data))
        elif data != self.default:
            body.named[self.name] = Word(data)


@attrs.frozen
class Number:
    """An integer, by its struct format."""

    name: str
    form: str = "!I"
    default: int | None = None

    def pack(self, given: Given) -> bytes:
        if self.default is None:
            return _integer(given.next(self.name), self.name, self.form)
        return _integer(given.named.pop(self.name, number(self.default)), self.name, self.form)

    def unpack(self, body: Body) -> None:
        value = body.integer(self.form)
        if self.default is None:
            body.values.append(number(value))
        elif value != self.default:
            body.named[self.name] = number(value)


@attrs.frozen
class Choice:
    """One byte that has a word."""

    name: str
    words: Mapping[str, bytes]

    def pack(self, given: Given) -> bytes:
        word = given.next(self.name)
        if word.kind == "any":
            return b"?"
        if word.data.decode() not in self.words:
            raise TranscriptError(f"{self.name} is one of {', '.join(self.words)}, not {word}")
        return self.words[word.data.decode()]

    def unpack(self, body: Body) -> None:
        byte = body.take(1)
        found = [word for word, value in self.words.items() if value == byte]
        if not found:
            raise Undecodable
        body.values.append(Word(found[0].encode()))


@attrs.frozen
class Fixed:
    """Bytes that transcripts do not write because they are always these."""

    data: bytes

    def pack(self, given: Given) -> bytes:
        return self.data

    def unpack(self, body: Body) -> None:
        if body.take(len(self.data)) != self.data:
            raise Undecodable


@attrs.frozen
class Rest:
    """All that is left, as text."""

    name: str

    def pack(self, given: Given) -> bytes:
        return given.next(self.name).data

    def unpack(self, body: Body) -> None:
        body.values.append(Word(body.take(len(body.data))))


@attrs.frozen
class Hex:
    """All that is left, in hexadecimal digits."""

    name: str

    def pack(self, given: Given) -> bytes:
        word = given.next(self.name)
        try:
            return b"" if word.kind == "any" else bytes.fromhex(word.data.decode())
        except ValueError as error:
            raise TranscriptError(f"{self.name}: {word} is not hexadecimal") from error

    def unpack(self, body: Body) -> None:
        body.values.append(Word(body.take(len(body.data)).hex().encode()))


class Values:
    """A count, then values with their lengths, -1 for NULL: columns and parameters."""

    def pack(self, given: Given) -> bytes:
        words, given.values = given.values, []
        parts = [struct.pack("!H", len(words))]
        for word in words:
            null = word.kind == "null"
            parts.append(struct.pack("!i", -1 if null else len(word.data)) + word.data)
        return b"".join(parts)

    def unpack(self, body: Body) -> None:
        for _ in range(body.integer("!H")):
            length = body.integer("!i")
            body.values.append(NULL if length == -1 else Word(body.take(length)))


@attrs.frozen
class Oids:
    """A count, then type OIDs: all the values left, or with a key one list with commas."""

    key: str | None = None

    def pack(self, given: Given) -> bytes:
        if self.key is None:
            words, given.values = given.values, []
        else:
            named = given.named.pop(self.key, Word())
            words = [Word(one) for one in named.data.split(b",") if one]
        return struct.pack("!H", len(words)) + b"".join(_integer(word, "type OID", "!I") for word in words)

    def unpack(self, body: Body) -> None:
        found = [number(body.integer("!I")) for _ in range(body.integer("!H"))]
        if self.key is None:
            body.values += found
        elif found:
            body.named[self.key] = Word(b",".join(word.data for word in found))


class Names:
    """A count, then strings: the options of NegotiateProtocolVersion."""

    def pack(self, given: Given) -> bytes:
        words, given.values = given.values, []
        return struct.pack("!I", len(words)) + b"".join(word.data + b"\0" for word in words)

    def unpack(self, body: Body) -> None:
        body.values += [Word(body.string()) for _ in range(body.integer("!I"))]


class Mechanisms:
    """Strings, then an empty one."""

    def pack(self, given: Given) -> bytes:
        words, given.values = given.values, []
        return b"".join(word.data + b"\0" for word in words) + b"\0"

    def unpack(self, body: Body) -> None:
        while name := body.string():
            body.values.append(Word(name))


_TYPES = {"text": (25, -1), "int4": (23, 4), "int8": (20, 8), "bool": (16, 1), "name": (19, 64), "void": (2278, 4)}


class Columns:
    """RowDescription: `name:type`, of no table, in text format; a name alone is text."""

    def pack(self, given: Given) -> bytes:
        words, given.values = given.values, []
        parts = [struct.pack("!H", len(words))]
        for word in words:
            name, _, kind = word.data.rpartition(b":") if b":" in word.data else (word.data, b"", b"text")
            if kind.decode() not in _TYPES:
                raise TranscriptError(f"column type {kind.decode()!r} is none of {', '.join(_TYPES)}")
            oid, size = _TYPES[kind.decode()]
            parts.append(name + b"\0" + struct.pack("!IHIhih", 0, 0, oid, size, -1, 0))
        return b"".join(parts)

    def unpack(self, body: Body) -> None:
        known = {value: name for name, value in _TYPES.items()}
        for _ in range(body.integer("!H")):
            name = body.string()
            table, column, oid, size, modifier, form = struct.unpack("!IHIhih", body.take(18))
            if (table, column, modifier, form) != (0, 0, -1, 0) or (oid, size) not in known:
                raise Undecodable
            kind = known[oid, size]
            body.values.append(Word(name if kind == "text" else name + b":" + kind.encode()))


_FIELDS = {
    **{"detail": "D", "hint": "H", "position": "P", "internal_position": "p", "internal_query": "q", "where": "W"},
    **{"schema": "s", "table": "t", "column": "c", "type": "d", "constraint": "n"},
}
_NOT_COMPARED = "FLR"  # file, line and routine of PostgreSQL's source


class ErrorFields:
    """Severity, SQLSTATE and message; the others by name. Severity stands on the wire twice, translated or not."""

    def pack(self, given: Given) -> bytes:
        severity, code, text = (given.next(what).data for what in ("severity", "SQLSTATE", "message"))
        fields = [(b"S", severity), (b"V", severity), (b"C", code), (b"M", text)]
        for name, letter in _FIELDS.items():
            if name in given.named:
                fields.append((letter.encode(), given.named.pop(name).data))
        return b"".join(letter + data + b"\0" for letter, data in fields) + b"\0"

    def unpack(self, body: Body) -> None:
        found: dict[str, bytes] = {}
        while field := body.string():
            if field[:1].decode("latin-1") in found:
                raise Undecodable
            found[field[:1].decode("latin-1")] = field[1:]
        names = {letter: name for name, letter in _FIELDS.items()}
        if not {"S", "V", "C", "M"} <= found.keys() or found["S"] != found["V"]:
            raise Undecodable
        body.values += [Word(found[letter]) for letter in "SCM"]
        for letter in found.keys() - set("SVCM" + _NOT_COMPARED):
            if letter not in names:
                raise Undecodable
            body.named[names[letter]] = Word(found[letter])


class CopyFormat:
    """Text format, and that many columns of it."""

    def pack(self, given: Given) -> bytes:
        count = given.next("columns")
        columns = _integer(count, "columns", "!H")
        return b"\0" + columns + bytes(2 * int(count.data or b"0"))

    def unpack(self, body: Body) -> None:
        form, count = body.integer("!b"), body.integer("!H")
        if form != 0 or body.take(2 * count) != bytes(2 * count):
            raise Undecodable
        body.values.append(number(count))


class Result:
    """One value with its length, or NULL."""

    def pack(self, given: Given) -> bytes:
        word = given.next("value")
        return struct.pack("!i", -1 if word.kind == "null" else len(word.data)) + word.data

    def unpack(self, body: Body) -> None:
        length = body.integer("!i")
        body.values.append(NULL if length == -1 else Word(body.take(length)))
