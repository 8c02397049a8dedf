"""Every transcript: whole, byte by byte, and in random chunks; against a script, a real server, and the pooler before it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from pgpool_core.testing import PostgresServer
from tests.protocol.party import CUTS
from tests.protocol.places import play_direct, play_pooler, play_scripted
from tests.protocol.transcript import Place, Transcript, load

FOLDER = Path(__file__).parent / "transcripts"
TRANSCRIPTS = [load(path) for path in sorted(FOLDER.glob("*.txt"))]
SEED = "PGPOOL_TRANSCRIPT_SEED"


def at(place: Place) -> pytest.MarkDecorator:
    """The transcripts for `place`; where a defect of the pooler is known, the test says when it is gone (xfail_strict)."""
    params = []
    for one in TRANSCRIPTS:
        if place in one.places:
            marks = [pytest.mark.xfail(reason=one.fails)] if one.fails and place != "direct" else []
            params.append(pytest.param(one, id=one.name, marks=marks))
    return pytest.mark.parametrize("transcript", params)


@pytest.fixture(params=CUTS)
def cut(request: pytest.FixtureRequest) -> str:
    """How what is sent is cut into chunks."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def seed(cut: str) -> int:
    """The seed of random chunks, printed where the test fails; the variable says another."""
    chosen = int(os.environ.get(SEED) or random.randrange(2**32))
    if cut == "random":
        print(f"{SEED}={chosen}")
    return chosen


@at("scripted")
async def test_with_a_script_behind_the_pooler(transcript: Transcript, cut: str, seed: int) -> None:
    await play_scripted(transcript, cut, seed)


@at("direct")
async def test_with_postgres(transcript: Transcript, cut: str, seed: int, postgres: PostgresServer) -> None:
    await play_direct(transcript, cut, seed, postgres)


@at("pooler")
async def test_with_postgres_behind_the_pooler(
    transcript: Transcript, cut: str, seed: int, postgres: PostgresServer
) -> None:
    await play_pooler(transcript, cut, seed, postgres)
