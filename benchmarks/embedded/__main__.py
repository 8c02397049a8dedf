"""`python -m benchmarks.embedded`: each library in processes of its own, in turn, several rounds; medians, and ratios to the better of the others."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from typing import Final

import attrs

from benchmarks.embedded.drivers import DRIVERS, Figures, Work
from pgpool_core.testing import PostgresServer, PostgresUser

CASES: Final = ((1, 1), (1, 50), (1000, 1), (1000, 10))
"""Rows of each answer, and tasks."""
NEEDED: Final = {"asyncpg": "asyncpg", "asyncpg+uvloop": "uvloop", "psycopg_pool": "psycopg_pool"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedded", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of all runs (default 3)")
    parser.add_argument("--dsn", help="of a server that is running; default: one of our own")
    parser.add_argument("--one", nargs=3, metavar=("DRIVER", "ROWS", "TASKS"), help="one run, its figures as JSON")
    return parser.parse_args()


def run_apart(dsn: str, driver: str, rows: int, tasks: int, seconds: float) -> Figures:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.embedded", "--dsn", dsn, "--seconds", str(seconds)]
    command += ["--one", driver, str(rows), str(tasks)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Figures(**json.loads(done.stdout))


def median(runs: list[Figures]) -> Figures:
    """Of each figure by itself."""
    return Figures(
        per_second=statistics.median(run.per_second for run in runs),
        cpu_us=statistics.median(run.cpu_us for run in runs),
    )


def compare(dsn: str, seconds: float, rounds: int) -> None:
    """Print a table."""
    present = [name for name in DRIVERS if name not in NEEDED or importlib.util.find_spec(NEEDED[name])]
    for name in DRIVERS.keys() - set(present):
        print(f"{name} is not installed and is left out", file=sys.stderr)
    print(f"{'rows':>5} {'tasks':>5}  {'library':14} {'queries/s':>10} {'CPU us/query':>13}")
    for rows, tasks in CASES:
        runs: dict[str, list[Figures]] = {name: [] for name in present}
        for _ in range(rounds):
            for name in present:
                runs[name].append(run_apart(dsn, name, rows, tasks, seconds))
        found = {name: median(each) for name, each in runs.items()}
        for name, figures in found.items():
            print(f"{rows:5} {tasks:5}  {name:14} {figures.per_second:10.0f} {figures.cpu_us:13.1f}")
        others = [figures for name, figures in found.items() if name != "pgpool_core"]
        if others:
            speed = found["pgpool_core"].per_second / max(other.per_second for other in others)
            cpu = found["pgpool_core"].cpu_us / min(other.cpu_us for other in others)
            print(f"{'':11}  {'to the better':14} {speed:9.2f}x {cpu:12.2f}x")


def main() -> None:
    args = arguments()
    if args.one:
        driver, rows, tasks = args.one
        work = Work(rows=int(rows), tasks=int(tasks), seconds=args.seconds)
        print(json.dumps(attrs.asdict(DRIVERS[driver](args.dsn, work))))
    elif args.dsn:
        compare(args.dsn, args.seconds, args.rounds)
    else:
        with PostgresServer(users=[PostgresUser(name="app", password="app")], databases=["app"], owner="app") as server:
            compare(server.dsn("app", "app"), args.seconds, args.rounds)


if __name__ == "__main__":
    main()
