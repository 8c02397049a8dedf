"""Settings of PgBouncer that this version does not have: known by name, refused unless the value asks for nothing.

A file that spells out PgBouncer's default, or switches a thing off that is not here, loads; any other value is refused, because a
setting that is read and then ignored is worse than an error.
Source: PgBouncer docs, "Configuration", release 1.26.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from pgpool_core.config.units import Kind, Seconds, Text


@attrs.frozen
class NotBuiltSetting:
    """One such setting: how its values are written, and which of them ask for nothing."""

    kind: Kind
    accepted: tuple[str, ...]
    does_nothing: bool = False
    """PgBouncer itself does nothing about it on this system, whatever the value."""

    def asks_for_nothing(self, text: str) -> bool:
        """Whether `text` may stand in a file of this version.

        Raises:
            ValueError: PgBouncer would not accept `text` either.
        """
        value = self.kind.parse(text)
        return self.does_nothing or any(value == self.kind.parse(accepted) for accepted in self.accepted)

    @property
    def advice(self) -> str:
        """What to do about it, for the end of an error."""
        written = [text for text in self.accepted if text]
        return f"; leave it out or at {' or '.join(written)}" if written else "; leave it out"


_TEXT: Final = Text()


def _text(*accepted: str) -> NotBuiltSetting:
    return NotBuiltSetting(_TEXT, accepted or ("",))


def _seconds(*accepted: str) -> NotBuiltSetting:
    return NotBuiltSetting(Seconds(), accepted)


NOT_BUILT: Final[Mapping[str, NotBuiltSetting]] = MappingProxyType(
    {
        "job_name": NotBuiltSetting(_TEXT, ("pgbouncer",), does_nothing=True),
        "service_name": NotBuiltSetting(_TEXT, ("pgbouncer",), does_nothing=True),
        "resolv_conf": _text(),
        "dns_zone_check_period": _seconds("0"),
    }
)
"""[pgbouncer]"""

NOT_BUILT_DATABASE: Final[Mapping[str, NotBuiltSetting]] = MappingProxyType({})
"""[databases]"""
