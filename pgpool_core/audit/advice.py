"""What it means for a program that it used these session features: what plain transaction pooling would have broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import LeakRow

BROKEN: Final = {
    "PREPARE": "EXECUTE fails or runs another client's statement",
    "cursor WITH HOLD": "FETCH fails; the cursor stays behind",
    "LISTEN": "notifications are lost or reach somebody else",
    "temporary object": "the next statement does not find it; another client does",
    "advisory lock": "another client holds it, and unlocks it or never does",
    "LOAD": "the library is there for other clients, and not for this one",
    "unnamed statement, parsed ahead": "Bind fails or runs another client's statement",
    "very long named statement": "it does not exist, or exists already",
    "state not known": "could not be looked at",
}
_SETTINGS: Final = "they are lost, and other clients get them"
_STATEMENTS: Final = "they do not exist, or exist already"


@attrs.frozen(kw_only=True)
class Advice:
    """What a program used under pool_mode = transaction, and which mode is the cheapest that is safe for it."""

    features: SessionFeatures
    leaks: tuple[LeakRow, ...]  # what not even session_state = auto has followed

    @property
    def mode(self) -> str:
        """Settings of the cheapest safe mode."""
        if self.leaks:
            return "pool_mode = session"
        if self.features.settings or self.features.pins:
            return "pool_mode = transaction, session_state = auto"
        if self.features.named_statements:
            return "pool_mode = transaction, session_state = off"
        return "pool_mode = transaction, session_state = off, max_prepared_statements = 0"

    def text(self) -> str:
        """The report for a terminal; no trailing newline."""
        used = list(self._used())
        lines = [f"session features used in {self.features.transactions} transactions:"]
        lines += [f"  {what}: {times}; plain transaction pooling: {broken}" for what, times, broken in used]
        if not used:
            lines.append("  none: plain transaction pooling would have done")
        lines += [f"  left behind unseen: {leak.kind} {leak.name}".rstrip() for leak in self.leaks]
        lines.append(f"cheapest safe mode: {self.mode}")
        if self.features.pins and not self.leaks:
            times = sum(self.features.pins.values())
            lines.append(
                f"clients kept their server {times} times: allow for them in pool_size and max_pinned_connections"
            )
        return "\n".join(lines)

    def _used(self) -> Iterator[tuple[str, int, str]]:
        if self.features.settings:
            yield "settings changed (SET, set_config, SET ROLE ...)", self.features.settings, _SETTINGS
        if self.features.named_statements:
            yield "named prepared statements", self.features.named_statements, _STATEMENTS
        for reason, times in self.features.pins.items():
            yield reason, times, BROKEN.get(reason, "")
