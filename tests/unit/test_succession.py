"""What passes between two processes, on a fake of all that is there while a pooler runs."""

from __future__ import annotations

from typing import Any, cast

import trio

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.control.succession import Succession

PARCEL = Parcel(0, -1, -1, b"somebody")


class Here:
    """Engine, pools, mailroom and arrivals in one: who arrives is with the engine at once."""

    under_way = 0

    def __init__(self) -> None:
        self.mailroom = self.arrivals = self
        self.letters: list[Parcel] = []
        self.offered: list[Parcel] = []
        self.taken = 0

    def read(self) -> None:
        self.offered += self.letters
        self.letters.clear()

    def take(self, facts: PoolFacts, parcel: Parcel) -> None:
        self.taken += 1

    async def settled(self) -> None:
        await trio.lowlevel.checkpoint()


class Giving(Succession):
    """To a process that takes nothing: what was offered comes back while it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Here()
        self.here = cast(Any, self.place)
        self.given = self._give

    def pool_facts(self, pool: int) -> PoolFacts:
        return PoolFacts(database="app", user="app", target="abc")

    async def _give(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.place.offered:
            self.take_back(self.place.offered.pop())


async def test_who_has_come_back_counts_though_the_engine_has_it_already() -> None:
    giving = Giving()
    giving.place.offered.append(PARCEL)
    assert await giving.wait_given()
    assert giving.place.taken == 1
    assert not await giving.wait_given()


async def test_what_the_engine_has_given_and_nobody_has_read_yet_is_waited_for() -> None:
    giving = Giving()
    giving.place.letters.append(PARCEL)
    assert await giving.wait_given()
    assert giving.place.taken == 1
