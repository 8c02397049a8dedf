"""The isolation oracle: many clients on few servers, each with the answers it would have had on a server of its own.

A failure prints the shortest script that fails and its seed; `PGPOOL_ORACLE_SEED=... pytest tests/oracle` plays it again.
"""

from __future__ import annotations

import pytest

from tests.oracle.conftest import Places
from tests.oracle.player import Difference, compare
from tests.oracle.script import Script
from tests.oracle.seeds import SEED, seeds
from tests.oracle.sessions import script_of
from tests.oracle.shrink import shrink


async def hold_up(script: Script, places: Places) -> None:
    """Fail with the shortest form of `script` for which the pooler and PostgreSQL do not say the same."""

    async def difference(one: Script) -> str | None:
        try:
            await compare(one, *places(one.servers))
        except Difference as found:
            return str(found)
        return None

    async def fails(one: Script) -> bool:
        return await difference(one) is not None

    found = await difference(script)
    if found is None:
        return
    shortest = await shrink(script, fails)
    again = await difference(shortest)
    pytest.fail(f"{shortest}\n{again or 'not every time: ' + found}\nagain: {SEED}={script.seed}", pytrace=False)


async def test_sessions_are_as_on_servers_of_their_own(places: Places) -> None:
    for seed in seeds(80):
        await hold_up(script_of(seed), places)


async def test_sessions_are_so_behind_two_poolers(layered_places: Places) -> None:
    for seed in seeds(20):
        await hold_up(script_of(seed), layered_places)


@pytest.mark.slow
async def test_hundreds_of_sessions_behind_two_poolers(layered_places: Places) -> None:
    for seed in seeds(250):
        await hold_up(script_of(seed), layered_places)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
async def test_thousands_of_sessions(places: Places, part: int) -> None:
    for seed in seeds(250):
        await hold_up(script_of(seed), places)
