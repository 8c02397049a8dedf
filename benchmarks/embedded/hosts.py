"""Where a proxy may live: a standalone pooler, a thread of a Python program, a process beside one. And pgbench through each.

What a computing program takes from the pooler is of two kinds: a processor, which it takes from a process as well, and the GIL, which the
data plane does not need. So a thread is compared with a process, in the same state of the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro.figures import Sample
from benchmarks.macro.load import TPS, latencies_ms, percentile
from benchmarks.macro.procfs import cpu_spent, read_cpu
from pgpool_core import run_proxy_in_thread, run_proxy_process
from pgpool_core.testing import find_postgres
from pgpool_core.testing.pooler import PoolerProcess

PROGRAMS: Final = {"thread": run_proxy_in_thread, "process": run_proxy_process}
POOL_SIZE: Final = 8
SCRIPT: Final = "select 1\n"
NAME: Final = "app"
"""Of user, password and database."""


@attrs.frozen(kw_only=True)
class Host:
    """Where the proxy lives, and whether the program around it computes in Python without a pause."""

    kind: str
    computes: bool = False

    def __str__(self) -> str:
        return f"{self.kind}, computing" if self.computes else self.kind


STANDALONE: Final = Host(kind="standalone")
THREAD: Final = Host(kind="thread")
THREAD_COMPUTING: Final = Host(kind="thread", computes=True)
PROCESS_COMPUTING: Final = Host(kind="process", computes=True)
HOSTS: Final = (STANDALONE, THREAD, PROCESS_COMPUTING, THREAD_COMPUTING)


@attrs.frozen(kw_only=True)
class Served:
    """A pooler that runs: the way in, and the process whose CPU time is its own."""

    url: str
    pid: int


def be_program(kind: str, computes: bool, dsn: str) -> None:
    """A program with a proxy, which says its URL and lives until its standard input ends."""
    with PROGRAMS[kind](dsn, default_pool_size=POOL_SIZE) as proxy:
        over = threading.Event()

        def compute() -> None:
            number = 0
            while not over.is_set():
                number = (number * 31 + 7) % 1_000_003

        if computes:
            threading.Thread(target=compute).start()
        print(proxy.url, flush=True)
        sys.stdin.read()
        over.set()


@contextmanager
def running(host: Host, port: int) -> Iterator[Served]:
    """That pooler, in front of the server at `port` of 127.0.0.1."""
    if host.kind == STANDALONE.kind:
        with PoolerProcess(
            databases={NAME: f"host=127.0.0.1 port={port} user={NAME} password={NAME}"},
            passwords={NAME: NAME},
            settings={"pool_mode": "transaction", "default_pool_size": POOL_SIZE},
        ) as pooler:
            yield Served(url=pooler.url(NAME, NAME), pid=pooler.process.pid)
        return
    command = [sys.executable, "-m", "benchmarks.embedded.hosts", host.kind, str(int(host.computes))]
    command.append(f"postgresql://{NAME}:{NAME}@127.0.0.1:{port}/{NAME}")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Served(url=process.stdout.readline().strip(), pid=process.pid)
            process.stdin.close()
            process.wait()
        finally:
            process.kill()


def load(served: Served, *, clients: int, seconds: int) -> Sample:
    """pgbench for so long; latencies of all transactions."""
    with tempfile.TemporaryDirectory(prefix="pgpool-bench-run-") as folder:
        script = Path(folder, "script.sql")
        script.write_text(SCRIPT)
        pgbench = str(find_postgres().bin_dir / "pgbench")
        command = [pgbench, "-n", "-M", "simple", "-f", str(script), "-T", str(seconds)]
        command += ["-c", str(clients), "-j", "1", "-l", f"--log-prefix={folder}/transactions", served.url]
        before = read_cpu(served.pid)
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=True)
        spent = cpu_spent(before, read_cpu(served.pid))
        tps = TPS.search(done.stdout)
        assert tps is not None, done.stdout
        latencies = latencies_ms(Path(folder), since_s=0, whole_cycles=False)
    return {
        "rate": float(tps[1]),
        "cost": spent.total_us / len(latencies),
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
    }


if __name__ == "__main__":
    be_program(sys.argv[1], sys.argv[2] == "1", sys.argv[3])
