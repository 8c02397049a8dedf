"""`python -m benchmarks.micro.transaction`: how many instructions one transaction costs us, function by function.

`pgpool-core serve` runs under callgrind in front of a real PostgreSQL, with pgbench as its clients. Counted is what the worker's thread
does in user mode; the kernel, which takes most of the time of a transaction, is not in it. Logins drop out (but with --connect, where
each transaction has one of its own, by trust or the method that it names): pgbench is run twice, and what the longer run has beyond the shorter one is divided by its further transactions. Needs valgrind, and an optimised
build (without PGPOOL_CORE_DEBUG) for figures that mean something. A loaded machine changes little: instructions are counted, not time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro.cases import POOL_SIZE, SELECT_ONE
from benchmarks.macro.database import (
    DATABASE,
    MD5_USER,
    SCRAM_PASSWORD,
    SCRAM_USER,
    USER,
    BenchDatabase,
    running_database,
)
from benchmarks.macro.errors import BenchError
from benchmarks.micro.callgrind import Profile
from pgpool_core.testing.pooler import PoolerProcess
from pgpool_core.testing.process import ProcessFailed

PROTOCOLS: Final = ("simple", "extended", "prepared")
METHODS: Final = {"trust": USER, "md5": MD5_USER, "scram-sha-256": SCRAM_USER}
"""Who logs in by them."""
GOALS: Final = {"simple": 2500, "extended": 3000}
"""Instructions of a `SELECT 1`, at most."""
ALLOCATORS: Final = ("malloc", "calloc", "realloc", "aligned_alloc")
WORKER: Final = "engine.worker.worker_run"
SLOW: Final = 120.0
"""Seconds for whatever runs under valgrind, a start of Python above all."""


@attrs.frozen(kw_only=True)
class Cost:
    """Of one transaction."""

    protocol: str
    instructions: float
    functions: Sequence[tuple[str, float]]
    allocations: float
    allocating: Sequence[tuple[str, float]]


class Watched:
    """A pooler under callgrind."""

    def __init__(self, database: BenchDatabase, folder: Path, *, io_backend: str, connects: str | None = None) -> None:
        self._database, self._out, self._parts = database, folder / "callgrind", 0
        self._connects, self._user = connects, METHODS[connects or "trust"]
        options = (
            f"--callgrind-out-file={self._out}",
            "--separate-threads=yes",
            "--instr-atstart=no",
            "--dump-line=no",
        )
        self.pooler = PoolerProcess(
            databases={DATABASE: f"host=127.0.0.1 port={database.port} dbname={DATABASE} user={USER}"},
            passwords=database.secrets,
            settings={
                "auth_type": connects or "trust",
                "pool_mode": "transaction",
                "server_tls_sslmode": "disable",
                "default_pool_size": POOL_SIZE,
                "workers": 1,
                "io_backend": io_backend,
                "log_connections": False,
                "log_disconnections": False,
            },
            command=("valgrind", "--tool=callgrind", *options, sys.executable, "-m", "pgpool_core", "serve"),
        )

    def start(self) -> None:
        self.pooler.spawn()
        self.pooler.process.wait_for_listener((self.pooler.host, self.pooler.port), timeout_s=SLOW)

    def control(self, *what: str) -> None:
        """Tell callgrind something."""
        command = ["callgrind_control", *what, str(self.pooler.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SLOW, check=False)
        if done.returncode != 0 or "OK" not in done.stdout:
            raise BenchError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def load(self, protocol: str, *, clients: int, each: int, script: Path) -> int:
        """Let every client run so many transactions; how many that were."""
        place = ["-h", self.pooler.host, "-p", str(self.pooler.port), "-U", self._user]
        options = ["-n", "-M", protocol, "-c", str(clients), "-j", "1", "-t", str(each), "-f", str(script)]
        options += ["-C"] if self._connects else []
        done = subprocess.run(
            [str(self._database.pgbench), *place, *options, DATABASE],
            capture_output=True,
            text=True,
            timeout=SLOW,
            check=False,
            env={
                **os.environ,
                "PGPASSWORD": SCRAM_PASSWORD,
                "PGSSLMODE": "disable",
                "PGGSSENCMODE": "disable",
                "LC_ALL": "C",
            },
        )
        ended = re.search(r"number of transactions actually processed: (\d+)/(\d+)", done.stdout)
        if done.returncode != 0 or ended is None or ended[1] != ended[2]:
            raise BenchError(f"pgbench failed: {done.stderr}\n{self.pooler.log}")
        return int(ended[1])

    def profile(self) -> Profile:
        """What the worker has done since this was asked last."""
        self.control("--dump")
        self._parts += 1
        found = [Profile.read(path) for path in self._out.parent.glob(f"{self._out.name}.{self._parts}-*")]
        workers = [each for each in found if WORKER in each.instructions]
        if len(workers) != 1:
            raise BenchError(f"{len(workers)} of the {len(found)} threads look like the worker")
        return workers[0]


def measure(watched: Watched, protocol: str, *, clients: int, each: int, script: Path) -> Cost:
    """The cost of one transaction of `script`."""
    watched.load(protocol, clients=clients, each=max(1, each // 4), script=script)
    watched.profile()  # what comes once, such as the first servers, is in there
    shorter = watched.load(protocol, clients=clients, each=max(1, each // 4), script=script)
    before = watched.profile()
    longer = watched.load(protocol, clients=clients, each=each, script=script)
    more = watched.profile().less(before)
    n = longer - shorter
    allocating = more.called(*ALLOCATORS)
    return Cost(
        protocol=protocol,
        instructions=more.instructions.total() / n,
        functions=[(name, cost / n) for name, cost in more.instructions.most_common()],
        allocations=allocating.total() / n,
        allocating=[(name, calls / n) for name, calls in allocating.most_common()],
    )


def told(cost: Cost, *, top: int, goal: int | None) -> str:
    """A section of the report, in Markdown."""
    bound = "" if goal is None else f" (goal: at most {goal})"
    lines = [
        f"## {cost.protocol}: {cost.instructions:.0f} instructions a transaction{bound}, {cost.allocations:.2f} allocations",
        "",
        "| function | instructions |\n|---|---:|",
        *(f"| {name} | {n:.0f} |" for name, n in cost.functions[:top]),
    ]
    lines += [f"\nAllocations by {name}: {n:.2f}" for name, n in cost.allocating if n >= 0.005]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro.transaction",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="only this one; repeatable")
    parser.add_argument("--sql", default=SELECT_ONE, help="what a transaction runs (SELECT 1), as a script of pgbench")
    parser.add_argument(
        "--connect",
        choices=METHODS,
        nargs="?",
        const="trust",
        help="with a login for each transaction, by this method (trust)",
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--transactions", type=int, default=500, help="of each client, in the longer run")
    parser.add_argument("--io-backend", choices=("epoll", "io_uring"), default="epoll")
    parser.add_argument("--top", type=int, default=40, help="functions shown")
    chosen = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not there: `apt-get install valgrind`")
    try:
        with tempfile.TemporaryDirectory(prefix="pgpool-callgrind-") as name, running_database() as database:
            script = Path(name, "script.sql")
            script.write_text(chosen.sql)
            watched = Watched(database, Path(name), io_backend=chosen.io_backend, connects=chosen.connect)
            try:
                watched.start()
                watched.control("--instr=on")
                for protocol in chosen.protocol or PROTOCOLS:
                    cost = measure(watched, protocol, clients=chosen.clients, each=chosen.transactions, script=script)
                    goal = GOALS.get(protocol) if chosen.sql == SELECT_ONE and not chosen.connect else None
                    print(told(cost, top=chosen.top, goal=goal), flush=True)
            finally:
                watched.pooler.close()
    except (BenchError, ProcessFailed, subprocess.TimeoutExpired) as why:
        sys.exit(str(why))


if __name__ == "__main__":
    main()
