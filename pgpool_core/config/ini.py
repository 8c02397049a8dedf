"""PgBouncer's ini syntax: lines in, (section, key, value) out. What a key means is not known here.

Comments are whole lines that begin with `;` or `#`. `%include PATH` stands alone on a line; PATH is relative to the working
directory, the section goes on through it. With `*`, `?` or `[...]` it means every file that matches, by name. A value is the rest of its line. Keys are words of `A-Z a-z 0-9 _ . - *`, or anything in
single or double quotes (a doubled quote inside is one). There are no continuation lines.
Sources: PgBouncer docs, "Configuration"; PgBouncer 1.18 run with the odd cases (text after `]`, blanks before a key).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from pgpool_core.config.expand import expand
from pgpool_core.config.problems import Place, quoted
from pgpool_core.config.units import is_clean
from pgpool_core.errors import ConfigProblem

MAX_INCLUDE_DEPTH: Final = 10  # files inside files, PgBouncer's limit
MAX_INCLUDES: Final = 1000  # files in all, so that files that include each other many times come to an end
MAX_FILE_LEN: Final = 64 * 1024 * 1024  # bytes; a device or a wrong path should not fill memory

_BLANKS: Final = " \t\r\f\v"
_KEY: Final = re.compile(r"[A-Za-z0-9_.*-]++|'(?:[^']|'')*+'|\"(?:[^\"]|\"\")*+\"")
_INCLUDE: Final = re.compile(r"%include[ \t](.*)", re.DOTALL)


@attrs.frozen
class IniSection:
    """A `[name]` line."""

    name: str
    place: Place


@attrs.frozen
class IniValue:
    """A `key = value` line; the section it stands in is `place.section`, None before the first."""

    key: str
    value: str
    place: Place


@attrs.frozen(repr=False)
class IniEntry:
    """An entry of [databases], [users] or [peers] whose pairs are apart already: what TOML has in place of a line of them."""

    name: str
    pairs: tuple[tuple[str, str, Place], ...]
    place: Place


IniItem = IniSection | IniValue | IniEntry | ConfigProblem


def read_ini_file(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Iterator[IniItem]:
    """Yield what the file at `path` and the files that it includes say, in order; a problem takes the place of a bad line.

    Variables of `environ` are filled in where a path of %include names them; values are yielded as they are written.
    """
    return _Reader(environ).file(os.fspath(path), Place(), [])


def read_ini_text(text: str, file: str, environ: Mapping[str, str]) -> Iterator[IniItem]:
    """Yield what `text` says; `file` is what problems call it."""
    return _Reader(environ).text(text, file, [])


class _Reader:
    """The section and the count of files go through includes in both directions."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._section: str | None = None
        self._includes = 0

    def file(self, path: str, place: Place, above: list[str]) -> Iterator[IniItem]:
        try:
            with Path(path).open("rb") as stream:
                raw = stream.read(MAX_FILE_LEN + 1)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            yield place.problem(f"cannot load config file {quoted(path)}: {reason}")
            return
        if len(raw) > MAX_FILE_LEN:
            yield place.problem(f"cannot load config file {quoted(path)}: longer than {MAX_FILE_LEN} bytes")
            return
        yield from self.text(raw.decode("utf-8", "surrogateescape"), path, [*above, os.path.realpath(path)])

    def text(self, text: str, file: str, above: list[str]) -> Iterator[IniItem]:
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            yield from self._line(line.strip(_BLANKS), Place(file, number, self._section), above)

    def _line(self, line: str, place: Place, above: list[str]) -> Iterator[IniItem]:
        if line[:1] in (";", "#"):
            return
        if not is_clean(line):
            yield _syntax_error(place, "a zero byte" if "\0" in line else "text that is not UTF-8")
            return
        while line.startswith("["):  # more may follow on the same line
            name, bracket, rest = line[1:].partition("]")
            if not bracket:
                yield _syntax_error(place, "a section without ]")
                return
            self._section = name
            place = attrs.evolve(place, section=name)
            line = rest.strip(_BLANKS)
            yield IniSection(name, place)
        if not line or line[0] in ";#":
            return
        if include := _INCLUDE.fullmatch(line):
            try:
                paths = _included(expand(include[1].strip(_BLANKS), self._environ))
            except ValueError as error:
                yield place.problem(f"%include: {error}")
                return
            for path in paths:
                yield from self._include(path, place, above)
        else:
            yield _key_value(line, place)

    def _include(self, path: str, place: Place, above: list[str]) -> Iterator[IniItem]:
        self._includes += 1
        if not path:
            yield _syntax_error(place, "%include without a path")
        elif len(above) > MAX_INCLUDE_DEPTH or os.path.realpath(path) in above:
            what = (
                "includes itself"
                if os.path.realpath(path) in above
                else f"is nested more than {MAX_INCLUDE_DEPTH} deep"
            )
            yield place.problem(f"%include: {quoted(path)} {what}")
        elif self._includes > MAX_INCLUDES:
            if self._includes == MAX_INCLUDES + 1:
                yield place.problem(f"%include: more than {MAX_INCLUDES} files")
        else:
            yield from self.file(path, place, above)


def _included(path: str) -> list[str]:
    """The files that `path` names; a file that is really called so goes before a pattern."""
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    return sorted(glob.glob(path))


def _key_value(line: str, place: Place) -> IniItem:
    key = _KEY.match(line)
    if key is None:
        return _syntax_error(place, "neither a comment, a [section] nor a key (quote a key that has other characters)")
    rest = line[key.end() :].lstrip(" \t")
    if not rest.startswith("="):
        return _syntax_error(place, "no = after the key (quote a key that has other characters)")
    name = key[0]
    if name[0] in "'\"":
        name = name[1:-1].replace(name[0] * 2, name[0])
    if not name:
        return _syntax_error(place, "an empty key")
    return IniValue(name, rest[1:].strip(_BLANKS), place)


def _syntax_error(place: Place, what: str) -> ConfigProblem:
    return place.problem("syntax error in configuration", more=f": {what}")
