"""Who is measured in which order: everybody once in each round, each in a process of its own, whoever is first the last in the next."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from benchmarks.embedded import hosts
from benchmarks.embedded.drivers import DRIVERS
from benchmarks.macro.figures import Sample

T = TypeVar("T")

CASES: Final = ((1, 1), (1, 50), (1000, 1), (1000, 10))
"""Rows of each answer, and tasks."""
NEEDED: Final = {"asyncpg": "asyncpg", "asyncpg+uvloop": "uvloop", "psycopg_pool": "psycopg_pool"}
"""What each of the others is a module of."""
Samples = Mapping[T, Sequence[Sample]]
"""Of each who was measured, one in each round."""


def say(text: str) -> None:
    """A line of progress: standard output is for the report."""
    print(text, file=sys.stderr, flush=True)


def present() -> list[str]:
    """The libraries that are installed; a line for each that is not."""
    found = [name for name in DRIVERS if name not in NEEDED or importlib.util.find_spec(NEEDED[name])]
    for name in DRIVERS:
        if name not in found:
            say(f"{name} is not installed and is left out")
    return found


def run_apart(dsn: str, server: int, rows: int, tasks: int, seconds: float, driver: str) -> Sample:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.embedded", "--seconds", str(seconds)]
    command += ["--one", driver, dsn, str(server), str(rows), str(tasks)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    sample: Sample = json.loads(done.stdout)
    return sample


def in_rounds(names: Sequence[T], rounds: int, measure: Callable[[T], Sample]) -> dict[T, list[Sample]]:
    """All rounds; the order rotates by one."""
    samples: dict[T, list[Sample]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            samples[name].append(measure(name))
    return samples


def of_libraries(dsn: str, server: int, *, rounds: int, seconds: float) -> dict[tuple[int, int], Samples[str]]:
    """Every case with every library; `server` is the process id of PostgreSQL."""
    names, found = present(), dict[tuple[int, int], Samples[str]]()
    for rows, tasks in CASES:
        say(f"{rows} rows, {tasks} tasks")
        found[rows, tasks] = in_rounds(names, rounds, partial(run_apart, dsn, server, rows, tasks, seconds))
    return found


def of_hosts(port: int, *, clients: int, rounds: int, seconds: float) -> Samples[hosts.Host]:
    """pgbench through a proxy at every place that it may have."""
    say("proxies")

    def measure(host: hosts.Host) -> Sample:
        with hosts.running(host, port) as served:
            return hosts.load(served, clients=clients, seconds=max(1, round(seconds)))

    return in_rounds(hosts.HOSTS, rounds, measure)
