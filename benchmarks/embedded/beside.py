"""`python -m benchmarks.embedded.beside`: pgbench through a proxy in a thread and in a process of its own, while the program around it idles and while it computes.

What a computing program takes from the pooler is of two kinds: a processor, which it takes from a process as well, and the GIL, which the
data plane does not need. So the thread is compared with the process, in the same state of the program.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro.load import TPS, latencies_ms, percentile
from pgpool_core import run_proxy_in_thread, run_proxy_process
from pgpool_core.testing import PostgresServer, PostgresUser, find_postgres

HOSTS: Final = {"process": run_proxy_process, "thread": run_proxy_in_thread}
STATES: Final = ("idles", "computes")
SCRIPT: Final = "select 1\n"


@attrs.frozen(kw_only=True)
class Run:
    """What pgbench saw."""

    tps: float
    p50_ms: float
    p99_ms: float


def be_program(host: str, state: str, dsn: str) -> None:
    """A program with a proxy, which says its URL and lives until its standard input ends."""
    with HOSTS[host](dsn, default_pool_size=8) as proxy:
        over = threading.Event()

        def compute() -> None:
            number = 0
            while not over.is_set():
                number = (number * 31 + 7) % 1_000_003

        if state == "computes":
            threading.Thread(target=compute).start()
        print(proxy.url, flush=True)
        sys.stdin.read()
        over.set()


@contextmanager
def program(host: str, state: str, dsn: str) -> Iterator[str]:
    """That program in a process of its own; its proxy's URL."""
    command = [sys.executable, "-m", "benchmarks.embedded.beside", "--program", host, state, dsn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
            process.stdin.close()
            process.wait()
        finally:
            process.kill()


def load(url: str, clients: int, seconds: int) -> Run:
    """pgbench for so long, after a second that does not count for the latencies."""
    with tempfile.TemporaryDirectory(prefix="pgpool-bench-run-") as folder:
        script = Path(folder, "script.sql")
        script.write_text(SCRIPT)
        command = [
            str(find_postgres().bin_dir / "pgbench"),
            "-n",
            "-M",
            "simple",
            "-f",
            str(script),
            "-T",
            str(seconds),
        ]
        command += ["-c", str(clients), "-j", "1", "-l", f"--log-prefix={folder}/transactions", url]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=True)
        tps = TPS.search(done.stdout)
        assert tps is not None, done.stdout
        latencies = latencies_ms(Path(folder), since_s=0, whole_cycles=False)
    return Run(tps=float(tps[1]), p50_ms=percentile(latencies, 0.5), p99_ms=percentile(latencies, 0.99))


def median(runs: list[Run]) -> Run:
    """Of each figure by itself."""
    return Run(
        tps=statistics.median(run.tps for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
    )


def compare(dsn: str, clients: int, seconds: int, rounds: int) -> None:
    """Print a table."""
    runs: dict[tuple[str, str], list[Run]] = {(host, state): [] for state in STATES for host in HOSTS}
    for _ in range(rounds):
        for (host, state), found in runs.items():
            with program(host, state, dsn) as url:
                found.append(load(url, clients, seconds))
    print(f"{'program':9} {'proxy in a':11} {'queries/s':>10} {'p50 ms':>8} {'p99 ms':>8}")
    medians = {key: median(found) for key, found in runs.items()}
    for (host, state), run in medians.items():
        print(f"{state:9} {host:11} {run.tps:10.0f} {run.p50_ms:8.3f} {run.p99_ms:8.3f}")
    for state in STATES:
        thread, process = medians["thread", state], medians["process", state]
        print(
            f"{state:9} {'thread/proc.':11}{thread.tps / process.tps:9.2f}x"
            f" {thread.p50_ms / process.p50_ms:7.2f}x {thread.p99_ms / process.p99_ms:7.2f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedded.beside", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each run (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of all runs (default 3)")
    parser.add_argument("--clients", type=int, default=8, help="of pgbench (default 8)")
    parser.add_argument("--program", nargs=3, metavar=("HOST", "STATE", "DSN"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.program:
        be_program(*given.program)
        return
    with PostgresServer(users=[PostgresUser(name="app", password="app")], databases=["app"], owner="app") as server:
        compare(server.dsn("app", "app"), given.clients, given.seconds, given.rounds)


if __name__ == "__main__":
    main()
