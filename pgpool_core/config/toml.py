"""The same configuration as TOML, for those who would rather not write pairs into a line.

    [pgpool_core]                     # or [pgbouncer]
    listen_addr = ["127.0.0.1", "::1"]
    query_wait_timeout = "30s"

    [databases.app]
    host = "10.0.0.5"
    password = "file:/run/secrets/app"

    [databases]
    other = "postgres://app@10.0.0.6/other"

Values become the text that an ini would have, and are read by the same rules; TOML's own numbers, booleans and arrays may be used where
they fit. tomllib forgets lines, so they are looked for in the text: where a key is written in an unusual way, its table is named.
Source: TOML 1.0.0.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pgpool_core.config.ini import MAX_FILE_LEN, IniEntry, IniItem, IniSection, IniValue
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.problems import Place, quoted
from pgpool_core.config.settings import DATABASE_KEYS, SETTINGS
from pgpool_core.errors import ConfigProblem

_OURS: Final = "pgpool_core"
_NAME: Final = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_TABLE: Final = re.compile(rf"\s*\[\s*({_NAME})\s*(?:\.\s*({_NAME})\s*)?\]")
_KEY: Final = re.compile(rf"\s*({_NAME})\s*(?:\.\s*({_NAME})\s*)?=")
_AT_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")


def read_toml_file(path: str | os.PathLike[str]) -> Iterator[IniItem]:
    """Yield what the file at `path` says as an ini would say it; a problem takes the place of a bad value."""
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MAX_FILE_LEN + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        yield Place().problem(f"cannot load config file {quoted(name)}: {reason}")
        return
    if len(raw) > MAX_FILE_LEN:
        yield Place().problem(f"cannot load config file {quoted(name)}: longer than {MAX_FILE_LEN} bytes")
        return
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        yield Place(name).problem("syntax error in configuration", more=": text that is not UTF-8")
        return
    yield from read_toml_text(text, name)


def read_toml_text(text: str, file: str) -> Iterator[IniItem]:
    """The same for the text of a file; `file` is what problems call it."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = _AT_LINE.search(str(error))
        what = _AT_LINE.sub("", str(error)).strip() if isinstance(error, tomllib.TOMLDecodeError) else "too deep"
        yield Place(file, int(at[1]) if at else None).problem("syntax error in configuration", more=f": {what}")
        return
    yield from _Document(file, _lines(text)).items(document)


class _Document:
    def __init__(self, file: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self._file = file
        self._lines = lines

    def items(self, document: Mapping[str, object]) -> Iterator[IniItem]:
        for name, table in document.items():
            section = "pgbouncer" if name == _OURS else name
            place = self._place(section, name)
            if not isinstance(table, dict):
                yield place.problem(f"{quoted(name)} is outside of a table", name)
                continue
            yield IniSection(section, place)
            if section == "pgbouncer":
                yield from self._settings(name, table)
            elif section in ("databases", "users", "peers"):
                for entry, given in table.items():
                    yield from self._entry(section, entry, given)

    def _settings(self, name: str, table: Mapping[str, object]) -> Iterator[IniItem]:
        for key, given in table.items():
            place = self._place("pgbouncer", name, key)
            kind = SETTINGS[key].kind if key in SETTINGS else NOT_BUILT[key].kind if key in NOT_BUILT else None
            value = _text(given, is_list=kind is not None and kind.unit == "list")
            yield _unfit(place, key) if value is None else IniValue(key, value, place)

    def _entry(self, section: str, name: str, given: object) -> Iterator[IniItem]:
        place = self._place(section, section, name)
        if isinstance(given, str):
            yield IniValue(name, given, place)
            return
        if not isinstance(given, dict):
            yield place.problem(f"{section[:-1]} {quoted(name)} is neither a table nor a text", name)
            return
        pairs: list[tuple[str, str, Place]] = []
        bad = False
        for key, value in given.items():
            at = self._place(section, section, name, key)
            text = _text(value, is_list=key == "host" and key in DATABASE_KEYS)
            if text is None:
                bad = True
                yield _unfit(at, key)
            else:
                pairs.append((key, text, at))
        if not bad:
            yield IniEntry(name, tuple(pairs), place)

    def _place(self, section: str, *path: str) -> Place:
        while path and path not in self._lines:
            path = path[:-1]
        return Place(self._file, self._lines.get(path), section)


def _text(value: object, *, is_list: bool) -> str | None:
    """`value` as an ini would have it; None where it cannot be one."""
    match value:
        case bool():
            return str(int(value))
        case str():
            return None if "\0" in value else value
        case int() | float():
            return str(value)
        case list() if is_list and all(isinstance(item, str) and "," not in item for item in value):
            return ",".join(value)
    return None


def _unfit(place: Place, key: str) -> ConfigProblem:
    return place.problem(
        f"invalid value for parameter {quoted(key)[1:-1]} in configuration",
        key,
        ": expected a text, a number or a boolean (an array of texts where the setting is a list)",
    )


def _lines(text: str) -> Mapping[tuple[str, ...], int]:
    """The lines where tables and keys begin, by their path; texts over several lines are not looked into."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    inside = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if not inside:
            if begun := _TABLE.match(line):
                table = tuple(_plain(name) for name in begun.groups() if name)
                for end in range(1, len(table) + 1):
                    found.setdefault(table[:end], number)
            elif key := _KEY.match(line):
                names = tuple(_plain(name) for name in key.groups() if name)
                for end in range(1, len(names) + 1):
                    found.setdefault(table + names[:end], number)
        for mark in ('"""', "'''"):
            if inside in ("", mark) and line.count(mark) % 2:
                inside = "" if inside else mark
                break
    return found


def _plain(name: str) -> str:
    if name[0] == "'":
        return name[1:-1]
    if name[0] != '"':
        return name
    try:
        return str(tomllib.loads(f"x={name}")["x"])
    except tomllib.TOMLDecodeError:  # this line is part of something else
        return name
