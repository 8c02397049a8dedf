"""Lines of words, as pg_hba.conf and pg_ident.conf have them.

Words are separated by blanks, a field may hold several with commas between; "..." takes a keyword's meaning away and may hold blanks
and commas; a comma too many is nothing; `#` begins a comment; a line that ends in a backslash goes on in the next one. `include`,
`include_if_exists` and `include_dir` bring in other files, `@file` in a field brings in that file's words.
Source: PostgreSQL docs, "The pg_hba.conf File"; PgBouncer docs, "HBA file format".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

MAX_FILE_LEN: Final = 8 * 1024 * 1024  # bytes
MAX_DEPTH: Final = 10  # files inside files

_INCLUDES: Final = ("include", "include_if_exists", "include_dir")


@attrs.frozen
class Word:
    """One word; a quoted one is never a keyword."""

    text: str
    quoted: bool = False

    def keyword(self, *words: str) -> bool:
        """Whether it is one of `words`, and meant as such."""
        return not self.quoted and self.text in words


Field = tuple[Word, ...]


@attrs.frozen
class Line:
    """The fields of one line, and where it stands; a `problem` instead of fields is a line that cannot be read."""

    file: str
    number: int
    fields: tuple[Field, ...]
    problem: str = ""


def read_lines(path: str) -> Iterator[Line]:
    """Yield the lines of a file and of those that it includes, comments and empty ones left out.

    Raises:
        OSError: the file cannot be read. One that it includes is a problem of the line that does.
    """
    yield from _lines(_read(path), path, (path,))


def split_lines(text: str, path: str) -> Iterator[Line]:
    """The same for the text of a file; `path` is its name, and where names of other files begin."""
    yield from _lines(text, path, (path,))


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        data = file.read(MAX_FILE_LEN + 1)
    if len(data) > MAX_FILE_LEN:
        raise OSError(None, f"longer than {MAX_FILE_LEN} bytes")
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _lines(text: str, path: str, above: tuple[str, ...]) -> Iterator[Line]:
    raws = text.split("\n")
    begun, joined = 0, list[str]()
    for number, raw in enumerate(raws, 1):
        body = raw.removesuffix("\r")
        begun = begun or number
        joined.append(body.removesuffix("\\"))
        if joined[-1] != body and number < len(raws):
            continue
        line, at = "".join(joined), begun
        begun, joined = 0, []
        try:
            fields = tuple(_fields(line, path, len(above)))
        except (ValueError, OSError) as problem:
            yield Line(path, at, (), _said(problem))
            continue
        if not fields:
            continue
        if len(fields) == 2 and len(fields[0]) == 1 and fields[0][0].text in _INCLUDES:
            yield from _included(fields[0][0].text, fields[1], Line(path, at, ()), above)
        else:
            yield Line(path, at, fields)


def _fields(line: str, path: str, depth: int) -> Iterator[Field]:
    """Take one line apart.

    Raises:
        ValueError: a quote without an end, or a zero byte.
        OSError: a file in it cannot be read.
    """
    if "\0" in line:
        raise ValueError("a zero byte")
    at = 0
    while (at := _skip(line, at)) < len(line):
        words: list[Word] = []
        while True:
            at = _skip(line, at, also=",")
            if at >= len(line):
                break
            word, at = _word(line, at)
            words += _words_of_file(word, path, depth) if word.text[:1] == "@" and not word.quoted else [word]
            if at >= len(line) or line[at] != ",":
                break
        if words:
            yield tuple(words)


def _skip(line: str, at: int, also: str = "") -> int:
    """Where the next word begins; the end of the line at a comment."""
    while at < len(line) and line[at] in " \t\r\f\v" + also:
        at += 1
    return len(line) if at < len(line) and line[at] == "#" else at


def _word(line: str, at: int) -> tuple[Word, int]:
    """Read the word at `at`, and say where it ends."""
    text, quoted, first = "", False, at
    while at < len(line) and line[at] not in " \t\r\f\v,#":
        if line[at] != '"':
            text, at = text + line[at], at + 1
            continue
        quoted = quoted or at == first
        end = line.find('"', at + 1)
        while end >= 0 and line[end : end + 2] == '""':
            end = line.find('"', end + 2)
        if end < 0:
            raise ValueError("a quote without an end")
        text, at = text + line[at + 1 : end].replace('""', '"'), end + 1
    return Word(text, quoted), at


def _words_of_file(word: Word, path: str, depth: int) -> list[Word]:
    if depth >= MAX_DEPTH:
        raise ValueError(f"files inside files, more than {MAX_DEPTH} deep")
    name = _beside(path, word.text[1:])
    found = [word for line in _read(name).split("\n") for field in _fields(line, name, depth + 1) for word in field]
    if not found:
        raise ValueError(f"{name} has no words")
    return found


def _included(how: str, field: Field, line: Line, above: tuple[str, ...]) -> Iterator[Line]:
    if len(field) != 1 or len(above) >= MAX_DEPTH:
        problem = f"files inside files, more than {MAX_DEPTH} deep" if len(field) == 1 else f"{how} takes one name"
        yield attrs.evolve(line, problem=problem)
        return
    name = _beside(line.file, field[0].text)
    try:
        if how == "include_dir":
            names = sorted(
                each.path for each in os.scandir(name) if each.name.endswith(".conf") and each.name[0] != "."
            )
        else:
            names = [name]
        texts = [(each, _read(each)) for each in names]
    except FileNotFoundError as problem:
        if how != "include_if_exists":
            yield attrs.evolve(line, problem=_said(problem))
        return
    except (OSError, ValueError) as problem:
        yield attrs.evolve(line, problem=_said(problem))
        return
    for each, text in texts:
        if each in above:
            yield attrs.evolve(line, problem=f"{each} includes itself")
        else:
            yield from _lines(text, each, (*above, each))


def _beside(path: str, name: str) -> str:
    return os.path.join(os.path.dirname(path), name)


def _said(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return f"{problem.filename or 'a file'} cannot be read: {problem.strerror or problem}"
    return str(problem)
