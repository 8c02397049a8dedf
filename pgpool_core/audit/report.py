"""What the audit has found, as values, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from typing import Final, Literal

import attrs

Verdict = Literal["kept", "ended", "leaked", "lost", "refused", "not tested"]

BAD: Final = frozenset({"leaked", "lost"})
HEADINGS: Final = ("kind", "its owner sees", "another client sees", "verdict")


@attrs.frozen(kw_only=True)
class Finding:
    """One kind of state. `reason` says why it was refused or not tested."""

    kind: str
    owner: str = ""
    stranger: str = ""
    verdict: Verdict
    reason: str = ""


@attrs.frozen(kw_only=True)
class Report:
    """All kinds; `changes` says when a server goes from one client to another."""

    changes: str
    findings: tuple[Finding, ...]

    @property
    def bad(self) -> bool:
        """Whether something leaks or is lost."""
        return any(finding.verdict in BAD for finding in self.findings)

    def table(self) -> str:
        """For a terminal; no trailing newline."""
        rows = [HEADINGS, *((f.kind, f.owner, f.stranger, _verdict(f)) for f in self.findings)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
        lines = [_line(row, widths) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in [*widths, len(HEADINGS[-1])]))
        counts = {verdict: sum(f.verdict == verdict for f in self.findings) for verdict in Verdict.__args__}  # type: ignore[attr-defined]
        total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        return "\n".join([f"servers change hands {self.changes}", "", *lines, "", total])

    def json(self) -> str:
        """One object: `changes`, `bad`, `findings`."""
        found = [attrs.asdict(finding) for finding in self.findings]
        return json.dumps({"changes": self.changes, "bad": self.bad, "findings": found}, indent=2)


def _verdict(finding: Finding) -> str:
    shown = finding.verdict.upper() if finding.verdict in BAD else finding.verdict
    return f"{shown}: {finding.reason}" if finding.reason else shown


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
