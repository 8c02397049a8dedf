"""What was measured as Markdown: machine, ratios with their spread and what they should be, medians."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import attrs

from benchmarks.embedded.hosts import PROCESS_COMPUTING, STANDALONE, THREAD, THREAD_COMPUTING, Host
from benchmarks.embedded.rounds import Samples
from benchmarks.macro.figures import CONFIDENCE, MIN_ROUNDS, Ratio, Sample, judge
from benchmarks.macro.report import interval_text, table

OURS: Final = "pgpool_core"


@attrs.frozen(kw_only=True)
class Goal:
    """What a ratio should be."""

    bound: float
    at_least: bool = False

    def verdict(self, ratio: Ratio) -> str:
        """By the interval of the median."""
        return judge(ratio, self.bound, at_least=self.at_least).value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


FASTER: Final = Goal(bound=1.2, at_least=True)
CHEAPER: Final = Goal(bound=0.85)
WITHIN_A_TENTH: Final = Goal(bound=0.9, at_least=True)
A_TENTH_MORE: Final = Goal(bound=1.1)
TWICE: Final = Goal(bound=2.0)


def versions() -> str:
    """Of the libraries that are installed."""
    found = []
    for name in ("trio", "asyncpg", "uvloop", "psycopg", "psycopg-binary", "psycopg-pool"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def to_the_better(samples: Samples[str], figure: str, *, more_is_better: bool) -> Ratio | None:
    """Ours to that of the best of the others in the same round; None where there is no other."""
    others = [rounds for name, rounds in samples.items() if name != OURS]
    if not others:
        return None
    best = [(max if more_is_better else min)(each[figure] for each in turn) for turn in zip(*others, strict=True)]
    return Ratio(by_round=tuple(own[figure] / other for own, other in zip(samples[OURS], best, strict=True)))


def between(samples: Samples[Host], host: Host, reference: Host, figure: str) -> Ratio:
    """Of a figure at two places, round by round."""
    pairs = zip(samples[host], samples[reference], strict=True)
    return Ratio(by_round=tuple(one[figure] / other[figure] for one, other in pairs))


def ratio_cells(ratio: Ratio | None, goal: Goal) -> list[str]:
    """The ratio, and how the goal stands."""
    if ratio is None:
        return ["-", f"{goal}: not measured"]
    return [f"{ratio.median:.2f} ({ratio.written_interval()})", f"{goal}: {goal.verdict(ratio)}"]


def figure_cells(rounds: Sequence[Sample], figures: Mapping[str, int]) -> list[str]:
    """Medians, with so many decimals."""
    return [f"{median(each[figure] for each in rounds):.{decimals}f}" for figure, decimals in figures.items()]


def busy(rounds: Sequence[Sample]) -> str:
    """How many cores program and PostgreSQL had together."""
    return f"{median(each['rate'] * (each['cost'] + each['server']) / 1e6 for each in rounds):.2f}"


def libraries_section(cases: Mapping[tuple[int, int], Samples[str]]) -> str:
    """Ratios of all cases, then the medians."""
    ratios, figures = [], []
    for (rows, tasks), samples in cases.items():
        rate = to_the_better(samples, "rate", more_is_better=True)
        cost = to_the_better(samples, "cost", more_is_better=False)
        case = [str(rows), str(tasks)]
        ratios.append([*case, *ratio_cells(rate, FASTER), *ratio_cells(cost, CHEAPER)])
        shown = {"rate": 0, "cost": 1, "server": 1}
        figures += [[*case, name, *figure_cells(each, shown), busy(each)] for name, each in samples.items()]
    first = table(["rows", "tasks", "queries/s", "goal", "CPU per query", "goal"], ratios)
    second = table(["rows", "tasks", "library", "queries/s", "CPU us/query", "of PostgreSQL", "cores in use"], figures)
    return f"""\
## `open_pool` beside asyncpg.Pool and psycopg_pool

Ours divided by the best of the others in the same round. Where program and PostgreSQL have all cores in use, the
rate can gain no more than what the program saves of the CPU time of both.

{first}

{second}
"""


def hosts_section(samples: Samples[Host], *, clients: int) -> str:
    """A thread beside a standalone pooler; a computing program around a thread and around a process."""
    compared = (
        ("thread to standalone", THREAD, STANDALONE, "queries/s", "rate", WITHIN_A_TENTH),
        ("thread to standalone", THREAD, STANDALONE, "CPU per query", "cost", A_TENTH_MORE),
        ("thread to process, both computing", THREAD_COMPUTING, PROCESS_COMPUTING, "p99", "p99_ms", TWICE),
    )
    ratios = [
        [title, name, *ratio_cells(between(samples, host, reference, figure), goal)]
        for title, host, reference, name, figure, goal in compared
    ]
    shown = {"rate": 0, "p50_ms": 3, "p99_ms": 3}
    figures = [
        [str(host), *figure_cells(rounds, shown), "-" if host.computes else f"{median(each['cost'] for each in rounds):.1f}"]
        for host, rounds in samples.items()
    ]  # fmt: skip
    first = table(["proxies", "figure", "ratio", "goal"], ratios)
    second = table(["proxy", "queries/s", "p50 ms", "p99 ms", "CPU us/query"], figures)
    return f"""\
## A proxy in a program beside a standalone one

    pgbench -n -M simple -c {clients} -j 1 -f script.sql   # script.sql: select 1

Standalone is `pgpool-core serve`; thread is `run_proxy_in_thread` in a program that idles, or that computes in Python without a pause;
process is `run_proxy_process` of one that computes. Computing takes a processor from either, so those two are compared.

{first}

{second}
"""


def render(
    cases: Mapping[tuple[int, int], Samples[str]] | None,
    hosts: Samples[Host] | None,
    *,
    facts: Mapping[str, str],
    call: str,
    rounds: int,
    seconds: float,
    clients: int,
) -> str:
    """The whole report, of the parts that were measured."""
    machine = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    parts = [
        f"""\
# Measured results: inside a Python program

    {call}

Rounds: {rounds}, of {seconds:g} s each; whoever is compared runs in turn, in a process of its own. Figures are medians over the rounds; do not
compare absolute figures across calls or machines. Program, PostgreSQL and pooler share the machine. CPU is that of the program, or of the
pooler's process, per query. Behind a ratio is the interval that holds its true median with {CONFIDENCE:.0%} confidence: {interval_text(rounds)}.
A goal is `met` or `missed` where the whole interval is on one side of it, else `open`; with fewer than {MIN_ROUNDS} rounds it is `open` always.

## Machine and versions

{machine}
"""
    ]
    if cases is not None:
        parts.append(libraries_section(cases))
    if hosts is not None:
        parts.append(hosts_section(hosts, clients=clients))
    return "\n".join(parts)
