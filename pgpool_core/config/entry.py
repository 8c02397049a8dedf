"""The values of [databases] and [users]: `key=value` pairs with blanks between them.

A value is a run without blanks, or anything in single quotes (a doubled quote inside is one). Blanks around `=` are allowed, empty
values are not. Numbers are read strictly; PgBouncer takes `port=5432x` as 5432.
Source: PgBouncer docs, "Section [databases]"; PgBouncer 1.18 run with the odd cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

import attrs

from pgpool_core.config.model import (
    DatabaseConfig,
    PeerConfig,
    UserConfig,
    database_name_problem,
    peer_name_problem,
    user_name_problem,
)
from pgpool_core.config.not_built import NOT_BUILT_DATABASE, NOT_BUILT_USER, NotBuiltSetting
from pgpool_core.config.problems import (
    Place,
    bad_name,
    invalid_value,
    not_supported,
    not_supported_value,
    quoted,
    unknown_pair,
)
from pgpool_core.config.settings import DATABASE_KEYS, KEY_ALIASES, PEER_KEYS, USER_KEYS, Setting
from pgpool_core.config.units import NotBuilt
from pgpool_core.errors import ConfigProblem

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


def read_database(name: str, text: str, place: Place) -> DatabaseConfig | list[ConfigProblem]:
    """Read one line of [databases]; what is wrong with it instead, if anything is."""
    subject = attrs.evolve(place, subject=f"database {quoted(name)}")
    return _read(
        DatabaseConfig, DATABASE_KEYS, NOT_BUILT_DATABASE, KEY_ALIASES, database_name_problem, name, text, subject
    )


def read_user(name: str, text: str, place: Place) -> UserConfig | list[ConfigProblem]:
    """Read one line of [users]; what is wrong with it instead, if anything is."""
    subject = attrs.evolve(place, subject=f"user {quoted(name)}")
    return _read(UserConfig, USER_KEYS, NOT_BUILT_USER, {}, user_name_problem, name, text, subject)


def read_peer(name: str, text: str, place: Place) -> PeerConfig | list[ConfigProblem]:
    """Read one line of [peers]; what is wrong with it instead, if anything is."""
    subject = attrs.evolve(place, subject=f"peer {name}")
    return _read(PeerConfig, PEER_KEYS, {}, {}, peer_name_problem, name, text, subject)


def _read(
    cls: type[Entry],
    table: Mapping[str, Setting],
    not_built: Mapping[str, NotBuiltSetting],
    aliases: Mapping[str, str],
    name_problem: Callable[[str], str | None],
    name: str,
    text: str,
    place: Place,
) -> Entry | list[ConfigProblem]:
    problems = [bad_name(place, reason)] if (reason := name_problem(name)) else []
    values: dict[str, object] = {}
    try:
        for written, value in split_pairs(text):
            key = aliases.get(written, written)
            if key in table:
                try:
                    values[key] = table[key].kind.parse(value)
                except NotBuilt:
                    problems.append(not_supported_value(place, written, value, table[key].kind))
                except ValueError:
                    problems.append(invalid_value(place, written, value, table[key].kind))
            elif key in not_built:
                problems += check_not_built(place, written, value, not_built[key])
            else:
                problems.append(unknown_pair(place, written))
    except ValueError as error:
        what = "connection string" if cls is DatabaseConfig else "settings"
        problems.append(place.problem(f"syntax error in {what} of {place.subject}", name, f": {error}"))
    if problems:
        return problems
    return cls(**values)  # type: ignore[arg-type]


def check_not_built(place: Place, key: str, value: str, setting: NotBuiltSetting) -> Iterator[ConfigProblem]:
    """Yield the problem that a key has which this version cannot obey, if its value asks for anything."""
    try:
        if not setting.asks_for_nothing(value):
            yield not_supported(place, key, setting.advice)
    except ValueError:
        yield invalid_value(place, key, value, setting.kind)
