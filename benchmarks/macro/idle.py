"""What a logged-in client that does nothing costs the pooler in memory."""

from __future__ import annotations

import contextlib
import time
from typing import Final

from benchmarks.macro.cases import Case
from benchmarks.macro.client import Client
from benchmarks.macro.errors import BenchError
from benchmarks.macro.figures import Sample
from benchmarks.macro.procfs import read_rss_bytes
from benchmarks.macro.targets import Target

FIRST_CLIENTS: Final = 320
"""Clients that come and query before the first reading, so that fixed costs are not counted as the others': what is done for many
at a time (random numbers for 256) is among those. They stay to the end: the others would find the room that they left."""
SETTLE_S: Final = 2.5
"""Between the last login and each reading of what is held: what a burst took may go back to the system first (ours does that once a second),
and pages of the program that its first rounds bring in are nobody's."""


def run_idle(case: Case, target: Target) -> Sample:
    """Log `case.idle_clients` clients in, then let each run one query; memory before and after both.

    They log in one after another, or with `case.at_once` in step: all have their challenge before the first proves
    anything, so that what a login needs is there as many times.

    `target` must be fresh: memory that an earlier run has touched would hide the growth.
    Raises:
        BenchError: a client was refused or got no answer; the text names the target.
    """
    pid = target.pid
    if pid is None:
        raise BenchError(f"{target.name} is no pooler, so it has no memory per client")
    with contextlib.ExitStack() as open_clients:
        for _ in range(FIRST_CLIENTS):
            client = Client(target, case, open_clients)
            client.log_in()
            client.ask()
        time.sleep(SETTLE_S)
        before = read_rss_bytes(pid)
        clients = []
        for _ in range(case.idle_clients):
            clients.append(Client(target, case, open_clients))
            if not case.at_once:
                clients[-1].log_in()
        waiting = clients if case.at_once else []
        while waiting:
            waiting = [client for client in waiting if not client.step()]
        time.sleep(SETTLE_S)
        logged_in = read_rss_bytes(pid)
        for client in clients:
            client.ask()
        queried = read_rss_bytes(pid)
    return {
        "rss_mb": before / 1e6,
        "memory_kb": (logged_in - before) / 1e3 / case.idle_clients,
        "queried_kb": (queried - before) / 1e3 / case.idle_clients,
    }
