"""The measured table as Markdown: machine, summary of ratios, then every case with its medians and its command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import attrs

from benchmarks.macro.cases import Case, Goal
from benchmarks.macro.figures import (
    CONFIDENCE,
    FIGURES,
    MIN_ROUNDS,
    NOISE,
    Figure,
    Ratio,
    Rounds,
    Sample,
    Verdict,
    interval_rank,
    judge,
    medians,
    ratio_of,
)
from benchmarks.macro.load import WARM_UP_S
from benchmarks.macro.targets import DIRECT, HAPROXY, OURS, PGBOUNCER


@attrs.frozen(kw_only=True)
class CaseResult:
    """All rounds of one case: for each target, in the order of the table, one sample per round."""

    case: Case
    samples: Mapping[str, Sequence[Sample]]
    seconds: int

    def ratio(self, name: str, key: str, *, to: str = PGBOUNCER) -> Ratio | None:
        """The ratio of target `name` to target `to`; None where either was not measured."""
        if name not in self.samples or to not in self.samples:
            return None
        return ratio_of(key, self.samples[name], self.samples[to])


def label(figure: Figure, case: Case) -> str:
    """The heading of a column for `case`."""
    return figure.label.format(unit=case.unit, cost_unit=case.cost_unit)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def goal_text(goal: Goal, result: CaseResult) -> str:
    """A goal of a case that measured us, and how it stands, such as `CPU us/txn ratio <= 0.95: open (0.91-0.99)`."""
    found: Rounds | None
    own = result.samples[OURS]
    if goal.is_absolute:
        found = Rounds(by_round=tuple(sample[goal.figure] for sample in own))
    else:
        found = result.ratio(OURS, goal.figure, to=goal.to or PGBOUNCER)
    sign = ">=" if goal.at_least else "<="
    kind = "" if goal.is_absolute else f" ratio to {goal.to}" if goal.to else " ratio"
    what = label(FIGURES[goal.figure], result.case) + kind
    verdict = judge(found, goal.bound, at_least=goal.at_least)
    shown = f" ({found.written_interval()})" if found is not None and verdict is not Verdict.MET else ""
    return f"{what} {sign} {goal.bound:g}: {verdict.value}{shown}"


def summary(results: Sequence[CaseResult]) -> str:
    """Our ratios to PgBouncer, one row per case."""
    keys = ("rate", "cost", "p50_ms", "p99_ms")
    rows = []
    for result in results:
        if OURS not in result.samples:
            continue
        ratios = [result.ratio(OURS, key) for key in keys]
        cells = ["-" if ratio is None else str(ratio) for ratio in ratios]
        goals = "; ".join(goal_text(goal, result) for goal in result.case.goals) or "-"
        unit = "-" if result.case.idle_clients else result.case.unit
        rows.append([result.case.name, unit, *cells, goals])
    return table(["case", "rate in", "rate", "CPU per unit of work", "p50", "p99", "goals"], rows) if rows else ""


def case_section(result: CaseResult) -> str:
    """One case: its command, the medians of every target, the ratios to PgBouncer, the goals."""
    case = result.case
    keys = [key for key in FIGURES if any(key in rounds[0] for rounds in result.samples.values())]
    compared = [key for key in keys if FIGURES[key].compared]
    head = ["target", *(label(FIGURES[key], case) for key in keys)]
    head += [f"{label(FIGURES[key], case)} ratio" for key in compared]
    rows = []
    for name, rounds in result.samples.items():
        middle = medians(rounds)
        cells = [f"{middle[key]:.{FIGURES[key].decimals}f}" if key in middle else "-" for key in keys]
        for key in compared:
            ratio = result.ratio(name, key)
            cells.append("1" if name == PGBOUNCER else "-" if ratio is None else str(ratio))
        rows.append([name, *cells])
    text = f"### {case.name}: {case.title}\n\n"
    if case.idle_clients:
        how = "in step" if case.at_once else "one after another"
        text += f"{case.idle_clients} raw connections, logged in {how}; a fresh pooler in each round.\n\n"
    elif case.listeners:
        text += f"{case.listeners} raw connections on one channel; a NOTIFY when the last has heard the one before. Times: until the last.\n\n"
    elif case.resumes:
        text += "One client of our own, one connection after another.\n\n"
    else:
        text += f"    {command_line(case, result.seconds)}\n\n"
    if case.company:
        text += f"{case.company.value}\n\n"
    text += table(head, rows)
    if case.goals and OURS in result.samples:
        text += "\n\nGoals: " + "; ".join(goal_text(goal, result) for goal in case.goals) + "."
    return text


def command_line(case: Case, seconds: int) -> str:
    """The pgbench command of one run, with H, P and DB for what differs from target to target."""
    script = "script.sql" if case.script is not None else None
    options = case.options(seconds=WARM_UP_S + seconds, script_path=script, log_prefix="L")
    user = "bench_scram" if case.scram else "bench_md5" if case.md5 else "bench"
    line = shlex.join(["pgbench", "-h", "H", "-p", "P", "-U", user, *options, "DB"])
    return line + (f"   # script.sql: {case.script.strip()}" if case.script is not None else "")


def interval_text(rounds: int) -> str:
    """Which rounds bound the interval, in words."""
    rank = interval_rank(rounds)
    if not rank:
        return f"{rounds} rounds are too few for one, so the lowest and the highest stand there"
    return (
        f"from the lowest of {rounds} rounds to the highest"
        if rank == 1
        else f"of {rounds} rounds from number {rank} from below to number {rank} from above"
    )


def render(
    results: Sequence[CaseResult],
    *,
    facts: Mapping[str, str],
    call: str,
    rounds: int,
    seconds: int,
    postgres: str,
    picture: str | None = None,
    remark: str = "",
) -> str:
    """The whole report.

    Args:
        facts: what `machine.describe` found.
        call: the command line that made this.
        postgres: how PostgreSQL was set up, in words.
        picture: the name of a picture beside the report.
        remark: what is to be said before all else.
    """
    intro = f"""\
# Measured results

    {call}

Rounds: {rounds}. Every run counts {seconds} s after {WARM_UP_S} s of warm-up; targets are interleaved, their order rotates from
round to round. Figures are medians over the rounds; do not compare absolute figures across calls or machines. Client,
PostgreSQL and pooler share the machine.

A ratio is the target's figure divided by PgBouncer's in the same round: the median over the rounds, and in brackets an interval that
holds the true median with {CONFIDENCE:.0%} confidence: {interval_text(rounds)}.
`~` stands where nothing is claimed: 1 is inside the interval, the median is within {NOISE:.0%} of 1, or there were fewer than {MIN_ROUNDS} rounds. Even so
one interval in twenty may miss, so of a table as long as this one no single cell proves anything that its neighbours deny.
A goal is `met` or `missed` where the whole interval is on one side of it, else `open`. A goal of a ratio is about PgBouncer's figure.
CPU is what the pooler's process, threads and children used (user and system), per transaction or per megabyte.
`{HAPROXY}` does not pool: it forwards each client to a server connection of its own, and looks at no message. `{DIRECT}` is
PostgreSQL without a pooler (its p50 near 0 with 32 clients is pgbench's: one thread that is never idle
sends a query and finds the answer there).
"""
    machine = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    parts = [
        intro,
        *([f"{remark}\n"] if remark else []),
        f"## Machine and versions\n\n{machine}\n- PostgreSQL setup: {postgres}\n",
    ]
    compared = any(OURS in result.samples and PGBOUNCER in result.samples for result in results)
    if compared and (overview := summary(results)):
        shown = f"![ratios]({picture})\n\n" if picture else ""
        parts.append(f"## {OURS} against PgBouncer\n\n{shown}{overview}\n")
    parts.append("## Cases\n\n" + "\n\n".join(case_section(result) for result in results) + "\n")
    return "\n".join(parts)
