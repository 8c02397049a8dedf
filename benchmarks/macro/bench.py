"""The order of events: every target answers before anything is measured, then case by case, round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from benchmarks.macro.cases import Case
from benchmarks.macro.company import run_in_company
from benchmarks.macro.figures import Sample
from benchmarks.macro.idle import run_idle
from benchmarks.macro.listeners import run_listeners
from benchmarks.macro.load import run_load
from benchmarks.macro.report import CaseResult
from benchmarks.macro.resumed import run_resumed
from benchmarks.macro.targets import AGAIN, DIRECT, HAPROXY, PGBOUNCER, Fleet, Target

NEVER: Final = (99, 0)
"""A release of PgBouncer that there is not."""


@attrs.frozen(kw_only=True)
class Bench:
    """One call of the benchmark.

    Attributes:
        names: the targets, in the order of the report.
        seconds: the counted part of each run.
        say: told what is being done, a line at a time.
        pgbouncer: PgBouncer's release, such as (1, 18); cases that it cannot do leave it out.
        io_backends: what has moved data in ours; more than one where the system began to refuse io_uring.
    """

    fleet: Fleet
    names: Sequence[str]
    pgbouncer: tuple[int, int]
    rounds: int
    seconds: int
    say: Callable[[str], None]
    io_backends: set[str] = attrs.field(factory=set, init=False)

    def run(self, cases: Sequence[Case]) -> Iterator[CaseResult]:
        """Measure `cases`, those without any of the chosen targets left out; each result as soon as it is there.

        Raises:
            BenchError: a target did not start, answer or hold out; the text names it.
        """
        wanted = [case for case in cases if self._names_for(case)]
        self._preflight(wanted)
        for number, case in enumerate(wanted, 1):
            self.say(f"[{number}/{len(wanted)}] {case.name}: {case.title}")
            samples = self._measure_fresh(case) if case.idle_clients or case.listeners else self._measure_load(case)
            yield CaseResult(case=case, samples=samples, seconds=self.seconds)

    def _names_for(self, case: Case) -> list[str]:
        """The targets of a case, in the order of the report."""
        can = {
            DIRECT: case.direct,
            HAPROXY: case.direct,
            AGAIN: self.pgbouncer >= (case.pgbouncer_since or NEVER),
            PGBOUNCER: self.pgbouncer >= (case.pgbouncer_since or NEVER),
        }
        names = [name for name in self.names if can.get(name, True)]
        return names + [each for each in case.beside if each.split()[0] in names]

    def _preflight(self, cases: Sequence[Case]) -> None:
        """Have every target answer in each way that `cases` need, before minutes are spent on the others."""
        for auth, tls in sorted({(case.auth, case.tls) for case in cases}):
            with self.fleet.running(self.names, auth=auth, tls=tls) as targets:
                for case in cases:
                    for target in targets:
                        if (case.auth, case.tls) == (auth, tls) and target.name in self._names_for(case):
                            target.check(case, self.fleet.database.psql)

    def _measure_load(self, case: Case) -> dict[str, list[Sample]]:
        """All rounds of a pgbench case, on poolers started for it; the order rotates by one from round to round."""
        names = self._names_for(case)
        samples: dict[str, list[Sample]] = {name: [] for name in names}
        with self.fleet.running(names, auth=case.auth, tls=case.tls, settings=case.settings) as targets:
            for target in targets:
                target.check(case, self.fleet.database.psql)
            for turn in range(self.rounds):
                first = turn % len(targets)
                for target in targets[first:] + targets[:first]:
                    run = run_in_company if case.company else run_resumed if case.resumes else run_load
                    sample = run(case, target, pgbench=self.fleet.database.pgbench, seconds=self.seconds)
                    samples[target.name].append(sample)
                    cost = f", CPU {sample['cost']:.1f} {case.cost_unit}" if "cost" in sample else ""
                    self.say(f"    round {turn + 1} {target.name}: {sample['rate']:.0f} {case.unit}{cost}")
            self._note_io_backends(targets)
        return samples

    def _measure_fresh(self, case: Case) -> dict[str, list[Sample]]:
        """All rounds of a case about memory, each on a fresh pooler: one that has grown before would hide the growth."""
        names = self._names_for(case)
        samples: dict[str, list[Sample]] = {name: [] for name in names}
        for turn in range(self.rounds):
            for name in names:
                with self.fleet.running([name], auth=case.auth) as [target]:
                    target.check(case, self.fleet.database.psql)
                    sample = self._run_fresh(case, target)
                    self._note_io_backends([target])
                samples[name].append(sample)
                self.say(f"    round {turn + 1} {name}: {sample['memory_kb']:.2f} kB per client")
        return samples

    def _note_io_backends(self, targets: Sequence[Target]) -> None:
        self.io_backends.update(backend for target in targets if (backend := target.io_backend()) is not None)

    def _run_fresh(self, case: Case, target: Target) -> Sample:
        return run_listeners(case, target, seconds=self.seconds) if case.listeners else run_idle(case, target)
