"""What one run yields and how rounds are compared: medians, and ratios taken inside each round."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import attrs

from benchmarks.macro.cases import Goal

Sample = Mapping[str, float]
"""The figures of one run of one target, by the keys of FIGURES that apply to the case."""


@attrs.frozen(kw_only=True)
class Figure:
    """One column. `compared` figures get a ratio; `more_is_better` says which way is good."""

    label: str
    decimals: int
    compared: bool = False
    more_is_better: bool = False


FIGURES: Final[Mapping[str, Figure]] = {
    "rate": Figure(label="{unit}", decimals=0, compared=True, more_is_better=True),
    "p50_ms": Figure(label="p50 ms", decimals=2, compared=True),
    "p99_ms": Figure(label="p99 ms", decimals=2, compared=True),
    "spread": Figure(label="p99/p50", decimals=2),
    "raised": Figure(label="p99 against alone", decimals=2, compared=True),
    "kept": Figure(label="share of the rate kept", decimals=2, compared=True, more_is_better=True),
    "evenness": Figure(label="rate of the slower user to the faster's", decimals=2, compared=True, more_is_better=True),
    "cost": Figure(label="CPU {cost_unit}", decimals=1, compared=True),
    "cost_user": Figure(label="of which user", decimals=1),
    "cost_system": Figure(label="of which system", decimals=1),
    "resumed": Figure(label="handshakes resumed", decimals=2),
    "rss_mb": Figure(label="RSS MB before", decimals=1),
    "memory_kb": Figure(label="kB per client", decimals=2, compared=True),
    "queried_kb": Figure(label="kB per client after a query each", decimals=2, compared=True),
}

NOISE: Final = 0.05
"""A median ratio this close to 1 claims nothing: PgBouncer against itself, in interleaved rounds, spreads as far."""

MIN_ROUNDS: Final = 3
"""With fewer rounds the spread says nothing, so no ratio is claimed."""


@attrs.frozen(kw_only=True)
class Ratio:
    """Ours divided by the reference's, one value per round."""

    by_round: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.by_round)

    @property
    def is_claimed(self) -> bool:
        """Whether the rounds agree that there is a difference."""
        below, above = max(self.by_round) < 1, min(self.by_round) > 1
        return len(self.by_round) >= MIN_ROUNDS and (below or above) and abs(self.median - 1) > NOISE

    def __str__(self) -> str:
        spread = f"({min(self.by_round):.2f}-{max(self.by_round):.2f})"
        return f"{self.median:.2f} {spread}" if self.is_claimed else f"~ {spread}"


class Verdict(enum.Enum):
    """How a goal stands."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "not measured"
    LEVEL = "level"
    """The goal asks for parity, and no difference could be measured."""


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    return {key: median(sample[key] for sample in samples) for key in FIGURES if key in samples[0]}


def ratio_of(key: str, ours: Sequence[Sample], reference: Sequence[Sample]) -> Ratio | None:
    """The ratio of a figure, or None where it was not measured or a round of the reference shows 0."""
    if not all(key in sample for sample in (*ours, *reference)) or not all(sample[key] for sample in reference):
        return None
    return Ratio(by_round=tuple(a[key] / b[key] for a, b in zip(ours, reference, strict=True)))


def judge(goal: Goal, ratio: Ratio | None, own: float) -> Verdict:
    """How `goal` stands, given the ratio to PgBouncer and our own figure, which an absolute goal is about."""
    if goal.is_absolute:
        return Verdict.MET if (own >= goal.bound if goal.at_least else own <= goal.bound) else Verdict.MISSED
    if ratio is None:
        return Verdict.UNKNOWN
    if not ratio.is_claimed and (goal.bound == 1.0 or goal.to_off):
        return Verdict.LEVEL
    met = ratio.median >= goal.bound if goal.at_least else ratio.median <= goal.bound
    return Verdict.MET if met and ratio.is_claimed else Verdict.MISSED
