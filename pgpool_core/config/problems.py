"""The sentences in which a configuration is found wrong; PgBouncer's own where it has one.

They repeat names and values that the operator wrote, never a password, a connection string or SQL.
"""

from __future__ import annotations

from typing import Final

import attrs

from pgpool_core.config.units import Kind
from pgpool_core.errors import ConfigProblem

VERSION_TEXT: Final = "is not supported by this version of pgpool_core"
_MAX_QUOTED: Final = 80  # characters of a value that an error repeats


@attrs.frozen
class Place:
    """Where a value was written; without a file it came from a program."""

    file: str | None = None
    line: int | None = None
    section: str | None = None
    subject: str = ""
    """For example `database "app"`, where the key alone would not say whose it is."""

    def problem(self, text: str, key: str | None = None, more: str = "") -> ConfigProblem:
        """Say `text`, then the place, then `more`."""
        line = "" if self.line is None else f":{self.line}"
        where = f" ({self.file}{line})" if self.file is not None else ""
        return ConfigProblem(f"{text}{where}{more}", self.file, self.line, self.section, key)


def quoted(text: object) -> str:
    """`text` in double quotes on one line, cut when long."""
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text)[: _MAX_QUOTED + 1])
    return f'"{shown[:_MAX_QUOTED]}..."' if len(shown) > _MAX_QUOTED else f'"{shown}"'


def invalid_value(place: Place, key: str, value: object, kind: Kind) -> ConfigProblem:
    """A value that its kind does not accept."""
    shown = "" if getattr(kind, "secret", False) else f" {quoted(value)}"
    subject = f" of {place.subject}" if place.subject else ""
    medium = " in configuration" if place.file is not None else ""
    return place.problem(
        f"invalid value{shown} for parameter {key}{subject}{medium}", key, f": expected {kind.accepts}"
    )


def unknown_parameter(place: Place, key: str) -> ConfigProblem:
    """A setting that PgBouncer does not know either."""
    name = key if key.isprintable() else quoted(key)
    return place.problem(f"unknown parameter: {place.section or 'pgbouncer'}/{name}", key)


def unknown_pair(place: Place, key: str) -> ConfigProblem:
    """A `key=value` pair that no entry has."""
    return place.problem(f"unrecognized connection parameter: {key} of {place.subject}", key)


def not_supported(place: Place, key: str, more: str = "") -> ConfigProblem:
    """A setting of PgBouncer that is not built yet."""
    subject = f" of {place.subject}" if place.subject else ""
    return place.problem(f"setting {key}{subject} {VERSION_TEXT}", key, more)


def not_supported_value(place: Place, key: str, value: object, kind: Kind) -> ConfigProblem:
    """A value of a known setting that is not built yet."""
    return place.problem(f"setting {key} = {quoted(value)[1:-1]} {VERSION_TEXT}", key, f": expected {kind.accepts}")


def not_filled_in(place: Place, key: str, reason: ValueError) -> ConfigProblem:
    """A value whose variable or file is not there; `reason` names it."""
    subject = f" of {place.subject}" if place.subject else ""
    return place.problem(f"invalid value for parameter {key}{subject} in configuration", key, f": {reason}")


def bad_name(place: Place, text: str) -> ConfigProblem:
    """A database or user that cannot be called so."""
    return place.problem(text)
