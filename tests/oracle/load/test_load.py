"""The load whose answers check themselves: briefly with whatever back end and workers `auto` means here, and for longer with each.

A failure prints the round's seed: `python -m tests.oracle.load --seed ... --seconds 1` plays it again, as far as load can be.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.has_io_uring import refusal
from tests.oracle.load.campaign import Stage, play_round, stage_in

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage_in(tmp_path_factory.mktemp("load")) as it:
        yield it


def hold_up(
    stage: Stage, seconds: float, io_backend: str | None = None, workers: int | None = None, *, replaced: bool = False
) -> None:
    """One round that fails the test with what went wrong in it."""
    seed = secrets.randbelow(2**31)
    came = play_round(
        stage, seed, seconds=seconds, clients=12, io_backend=io_backend, workers=workers, replaced=replaced
    )
    assert not came.failures, str(came)
    assert came.done.total() > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_some_seconds(stage: Stage, workers: int) -> None:
    hold_up(stage, 3, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("io_backend", ["epoll", "io_uring", "auto"])
def test_many_seconds(stage: Stage, io_backend: str, workers: int, part: int) -> None:
    if io_backend == "io_uring" and refusal():
        pytest.skip(f"no io_uring: {refusal()}")
    hold_up(stage, 6, io_backend, workers)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("workers", [1, 2])
def test_many_seconds_of_takeovers(stage: Stage, workers: int, part: int) -> None:
    hold_up(stage, 10, workers=workers, replaced=True)
