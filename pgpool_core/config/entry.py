"""The values of [databases] and [users]: `key=value` pairs with blanks between them, or the URL of a database.

A value is a run without blanks, or anything in single quotes (a doubled quote inside is one). Blanks around `=` are allowed, empty
values are not. Numbers are read strictly; PgBouncer takes `port=5432x` as 5432.
Source: PgBouncer docs, "Section [databases]"; PgBouncer 1.18 run with the odd cases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

import attrs

from pgpool_core.config.dsn import is_url, read_entry_url
from pgpool_core.config.expand import FILE, expand, expand_url, is_file, is_one_variable, read_secret
from pgpool_core.config.model import DatabaseConfig, PeerConfig, UserConfig
from pgpool_core.config.names import database_name_problem, peer_name_problem, user_name_problem
from pgpool_core.config.not_built import NOT_BUILT_DATABASE, NotBuiltSetting
from pgpool_core.config.passwords import PasswordFile, PasswordText
from pgpool_core.config.problems import (
    Place,
    bad_name,
    invalid_value,
    not_filled_in,
    not_supported,
    not_supported_value,
    quoted,
    unknown_pair,
)
from pgpool_core.config.settings import DATABASE_KEYS, KEY_ALIASES, PEER_KEYS, USER_KEYS, Setting
from pgpool_core.config.units import Kind, NotBuilt
from pgpool_core.errors import ConfigError, ConfigProblem

_BLANKS: Final = " \t\r\f\v\n"
_PAIR: Final = re.compile(
    r"(?P<key>[A-Za-z0-9_]++)[ \t\r\f\v\n]*+=[ \t\r\f\v\n]*+"
    r"(?:'(?P<quoted>(?:[^']|'')*+)'|(?P<bare>[^' \t\r\f\v\n][^ \t\r\f\v\n]*+))(?=[ \t\r\f\v\n]|\Z)"
)

Entry = TypeVar("Entry", DatabaseConfig, UserConfig, PeerConfig)


def split_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of `text`.

    Raises:
        ValueError: a pair is broken; says which, but not how it reads, because it may be part of a password.
    """
    rest = text.strip(_BLANKS)
    position = 0
    while rest:
        position += 1
        pair = _PAIR.match(rest)
        value = "" if pair is None else pair["bare"] or (pair["quoted"] or "").replace("''", "'")
        if pair is None or not value:
            raise ValueError(f"pair {position} is not key=value with a value (quote a value that has blanks: '...')")
        yield pair["key"], value
        rest = rest[pair.end() :].strip(_BLANKS)


Pairs = tuple[tuple[str, str, Place], ...]
"""Keys and values as they are written, each with its place."""


def read_database(
    name: str, given: str | Pairs, place: Place, environ: Mapping[str, str]
) -> DatabaseConfig | list[ConfigProblem]:
    """Read an entry of [databases]: a line of pairs, a `postgres://` URL, or pairs that are apart already; or tell what is wrong with it.

    A line that is nothing but `${NAME}` or `file:/path` is what the variable or the file holds. Variables are filled in from `environ`.
    """
    subject = attrs.evolve(place, subject=f"database {quoted(name)}")
    problems = _name_problems(subject, database_name_problem(name))
    inside: Mapping[str, str] | None = environ
    if isinstance(given, str):
        try:
            given, inside = _whole(given, environ)
            if is_url(given):
                return _from_url(given, subject, inside, problems)
        except ValueError as error:
            return [*problems, not_filled_in(subject, name, error)]
    return _read(DatabaseConfig, DATABASE_KEYS, NOT_BUILT_DATABASE, KEY_ALIASES, name, given, subject, inside, problems)


def read_user(
    name: str, given: str | Pairs, place: Place, environ: Mapping[str, str]
) -> UserConfig | list[ConfigProblem]:
    """Read an entry of [users]: a line of pairs, or pairs that are apart already; or tell what is wrong with it."""
    subject = attrs.evolve(place, subject=f"user {quoted(name)}")
    problems = _name_problems(subject, user_name_problem(name))
    return _read(UserConfig, USER_KEYS, {}, {}, name, given, subject, environ, problems)


def read_peer(
    name: str, given: str | Pairs, place: Place, environ: Mapping[str, str]
) -> PeerConfig | list[ConfigProblem]:
    """Read an entry of [peers]: a line of pairs, or pairs that are apart already; or tell what is wrong with it."""
    subject = attrs.evolve(place, subject=f"peer {name}")
    problems = _name_problems(subject, peer_name_problem(name))
    made = _read(PeerConfig, PEER_KEYS, {}, {}, name, given, subject, environ, problems)
    if isinstance(made, PeerConfig) and made.host is None:
        return [subject.problem(f"peer {name} has no host", name, ": host=...")]
    return made


def filled_in(text: str, kind: Kind, environ: Mapping[str, str] | None) -> str:
    """The value that `text` stands for: variables filled in, and for a secret what the file in `file:/path` holds.

    Args:
        environ: None for a text that came out of a variable or a file itself, and is taken as it is.

    Raises:
        ValueError: a variable or a file is not there; names it.
    """
    if environ is None:
        return text
    if getattr(kind, "secret", False) and is_file(text):
        return read_secret(expand(text, environ))
    return expand(text, environ)


def _name_problems(place: Place, reason: str | None) -> list[ConfigProblem]:
    return [bad_name(place, reason)] if reason else []


def _whole(text: str, environ: Mapping[str, str]) -> tuple[str, Mapping[str, str] | None]:
    """The line that `text` stands for, and what may be filled in there: nothing in one that came from elsewhere."""
    if is_one_variable(text):
        return expand(text, environ), None
    if is_file(text):
        return read_secret(expand(text, environ)), None
    return text, environ


def _from_url(
    url: str, place: Place, environ: Mapping[str, str] | None, problems: list[ConfigProblem]
) -> DatabaseConfig | list[ConfigProblem]:
    """Read a URL; raises ValueError where a variable is not there."""
    try:
        made = read_entry_url(url if environ is None else expand_url(url, environ))
    except ConfigError as error:
        return [*problems, *(place.problem(f"{place.subject}: {each.text}", each.key) for each in error.problems)]
    return problems or made


def _read(
    cls: type[Entry],
    table: Mapping[str, Setting],
    not_built: Mapping[str, NotBuiltSetting],
    aliases: Mapping[str, str],
    name: str,
    given: str | Pairs,
    place: Place,
    environ: Mapping[str, str] | None,
    problems: list[ConfigProblem],
) -> Entry | list[ConfigProblem]:
    values: dict[str, object] = {}
    try:
        pairs = given if isinstance(given, tuple) else tuple((key, value, place) for key, value in split_pairs(given))
    except ValueError as error:
        what = "connection string" if cls is DatabaseConfig else "settings"
        return [*problems, place.problem(f"syntax error in {what} of {place.subject}", name, f": {error}")]
    for written, text, where in pairs:
        at = attrs.evolve(where, subject=place.subject)
        key = aliases.get(written, written)
        kind = table[key].kind if key in table else not_built[key].kind if key in not_built else None
        if kind is None:
            problems.append(unknown_pair(at, written))
            continue
        shown = text if environ is not None else "..."  # an error repeats what the file says, not what it points to
        try:
            value = filled_in(text, kind, environ)
        except ValueError as error:
            problems.append(not_filled_in(at, written, error))
            continue
        if key not in table:
            problems += check_not_built(at, written, value, not_built[key], shown=shown)
            continue
        try:
            values[key] = kind.parse(value)
            if isinstance(kind, PasswordText) and environ is not None and is_file(text):
                values[key] = PasswordFile(expand(text, environ).removeprefix(FILE))  # read for each connection
        except NotBuilt:
            problems.append(not_supported_value(at, written, shown, kind))
        except ValueError:
            problems.append(invalid_value(at, written, shown, kind))
    return problems or cls(**values)  # type: ignore[arg-type]


def check_not_built(
    place: Place, key: str, value: str, setting: NotBuiltSetting, *, shown: str | None = None
) -> Iterator[ConfigProblem]:
    """Yield the problem that a key has which this version cannot obey, if its value asks for anything.

    Args:
        shown: what an error repeats in place of `value`, which may have come out of a variable.
    """
    try:
        if not setting.asks_for_nothing(value):
            yield not_supported(place, key, setting.advice)
    except ValueError:
        yield invalid_value(place, key, value if shown is None else shown, setting.kind)
