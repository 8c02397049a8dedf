"""`python -m benchmarks.macro`: measure PostgreSQL directly, through PgBouncer and through us, and print ratios.

Exit status: 0 measured, 1 a target did not start or answer (named on standard error), 2 wrong arguments, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import sys
import time
from collections.abc import Sequence

from benchmarks.macro import machine, plot, report
from benchmarks.macro.bench import Bench
from benchmarks.macro.cases import CASES, find_cases
from benchmarks.macro.database import describe_setup, running_database
from benchmarks.macro.ending import Terminated, status_of
from benchmarks.macro.errors import BenchError
from benchmarks.macro.figures import MIN_ROUNDS
from benchmarks.macro.forwarder import find_haproxy
from benchmarks.macro.report import CaseResult
from benchmarks.macro.targets import AGAIN, DIRECT, HAPROXY, IO_BACKENDS, OURS, PGBOUNCER, TARGETS, Fleet
from benchmarks.report_file import deliver, picture_of, report_file
from pgpool_core.config.names import MAX_WORKERS
from pgpool_core.testing.binaries import find_pgbouncer, find_postgres, pgbouncer_release

DEFAULT_ROUNDS = MIN_ROUNDS
DEFAULT_SECONDS = 2
QUICK_ROUNDS = 3
QUICK_SECONDS = 1
OPEN_FILES_NEEDED = 8192
OPEN_FILES_WANTED = 65536
"""Per process: the memory case's 2000 clients and max_client_conn of the poolers, with room."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; wrong ones end the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.macro", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s, poolers only: claims nothing")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="only this case (repeatable)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and end")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds per case (default {DEFAULT_ROUNDS})")
    parser.add_argument("--seconds", type=int, metavar="S", help=f"counted seconds per run (default {DEFAULT_SECONDS})")
    parser.add_argument(
        "--targets", metavar="NAMES", help=f"comma list of {', '.join(TARGETS)} (default: see README.md)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="N workers against N processes of PgBouncer"
    )
    parser.add_argument("--io-backend", choices=IO_BACKENDS, default=IO_BACKENDS[0], help="of ours (default auto)")
    parser.add_argument(
        "--out", type=report_file, metavar="FILE", help="write the report to FILE too, and a picture beside it"
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser.parse_args(given)
    chosen.arguments = given
    asked = (chosen.quick, chosen.case, chosen.list, chosen.targets, chosen.workers != 1, chosen.out)
    chosen.is_whole = not any(asked) and chosen.io_backend == IO_BACKENDS[0]
    chosen.rounds = (QUICK_ROUNDS if chosen.quick else DEFAULT_ROUNDS) if chosen.rounds is None else chosen.rounds
    chosen.seconds = (QUICK_SECONDS if chosen.quick else DEFAULT_SECONDS) if chosen.seconds is None else chosen.seconds
    if chosen.rounds < 1 or chosen.seconds < 1 or chosen.workers < 1:
        parser.error("--rounds, --seconds and --workers must be at least 1")
    if chosen.workers > MAX_WORKERS:
        parser.error(f"--workers must be at most {MAX_WORKERS}")
    names = chosen.targets.split(",") if chosen.targets else usual_targets(quick=chosen.quick)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no such target: {', '.join(unknown)} (there are {', '.join(TARGETS)})")
    chosen.targets = [name for name in TARGETS if name in names]
    try:
        chosen.cases = [case for case in find_cases(chosen.case) if chosen.workers == 1 or case.spreads]
    except KeyError as unknown_case:
        parser.error(f"no such case: {unknown_case.args[0]} (--list prints them)")
    if not chosen.cases:
        parser.error("none of these cases can be spread over several processes (--workers)")
    return chosen


def usual_targets(*, quick: bool) -> list[str]:
    """What is measured where nothing else is asked for."""
    if quick:
        return [PGBOUNCER, OURS]
    return [DIRECT, PGBOUNCER, OURS, *([HAPROXY] if find_haproxy() is not None else [])]


def raise_open_files() -> None:
    """Let us, and through inheritance pgbench and the poolers, open many files at once.

    Raises:
        BenchError: too few even so.
    """
    soft, hard = (
        OPEN_FILES_WANTED if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if hard < OPEN_FILES_NEEDED:
        raise BenchError(f"only {hard} open files are allowed, {OPEN_FILES_NEEDED} are needed (ulimit -Hn)")
    if soft < OPEN_FILES_WANTED:
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES_WANTED), limit))


def run(chosen: argparse.Namespace) -> None:
    """Measure what `chosen` asks for, and print and write the report. What ends it early prints what there is until then.

    Raises:
        BenchError: a target did not start, answer or hold out; the text names it.
    """
    started = time.monotonic()
    raise_open_files()
    with_pgbouncer = PGBOUNCER in chosen.targets or AGAIN in chosen.targets
    pgbouncer = find_pgbouncer() if with_pgbouncer else None
    if pgbouncer is None and with_pgbouncer:
        raise BenchError("pgbouncer: not in PATH or /usr/sbin (PGBOUNCER=path names one; --targets leaves it out)")
    facts = machine.describe(postgres=find_postgres().version, pgbouncer=pgbouncer)
    if HAPROXY in chosen.targets and (haproxy := find_haproxy()) is not None:
        facts["HAProxy"] = next(iter(machine.printed([str(haproxy), "-v"])), "")
    facts["io_backend"] = chosen.io_backend
    facts["workers"] = f"{chosen.workers} of ours, {chosen.workers} PgBouncer (so_reuseport where there are several)"
    results: list[CaseResult] = []

    def rendered(remark: str = "") -> str:
        if bench.io_backends:
            facts["io_backend"] = f"{chosen.io_backend} ({', '.join(sorted(bench.io_backends))})"
        return report.render(
            results,
            facts=facts,
            call=shlex.join(["python", "-m", "benchmarks.macro", *chosen.arguments]),
            rounds=chosen.rounds,
            seconds=chosen.seconds,
            postgres=describe_setup(),
            picture=picture_of(chosen.out).name if chosen.out is not None else None,
            remark=remark,
        )

    with running_database() as database:
        bench = Bench(
            fleet=Fleet(database=database, workers=chosen.workers, io_backend=chosen.io_backend),
            names=chosen.targets,
            pgbouncer=pgbouncer_release(pgbouncer) if pgbouncer else (0, 0),
            rounds=chosen.rounds,
            seconds=chosen.seconds,
            say=say,
        )
        try:
            for result in bench.run(chosen.cases):
                results.append(result)
        except (BenchError, KeyboardInterrupt, Terminated):
            if results:
                print(rendered(f"**Not finished**: {len(results)} of {len(chosen.cases)} cases."), flush=True)
            raise
    text = rendered()
    deliver(text, chosen.out, plot.draw(results) if chosen.out is not None else "")
    say(f"took {time.monotonic() - started:.0f} s")


def say(text: str) -> None:
    """One line of progress, on standard error: standard output is for the report."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    chosen = parse_arguments(arguments)
    if chosen.list:
        for case in CASES:
            print(f"{case.name:31} {case.title}")
        return 0
    return status_of(lambda: run(chosen))


if __name__ == "__main__":
    sys.exit(main())
