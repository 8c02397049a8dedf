"""Counters: sums, averages over the last finished period, and percentiles of log-linear histograms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.metrics.counters import (
    CONSOLE_POOL,
    Averages,
    CounterRow,
    StatsPeriods,
    bucket_bounds_us,
    bucket_of,
    percentile_us,
)

BUCKETS = 272
SECOND = 1_000_000


def counters(**values: Any) -> dict[str, Any]:
    """Return one pool's counters as the engine gives them; histograms are lists."""
    names = "server_assignments xacts queries received sent xact_us query_us wait_us client_parses server_parses binds"
    others = "client_logins login_us pins state_refusals probes leak_checks leaks listens notifications"
    row: dict[str, Any] = dict.fromkeys([*names.split(), *others.split()], 0)
    times = {name: [0] * BUCKETS for name in ("wait", "query", "xact", "login")}
    return row | times | {"pinned_for": [0] * 16, "warned_of": [0] * 16} | values


def histogram(*samples: int) -> list[int]:
    found = [0] * BUCKETS
    for sample in samples:
        found[bucket_of(sample, BUCKETS)] += 1
    return found


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (0, 0),
        (7, 7),
        (8, 8),
        (9, 9),
        (15, 15),
        (16, 16),
        (17, 16),
        (18, 17),
        (31, 23),
        (32, 24),
        (1000, 63),
        (1 << 62, 271),
    ],
)
def test_buckets_are_eight_per_octave_and_the_last_is_open(value: int, index: int) -> None:
    assert bucket_of(value, BUCKETS) == index


@given(st.integers(0, 2**35))
def test_a_value_lies_within_the_bounds_of_its_bucket(value: int) -> None:
    low, high = bucket_bounds_us(bucket_of(value, 10_000))
    assert low <= value <= high
    assert high - low <= value / 8


@given(st.lists(st.integers(0, 2**33), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_never_too_low_and_at_most_an_eighth_too_high(samples: list[int], fraction: float) -> None:
    exact = sorted(samples)[max(0, -(-len(samples) * round(fraction * 100) // 100) - 1)]
    told = percentile_us(histogram(*samples), fraction)
    assert exact <= told <= exact + exact / 8


def test_no_samples_make_a_percentile_of_zero() -> None:
    assert percentile_us([0] * BUCKETS, 0.99) == 0
    assert percentile_us([], 0.5) == 0


def test_the_open_last_bucket_is_told_by_its_lower_end() -> None:
    assert percentile_us([0] * 9 + [5], 0.5) == 9
    assert percentile_us(histogram(1 << 60), 0.5) == bucket_bounds_us(BUCKETS - 1)[0]


def test_averages_are_zero_until_the_first_period_is_over_and_totals_are_not() -> None:
    periods = StatsPeriods(now_us=0)
    (row, _console), overall = periods.statistics({1: counters(xacts=5)}, {1: "app"})
    assert (row.database, row.totals.xacts, row.averages) == ("app", 5, Averages())
    assert overall.totals.xacts == 5


def test_averages_are_per_second_except_query_and_transaction_time_which_are_per_item() -> None:
    periods = StatsPeriods(now_us=0)
    periods.tick({1: counters(xacts=100, queries=100, xact_us=7, received=9)}, 10 * SECOND)
    after = counters(
        xacts=140,
        queries=300,
        received=20_009,
        sent=41,
        xact_us=40_007,
        query_us=100_000,
        wait_us=30 * SECOND,
        client_logins=19,
        query=histogram(*[100] * 99, 5_000),
    )
    periods.tick({1: after}, 20 * SECOND)
    averages = periods.statistics({1: after}, {1: "app"})[0][0].averages
    assert averages == Averages(
        xacts=4,
        queries=20,
        received=2_000,
        sent=4,
        xact_us=1_000,
        query_us=500,
        wait_us=3 * SECOND,
        client_logins=1,
        query_p50_us=bucket_bounds_us(bucket_of(100, BUCKETS))[1],
        query_p99_us=bucket_bounds_us(bucket_of(100, BUCKETS))[1],
    )


def test_averages_stand_still_between_ticks_and_totals_move() -> None:
    periods = StatsPeriods(now_us=0)
    periods.tick({1: counters(queries=60)}, 60 * SECOND)
    (first, _), _ = periods.statistics({1: counters(queries=61)}, {1: "app"})
    (second, _), _ = periods.statistics({1: counters(queries=999)}, {1: "app"})
    assert first.averages == second.averages == Averages(queries=1)
    assert (first.totals.queries, second.totals.queries) == (61, 999)


def test_pools_of_a_database_are_added_and_databases_sorted_with_the_console_among_them() -> None:
    periods = StatsPeriods(now_us=0)
    periods.count_console_command()
    periods.count_console_command()
    now = {1: counters(queries=1), 2: counters(queries=2), 3: counters(queries=4), 9: counters(queries=8)}
    rows, overall = periods.statistics(now, {1: "zoo", 2: "app", 3: "zoo"})
    found = [(row.database, row.totals.queries, row.totals.xacts) for row in rows]
    assert found == [("app", 2, 0), ("pgbouncer", 2, 2), ("zoo", 5, 0)]
    assert overall.totals.queries == 9


def test_a_counter_that_begins_anew_never_makes_a_negative_average() -> None:
    periods = StatsPeriods(now_us=0)
    periods.tick({1: counters(queries=1_000, query=histogram(3, 3))}, SECOND)
    periods.tick({1: counters(queries=5, query=histogram(3))}, 2 * SECOND)
    averages = periods.statistics({1: counters(queries=5)}, {1: "app"})[0][0].averages
    assert averages.queries == 0
    assert averages.query_p50_us == 0


def test_a_pool_that_appears_within_a_period_counts_from_zero() -> None:
    periods = StatsPeriods(now_us=0)
    periods.tick({}, SECOND)
    periods.tick({1: counters(queries=7)}, 2 * SECOND)
    assert periods.statistics({1: counters(queries=7)}, {1: "app"})[0][0].averages.queries == 7


def test_two_ticks_at_the_same_time_do_not_divide_by_zero() -> None:
    periods = StatsPeriods(now_us=0)
    periods.tick({1: counters(queries=7)}, 0)
    assert periods.statistics({1: counters(queries=7)}, {1: "app"})[0][0].averages == Averages()


def test_histograms_of_different_lengths_are_added_bucket_by_bucket() -> None:
    total = CounterRow(wait=(1, 2)).plus(CounterRow(wait=(1, 1, 1)))
    assert total.wait == (2, 3, 1)
    assert total.since(CounterRow(wait=(1, 1))).wait == (1, 2, 1)


def test_counters_of_the_engine_for_the_console_are_added_to_its_commands() -> None:
    periods = StatsPeriods(now_us=0)
    periods.count_console_command()
    rows, _ = periods.statistics({CONSOLE_POOL: counters(received=12)}, {})
    assert [(row.database, row.totals.queries, row.totals.received) for row in rows] == [("pgbouncer", 1, 12)]
