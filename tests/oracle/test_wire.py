"""The differential oracle at the wire: the same messages come back from PostgreSQL and through the pooler.

A failure prints the shortest sequence that fails and its seed; `PGPOOL_ORACLE_SEED=... pytest tests/oracle` plays it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.oracle.conftest import Places
from tests.oracle.differences import Known
from tests.oracle.player import Difference
from tests.oracle.seeds import SEED, seeds
from tests.oracle.wire_found import FOUND
from tests.oracle.wire_player import compare_wire, shrink_wire
from tests.oracle.wire_script import WireScript, copy_script_of, wire_script_of


async def hold_up(seed: int, places: Places, script_of: Callable[[int], WireScript] = wire_script_of) -> Known | None:
    """The difference that is meant to be there and ended the comparison, if any. Else fail with the shortest form of the sequence for which the pooler and PostgreSQL do not say the same."""
    script = script_of(seed)
    straight, pooled = places(1)
    try:
        return await compare_wire(script, straight, pooled)
    except Difference as found:
        shortest = await shrink_wire(script, straight, pooled)
        pytest.fail(f"{shortest}\nat first: {found}\nagain: {SEED}={seed}", pytrace=False)


async def hold_all_up(count: int, places: Places, script_of: Callable[[int], WireScript] = wire_script_of) -> None:
    """So many sequences; a difference that is meant to be there is rare, or the list of them hides something."""
    met = Counter[str]()
    for seed in seeds(count):
        if (meant := await hold_up(seed, places, script_of)) is not None:
            met[meant.name] += 1
    assert met.total() <= 3 + count // 50, met


async def test_some_sequences(places: Places) -> None:
    await hold_all_up(150, places)


async def test_some_copies_with_syncs_where_no_driver_sends_them(places: Places) -> None:
    await hold_all_up(40, places, copy_script_of)


async def test_some_sequences_through_two_poolers(layered_places: Places) -> None:
    await hold_all_up(60, layered_places)
    await hold_all_up(20, layered_places, copy_script_of)


@pytest.mark.parametrize("script", FOUND, ids=str)
async def test_a_sequence_that_once_differed(places: Places, script: WireScript) -> None:
    straight, pooled = places(1)
    for _ in range(3):
        assert await compare_wire(script, straight, pooled) is None


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
async def test_thousands_of_sequences(places: Places, part: int) -> None:
    await hold_all_up(500, places)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
async def test_thousands_of_such_copies(places: Places, part: int) -> None:
    await hold_all_up(500, places, copy_script_of)
