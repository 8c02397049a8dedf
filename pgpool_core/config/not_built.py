"""Settings of PgBouncer that this version does not have: known by name, refused unless the value asks for nothing.

A file that spells out PgBouncer's default, or switches a thing off that is not here, loads; any other value is refused, because a
setting that is read and then ignored is worse than an error.
Source: PgBouncer docs, "Configuration", release 1.25.2 and what was merged after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from pgpool_core.config.units import Flag, Integer, Kind, Seconds, Text


@attrs.frozen
class NotBuiltSetting:
    """One such setting: how its values are written, and which of them ask for nothing."""

    kind: Kind
    accepted: tuple[str, ...]

    def asks_for_nothing(self, text: str) -> bool:
        """Whether `text` may stand in a file of this version.

        Raises:
            ValueError: PgBouncer would not accept `text` either.
        """
        value = self.kind.parse(text)
        return any(value == self.kind.parse(accepted) for accepted in self.accepted)

    @property
    def advice(self) -> str:
        """What to do about it, for the end of an error."""
        written = [text for text in self.accepted if text]
        return f"; leave it out or at {' or '.join(written)}" if written else "; leave it out"


_TEXT: Final = Text()


def _text(*accepted: str) -> NotBuiltSetting:
    return NotBuiltSetting(_TEXT, accepted or ("",))


def _flag(*accepted: str) -> NotBuiltSetting:
    return NotBuiltSetting(Flag(), accepted)


def _number(*accepted: str, high: int = 2**31 - 1) -> NotBuiltSetting:
    return NotBuiltSetting(Integer(0, high), accepted)


def _seconds(*accepted: str) -> NotBuiltSetting:
    return NotBuiltSetting(Seconds(), accepted)


NOT_BUILT: Final[Mapping[str, NotBuiltSetting]] = MappingProxyType(
    {
        "syslog": _flag("0"),
        "syslog_ident": _text("pgbouncer"),
        "syslog_facility": _text("daemon"),
        "job_name": _text("pgbouncer"),
        "service_name": _text("pgbouncer"),
        "resolv_conf": _text(),
        "dns_zone_check_period": _seconds("0"),
    }
)
"""[pgbouncer]"""

NOT_BUILT_DATABASE: Final[Mapping[str, NotBuiltSetting]] = MappingProxyType({})
"""[databases]"""
