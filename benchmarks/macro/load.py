"""One run of pgbench against one target, with the pooler's CPU time over the same stretch of time.

The first WARM_UP_S of a run are not counted. They end at pgbench's first progress line, where the CPU time is read, so
the clients' logins are outside the figures (with `-C`, where logins are the work, they are inside). What follows runs
to pgbench's end: transactions and seconds are its totals less what the progress lines had reported, latencies come from
its per-transaction log, and the CPU time is read again when it has exited.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from benchmarks.macro.cases import Case
from benchmarks.macro.errors import BenchError, TooBusy
from benchmarks.macro.figures import Sample
from benchmarks.macro.procfs import CpuReading, cpu_spent
from benchmarks.macro.targets import Target

WARM_UP_S: Final = 1
PATIENCE_S: Final = 45.0
"""How much longer than asked a run may take (1000 logins, a last transaction) before the target counts as stuck."""
ATTEMPTS: Final = 5
LEAST: Final = 0.1
"""Of the seconds asked for, what has to be left when logins (pgbench counts them among its seconds) and warm-up are over."""
LINES_SHOWN: Final = 6
"""Of what a failed pgbench printed: it repeats itself for every client."""

PROGRESS: Final = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps")
TRANSACTIONS: Final = re.compile(r"number of transactions actually processed: (\d+)")
FAILED: Final = re.compile(r"number of failed transactions: (\d+)")
TPS: Final = re.compile(r"tps = ([\d.]+) \(")


@attrs.define(kw_only=True)
class WarmUp:
    """What was so at the end of the warm-up."""

    elapsed_s: float = 0.0
    transactions: float = 0.0
    epoch_s: float = 0.0
    cpu: CpuReading | None = None


def run_load(
    case: Case, target: Target, *, pgbench: Path, seconds: int, more: Sequence[str] = (), user: str | None = None
) -> Sample:
    """Run `case` against `target` for `seconds` after the warm-up.

    Args:
        more: further options of pgbench.
        user: instead of the case's.
    Raises:
        BenchError: pgbench failed or hung, or the pooler is gone, or the machine has no time for it; the text names the target and quotes pgbench.
    """
    why = ""
    for _ in range(ATTEMPTS):
        try:
            return _run_once(case, target, pgbench=pgbench, seconds=seconds, more=more, user=user)
        except TooBusy as error:
            why = str(error)
    raise BenchError(f"{target.name}: the machine is too busy, {ATTEMPTS} runs in a row mean nothing: {why}")


def _run_once(
    case: Case, target: Target, *, pgbench: Path, seconds: int, more: Sequence[str], user: str | None
) -> Sample:
    """One attempt.

    Raises:
        TooBusy: it means nothing.
    """
    with tempfile.TemporaryDirectory(prefix="pgpool-bench-run-") as folder:
        script_path = None
        if case.script is not None:
            script_path = f"{folder}/script.sql"
            Path(script_path).write_text(case.script)
        options = case.options(
            seconds=WARM_UP_S + seconds, script_path=script_path, log_prefix=f"{folder}/transactions"
        )
        command = [str(pgbench), *target.connection_options(case, user), *options, *more, target.database(case)]
        environment = {**os.environ, **target.client_environment(case), "LC_ALL": "C"}
        warm_up, output = _drive(command, environment, target, limit_s=WARM_UP_S + seconds + PATIENCE_S)
        cpu_after = target.read_cpu()
        latencies = latencies_ms(Path(folder), since_s=warm_up.epoch_s, whole_cycles=case.reconnect)
        return _evaluate(case, warm_up, cpu_after, output, latencies, target, seconds)


def _drive(
    command: Sequence[str], environment: Mapping[str, str], target: Target, *, limit_s: float
) -> tuple[WarmUp, str]:
    """Run pgbench to its end; the moment after warm-up, and all that it printed."""
    warm_up = WarmUp()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        process.kill()

    timer = threading.Timer(limit_s, give_up)
    timer.start()
    lines: list[str] = []
    try:
        for line in process.stdout:
            progress = PROGRESS.match(line)
            if progress is None:
                lines.append(line)
            elif warm_up.elapsed_s < WARM_UP_S:
                warm_up.epoch_s, warm_up.cpu = time.time(), target.read_cpu()
                now_s = float(progress[1])
                warm_up.transactions += float(progress[2]) * (now_s - warm_up.elapsed_s)
                warm_up.elapsed_s = now_s
        returned = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    evidence = f"{' '.join(command)}\n{''.join(lines[:LINES_SHOWN])}{target.log_tail()}"
    if overdue.is_set():
        raise BenchError(f"{target.name} did not finish within {limit_s:g} s: {evidence}")
    if returned != 0 or warm_up.elapsed_s < WARM_UP_S:
        raise BenchError(f"{target.name} failed under load: {evidence}")
    return warm_up, "".join(lines)


def _evaluate(
    case: Case,
    warm_up: WarmUp,
    cpu_after: CpuReading | None,
    output: str,
    latencies: Sequence[float],
    target: Target,
    seconds: int,
) -> Sample:
    """The figures of one run from what pgbench printed and logged."""
    transactions, tps, failed = TRANSACTIONS.search(output), TPS.search(output), FAILED.search(output)
    if transactions is None or (failed is not None and int(failed[1])):
        raise BenchError(f"{target.name}: pgbench reports failures or no figures:\n{output}{target.log_tail()}")
    if tps is None:  # of no transaction pgbench tells no rate
        raise TooBusy(f"no transaction ended in {WARM_UP_S + seconds} s\n{output}{target.log_tail()}")
    counted = int(transactions[1]) - warm_up.transactions
    elapsed_s = int(transactions[1]) / float(tps[1]) - warm_up.elapsed_s
    if elapsed_s < seconds * LEAST:
        raise TooBusy(f"of {WARM_UP_S + seconds} s logins and warm-up left next to nothing")
    if counted < 1 or not latencies:
        raise TooBusy(f"no transaction ended after the warm-up\n{output}{target.log_tail()}")
    work = counted * (case.megabytes or 1.0)
    sample = {
        "rate": work / elapsed_s,
        "p50_ms": percentile(latencies, 0.50),
        "p99_ms": percentile(latencies, 0.99),
        "spread": percentile(latencies, 0.99) / percentile(latencies, 0.50),
    }
    if warm_up.cpu is not None and cpu_after is not None:
        spent = cpu_spent(warm_up.cpu, cpu_after)
        sample["cost"] = spent.total_us / work
        sample["cost_user"] = spent.user_us / work
        sample["cost_system"] = spent.system_us / work
    return sample


def latencies_ms(folder: Path, *, since_s: float, whole_cycles: bool) -> list[float]:
    """Sorted latencies of the logged transactions that ended at or after `since_s` (Unix time), in milliseconds.

    Args:
        whole_cycles: count from the end of the same client's transaction before, which takes every transaction to be
            logged. pgbench's own latency starts when the connection stands, so with `-C` it leaves the login out.
    Source: PostgreSQL docs, pgbench, "Per-Transaction Logging": client_id transaction_no time script_no time_epoch
    time_us; times in microseconds.
    """
    found = []
    for path in folder.glob("transactions.*"):
        last_end_us: dict[str, int] = {}
        for line in path.read_text().splitlines():
            client, _, time_us, _, epoch_s, epoch_us = line.split()[:6]
            end_us = int(epoch_s) * 1_000_000 + int(epoch_us)
            if whole_cycles:
                begin_us = last_end_us.get(client, end_us)
                last_end_us[client] = end_us
            else:
                begin_us = end_us - int(time_us)
            if end_us >= since_s * 1e6 and begin_us < end_us:
                found.append((end_us - begin_us) / 1e3)
    return sorted(found)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
