"""Which session features the clients of a pooler have used, as its ledger has counted them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

PIN_REASONS: Final = (
    "session_state = pin",
    "PREPARE",
    "cursor WITH HOLD",
    "LISTEN",
    "temporary object",
    "advisory lock",
    "LOAD",
    "state not known",
    "unnamed statement, parsed ahead",
    "very long named statement",
)
"""By the number of the engine's bit PIN_*."""
WARNED_KINDS: Final = ("setting", *PIN_REASONS[1:7])
"""What session_state = warn warns of, by the same numbers."""


@attrs.frozen(kw_only=True)
class SessionFeatures:
    """Counted since the start, in transaction and statement mode.

    Attributes:
        transactions: all of them, for comparison.
        settings: times that a client's own settings changed; those that PostgreSQL reports are left out.
        named_statements: Parse messages with a name.
        pins: by reason, times that a client began to keep its server for it.
    """

    transactions: int
    settings: int
    named_statements: int
    pins: Mapping[str, int]

    @classmethod
    def of(cls, counters: Iterable[Mapping[str, Any]]) -> SessionFeatures:
        """Add up what the engine has counted for each pool."""
        rows = list(counters)
        pins = {name: sum(row["pinned_for"][bit] for row in rows) for bit, name in enumerate(PIN_REASONS)}
        return cls(
            transactions=sum(row["xacts"] for row in rows),
            settings=sum(row["settings_kept"] for row in rows),
            named_statements=sum(row["named_parses"] for row in rows),
            pins={name: times for name, times in pins.items() if times},
        )
