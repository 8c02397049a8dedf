"""The ratios of a report as a picture: an SVG of bars, readable beside a table and without any script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import attrs

from benchmarks.macro.figures import Ratio
from benchmarks.macro.report import CaseResult
from benchmarks.macro.targets import OURS

ROW: Final = 30
TOP: Final = 62
LABELS: Final = 230
PANEL: Final = 260
GAP: Final = 40
LARGEST: Final = 3.0
"""Where the scale ends; what is longer is cut there, and its number says how long it is."""

BETTER: Final = "#2a7f4f"
WORSE: Final = "#b5452c"
OPEN: Final = "#9a9a9a"


@attrs.frozen(kw_only=True)
class Panel:
    """One column of bars."""

    figure: str
    title: str
    more_is_better: bool


PANELS: Final[Sequence[Panel]] = (
    Panel(figure="rate", title="throughput (more is better)", more_is_better=True),
    Panel(figure="cost", title="CPU per unit of work (less is better)", more_is_better=False),
    Panel(figure="p99_ms", title="p99 (less is better)", more_is_better=False),
)


def draw(results: Sequence[CaseResult]) -> str:
    """Our ratios to PgBouncer, a row for each case that has any; the line is PgBouncer.

    A bar is green where ours is better, red where it is worse, grey where nothing is claimed; the thin line across its end is the
    interval of the median.
    """
    rows = [result for result in results if any(result.ratio(OURS, panel.figure) for panel in PANELS)]
    width = LABELS + len(PANELS) * (PANEL + GAP)
    height = TOP + ROW * len(rows) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="10" y="22" font-size="15">pgpool_core divided by PgBouncer: medians, and the interval of each; the line is PgBouncer, grey means that nothing is claimed</text>',
    ]
    for column, panel in enumerate(PANELS):
        left = LABELS + column * (PANEL + GAP)
        parts.append(f'<text x="{left}" y="46">{escape(panel.title)}</text>')
        for row, result in enumerate(rows):
            if ratio := result.ratio(OURS, panel.figure):
                parts += _bar(left, TOP + row * ROW, ratio, panel)
        one = left + PANEL / LARGEST
        bottom = TOP + ROW * len(rows)
        parts.append(f'<line x1="{one:.1f}" y1="{TOP - 6}" x2="{one:.1f}" y2="{bottom}" stroke="#222222"/>')
    for row, result in enumerate(rows):
        parts.append(f'<text x="10" y="{TOP + row * ROW + 16}">{escape(result.case.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(left: int, top: int, ratio: Ratio, panel: Panel) -> list[str]:
    def place(value: float) -> float:
        return left + min(value, LARGEST) * PANEL / LARGEST

    good = (ratio.median > 1) == panel.more_is_better
    colour = OPEN if not ratio.is_claimed else BETTER if good else WORSE
    low, high = (place(end) for end in ratio.interval)
    number = high + 5 if not high - 5 < place(1) < high + 45 else place(1) + 5
    return [
        f'<rect x="{left}" y="{top + 4}" width="{place(ratio.median) - left:.1f}" height="16" fill="{colour}"/>',
        f'<line x1="{low:.1f}" y1="{top + 12}" x2="{high:.1f}" y2="{top + 12}" stroke="#222222"/>',
        f'<text x="{number:.1f}" y="{top + 16}">{ratio.median:.2f}{"" if ratio.is_claimed else " ~"}</text>',
    ]
