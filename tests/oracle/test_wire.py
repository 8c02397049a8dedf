"""The differential oracle at the wire: the same messages come back from PostgreSQL and through the pooler.

A failure prints the shortest sequence that fails and its seed; `PGPOOL_ORACLE_SEED=... pytest tests/oracle` plays it again.
"""

from __future__ import annotations

import pytest

from tests.oracle.conftest import Places
from tests.oracle.player import Difference
from tests.oracle.seeds import SEED, seeds
from tests.oracle.wire_player import compare_wire, shrink_wire
from tests.oracle.wire_script import wire_script_of


async def hold_up(seed: int, places: Places) -> None:
    """Fail with the shortest form of the sequence for which the pooler and PostgreSQL do not say the same."""
    script = wire_script_of(seed)
    straight, pooled = places(1)
    try:
        await compare_wire(script, straight, pooled)
    except Difference as found:
        shortest = await shrink_wire(script, straight, pooled)
        pytest.fail(f"{shortest}\nat first: {found}\nagain: {SEED}={seed}", pytrace=False)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=False,  # random sequences: some runs do not meet it
    reason="after some sequences on the same server (prepared statements known there) a client gets no answer; and"
    " answers about the cursor `c` differ behind such a client",
)
@pytest.mark.parametrize("part", range(10))
async def test_thousands_of_sequences(places: Places, part: int) -> None:
    for seed in seeds(400):
        await hold_up(seed, places)
