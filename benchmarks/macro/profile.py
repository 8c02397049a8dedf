"""`python -m benchmarks.macro.profile`: where the processor time of a transaction goes, through PgBouncer and through us.

`perf` takes a sample of the pooler's process, all of its threads, two thousand times per second of processor time (cpu-clock: no counters of
the hardware are needed) while pgbench runs a case. Each sample is a stack, and belongs to the first area below that knows a function in it.
An area's share of the samples times the CPU time per transaction of the same run, from /proc, is what it costs. Clocks that tick by
interrupts put what runs with interrupts off at the place where they come on again.

Needs `perf` and the right to see the kernel's stacks (root, or kernel.perf_event_paranoid = -1 and kernel.kptr_restrict = 0).
Exit status: 0 measured, 1 a target or perf did not work (named on standard error), 2 wrong arguments, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import attrs

from benchmarks.macro import machine
from benchmarks.macro.__main__ import raise_open_files, say
from benchmarks.macro.cases import Case, find_cases
from benchmarks.macro.database import BenchDatabase, running_database
from benchmarks.macro.ending import status_of
from benchmarks.macro.errors import BenchError
from benchmarks.macro.load import WARM_UP_S, run_load
from benchmarks.macro.procfs import CpuReading
from benchmarks.macro.report import command_line, table
from benchmarks.macro.targets import IO_BACKENDS, OURS, PGBOUNCER, Fleet, Target
from benchmarks.micro.callgrind import plain_name
from benchmarks.report_file import deliver, report_file
from pgpool_core.testing.binaries import find_pgbouncer, find_postgres

CASES: Final = (
    "select1-simple-32",
    "lookup-simple-32",
    "lookup-extended-32",
    "lookup-prepared-32",
    "lookup-simple-1000",
    "select1-simple-1",
    "connect-trust",
)
"""Those with a goal of CPU time that is hard to reach."""

PER_SECOND: Final = 1999
SHOWN: Final = 8
"""Of our own functions, the dearest."""

KERNEL: Final = "[kernel.kallsyms]"
OWN: Final = "user mode: its own"
LIBRARIES: Final = "user mode: libraries"
REST: Final = "other"

AREAS: Final[Mapping[str, re.Pattern[str]]] = {
    "waking whoever waits": re.compile(r"try_to_wake_up|ttwu_|wake_up|sock_def_readable|ep_poll_callback|io_poll_wake"),
    "bringing it to the other end": re.compile(r"(__do|handle)_softirqs?$|net_rx_action|__napi_poll"),
    "connections come and go": re.compile(
        r"__(x64_)?sys_(accept4|close|shutdown|setsockopt|getsockopt|getsockname|socket|fcntl)$|__fput|io_accept"
    ),
    "sending": re.compile(
        r"(tcp|unix_stream|sock|inet|____sys|___sys)_sendmsg|__sys_send|io_send|sock_write_iter|__x64_sys_(send|write)"
    ),
    "receiving": re.compile(
        r"(tcp|unix_stream|sock|inet|____sys|___sys)_recvmsg|__sys_recv|io_recv|sock_read_iter|__x64_sys_(recv|read)"
    ),
    "sleeping, task switches": re.compile(r"^_*schedule|finish_task_switch"),
    "asking what is ready": re.compile(r"epoll_p?wait|do_epoll_|epoll_ctl|io_uring_enter|io_cqring|task_work"),
    "system calls as such": re.compile(r"entry_SYSCALL|do_syscall_64|syscall_(enter|exit)"),
}
"""Areas of kernel mode, by what their functions are called."""

NOTES: Final = f"""\
- *{OWN}*, *{LIBRARIES}*: the program, and what it calls (libc, libevent, OpenSSL, the interpreter).
- *sending*, *receiving*: the socket's own part, the copy of the bytes included.
- *bringing it to the other end*: loopback has no wire, so the receiver's half of TCP runs inside the sender's call.
- *waking whoever waits*: PostgreSQL's backend or pgbench, asleep until the bytes come. Who finds them awake does not pay it.
- *asking what is ready*: epoll_wait, epoll_ctl, io_uring_enter, but for what these send, receive and sleep.
- *sleeping, task switches*: nothing is ready; on few cores, whoever was woken may take the core at once.
"""

FRAME: Final = re.compile(r"^\s*[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.*)\)$")


@attrs.frozen(kw_only=True)
class Frame:
    """One function of a stack, and the file that it is in."""

    function: str
    file: str


@attrs.frozen(kw_only=True)
class Profile:
    """What one target has spent, in microseconds per transaction."""

    cost: float
    areas: Mapping[str, float]
    functions: Sequence[tuple[str, float]]
    samples: int


def stacks(lines: Iterable[str]) -> Iterator[list[Frame]]:
    """The stacks in what `perf script -F ip,sym,dso` prints, the innermost function first."""
    stack: list[Frame] = []
    for line in lines:
        if found := FRAME.match(line):
            stack.append(Frame(function=found[1], file=found[2]))
        elif stack and not line.strip():
            yield stack
            stack = []
    if stack:
        yield stack


def area_of(stack: Sequence[Frame], own: re.Pattern[str]) -> str:
    """The area that a sample belongs to; `own`: what files of the program itself are called."""
    kernel = [frame.function for frame in stack if frame.file == KERNEL]
    if not kernel or stack[0].file != KERNEL:
        return OWN if own.search(stack[0].file) else LIBRARIES
    for area, functions in AREAS.items():
        if any(functions.search(name) for name in kernel):
            return area
    return REST


def profile_of(found: Sequence[Sequence[Frame]], cost: float, own: re.Pattern[str]) -> Profile:
    """The cost of a transaction, shared out."""
    if not found:
        raise BenchError("perf has no samples")
    each = cost / len(found)
    areas = Counter(area_of(stack, own) for stack in found)
    functions = Counter(plain_name(stack[0].function) for stack in found if area_of(stack, own) == OWN)
    return Profile(
        cost=cost,
        areas={area: count * each for area, count in areas.items()},
        functions=[(name, count * each) for name, count in functions.most_common(SHOWN)],
        samples=len(found),
    )


OWN_FILES: Final = {OURS: re.compile(r"/pgpool_core/"), PGBOUNCER: re.compile(r"/pgbouncer[\w.-]*$")}


class Perf:
    """`perf record` on a process and its threads, attached and idle until it is told to begin."""

    def __init__(self, pid: int, data: Path) -> None:
        self._data = data
        told, self._orders = os.pipe()
        self._answers, answer = os.pipe()
        options = ["-q", "-D", "-1", f"--control=fd:{told},{answer}", "-e", "cpu-clock", "-F", str(PER_SECOND), "-g"]
        try:
            self._process = subprocess.Popen(
                ["perf", "record", *options, "-o", str(data), "-p", str(pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(told, answer),
            )
        finally:
            os.close(told)
            os.close(answer)

    def begin(self) -> None:
        """Have samples taken from now on.

        Raises:
            BenchError: perf has ended; the text says what it said.
        """
        try:
            os.write(self._orders, b"enable\n")
            answered = os.read(self._answers, 64)
        except BrokenPipeError:
            answered = b""
        if not answered:
            raise BenchError(f"perf record: {self._last_words()}")

    def finish(self) -> None:
        """End it, and wait for what it writes.

        Raises:
            BenchError: there is nothing.
        """
        self._process.send_signal(signal.SIGINT)
        said = self._last_words()
        if not self._data.exists():
            raise BenchError(f"perf record: {said}")

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        os.close(self._orders)
        os.close(self._answers)

    def _last_words(self) -> str:
        _, said = self._process.communicate(timeout=60)
        return str(said.decode(errors="replace").strip())


@attrs.frozen(kw_only=True)
class Watched(Target):
    """A target whose samples are taken from the first reading of its CPU time on: what the cost is of."""

    perf: Perf
    begun: list[bool] = attrs.field(factory=list)

    def read_cpu(self) -> CpuReading | None:
        """CPU time so far; the first call begins the samples."""
        if not self.begun:
            self.perf.begin()
            self.begun.append(True)
        return super().read_cpu()


def run_once(database: BenchDatabase, case: Case, target: Target, *, seconds: int) -> tuple[list[list[Frame]], float]:
    """One run: its samples, and what a transaction has cost."""
    assert target.pid is not None
    with tempfile.TemporaryDirectory(prefix="pgpool-profile-") as folder:
        data = Path(folder, "perf.data")
        with contextlib.closing(Perf(target.pid, data)) as perf:
            watched = Watched(**attrs.asdict(target, recurse=False), perf=perf)
            sample = run_load(case, watched, pgbench=database.pgbench, seconds=seconds)
            perf.finish()
        command = ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise BenchError(f"perf script: {done.stderr.strip()}")
    return list(stacks(done.stdout.splitlines())), sample["cost"]


def measure(database: BenchDatabase, case: Case, *, rounds: int, seconds: int, io_backend: str) -> dict[str, Profile]:
    """All rounds of one case, PgBouncer and ours in turn.

    Raises:
        BenchError: a target did not start, answer or hold out, or perf did not work; the text says which.
    """
    names = (PGBOUNCER, OURS)
    found: dict[str, list[list[Frame]]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    with Fleet(database=database, io_backend=io_backend).running(
        names, auth=case.auth, tls=case.tls, settings=case.settings
    ) as targets:
        for _ in range(rounds):
            for target in targets:
                samples, cost = run_once(database, case, target, seconds=seconds)
                found[target.name] += samples
                costs[target.name].append(cost)
                say(f"    {target.name}: CPU {cost:.1f} {case.cost_unit}, {len(samples)} samples")
    return {name: profile_of(found[name], median(costs[name]), OWN_FILES[name]) for name in names}


def section(case: Case, profiles: Mapping[str, Profile], seconds: int) -> str:
    """One case."""
    theirs, ours = profiles[PGBOUNCER], profiles[OURS]
    areas = [area for area in (OWN, LIBRARIES, *AREAS, REST) if area in theirs.areas or area in ours.areas]
    rows = []
    for area in areas:
        one, other = theirs.areas.get(area, 0.0), ours.areas.get(area, 0.0)
        rows.append([area, f"{one:.2f}", f"{other:.2f}", f"{other - one:+.2f}"])
    rows.append(["all", f"{theirs.cost:.2f}", f"{ours.cost:.2f}", f"{ours.cost - theirs.cost:+.2f}"])
    functions = ", ".join(f"`{name}` {us:.2f}" for name, us in ours.functions)
    return f"""\
## {case.name}: {case.title}

    {command_line(case, seconds)}

{table([f"CPU {case.cost_unit}", "PgBouncer", "pgpool_core", "difference"], rows)}

{ours.cost / theirs.cost:.2f} times PgBouncer's. Samples: {theirs.samples} and {ours.samples}. Our own functions above all: {functions}.
"""


def run(chosen: argparse.Namespace) -> None:
    """Measure, and print and write the page.

    Raises:
        BenchError: something did not work; the text says what.
    """
    if shutil.which("perf") is None:
        raise BenchError("perf is not there: `apt-get install linux-perf`")
    raise_open_files()
    pgbouncer = find_pgbouncer()
    if pgbouncer is None:
        raise BenchError("pgbouncer: not in PATH or /usr/sbin (PGBOUNCER=path names one)")
    facts = machine.describe(postgres=find_postgres().version, pgbouncer=pgbouncer)
    facts["io_backend"] = chosen.io_backend
    parts = []
    with running_database() as database:
        for case in chosen.cases:
            say(f"{case.name}: {case.title}")
            profiles = measure(
                database, case, rounds=chosen.rounds, seconds=chosen.seconds, io_backend=chosen.io_backend
            )
            parts.append(section(case, profiles, chosen.seconds))
    call = shlex.join(["python", "-m", "benchmarks.macro.profile", *chosen.arguments])
    text = "\n".join(
        [
            "# Where the time goes\n",
            f"    {call}\n",
            f"Processor time of the pooler's process, in microseconds per transaction: {chosen.rounds} rounds of {chosen.seconds} s after {WARM_UP_S} s, PgBouncer and",
            f"ours in turn, {PER_SECOND} samples by `perf` per second of processor time. Taking samples costs something itself, of both alike.\n",
            NOTES,
            *parts,
            "## Machine and versions\n",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
        ]
    )
    deliver(text, chosen.out)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.macro.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="only this case (repeatable)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="counted seconds per run (default 3)")
    parser.add_argument("--io-backend", choices=IO_BACKENDS, default=IO_BACKENDS[0], help="of ours (default auto)")
    parser.add_argument("--out", type=report_file, metavar="FILE", help="write the page to FILE too")
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser.parse_args(given)
    chosen.arguments = given
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    try:
        chosen.cases = find_cases(chosen.case or CASES)
    except KeyError as unknown:
        parser.error(f"no such case: {unknown.args[0]} (python -m benchmarks.macro --list prints them)")
    for case in chosen.cases:
        if case.idle_clients or case.listeners or case.company or case.resumes or case.pgbouncer_since != (1, 0):
            parser.error(f"{case.name} is not one run of pgbench that any PgBouncer can do")
    return status_of(lambda: run(chosen))


if __name__ == "__main__":
    sys.exit(main())
