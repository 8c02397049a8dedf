"""`python -m benchmarks.embedded`: `open_pool` beside other pools for Python, and a proxy in a program beside a standalone one."""

from __future__ import annotations

import argparse
import json
import shlex
import sys

from benchmarks.embedded import hosts, report, rounds
from benchmarks.embedded.drivers import DRIVERS, Work
from benchmarks.macro import machine
from benchmarks.macro.ending import status_of
from benchmarks.macro.figures import MIN_ROUNDS
from benchmarks.report_file import deliver, report_file
from pgpool_core.testing import PostgresServer, PostgresUser, find_postgres

PARTS = ("libraries", "proxies")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedded", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS, help=f"of all runs (default {MIN_ROUNDS})")
    parser.add_argument("--clients", type=int, default=8, help="of pgbench, through the proxies (default 8)")
    parser.add_argument("--part", choices=PARTS, help="only this part")
    parser.add_argument("--out", type=report_file, metavar="FILE", help="write the report to FILE too")
    parser.add_argument("--one", nargs=5, metavar=("DRIVER", "DSN", "PID", "ROWS", "TASKS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.seconds <= 0 or given.rounds < 1 or given.clients < 1:
        parser.error("--seconds, --rounds and --clients must be positive")
    return given


def run(given: argparse.Namespace) -> str:
    """Measure; the report."""
    facts = machine.describe(postgres=find_postgres().version, pgbouncer=None)
    facts["libraries"] = report.versions()
    cases = proxies = None
    name = hosts.NAME
    user = PostgresUser(name=name, password=name)
    with PostgresServer(users=[user], databases=[name], owner=name) as server:
        if given.part in (None, "libraries"):
            cases = rounds.of_libraries(server.dsn(name, name), server.pid, rounds=given.rounds, seconds=given.seconds)
        if given.part in (None, "proxies"):
            proxies = rounds.of_hosts(server.port, clients=given.clients, rounds=given.rounds, seconds=given.seconds)
    return report.render(
        cases,
        proxies,
        facts=facts,
        call=shlex.join(["python", "-m", "benchmarks.embedded", *sys.argv[1:]]),
        rounds=given.rounds,
        seconds=given.seconds,
        clients=given.clients,
    )


def main() -> None:
    """The program."""
    given = parsed()
    if given.one:
        driver, dsn, server, rows, tasks = given.one
        work = Work(rows=int(rows), tasks=int(tasks), seconds=given.seconds, server=int(server))
        figures = DRIVERS[driver](dsn, work)
        print(json.dumps({"rate": figures.per_second, "cost": figures.cpu_us, "server": figures.server_us}))
        return

    def measure() -> None:
        text = run(given)
        deliver(text, given.out)

    sys.exit(status_of(measure))


if __name__ == "__main__":
    main()
