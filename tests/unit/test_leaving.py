"""The wait for the last client, on a fake engine and a fake clock."""

from __future__ import annotations

from typing import Any, cast

import trio

from pgpool_core.control.leaving import LOOK_S, leave


class Place:
    """An engine and its report: `counts` is what is seen, look by look, the last one for ever."""

    def __init__(self, counts: list[int], rows: list[dict[str, Any]] | None = None) -> None:
        self.counts = counts
        self.rows = rows or []
        self.drained = 0

    def client_count(self) -> int:
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

    def drain(self) -> None:
        self.drained += 1

    async def clients(self) -> list[dict[str, Any]]:
        await trio.lowlevel.checkpoint()
        return self.rows


async def wait(place: Place, timeout_s: float = 0) -> float:
    """How long it took."""
    began = trio.current_time()
    with trio.fail_after(1000):
        await leave(cast("Any", place), cast("Any", place), lambda: timeout_s)
    return trio.current_time() - began


async def test_it_ends_with_the_last_client_and_sends_nobody_away(autojump_clock: trio.abc.Clock) -> None:
    place = Place([3, 2, 1, 0])
    assert round(await wait(place) / LOOK_S) == 3
    assert place.drained == 0


async def test_who_has_not_yet_said_who_he_is_counts_and_the_console_does_not(autojump_clock: trio.abc.Clock) -> None:
    console = {"pool": -2}
    assert await wait(Place([0], [console])) == 0
    login = Place([0], [console, {"pool": -1}])
    with trio.move_on_after(5) as scope:
        await leave(cast("Any", login), cast("Any", login), lambda: 0)
    assert scope.cancelled_caught


async def test_a_client_that_comes_while_the_workers_are_asked_is_waited_for(autojump_clock: trio.abc.Clock) -> None:
    assert round(await wait(Place([0, 1, 1, 0])) / LOOK_S) == 2


async def test_with_a_timeout_it_drains_again_and_again_and_ends(autojump_clock: trio.abc.Clock) -> None:
    place = Place([1])
    assert 2 <= await wait(place, 2) < 2 + 2 * LOOK_S
    assert place.drained >= 2 / LOOK_S - 1


async def test_who_comes_from_another_process_is_waited_for(autojump_clock: trio.abc.Clock) -> None:
    place, arriving = Place([0]), [1, 1, 0, 0]

    def left() -> int:
        return arriving.pop(0) if len(arriving) > 1 else arriving[0]

    began = trio.current_time()
    await leave(cast("Any", place), cast("Any", place), lambda: 0, arriving=left)
    assert round((trio.current_time() - began) / LOOK_S) == 2
