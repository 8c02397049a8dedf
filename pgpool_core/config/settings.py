"""The settings of each section as tables, and SHOW CONFIG's rows made from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import attrs

from pgpool_core.config.declare import kind_of
from pgpool_core.config.model import Config, DatabaseConfig, PeerConfig, UserConfig
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.units import Kind


@attrs.frozen
class Setting:
    """What is known about one setting, whatever its value is."""

    name: str
    kind: Kind
    default: object
    reloadable: bool
    """Whether RELOAD applies a new value; the others need a restart."""
    meaning: str

    @property
    def unit(self) -> str:
        """Unit or form of the value: `s`, `bytes`, `0/1`, `octal`, `list`; empty where there is none."""
        return self.kind.unit

    def show(self, value: object) -> str | None:
        """Write `value` as a file would have it; None for unset."""
        return None if value is None else self.kind.show(value)


class SettingRow(NamedTuple):
    """One line of SHOW CONFIG, values as they would be written in a file; None is unset."""

    key: str
    value: str | None
    default: str | None
    changeable: bool


def _table(cls: type[attrs.AttrsInstance]) -> Mapping[str, Setting]:
    rows: dict[str, Setting] = {}
    field: attrs.Attribute[Any]
    for field in attrs.fields(cls):
        if kind := kind_of(field):
            rows[field.name] = Setting(
                field.name, kind, field.default, field.metadata["reload"], field.metadata["meaning"]
            )
    return MappingProxyType(rows)


SETTINGS: Final = _table(Config)
"""[pgbouncer]"""
DATABASE_KEYS: Final = _table(DatabaseConfig)
"""[databases]"""
USER_KEYS: Final = _table(UserConfig)
"""[users]"""
PEER_KEYS: Final = _table(PeerConfig)
"""[peers]"""
KEY_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"reserve_pool": "reserve_pool_size"})
"""Second names of keys of [databases]."""


_UNSET: Final = frozenset(
    {
        *("auth_user", "auth_dbname", "auth_ident_file", "auth_ldap_options", "conffile", "user"),
        *("client_tls13_ciphers", "server_tls13_ciphers"),
    }
)
"""For PgBouncer these have no value, rather than an empty one, where the file says nothing."""


def describe(config: Config) -> list[SettingRow]:
    """Every setting of [pgbouncer], by name; those that are not built have the only value that they may have."""

    def shown(name: str, value: object) -> str | None:
        return None if value == "" and name in _UNSET else SETTINGS[name].show(value)

    rows = [
        SettingRow(name, shown(name, getattr(config, name)), shown(name, setting.default), setting.reloadable)
        for name, setting in SETTINGS.items()
    ]
    rows += [SettingRow(name, known.accepted[0], known.accepted[0], False) for name, known in NOT_BUILT.items()]
    return sorted(rows, key=lambda row: row.key)
