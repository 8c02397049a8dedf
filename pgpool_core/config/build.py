"""`Config.of`: a Config from what a program has at hand, with every problem told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pgpool_core.config.dsn import parse_dsn
from pgpool_core.config.entry import check_not_built
from pgpool_core.config.model import Config, DatabaseConfig, PeerConfig, UserConfig
from pgpool_core.config.not_built import NOT_BUILT, NOT_BUILT_DATABASE, NotBuiltSetting
from pgpool_core.config.problems import (
    Place,
    bad_name,
    invalid_value,
    not_supported_value,
    quoted,
    unknown_pair,
    unknown_parameter,
)
from pgpool_core.config.settings import DATABASE_KEYS, KEY_ALIASES, PEER_KEYS, SETTINGS, USER_KEYS, Setting
from pgpool_core.config.units import NotBuilt
from pgpool_core.errors import ConfigError, ConfigProblem

Entry = TypeVar("Entry", DatabaseConfig, UserConfig, PeerConfig)
Unknown = Callable[[Place, str], ConfigProblem]


def build_config(
    databases: Mapping[str, DatabaseConfig | Mapping[str, object] | str],
    users: Mapping[str, UserConfig | Mapping[str, object]],
    peers: Mapping[int, PeerConfig | Mapping[str, object]],
    settings: Mapping[str, object],
) -> Config:
    """See `Config.of`."""
    problems: list[ConfigProblem] = []
    values = _values(settings, SETTINGS, NOT_BUILT, Place(), unknown_parameter, problems)
    made_databases: dict[str, DatabaseConfig] = {}
    for name, given in databases.items():
        place = Place(section="databases", subject=f"database {quoted(name)}")
        if isinstance(given, str):
            try:
                made_databases[name] = parse_dsn(given)
            except ConfigError as error:
                problems += [
                    place.problem(f"{place.subject}: {problem.text}", problem.key) for problem in error.problems
                ]
        else:
            made = _entry(given, DatabaseConfig, DATABASE_KEYS, NOT_BUILT_DATABASE, place, problems)
            made_databases[name] = made or DatabaseConfig()
    made_users: dict[str, UserConfig] = {}
    for name, user in users.items():
        place = Place(section="users", subject=f"user {quoted(name)}")
        made_users[name] = _entry(user, UserConfig, USER_KEYS, {}, place, problems) or UserConfig()
    made_peers: dict[int, PeerConfig] = {}
    for number, peer in peers.items():
        place = Place(section="peers", subject=f"peer {number}")
        made_peers[number] = _entry(peer, PeerConfig, PEER_KEYS, {}, place, problems) or PeerConfig(host="-")
    try:
        config = Config(databases=made_databases, users=made_users, peers=made_peers, **values)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return config


def _entry(
    given: object,
    cls: type[Entry],
    table: Mapping[str, Setting],
    not_built: Mapping[str, NotBuiltSetting],
    place: Place,
    problems: list[ConfigProblem],
) -> Entry | None:
    """Make one entry; None after a problem."""
    if isinstance(given, cls):
        return given
    if not isinstance(given, Mapping):
        choices = "a connection string, " if cls is DatabaseConfig else ""
        problems.append(bad_name(place, f"{place.subject}: expected {choices}a mapping or a {cls.__name__}"))
        return None
    named = {KEY_ALIASES.get(key, key) if cls is DatabaseConfig else key: value for key, value in given.items()}
    before = len(problems)
    values = _values(named, table, not_built, place, unknown_pair, problems)
    return cls(**values) if len(problems) == before else None


def _values(
    given: Mapping[str, object],
    table: Mapping[str, Setting],
    not_built: Mapping[str, NotBuiltSetting],
    place: Place,
    unknown: Unknown,
    problems: list[ConfigProblem],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in table:
            setting = table[key]
            if value is None and setting.default is None:
                continue
            try:
                values[key] = setting.kind.parse(value) if isinstance(value, str) else setting.kind.check(value)
            except NotBuilt:
                problems.append(not_supported_value(place, key, value, setting.kind))
            except ValueError:
                problems.append(invalid_value(place, key, value, setting.kind))
        elif key in not_built:
            text = str(int(value)) if isinstance(value, bool) else str(value)
            problems += check_not_built(place, key, text, not_built[key])
        else:
            problems.append(unknown(place, key))
    return values
