"""`python -m benchmarks.macro.full`: `make bench-full`. Everything, into the reports that are committed; a part of it, to the screen.

Exit status: that of the first call that fails, see `benchmarks.macro`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro import __main__ as macro
from benchmarks.macro import crowd, scaling
from benchmarks.macro.figures import MIN_ROUNDS

REPORTS: Final = Path(__file__).resolve().parents[1]


@attrs.frozen
class Call:
    """A program, as its `main` is called."""

    main: Callable[[Sequence[str]], int]
    arguments: Sequence[str]


def plan(arguments: Sequence[str], reports: Path = REPORTS) -> list[Call]:
    """What is to be run for these arguments of `benchmarks.macro`; wrong ones end the program with status 2.

    Only a run of all cases and targets, with rounds enough to claim something, replaces the reports in `reports`. Two workers against
    two processes of PgBouncer come next, then many idle clients, then what more workers would bring.
    """
    chosen = macro.parse_arguments(arguments)
    if not chosen.is_whole or chosen.rounds < MIN_ROUNDS:
        return [Call(macro.main, arguments)]
    return [
        Call(macro.main, [*arguments, "--out", str(reports / "RESULTS.md")]),
        Call(macro.main, [*arguments, "--workers", "2", "--out", str(reports / "RESULTS-2-workers.md")]),
        Call(crowd.main, ["--out", str(reports / "RESULTS-idle.md")]),
        Call(scaling.main, ["--out", str(reports / "RESULTS-scaling.md")]),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    calls = plan(sys.argv[1:] if arguments is None else arguments)
    if len(calls) == 1:
        macro.say("a part, or too few rounds: the reports in benchmarks/ stay as they are (--out FILE writes one)")
    for call in calls:
        if status := call.main(call.arguments):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
