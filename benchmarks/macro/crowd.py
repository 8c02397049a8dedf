"""`python -m benchmarks.macro.crowd`: what many idle clients cost, up to 50,000, measured as far as descriptors allow and computed beyond.

Every client is a socket of the pooler, and a process may have only so many (`ulimit -Hn`). Up to there they are real: logged in, idle, and
at the end each is asked a query, which it answers. The clients' own ends are held by further processes, each from an address of its own
(127.0.0.2 and on), because an address has ports for some 28,000 connections to one place. Beyond stands the straight line through what was measured (least
squares), and the page says which rows those are, and how far the measured ones are off that line.

Exit status: 0 measured, 1 a target did not start or answer (named on standard error), 2 wrong arguments, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import linear_regression
from typing import Final

import attrs

from benchmarks.macro import machine
from benchmarks.macro.__main__ import say
from benchmarks.macro.cases import Case, find_cases
from benchmarks.macro.client import Client
from benchmarks.macro.database import BenchDatabase, running_database
from benchmarks.macro.ending import status_of
from benchmarks.macro.errors import BenchError
from benchmarks.macro.idle import FIRST_CLIENTS
from benchmarks.macro.procfs import cpu_spent, read_rss_bytes
from benchmarks.macro.report import table
from benchmarks.macro.targets import OURS, PGBOUNCER, Fleet, Target
from benchmarks.report_file import deliver, report_file
from pgpool_core.testing.binaries import find_pgbouncer, find_postgres

CLIENTS: Final = 50_000
FEWEST: Final = 1_000
SPARE: Final = 200
"""Descriptors that are not for these clients: servers, listeners, files, those who ask in between."""
HOLDERS: Final = 4
"""Processes that hold the clients' ends."""
IDLE_S: Final = 3.0
STEPS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the clients asked for."""


@attrs.frozen(kw_only=True)
class Point:
    """A pooler with so many idle clients."""

    clients: int
    rss_mb: float
    idle_ms: float
    """Processor time per second, in milliseconds."""


@attrs.frozen(kw_only=True)
class Curve:
    """What one pooler has cost: measured points, and what its memory was when each client had been asked a query."""

    name: str
    points: Sequence[Point]
    queried_mb: float

    def line(self) -> tuple[float, float]:
        """Megabytes per client, and those that are there without any. The first few find room that others have left, so they do not count."""
        grown = [each for each in self.points if each.clients > FIRST_CLIENTS]
        slope, fixed = linear_regression([each.clients for each in grown], [each.rss_mb for each in grown])
        return slope, fixed

    def computed_mb(self, clients: int) -> float:
        """Where the line is."""
        slope, fixed = self.line()
        return fixed + slope * clients

    def furthest_off(self) -> float:
        """The largest distance of a measured point from the line, as a share of what the line says."""
        return max(abs(each.rss_mb / self.computed_mb(each.clients) - 1) for each in self.points)


def sizes(clients: int, room: int) -> tuple[list[int], list[int]]:
    """How many clients are held in turn, and how many are only computed; where there is no room for all, as many as there is room for come last."""
    wanted = sorted({max(1, round(clients * step)) for step in STEPS})
    held = [each for each in wanted if each <= room]
    beyond = [each for each in wanted if each > room]
    if beyond and (not held or room > 1.1 * held[-1]):
        held.append(room)
    return held, beyond


class Holder:
    """Another process, with the far ends of some clients. It ends with us: its standard input does."""

    def __init__(self, target: Target, source: str) -> None:
        command = [sys.executable, "-m", "benchmarks.macro.crowd", "--hold", target.host, str(target.port), source]
        self._target = target
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def tell(self, order: str) -> None:
        """Have something done; `wait` for it."""
        assert self._process.stdin is not None
        try:
            print(order, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise BenchError(f"{self._target.name}: clients failed\n{self._target.log_tail()}") from None

    def wait(self) -> None:
        """Until what was told is done.

        Raises:
            BenchError: it could not be.
        """
        assert self._process.stdout is not None
        if (said := self._process.stdout.readline().strip()) != "done":
            raise BenchError(f"{self._target.name}: clients failed: {said}\n{self._target.log_tail()}")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def hold(host: str, port: int, source: str) -> None:
    """The program of a holder: numbers on standard input are how many clients to have, `ask` lets each run a query."""
    [case] = find_cases(["idle-memory"])
    target = Target(name="the pooler", host=host, port=port, socket_dir=Path("/"))
    with contextlib.ExitStack() as owner:
        clients: list[Client] = []
        for line in sys.stdin:
            try:
                if line.strip() == "ask":
                    for client in clients:
                        client.ask()
                else:
                    while len(clients) < int(line):
                        clients.append(Client(target, case, owner, source=source))
                        clients[-1].log_in()
            except (BenchError, OSError) as why:
                print(str(why).replace("\n", " "), flush=True)
                return
            print("done", flush=True)


@contextlib.contextmanager
def holders(target: Target) -> Iterator[list[Holder]]:
    """As many as there are to be."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(HOLDERS):
            found.append(Holder(target, f"127.0.0.{2 + number}"))
            stack.callback(found[-1].close)
        yield found


def share_out(clients: int, number: int) -> int:
    """How many of so many clients holder `number` has."""
    return clients // HOLDERS + (number < clients % HOLDERS)


def measure(database: BenchDatabase, name: str, case: Case, held: Sequence[int]) -> Curve:
    """All sizes at one pooler, one after the other.

    Raises:
        BenchError: it did not start, or refused or lost a client; the text names it.
    """
    settings = {"max_client_conn": held[-1] + FIRST_CLIENTS}
    with Fleet(database=database).running([name], auth=case.auth, settings=settings) as [target]:
        assert target.pid is not None
        with contextlib.ExitStack() as first:
            for _ in range(FIRST_CLIENTS):
                client = Client(target, case, first)
                client.log_in()
                client.ask()
        points = [_point(target, target.pid, 0)]
        with holders(target) as all_of_them:
            for clients in held:
                _all(all_of_them, [str(share_out(clients, number)) for number in range(HOLDERS)])
                points.append(_point(target, target.pid, clients))
                say(
                    f"    {name}: {clients} clients, {points[-1].rss_mb:.1f} MB, {points[-1].idle_ms:.1f} ms CPU per second"
                )
            _all(all_of_them, ["ask"] * HOLDERS)
            queried = read_rss_bytes(target.pid)
    return Curve(name=name, points=points, queried_mb=queried / 1e6)


def _all(all_of_them: Sequence[Holder], orders: Sequence[str]) -> None:
    for each, order in zip(all_of_them, orders, strict=True):
        each.tell(order)
    for each in all_of_them:
        each.wait()


def _point(target: Target, pid: int, clients: int) -> Point:
    """What `target` holds and does with clients that are there already."""
    before, begun = target.read_cpu(), time.monotonic()
    time.sleep(IDLE_S)
    after, elapsed_s = target.read_cpu(), time.monotonic() - begun
    assert before is not None
    assert after is not None
    idle_ms = cpu_spent(before, after).total_us / 1e3 / elapsed_s
    return Point(clients=clients, rss_mb=read_rss_bytes(pid) / 1e6, idle_ms=idle_ms)


def render(curves: Sequence[Curve], beyond: Sequence[int], *, facts: dict[str, str], call: str, limit: int) -> str:
    """The page."""
    held = curves[0].points[-1].clients
    rows = []
    for index, point in enumerate(curves[0].points):
        cells = [f"{point.clients:,}", "measured"]
        for curve in curves:
            here = curve.points[index]
            cells += [f"{here.rss_mb:.1f}", f"{here.idle_ms:.1f}"]
        rows.append(cells)
    rows += [
        [f"{clients:,}", "computed", *(cell for curve in curves for cell in (f"{curve.computed_mb(clients):.1f}", "-"))]
        for clients in beyond
    ]
    head = ["idle clients", "how"]
    for curve in curves:
        head += [f"{curve.name}: MB", "CPU ms/s"]
    lines = [
        f"- {curve.name}: {curve.line()[0] * 1e3:.2f} kB per client beyond {curve.line()[1]:.1f} MB (the line through what was measured; "
        f"no point is further off than {curve.furthest_off():.1%}); {curve.queried_mb:.1f} MB when each of the {held:,} had been asked a query"
        for curve in curves
    ]
    what = (
        f"Up to {held:,} clients are real; a process may have {limit:,} descriptors here, and **the rows beyond are computed, not measured**."
        if beyond
        else "All rows are measured."
    )
    return "\n".join(
        [
            f"# Idle clients\n\n    {call}\n",
            f"{what}\nClients are logged in (trust, TCP) and idle, after {FIRST_CLIENTS} others came, asked and went. MB is resident memory of the process "
            "(smaps_rollup;\n1 MB = 10**6 bytes, 1 kB = 1000), without the kernel's for the sockets, which is the same for all. CPU is what the process uses "
            "with\nnothing to do, in milliseconds per second.\n",
            table(head, rows),
            "",
            *lines,
            "\n## Machine and versions\n",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
        ]
    )


def run(chosen: argparse.Namespace) -> None:
    """Measure, and print and write the page.

    Raises:
        BenchError: a target did not start, or refused or lost a client; the text names it.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = limit if limit != resource.RLIM_INFINITY else CLIENTS * 4
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held, beyond = sizes(chosen.clients, limit - FIRST_CLIENTS - SPARE)
    if not held or held[-1] < FEWEST // 2:
        raise BenchError(f"only {limit} open files are allowed (ulimit -Hn)")
    pgbouncer = find_pgbouncer()
    facts = machine.describe(postgres=find_postgres().version, pgbouncer=pgbouncer)
    [case] = find_cases(["idle-memory"])
    names = [OURS, *([PGBOUNCER] if pgbouncer is not None else [])]
    with running_database() as database:
        curves = [measure(database, name, case, held) for name in names]
    call = shlex.join(["python", "-m", "benchmarks.macro.crowd", *chosen.arguments])
    text = render(curves, beyond, facts=facts, call=call, limit=limit)
    deliver(text, chosen.out)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.macro.crowd", description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=CLIENTS, metavar="N", help=f"at most (default {CLIENTS})")
    parser.add_argument("--out", type=report_file, metavar="FILE", help="write the page to FILE too")
    parser.add_argument("--hold", nargs=3, metavar=("HOST", "PORT", "SOURCE"), help=argparse.SUPPRESS)
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser.parse_args(given)
    chosen.arguments = given
    if chosen.hold:
        host, port, source = chosen.hold
        hold(host, int(port), source)
        return 0
    if chosen.clients < FEWEST:
        parser.error(f"--clients must be at least {FEWEST}")
    return status_of(lambda: run(chosen))


if __name__ == "__main__":
    sys.exit(main())
