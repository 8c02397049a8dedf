"""What it costs to tell many listening clients of one NOTIFY."""

from __future__ import annotations

import contextlib
import time

from benchmarks.macro.cases import Case
from benchmarks.macro.client import Client
from benchmarks.macro.errors import BenchError
from benchmarks.macro.figures import Sample
from benchmarks.macro.load import percentile
from benchmarks.macro.procfs import cpu_spent, read_rss_bytes
from benchmarks.macro.targets import Target

CHANNEL = "bench_news"
WARM_UP_MESSAGES = 3


def run_listeners(case: Case, target: Target, *, seconds: int) -> Sample:
    """`case.listeners` clients listen; another notifies, and again when the last of them has heard it, for `seconds`.

    The latencies are those of the whole round: from NOTIFY until the last client has its message. `target` must be fresh, for
    the memory's sake.

    Raises:
        BenchError: a client was refused, or a message did not arrive; the text names the target.
    """
    pid = target.pid
    if pid is None:
        raise BenchError(f"{target.name} is no pooler, so it has no memory per client")
    with contextlib.ExitStack() as connections:
        notifier = Client(target, case, connections)
        notifier.log_in()
        notifier.ask()
        before = read_rss_bytes(pid)
        listeners = [Client(target, case, connections) for _ in range(case.listeners)]
        for client in listeners:
            client.log_in()
            client.ask(f"LISTEN {CHANNEL}")
        memory = read_rss_bytes(pid) - before

        def tell_all() -> float:
            started = time.perf_counter()
            notifier.ask(f"NOTIFY {CHANNEL}, 'a message of some length, as they are'")
            for client in listeners:
                client.hear()
            return (time.perf_counter() - started) * 1e3

        for _ in range(WARM_UP_MESSAGES):
            tell_all()
        cpu_before, started = target.read_cpu(), time.perf_counter()
        rounds_ms = []
        while time.perf_counter() - started < seconds:
            rounds_ms.append(tell_all())
        elapsed_s, cpu_after = time.perf_counter() - started, target.read_cpu()
    assert cpu_before is not None
    assert cpu_after is not None
    messages = len(rounds_ms) * case.listeners
    spent = cpu_spent(cpu_before, cpu_after)
    return {
        "rate": messages / elapsed_s,
        "p50_ms": percentile(sorted(rounds_ms), 0.50),
        "p99_ms": percentile(sorted(rounds_ms), 0.99),
        "cost": spent.total_us / messages,
        "cost_user": spent.user_us / messages,
        "cost_system": spent.system_us / messages,
        "memory_kb": memory / 1e3 / case.listeners,
    }
