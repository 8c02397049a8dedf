"""One round: a pooler, a crowd before it, and what came of it."""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from pgpool_core.testing import PostgresServer
from pgpool_core.testing.process import GuardedProcess, ProcessFailed
from tests.oracle.load.acts import ACTS, STREAMS
from tests.oracle.load.crowd import Crowd
from tests.oracle.load.place import (
    Place,
    answers_of,
    clients_tls,
    fill,
    gate_of,
    load_server,
    place_of,
    pooler_of,
    what_broke,
)

__all__ = ["Round", "Stage", "play_round", "stage_in"]


@attrs.frozen
class Round:
    """What it was and what came of it."""

    seed: int
    place: Place
    failures: list[str]
    done: Counter[str]

    def __str__(self) -> str:
        acts = " ".join(f"{name}={n}" for name, n in sorted(self.done.items()))
        return "\n  ".join([f"seed {self.seed}: {self.place}: {self.done.total()} acts: {acts}", *self.failures])


@attrs.frozen
class Stage:
    """One PostgreSQL for all rounds, and what it answers to long queries."""

    server: PostgresServer
    answers: Mapping[str, bytes]
    tls: ssl.SSLContext


@contextmanager
def stage_in(folder: Path) -> Iterator[Stage]:
    """It runs while the block does."""
    with load_server(folder) as server:
        fill(server)
        yield Stage(server, trio.run(answers_of, server), clients_tls())


def play_round(
    stage: Stage,
    seed: int,
    *,
    seconds: float,
    clients: int = 16,
    io_backend: str | None = None,
    workers: int | None = None,
    replaced: bool = False,
) -> Round:
    """The round that belongs to `seed`. What clients do in it is the same each time; how it meets is not."""
    place = place_of(random.Random(seed), io_backend=io_backend, workers=workers, replaced=replaced)
    since = len(stage.server.log)
    with pooler_of(place, stage.server) as pooler:
        acts = STREAMS if place.streams else ACTS
        gate = gate_of(place, pooler, stage.tls, stage.answers)
        earlier: list[GuardedProcess] = []
        replace = (lambda: earlier.append(pooler.replace())) if replaced else None
        crowd = Crowd(gate, seed, clients, acts, place.mode != "session", replace)
        trio.run(partial(crowd.play, seconds))
        for process in earlier:
            crowd.failures += _of_the_end(process)
        if not pooler.running:
            crowd.failures.append(f"the pooler has ended: {pooler.process.returncode}")
        broken = what_broke(pooler.log) + what_broke(stage.server.log[since:])
        if pooler.close() != 0:
            broken.append(pooler.log[-3000:])
    return Round(seed, place, crowd.failures + broken[:10], crowd.done)


def _of_the_end(process: GuardedProcess) -> list[str]:
    """What was wrong with a process that another has replaced, whose clients have all moved or left."""
    try:
        status = process.wait(60)
    except ProcessFailed as failed:
        return [f"a process that was replaced is still there: {failed}"]
    return what_broke(process.log) + ([] if status == 0 else [f"it has ended: {status}", process.log[-3000:]])
