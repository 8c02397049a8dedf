"""Deadlines of a worker: none is reported early, none is slept through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes.timers_probe import TICK_US, Wheel

ROOM = 6
TURN_US = 512 * TICK_US
WHEN = st.integers(0, 3 * TURN_US)
STEPS = st.lists(st.tuples(st.sampled_from(["set", "clear", "sleep"]), st.integers(0, ROOM - 1), WHEN), max_size=40)


def test_a_wheel_without_timers_lets_its_worker_sleep_for_ever() -> None:
    wheel = Wheel(ROOM, 0)
    assert wheel.wait_ms(123) == -1
    wheel.set(0, 10_000)
    wheel.clear(0)
    assert wheel.wait_ms(123) == -1


@given(st.integers(0, 2 * TURN_US), STEPS)
def test_who_sleeps_as_long_as_he_may_is_in_time_for_every_deadline(
    now_us: int, steps: list[tuple[str, int, int]]
) -> None:
    wheel = Wheel(ROOM, now_us)
    deadlines: dict[int, int] = {}
    for what, which, us in steps:
        if what == "set":
            wheel.set(which, now_us + us)
            deadlines[which] = now_us + us
        elif what == "clear":
            wheel.clear(which)
            deadlines.pop(which, None)
        else:
            sleep_ms = wheel.wait_ms(now_us)
            assert (sleep_ms == -1) == (not deadlines)
            if deadlines:
                first_us = min(deadlines.values())
                assert now_us + 1000 * sleep_ms <= max(first_us, now_us) + 2 * TICK_US + 1000
                now_us += 1000 * sleep_ms
        due = wheel.due(now_us)
        assert all(deadlines.pop(each) <= now_us for each in due)
        assert all(deadline > now_us - TICK_US for deadline in deadlines.values()), "a deadline was slept through"


@given(st.integers(0, 4 * TURN_US), st.integers(0, TURN_US - 2 * TICK_US))
def test_the_only_timer_is_slept_for_and_not_woken_for_before(now_us: int, after_us: int) -> None:
    wheel = Wheel(1, now_us)
    wheel.set(0, now_us + after_us)
    sleep_us = 1000 * wheel.wait_ms(now_us)
    assert after_us <= sleep_us <= after_us + 2 * TICK_US + 1000
    assert wheel.due(now_us + sleep_us) == [0]
    assert wheel.wait_ms(now_us + sleep_us) == -1
