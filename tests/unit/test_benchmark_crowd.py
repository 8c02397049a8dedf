"""What the page about many idle clients says was measured, and what was computed."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.macro.crowd import HOLDERS, Curve, Point, render, share_out, sizes


def test_all_clients_are_real_where_there_are_descriptors_for_them() -> None:
    held, beyond = sizes(50_000, 60_000)
    assert (held[0], held[-1], beyond) == (1_000, 50_000, [])


def test_where_there_are_too_few_as_many_as_there_are_room_for_come_last() -> None:
    held, beyond = sizes(50_000, 19_480)
    assert held == [1_000, 2_500, 5_000, 10_000, 19_480]
    assert beyond == [20_000, 30_000, 40_000, 50_000]
    assert sizes(50_000, 10_500)[0][-1] == 10_000, "a step is near enough"


@pytest.mark.parametrize("clients", [1_000, 19_481, 19_482, 19_483])
def test_holders_have_all_clients_between_them(clients: int) -> None:
    assert sum(share_out(clients, number) for number in range(HOLDERS)) == clients


def curve(name: str, fixed_mb: float, kb: float) -> Curve:
    points = [Point(clients=n, rss_mb=fixed_mb + n * kb / 1e3, idle_ms=1.5) for n in (1_000, 5_000, 10_000)]
    nobody = Point(clients=0, rss_mb=fixed_mb + 2, idle_ms=1.0)
    return Curve(name=name, points=[nobody, *points], queried_mb=77.0)


def test_the_line_goes_through_what_was_measured() -> None:
    found = curve("ours", 40.0, 0.4)
    per_client, fixed = found.line()
    assert (per_client, fixed) == (pytest.approx(0.0004), pytest.approx(40.0)), (
        "the room that others left does not count"
    )
    assert found.computed_mb(50_000) == pytest.approx(60.0)


def test_the_page_tells_measured_rows_from_computed_ones() -> None:
    curves = [curve("ours", 40.0, 0.4), curve("pgbouncer", 9.0, 0.9)]
    page = render(curves, [20_000, 50_000], facts={}, call="x", limit=10_520)
    rows = [line.split(" | ") for line in page.splitlines() if "measured |" in line or "computed |" in line]
    assert [how for how, _ in itertools.groupby(row[1] for row in rows)] == ["measured", "computed"]
    assert "| 50,000 | computed | 60.0 | - | 54.0 | - |" in page
    assert "Up to 10,000 clients are real" in page
    assert "All rows are measured" in render(curves, [], facts={}, call="x", limit=99_999)
