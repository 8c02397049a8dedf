"""From a pgbouncer.ini, or the same as TOML, to a Config, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from pgpool_core.config.entry import Entry, Pairs, check_not_built, filled_in, read_database, read_peer, read_user
from pgpool_core.config.ini import IniEntry, IniItem, IniSection, IniValue, read_ini_file, read_ini_text
from pgpool_core.config.model import Config, DatabaseConfig, PeerConfig, UserConfig
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.problems import (
    Place,
    invalid_value,
    not_filled_in,
    not_supported_value,
    quoted,
    unknown_parameter,
)
from pgpool_core.config.settings import KEY_ALIASES, SETTINGS
from pgpool_core.config.units import NotBuilt
from pgpool_core.errors import ConfigError, ConfigProblem

SECTIONS: Final = frozenset({"pgbouncer", "databases", "users", "peers"})


Environ = Mapping[str, str]


@attrs.frozen(kw_only=True)
class Loaded:
    """What was read, usable or not."""

    problems: tuple[ConfigProblem, ...]
    config: Config
    """What the good values make; where there are problems it only serves to look for more of them."""
    places: Mapping[tuple[str, str, str], Place]
    """Where each value was written, by section, name of the entry (empty in [pgbouncer]) and key (empty for a whole line)."""
    repeated: Place | None = None
    """The second [pgbouncer] line, if there is one."""


def load_config(path: str | os.PathLike[str], *, environ: Environ = os.environ) -> Config:
    """Read the pgbouncer.ini at `path` and the files that it includes; or, where its name ends in `.toml`, the same as TOML.

    Args:
        environ: where `${NAME}` is looked up.

    Raises:
        ConfigError: it cannot be read or used; carries every problem, each with file and line.
    """
    return _usable(read_config(path, environ=environ))


def parse_config(text: str, *, file: str = "<config>", environ: Environ = os.environ) -> Config:
    """Read the text of a pgbouncer.ini; `file` is what problems call it. `%include` works here too.

    Raises:
        ConfigError: it cannot be used; carries every problem, each with file and line.
    """
    return _usable(build(read_ini_text(text, file, environ), environ))


def read_config(path: str | os.PathLike[str], *, environ: Environ = os.environ) -> Loaded:
    """Read a file as load_config does, and go on where something is wrong with it."""
    if not os.fspath(path).endswith(".toml"):
        return build(read_ini_file(path, environ), environ)
    from pgpool_core.config.toml import read_toml_file  # tomllib is 0.4 MB that few need

    return build(read_toml_file(path), environ)


def build(items: Iterable[IniItem], environ: Environ) -> Loaded:
    """Make what the lines of a file say, one by one, into a configuration."""
    return _Builder(environ).build(items)


def _usable(loaded: Loaded) -> Config:
    if loaded.problems:
        raise ConfigError(loaded.problems)
    return loaded.config


class _Builder:
    """Collects values and problems; a key or entry that comes twice keeps its last value, but a bad one is told all the same."""

    def __init__(self, environ: Environ) -> None:
        self._environ = environ
        self._problems: list[ConfigProblem] = []
        self._settings: dict[str, Any] = {}
        self._databases: dict[str, DatabaseConfig] = {}
        self._users: dict[str, UserConfig] = {}
        self._peers: dict[str, PeerConfig] = {}
        self._places: dict[tuple[str, str, str], Place] = {}
        self._repeated: list[Place] = []

    def build(self, items: Iterable[IniItem]) -> Loaded:
        for item in items:
            match item:
                case ConfigProblem():
                    self._problems.append(item)
                case IniSection():
                    self._section(item)
                case IniValue(place=Place(section="pgbouncer")):
                    self._setting(item)
                case IniValue():
                    self._entry(item.key, item.value, item.place)
                case IniEntry():
                    self._entry(item.name, item.pairs, item.place)
        peers = {int(number): peer for number, peer in self._peers.items()}
        return Loaded(
            problems=tuple(self._problems),
            config=Config(databases=self._databases, users=self._users, peers=peers, **self._settings),
            places=self._places,
            repeated=self._repeated[1] if len(self._repeated) > 1 else None,
        )

    def _section(self, item: IniSection) -> None:
        if item.name not in SECTIONS:
            self._problems.append(item.place.problem(f"unknown section: {quoted(item.name)[1:-1]}"))
        elif item.name == "pgbouncer":
            self._repeated.append(item.place)

    def _entry(self, name: str, given: str | Pairs, place: Place) -> None:
        section = place.section or ""
        match section:
            case "databases":
                self._keep(name, read_database(name, given, place, self._environ), self._databases)
            case "users":
                self._keep(name, read_user(name, given, place, self._environ), self._users)
            case "peers":
                self._keep(name, read_peer(name, given, place, self._environ), self._peers)
            case "":
                text = "syntax error in configuration"
                self._problems.append(place.problem(text, name, ": a key before the first [section]"))
        self._places[section, name, ""] = place
        for key, _, where in () if isinstance(given, str) else given:
            self._places[section, name, KEY_ALIASES.get(key, key)] = where

    def _keep(self, name: str, read: Entry | list[ConfigProblem], entries: dict[str, Entry]) -> None:
        if isinstance(read, list):
            self._problems += read
        else:
            entries[name] = read

    def _setting(self, item: IniValue) -> None:
        key, place = item.key, item.place
        kind = SETTINGS[key].kind if key in SETTINGS else NOT_BUILT[key].kind if key in NOT_BUILT else None
        if kind is None:
            self._problems.append(unknown_parameter(place, key))
            return
        self._places["pgbouncer", "", key] = place
        try:
            value = filled_in(item.value, kind, self._environ)
        except ValueError as error:
            self._problems.append(not_filled_in(place, key, error))
            return
        if key not in SETTINGS:
            self._problems += check_not_built(place, key, value, NOT_BUILT[key], shown=item.value)
            return
        try:
            self._settings[key] = kind.parse(value)
        except NotBuilt:
            self._problems.append(not_supported_value(place, key, item.value, kind))
        except ValueError:
            self._problems.append(invalid_value(place, key, item.value, kind))
