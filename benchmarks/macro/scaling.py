"""`python -m benchmarks.macro.scaling`: what a transaction costs with 1 to 16 workers, and what rate that comes to.

Where there are cores enough (four for each worker), the rate is measured. Everywhere else it is a simulation, and the page says so:
measured is what a transaction costs, in CPU time and in counts, and `curve.py` computes from it what so many cores would do.

Exit status: 0 measured, 1 a target did not start or answer (named on standard error), 2 wrong arguments, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final
from urllib.request import urlopen

import attrs
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.macro import machine, scaling_page
from benchmarks.macro.__main__ import raise_open_files, say
from benchmarks.macro.cases import Case, find_cases
from benchmarks.macro.curve import Cost, median_ns, middle
from benchmarks.macro.database import BenchDatabase, describe_setup, running_database
from benchmarks.macro.ending import status_of
from benchmarks.macro.errors import BenchError
from benchmarks.macro.load import run_load
from benchmarks.macro.procfs import CpuReading
from benchmarks.macro.scaling_page import Scenario
from benchmarks.macro.targets import OURS, PGBOUNCER, Fleet, Target
from benchmarks.report_file import deliver, picture_of, report_file
from pgpool_core.testing.binaries import find_pgbouncer, find_postgres
from pgpool_core.testing.ports import free_port

WORKERS: Final = (1, 2, 4, 8, 16)
ENOUGH_CLIENTS: Final = 64
METRICS_HOST: Final = "127.0.0.2"
"""Not where the pooler listens: both ports are chosen before either is taken."""


def scenarios(cores: int) -> dict[str, Case]:
    """The loads, by what is to be said of them; clients of pgbench in as many threads as one core in four is for."""
    [enough], [short] = find_cases(["select1-simple-32"]), find_cases(["lookup-simple-1000"])
    threads = max(2, cores // 4)
    return {
        f"servers for all: `SELECT 1`, {ENOUGH_CLIENTS} clients and as many servers": attrs.evolve(
            enough, clients=ENOUGH_CLIENTS, threads=threads, settings={"default_pool_size": ENOUGH_CLIENTS}
        ),
        "servers are short: `pgbench -S`, 1000 clients on 20 servers": attrs.evolve(short, threads=threads),
    }


Reading = Mapping[tuple[str, str, str], float]
"""What a page of metrics says of workers: by name, worker, and the bound of a histogram's bucket or ""."""


@attrs.frozen(kw_only=True)
class Watched(Target):
    """Ours; whenever its CPU time is read, so are its counters."""

    metrics_port: int
    seen: list[Reading] = attrs.field(factory=list)

    def read_cpu(self) -> CpuReading | None:
        """CPU time so far, and the counters into `seen`."""
        found = super().read_cpu()
        with urlopen(f"http://{METRICS_HOST}:{self.metrics_port}/metrics", timeout=30) as page:
            text = page.read().decode()
        self.seen.append(
            {
                (sample.name, sample.labels["worker"], sample.labels.get("le", "")): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name.startswith("pgpool_core_worker_")
            }
        )
        return found


def cost_of(before: Reading, after: Reading, *, cpu_us: float, rate: float) -> Cost:
    """What a transaction has cost between two readings."""
    prefix = "pgpool_core_worker_"
    spent = {key: value - before.get(key, 0.0) for key, value in after.items()}
    workers = sorted({worker for _, worker, _ in spent}, key=int)

    def total(name: str) -> float:
        return sum(spent[prefix + name, worker, ""] for worker in workers)

    xacts = total("transactions_total")
    bounds = sorted({le for _, _, le in spent if le}, key=float)
    held = "pool_lock_held_seconds_bucket"
    up_to = [sum(spent[prefix + held, worker, le] for worker in workers) for le in bounds]
    counts = [count - below for count, below in zip(up_to, [0.0, *up_to], strict=False)]
    return Cost(
        workers=len(workers),
        cpu_us=cpu_us,
        by_worker_us=tuple(spent[f"{prefix}cpu_seconds_total", worker, ""] * 1e6 / xacts for worker in workers),
        steals=total("steals_total") / xacts,
        handoffs=total("handoffs_total") / xacts,
        wakeups=total("handoff_wakeups_total") / xacts,
        locks=total("pool_locks_total") / xacts,
        waits=total("pool_lock_waits_total") / xacts,
        waited_us=total("pool_lock_wait_seconds_total") * 1e6 / xacts,
        held_ns=median_ns([float(le) * 1e9 for le in bounds[:-1]], counts),
        rate=rate,
    )


def run_ours(database: BenchDatabase, case: Case, workers: int, seconds: int) -> Cost:
    """One run with so many workers, on a fresh pooler."""
    port = free_port(METRICS_HOST)
    fleet = Fleet(database=database, workers=workers)
    settings = {**case.settings, "metrics_listen": f"{METRICS_HOST}:{port}"}
    with fleet.running([OURS], auth=case.auth, settings=settings) as [target]:
        watched = Watched(**attrs.asdict(target, recurse=False), metrics_port=port)
        watched.check(case, database.psql)
        sample = run_load(case, watched, pgbench=database.pgbench, seconds=seconds)
        before, after = watched.seen[-2:]
        return cost_of(before, after, cpu_us=sample["cost"], rate=sample["rate"])


def run_pgbouncer(database: BenchDatabase, case: Case, processes: int, seconds: int) -> float:
    """One run of so many PgBouncers; the CPU time of a transaction."""
    with Fleet(database=database, workers=processes).running([PGBOUNCER], auth=case.auth, settings=case.settings) as [
        target
    ]:
        target.check(case, database.psql)
        return run_load(case, target, pgbench=database.pgbench, seconds=seconds)["cost"]


def measure(database: BenchDatabase, name: str, case: Case, *, rounds: int, seconds: int, cores: int) -> Scenario:
    """All rounds of one load: in each every number of workers, and as many PgBouncers.

    Raises:
        BenchError: a target did not start, answer or hold out; the text names it.
    """
    say(name)
    costs: dict[int, list[Cost]] = {workers: [] for workers in WORKERS}
    others: dict[int, list[float]] = {processes: [] for processes in WORKERS}
    for turn in range(rounds):
        for workers in WORKERS:
            cost = run_ours(database, case, workers, seconds)
            costs[workers].append(cost)
            say(f"    round {turn + 1}, {workers} workers: CPU {cost.cpu_us:.1f} us/txn, hand-offs {cost.handoffs:.3f}")
            others[workers].append(run_pgbouncer(database, case, workers, seconds))
            say(f"    round {turn + 1}, {workers} PgBouncers: CPU {others[workers][-1]:.1f} us/txn")
    return Scenario(
        name=name,
        case=case,
        costs=[middle(each) for each in costs.values()],
        pgbouncer_us={processes: median(each) for processes, each in others.items()},
        cores=cores,
        spread={workers: spread_of([cost.cpu_us for cost in each]) for workers, each in costs.items()},
        pgbouncer_spread={processes: spread_of(each) for processes, each in others.items()},
    )


def spread_of(rounds: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest."""
    return min(rounds), max(rounds)


def run(chosen: argparse.Namespace) -> None:
    """Measure, and print and write the page.

    Raises:
        BenchError: a target did not start, answer or hold out; the text names it.
    """
    raise_open_files()
    pgbouncer = find_pgbouncer()
    if pgbouncer is None:
        raise BenchError("pgbouncer: not in PATH or /usr/sbin (PGBOUNCER=path names one)")
    facts = machine.describe(postgres=find_postgres().version, pgbouncer=pgbouncer)
    facts["PostgreSQL setup"] = describe_setup()
    cores = len(os.sched_getaffinity(0))
    with running_database() as database:
        found = [
            measure(database, name, case, rounds=chosen.rounds, seconds=chosen.seconds, cores=cores)
            for name, case in scenarios(cores).items()
        ]
    text = scaling_page.render(
        found,
        facts=facts,
        call=shlex.join(["python", "-m", "benchmarks.macro.scaling", *chosen.arguments]),
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        picture=picture_of(chosen.out).name if chosen.out is not None else None,
    )
    deliver(text, chosen.out, scaling_page.draw(found))


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.macro.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="counted seconds per run (default 2)")
    parser.add_argument(
        "--out", type=report_file, metavar="FILE", help="write the page to FILE too, and a picture beside it"
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser.parse_args(given)
    chosen.arguments = given
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return status_of(lambda: run(chosen))


if __name__ == "__main__":
    sys.exit(main())
