"""What one client's work, or too much of everybody's, does to the others."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.macro.cases import LARGE, Case, Company
from benchmarks.macro.database import SECOND_USER
from benchmarks.macro.errors import BenchError
from benchmarks.macro.figures import Sample
from benchmarks.macro.load import PATIENCE_S, WARM_UP_S, run_load
from benchmarks.macro.targets import Target

LARGE_CLIENTS: Final = 2
OVERLOAD: Final = 2.0
"""How many times the rate that was had is asked for."""
LOWEST: Final = "19"
"""Priority of who makes waves of logins: they are measured by what the pooler does, not by what making them takes."""


def run_in_company(case: Case, target: Target, *, pgbench: Path, seconds: int) -> Sample:
    """Run `case` against `target` in the company that it names; the figures of the run in company, and the one that compares.

    Raises:
        BenchError: a pgbench failed or hung; the text names the target.
    """
    if case.company is Company.SECOND_USER:
        return _beside_second_user(case, target, pgbench=pgbench, seconds=seconds)
    alone = run_load(case, target, pgbench=pgbench, seconds=seconds)
    if case.company is Company.OVERLOAD:
        asked = ["--rate", f"{OVERLOAD * alone['rate']:.0f}"]
        sample = run_load(case, target, pgbench=pgbench, seconds=seconds, more=asked)
        return {**sample, "kept": sample["rate"] / alone["rate"]}
    if case.company is Company.LOGINS:
        with _waves(case, target) as waves_s:
            sample = _without_cost(run_load(case, target, pgbench=pgbench, seconds=seconds))
        return {**sample, "raised": sample["p99_ms"] / alone["p99_ms"], "wave_s": median(waves_s)}
    with _large_results(case, target, pgbench=pgbench, seconds=seconds):
        sample = run_load(case, target, pgbench=pgbench, seconds=seconds)
    return {**sample, "raised": sample["p99_ms"] / alone["p99_ms"]}


def _without_cost(sample: Sample) -> Sample:
    """Less the CPU time, which was spent for others too."""
    return {key: value for key, value in sample.items() if not key.startswith("cost")}


def _beside_second_user(case: Case, target: Target, *, pgbench: Path, seconds: int) -> Sample:
    """Both users at once; the figures of the first."""

    def run(user: str | None) -> Sample:
        return run_load(case, target, pgbench=pgbench, seconds=seconds, user=user)

    with ThreadPoolExecutor(max_workers=2) as both:
        first, second = both.map(run, (None, SECOND_USER))
    slower, faster = sorted((first["rate"], second["rate"]))
    return {**_without_cost(first), "rate": slower + faster, "evenness": slower / faster}


@contextlib.contextmanager
def _large_results(case: Case, target: Target, *, pgbench: Path, seconds: int) -> Iterator[None]:
    """Clients with large results, until the block ends.

    Raises:
        BenchError: they had ended before.
    """
    with tempfile.NamedTemporaryFile("w", prefix="pgpool-bench-large-", suffix=".sql") as script:
        script.write(LARGE)
        script.flush()
        longest = str(int(WARM_UP_S + seconds + PATIENCE_S))
        options = ["-n", "-c", str(LARGE_CLIENTS), "-f", script.name, "-T", longest]
        process = subprocess.Popen(
            [str(pgbench), *target.connection_options(case), *options, target.database(case)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **target.client_environment(case)},
        )
        try:
            yield
            if process.poll() is not None:
                raise BenchError(f"{target.name}: the clients with large results failed\n{target.log_tail()}")
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _waves(case: Case, target: Target) -> Iterator[list[float]]:
    """Waves of logins until the block ends; then how many seconds each of them took that was over.

    Raises:
        BenchError: a login failed, or no wave was over in time; the text quotes what was said.
    """
    program = [sys.executable, "-m", "benchmarks.macro.wave", case.name, target.name, target.host, str(target.port)]
    took_s: list[float] = []
    with subprocess.Popen(
        ["nice", "-n", LOWEST, *program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()  # so that the clients who are in are never without
            yield took_s
            ended = process.poll()
        finally:
            process.kill()
        rest, said = process.communicate()
        if ended is not None or not first:
            raise BenchError(f"{target.name}: a wave of logins failed\n{said}\n{target.log_tail()}")
        took_s += [float(line) for line in (first + rest).splitlines()]
