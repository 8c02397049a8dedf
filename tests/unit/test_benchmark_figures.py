"""When a difference is claimed and a goal met: never because of noise, and not missed for one odd round of many."""

from __future__ import annotations

import itertools
import random

import pytest

from benchmarks.macro.figures import MIN_ROUNDS, Ratio, Rounds, Verdict, interval_rank, judge
from benchmarks.macro.report import interval_text


@pytest.mark.parametrize(
    ("rounds", "rank"), [(1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (40, 14), (100, 40)]
)
def test_an_interval_ends_where_the_tables_of_the_sign_test_say(rounds: int, rank: int) -> None:
    assert interval_rank(rounds) == rank


def test_the_interval_holds_the_median_as_often_as_is_said() -> None:
    """Each round is on either side of the true median with the same chance: all ways in which 10 rounds can fall are counted."""
    rank = interval_rank(10)
    held = sum(rank <= sum(below) <= 10 - rank for below in itertools.product((0, 1), repeat=10))
    assert held / 2**10 >= 0.95
    wider = sum(rank + 1 <= sum(below) <= 10 - rank - 1 for below in itertools.product((0, 1), repeat=10))
    assert wider / 2**10 < 0.95, "a narrower one would do"


@pytest.mark.parametrize("rounds", [3, 5, 6, 7, 9, 15])
@pytest.mark.parametrize("jitter", [0.02, 0.1, 0.4])
def test_noise_is_hardly_ever_called_a_difference(rounds: int, jitter: float) -> None:
    """The same thing measured twice, with now and then a round that something has disturbed."""
    chance = random.Random(rounds * 1000 + jitter)
    trials = 2000

    def measured() -> float:
        return chance.lognormvariate(0, jitter) * (3 if chance.random() < 0.05 else 1)

    claimed = sum(
        Ratio(by_round=tuple(measured() / measured() for _ in range(rounds))).is_claimed for _ in range(trials)
    )
    assert claimed <= trials * (0.06 if rounds >= MIN_ROUNDS else 0)


def test_a_difference_is_claimed_although_a_few_of_many_rounds_disagree() -> None:
    ratio = Ratio(by_round=(0.8,) * 36 + (1.3,) * 4)
    assert ratio.is_claimed
    assert str(ratio) == "0.80 (0.80-0.80)"


def test_a_difference_below_the_noise_is_not_claimed_however_sure() -> None:
    ratio = Ratio(by_round=(1.04,) * 40)
    assert not ratio.is_claimed
    assert str(ratio) == "~ 1.04 (1.04-1.04)"


def test_with_few_rounds_nothing_is_claimed_though_they_agree() -> None:
    assert not Ratio(by_round=(2.0,) * (MIN_ROUNDS - 1)).is_claimed
    assert Ratio(by_round=(2.0,) * MIN_ROUNDS).is_claimed


def test_one_round_that_disagrees_among_six_leaves_it_open() -> None:
    assert not Ratio(by_round=(1.2, 1.3, 1.2, 0.9, 1.2, 1.4)).is_claimed


@pytest.mark.parametrize(
    ("values", "at_most", "at_least"),
    [
        ((0.7, 0.8, 0.9, 0.9, 0.9, 0.9), Verdict.MET, Verdict.MISSED),
        ((1.1, 1.2, 1.2, 1.2, 1.2, 1.2), Verdict.MISSED, Verdict.MET),
        ((0.9, 1.2, 1.2, 1.2, 1.2, 1.2), Verdict.OPEN, Verdict.OPEN),
        ((0.9,) * 5, Verdict.OPEN, Verdict.OPEN),
    ],
)
def test_a_goal_is_decided_by_the_whole_interval(
    values: tuple[float, ...], at_most: Verdict, at_least: Verdict
) -> None:
    found = Rounds(by_round=values)
    assert judge(found, 1.0, at_least=False) is at_most
    assert judge(found, 1.0, at_least=True) is at_least


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert judge(None, 1.0, at_least=True) is Verdict.UNKNOWN


def test_the_report_says_which_rounds_end_the_interval() -> None:
    assert interval_text(5) == "5 rounds are too few for one, so the lowest and the highest stand there"
    assert interval_text(6) == "from the lowest of 6 rounds to the highest"
    assert interval_text(9) == "of 9 rounds from number 2 from below to number 2 from above"
