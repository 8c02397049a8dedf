"""From the text of a pgbouncer.ini to a Config, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from pgpool_core.config.entry import check_not_built, read_database, read_peer, read_user
from pgpool_core.config.ini import IniItem, IniSection, IniValue, read_ini_file, read_ini_text
from pgpool_core.config.model import Config, DatabaseConfig, PeerConfig, UserConfig
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.problems import (
    invalid_value,
    not_supported_value,
    quoted,
    unknown_parameter,
)
from pgpool_core.config.settings import SETTINGS
from pgpool_core.config.units import NotBuilt
from pgpool_core.errors import ConfigError, ConfigProblem

SECTIONS: Final = frozenset({"pgbouncer", "databases", "users", "peers"})


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read the pgbouncer.ini at `path` and the files that it includes.

    Raises:
        ConfigError: it cannot be read or used; carries every problem, each with file and line.
    """
    return _Builder().build(read_ini_file(path))


def parse_config(text: str, *, file: str = "<config>") -> Config:
    """Read the text of a pgbouncer.ini; `file` is what problems call it. `%include` works here too.

    Raises:
        ConfigError: it cannot be used; carries every problem, each with file and line.
    """
    return _Builder().build(read_ini_text(text, file))


class _Builder:
    """Collects values and problems; a key or entry that comes twice keeps its last value, but a bad one is told all the same."""

    def __init__(self) -> None:
        self._problems: list[ConfigProblem] = []
        self._settings: dict[str, Any] = {}
        self._databases: dict[str, DatabaseConfig] = {}
        self._users: dict[str, UserConfig] = {}
        self._peers: dict[int, PeerConfig] = {}

    def build(self, items: Iterable[IniItem]) -> Config:
        for item in items:
            match item:
                case ConfigProblem():
                    self._problems.append(item)
                case IniSection():
                    if item.name not in SECTIONS:
                        self._problems.append(item.place.problem(f"unknown section: {quoted(item.name)[1:-1]}"))
                case IniValue():
                    self._value(item)
        if self._problems:
            raise ConfigError(self._problems)
        return Config(databases=self._databases, users=self._users, peers=self._peers, **self._settings)

    def _value(self, item: IniValue) -> None:
        match item.place.section:
            case "pgbouncer":
                self._setting(item)
            case "databases":
                database = read_database(item.key, item.value, item.place)
                if isinstance(database, list):
                    self._problems += database
                else:
                    self._databases[item.key] = database
            case "users":
                user = read_user(item.key, item.value, item.place)
                if isinstance(user, list):
                    self._problems += user
                else:
                    self._users[item.key] = user
            case "peers":
                peer = read_peer(item.key, item.value, item.place)
                if isinstance(peer, list):
                    self._problems += peer
                elif peer.host is None:
                    self._problems.append(item.place.problem(f"peer {item.key} has no host", item.key, ": host=..."))
                else:
                    self._peers[int(item.key)] = peer
            case None:
                text = "syntax error in configuration"
                self._problems.append(item.place.problem(text, item.key, ": a key before the first [section]"))

    def _setting(self, item: IniValue) -> None:
        key, value, place = item.key, item.value, item.place
        if key in SETTINGS:
            kind = SETTINGS[key].kind
            try:
                self._settings[key] = kind.parse(value)
            except NotBuilt:
                self._problems.append(not_supported_value(place, key, value, kind))
            except ValueError:
                self._problems.append(invalid_value(place, key, value, kind))
        elif key in NOT_BUILT:
            self._problems += check_not_built(place, key, value, NOT_BUILT[key])
        else:
            self._problems.append(unknown_parameter(place, key))
