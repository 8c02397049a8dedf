"""The page about more workers, and its picture: what was measured, what was computed from it, and which is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import attrs

from benchmarks.macro import curve
from benchmarks.macro.cases import Case
from benchmarks.macro.curve import CORES_A_WORKER, LONGER, Cost, Point
from benchmarks.macro.load import WARM_UP_S
from benchmarks.macro.report import command_line, table

MOST: Final = 16
SHOWN: Final = (1, 2, 3, 4, 6, 8, 12, 16)
OURS: Final = "#2a7f4f"
WORSE: Final = "#8fbf9f"
OTHER: Final = "#b5452c"


@attrs.frozen(kw_only=True)
class Scenario:
    """One load: what it has cost with each number of workers and of PgBouncers, and how many cores there were.

    Attributes:
        spread: the lowest and the highest round of the CPU time of a transaction, by workers.
        pgbouncer_spread: the same of so many PgBouncers.
    """

    name: str
    case: Case
    costs: Sequence[Cost]
    pgbouncer_us: Mapping[int, float]
    cores: int
    spread: Mapping[int, tuple[float, float]] = {}
    pgbouncer_spread: Mapping[int, tuple[float, float]] = {}

    def points(self, *, longer: float = 1.0) -> list[Point]:
        """The computed curve."""
        return curve.predicted(self.costs, self.cores, MOST, longer=longer)

    def pgbouncer_rate(self, processes: int) -> float:
        """Transactions per second of so many processes, each as fast as one alone."""
        return processes * 1e6 / self.pgbouncer_us[1]

    def crowded_rate(self, processes: int) -> float | None:
        """The same at what a transaction costs where so many share the cores that there are; None where that was not measured."""
        return processes * 1e6 / self.pgbouncer_us[processes] if processes in self.pgbouncer_us else None

    def real(self) -> list[Cost]:
        """Those whose rate means something here."""
        return [cost for cost in self.costs if curve.cores_enough(cost.workers, self.cores)]


def render(
    scenarios: Sequence[Scenario],
    *,
    facts: Mapping[str, str],
    call: str,
    rounds: int,
    seconds: int,
    picture: str | None,
) -> str:
    """The whole page."""
    cores = scenarios[0].cores
    real = [cost.workers for cost in scenarios[0].real()]
    what = (
        f"**The rates for {', '.join(map(str, real))} workers are measured; all others are a simulation.**"
        if real
        else "**The rates on this page are a simulation. No rate was measured with as many cores as it is about.**"
    )
    intro = f"""\
# More workers

    {call}

{what} This machine has {cores} cores, and a worker that is to be busy needs {CORES_A_WORKER}, because PostgreSQL and the clients
need theirs. *Measured* is what a transaction costs with so many workers, in CPU time and in counts: medians of {rounds} rounds of
{seconds} s after {WARM_UP_S} s, the lowest and the highest round in brackets: what is computed is no surer than that. With more workers than cores they take turns on them, which changes how often they meet; waiting
times mean nothing then and are left out. *Computed* is what rate so many workers with a core each come to.
"""
    parts = [intro]
    if picture:
        parts.append(f"![transactions per second by workers]({picture})\n")
    parts.append(FORMULA)
    parts += [_section(each) for each in scenarios]
    parts.append(
        "## Machine and versions\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"
    )
    return "\n".join(parts)


FORMULA: Final = f"""\
## How it is computed

    work_us = CPU per transaction - lock_us                    of N workers, as measured
    lock_us = locks per transaction * time that one is held
    Q(0) = 0;  for k = 1 .. N:  R = lock_us * (1 + Q(k-1));  X = k / (work_us + R);  Q(k) = X * R
    rate = X

N workers with a core each; the lock of the one pool that all use is the only thing that they take in turns (exact mean value
analysis of a closed queueing network, `benchmarks/macro/curve.py`). The cost of a hand-off (a server is moved to another worker's
poll set, which is woken for it) and of a steal is in the CPU per transaction. Between measured numbers of workers lies a straight
line. The time that a lock is held is the median with as many workers as there are cores at most; "held {LONGER} times as long" is
for cores that are far from each other. "N PgBouncers at most" is N times one process, more than `so_reuseport` gives: the kernel deals
clients out by hash, not evenly, and each process has an N-th of the servers to itself. "Crowded alike" is N at what a transaction costs
where N processes share the cores of this machine, as our workers did: being crowded makes either dearer, by switching tasks and because
each turn finds less to do, and neither would be with a core each.

Not in it: PostgreSQL, the clients and the network (all as fast as needed), and processors that become slower when many of them work.
"""


def _section(scenario: Scenario) -> str:
    measured = table(
        [
            *(
                "workers",
                "CPU us/txn",
                "of the busiest worker",
                "of the idlest",
                "steals",
                "hand-offs",
                "woken for one",
            ),
            *("locks", "not free", "waited us", "held ns"),
        ],
        [_measured(cost, scenario) for cost in scenario.costs],
    )
    real = {cost.workers: cost for cost in scenario.real()}
    usual, longer = scenario.points(), scenario.points(longer=LONGER)
    rows = []
    for point, slower in zip(usual, longer, strict=True):
        if point.workers not in SHOWN:
            continue
        bound, crowded = scenario.pgbouncer_rate(point.workers), scenario.crowded_rate(point.workers)
        rows.append(
            [
                str(point.workers),
                f"{point.rate:,.0f}",
                f"{real[point.workers].rate:,.0f}" if point.workers in real else "-",
                f"{point.rate / (usual[0].rate * point.workers):.0%}",
                f"{point.lock_share:.1%}",
                f"{slower.rate:,.0f}",
                f"{bound:,.0f}",
                f"{point.rate / bound:.2f}",
                f"{crowded:,.0f}" if crowded else "-",
                f"{point.rate / crowded:.2f}" if crowded else "-",
            ]
        )
    computed = table(
        [
            *(
                "workers",
                "computed tps",
                "measured tps",
                "of N times one",
                "lock taken",
                f"held {LONGER} times as long",
            ),
            *("N PgBouncers at most", "ratio", "N PgBouncers, crowded alike", "ratio"),
        ],
        rows,
    )
    held = curve.held_ns(scenario.costs, scenario.cores)
    others = ", ".join(
        f"{us:.1f}{_written(scenario.pgbouncer_spread.get(n))}" for n, us in scenario.pgbouncer_us.items()
    )
    others += " us/txn for " + ", ".join(map(str, scenario.pgbouncer_us)) + " processes"
    return f"""\
## {scenario.name[0].upper()}{scenario.name[1:]}

    {command_line(scenario.case, 2)}

Measured, per transaction:

{measured}

Computed from these, a lock held for {held:.0f} ns, and {others} of PgBouncer:

{computed}
"""


def _written(spread: tuple[float, float] | None) -> str:
    return "" if spread is None else f" ({spread[0]:.1f}-{spread[1]:.1f})"


def _measured(cost: Cost, scenario: Scenario) -> list[str]:
    crowded = cost.workers > scenario.cores
    return [
        str(cost.workers),
        f"{cost.cpu_us:.1f}{_written(scenario.spread.get(cost.workers))}",
        f"{max(cost.by_worker_us):.2f}",
        f"{min(cost.by_worker_us):.2f}",
        f"{cost.steals:.3f}",
        f"{cost.handoffs:.3f}",
        f"{cost.wakeups:.3f}",
        f"{cost.locks:.2f}",
        f"{cost.waits:.4f}",
        "-" if crowded else f"{cost.waited_us:.3f}",
        "-" if crowded else f"{cost.held_ns:.0f}",
    ]


WIDTH: Final = 420
HEIGHT: Final = 300
LEFT: Final = 70
TOP: Final = 60
GAP: Final = 190


def draw(scenarios: Sequence[Scenario]) -> str:
    """A curve for each load, beside PgBouncer's straight line; points where a rate was measured."""
    width = LEFT + len(scenarios) * (WIDTH + GAP)
    height = TOP + HEIGHT + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="22" font-size="15">{escape(_title(scenarios))}</text>',
    ]
    for number, scenario in enumerate(scenarios):
        parts += _panel(scenario, LEFT + number * (WIDTH + GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _title(scenarios: Sequence[Scenario]) -> str:
    if any(scenario.real() for scenario in scenarios):
        return "transactions per second by number of workers: circles are measured, lines are a simulation"
    return "transactions per second by number of workers: a simulation from costs measured on few cores"


def _panel(scenario: Scenario, left: int) -> list[str]:
    usual, longer = scenario.points(), scenario.points(longer=LONGER)
    bound = [Point(workers=n, cpu_us=0, rate=scenario.pgbouncer_rate(n), lock_share=0) for n in range(1, MOST + 1)]
    crowded = [
        Point(workers=n, cpu_us=0, rate=rate, lock_share=0)
        for n in sorted(scenario.pgbouncer_us)
        if (rate := scenario.crowded_rate(n)) is not None
    ]
    most = max(point.rate for point in [*usual, *bound])

    def place(point: Point) -> tuple[float, float]:
        return left + point.workers * WIDTH / MOST, TOP + HEIGHT - point.rate * HEIGHT / most

    def line(points: Sequence[Point], colour: str, dash: str = "") -> str:
        at = " ".join("{:.1f},{:.1f}".format(*place(point)) for point in points)
        return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'

    parts = [
        f'<text x="{left}" y="{TOP - 14}">{escape(scenario.name.replace("`", ""))}</text>',
        f'<path d="M{left},{TOP} V{TOP + HEIGHT} H{left + WIDTH}" fill="none" stroke="#222222"/>',
        line(bound, OTHER),
        line(crowded, OTHER, "2 4"),
        line(longer, WORSE, "6 4"),
        line(usual, OURS),
    ]
    for workers in (1, 4, 8, 12, 16):
        x = left + workers * WIDTH / MOST
        parts.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{workers}</text>')
    parts += [
        f'<text x="{left - 6}" y="{TOP + HEIGHT - share * HEIGHT + 4:.1f}" text-anchor="end">{most * share / 1000:,.0f}k</text>'
        for share in (0.5, 1.0)
    ]
    for label, point, colour in (("pgpool_core", usual[-1], OURS), ("N PgBouncers at most", bound[-1], OTHER)):
        x, y = place(point)
        parts.append(f'<text x="{x + 4:.1f}" y="{y + 4:.1f}" fill="{colour}">{label}</text>')
    parts.append(
        f'<text x="{left}" y="{TOP + HEIGHT + 36}" fill="#222222">'
        f"dashed: locks held {LONGER} times as long; dotted: N PgBouncers, crowded alike</text>"
    )
    for cost in scenario.real():
        x, y = place(Point(workers=cost.workers, cpu_us=0, rate=cost.rate, lock_share=0))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{OURS}"/>')
    return parts
