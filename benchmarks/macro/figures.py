"""What one run yields and how rounds are compared: medians, ratios taken inside each round, and when to believe them.

A median comes with an interval that needs no assumption about how figures are distributed: of N rounds the k-th lowest and the k-th
highest. Each round is as likely to lie above the true median as below it, so the interval misses it only if fewer than k of N fair
coins fall on one side. k is the largest for which that happens in less than one case of twenty. With fewer than six rounds there is no
such k. Claims and goals follow from this interval alone.
Source: the sign test; Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", 3.6.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import attrs

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
    "wave_s": Figure(label="s for 5000 logins", decimals=2, compared=True),
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
"""A median ratio this close to 1 claims nothing, however sure: what all rounds share (which core a process was put on, where its memory
lies) makes PgBouncer differ from itself by as much, and more rounds of the same processes do not take that away."""

CONFIDENCE: Final = 0.95
"""How often an interval has to hold the true median."""


def interval_rank(rounds: int) -> int:
    """The largest k for which the k-th lowest and k-th highest of so many rounds enclose the median with CONFIDENCE; 0 where none does."""
    missed, rank = 0.0, 0
    while 2 * rank < rounds:
        missed += 2 * math.comb(rounds, rank) / 2**rounds
        if missed > 1 - CONFIDENCE:
            break
        rank += 1
    return rank


MIN_ROUNDS: Final = next(rounds for rounds in range(1, 100) if interval_rank(rounds))
"""With fewer, no interval is sure enough for any claim."""


@attrs.frozen(kw_only=True)
class Rounds:
    """A figure, or a ratio, one value per round."""

    by_round: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.by_round)

    @property
    def is_sure(self) -> bool:
        """Whether there were rounds enough for an interval that means something."""
        return interval_rank(len(self.by_round)) > 0

    @property
    def interval(self) -> tuple[float, float]:
        """What holds the true median with CONFIDENCE; the lowest and the highest round where there are too few."""
        ordered, rank = sorted(self.by_round), max(1, interval_rank(len(self.by_round)))
        return ordered[rank - 1], ordered[-rank]

    def written_interval(self) -> str:
        low, high = self.interval
        return f"{low:.2f}-{high:.2f}"


@attrs.frozen(kw_only=True)
class Ratio(Rounds):
    """Ours divided by the reference's."""

    @property
    def is_claimed(self) -> bool:
        """Whether there is a difference: the interval leaves 1 out, and the median is further from it than noise is."""
        low, high = self.interval
        return self.is_sure and (high < 1 or low > 1) and abs(self.median - 1) > NOISE

    def __str__(self) -> str:
        return f"{'' if self.is_claimed else '~ '}{self.median:.2f} ({self.written_interval()})"


class Verdict(enum.Enum):
    """How a goal stands."""

    MET = "met"
    MISSED = "missed"
    OPEN = "open"
    """The interval has it inside, or there were too few rounds."""
    UNKNOWN = "not measured"


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    return {key: median(sample[key] for sample in samples) for key in FIGURES if key in samples[0]}


def ratio_of(key: str, ours: Sequence[Sample], reference: Sequence[Sample]) -> Ratio | None:
    """The ratio of a figure, or None where it was not measured or a round of the reference shows 0."""
    if not all(key in sample for sample in (*ours, *reference)) or not all(sample[key] for sample in reference):
        return None
    return Ratio(by_round=tuple(a[key] / b[key] for a, b in zip(ours, reference, strict=True)))


def judge(found: Rounds | None, bound: float, *, at_least: bool) -> Verdict:
    """Whether what was found is at least `bound`, or at most."""
    if found is None:
        return Verdict.UNKNOWN
    low, high = found.interval
    if not found.is_sure:
        return Verdict.OPEN
    if at_least:
        return Verdict.MET if low >= bound else Verdict.MISSED if high < bound else Verdict.OPEN
    return Verdict.MET if high <= bound else Verdict.MISSED if low > bound else Verdict.OPEN
