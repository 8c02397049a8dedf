"""What the simulation of more workers computes."""

from __future__ import annotations

import pytest

from benchmarks.macro.cases import find_cases
from benchmarks.macro.curve import Cost, between, cores_enough, held_ns, median_ns, middle, predicted, queue
from benchmarks.macro.scaling import cost_of
from benchmarks.macro.scaling_page import Scenario, draw, render


def cost(workers: int, **other: float) -> Cost:
    values = {"cpu_us": 10.0, "steals": 0.0, "handoffs": 0.0, "wakeups": 0.0, "locks": 2.0, "waits": 0.0}
    values |= {"waited_us": 0.0, "held_ns": 100.0, "rate": 1000.0} | other
    return Cost(workers=workers, by_worker_us=(1.0,) * workers, **values)


def test_without_a_lock_every_worker_counts_whole() -> None:
    assert queue(7, 10.0, 0.0).rate == pytest.approx(700_000)
    assert queue(7, 10.0, 0.0).lock_share == 0


def test_one_worker_never_waits_for_itself() -> None:
    assert queue(1, 9.0, 1.0).rate == pytest.approx(100_000)


def test_two_workers_wait_for_each_other_as_the_formula_says() -> None:
    # X(1) = 1/4, Q(1) = 1/4; R(2) = 1.25; X(2) = 2/4.25
    assert queue(2, 3.0, 1.0).rate == pytest.approx(2 / 4.25 * 1e6)


def test_the_lock_is_the_limit_in_the_end() -> None:
    point = queue(1000, 9.0, 1.0)
    assert 0.99e6 < point.rate <= 1e6
    assert 0.99 < point.lock_share <= 1


def test_between_two_measured_numbers_of_workers_lies_a_straight_line() -> None:
    costs = [cost(1), cost(2, cpu_us=14.0, locks=3.0), cost(4, cpu_us=20.0)]
    assert between(costs, 2) == (14.0, 3.0)
    assert between(costs, 3) == (17.0, 2.5)
    assert between(costs, 9) == (20.0, 2.0), "beyond the last it stays"


def test_only_those_with_a_core_each_say_how_long_a_lock_is_held() -> None:
    costs = [cost(1, held_ns=80.0), cost(2, held_ns=120.0), cost(4, held_ns=9000.0)]
    assert held_ns(costs, cores=2) == 120.0
    slow, usual = predicted(costs, 2, 16, longer=50.0), predicted(costs, 2, 16)
    assert [point.workers for point in usual] == list(range(1, 17))
    assert all(a.rate < b.rate for a, b in zip(slow, usual, strict=True))
    assert usual[0].cpu_us == pytest.approx(10.0)


def test_the_median_of_a_histogram_lies_inside_its_bucket() -> None:
    bounds = [64.0, 128.0, 256.0]
    assert median_ns(bounds, [0, 4, 0, 0]) == 96.0
    assert median_ns(bounds, [1, 0, 2, 1]) == 192.0
    assert median_ns(bounds, [0, 0, 0, 5]) == 256.0
    assert median_ns(bounds, [0, 0, 0, 0]) == 0.0


def test_rounds_are_told_by_their_medians() -> None:
    found = middle([cost(2, cpu_us=9.0), cost(2, cpu_us=30.0), cost(2, cpu_us=11.0)])
    assert (found.workers, found.cpu_us, found.by_worker_us) == (2, 11.0, (1.0, 1.0))


def test_a_cost_is_what_lies_between_two_pages_of_metrics() -> None:
    def page(factor: float) -> dict[tuple[str, str, str], float]:
        counts = {"transactions": 100, "steals": 1, "handoffs": 50, "handoff_wakeups": 25, "pool_locks": 200}
        counts |= {"pool_lock_waits": 4, "pool_lock_wait_seconds": 1e-4, "cpu_seconds": 1e-3}
        found = {
            (f"pgpool_core_worker_{name}_total", worker, ""): value * factor
            for name, value in counts.items()
            for worker in "01"
        }
        buckets = {"6.4e-08": 0, "1.28e-07": 8, "+Inf": 8}
        return found | {
            ("pgpool_core_worker_pool_lock_held_seconds_bucket", worker, le): value * factor
            for le, value in buckets.items()
            for worker in "01"
        }

    found = cost_of(page(1), page(3), cpu_us=12.0, rate=5.0)
    assert (found.workers, found.handoffs, found.steals, found.wakeups) == (2, 0.5, 0.01, 0.25)
    assert (found.locks, found.waits, found.waited_us) == (2.0, 0.04, pytest.approx(1.0))
    assert found.by_worker_us == pytest.approx((5.0, 5.0))
    assert found.held_ns == pytest.approx(96.0)


@pytest.mark.parametrize(
    ("cores", "said"), [(2, "are a simulation. No rate was measured"), (8, "for 1, 2 workers are measured")]
)
def test_the_page_says_which_rates_are_measured(cores: int, said: str) -> None:
    assert cores_enough(2, cores) == (cores == 8)
    [case] = find_cases(["select1-simple-32"])
    costs = [cost(workers, rate=77_777.0) for workers in (1, 2, 4, 8, 16)]
    scenario = Scenario(
        name="a load",
        case=case,
        costs=costs,
        pgbouncer_us={1: 20.0, 4: 25.0},
        cores=cores,
        spread={2: (9.5, 11.0)},
        pgbouncer_spread={4: (24.0, 31.0)},
    )
    page = render([scenario], facts={}, call="x", rounds=1, seconds=1, picture=None)
    assert said in page
    assert ("77,777" in page) == (cores == 8)
    assert "| 2 | 10.0 (9.5-11.0) |" in page
    assert "20.0, 25.0 (24.0-31.0) us/txn" in page
    assert "| 200,000 |" in page, "4 PgBouncers at most"
    assert "| 160,000 |" in page, "4 PgBouncers, crowded alike"
    assert ("<circle" in draw([scenario])) == (cores == 8)
