"""`python -m benchmarks.macro.wave`: clients that all log in at once, wave after wave, until it is ended; one line for each wave.

It is run at the lowest priority beside a case that asks what such waves do to clients who are in already (`company.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.macro.cases import Case, find_cases
from benchmarks.macro.client import Client
from benchmarks.macro.targets import Target

LOGINS: Final = 5000
SOURCES: Final = 250
"""Addresses that waves come from by turns: ports of the one before may not be free yet."""
TOGETHER: Final = 8
"""Sources of one wave."""


def run_wave(case: Case, target: Target, number: int, logins: int = LOGINS) -> float:
    """Log in as `case` says: every connection is made and has sent its startup packet before the first reads what it is asked. Seconds.

    Raises:
        BenchError: one was refused, or had no answer in time; the text names the target.
    """
    with contextlib.ExitStack() as connections:
        started = time.perf_counter()
        waiting = [
            Client(target, case, connections, source=f"127.1.{(number * TOGETHER + i % TOGETHER) % SOURCES}.1")
            for i in range(logins)
        ]
        while waiting:
            waiting = [client for client in waiting if not client.step()]
        return time.perf_counter() - started


def main() -> int:
    """The program; it does not end by itself."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.macro.wave", description=__doc__.partition("\n")[0])
    parser.add_argument("case")
    parser.add_argument("name", help="of the target")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    chosen = parser.parse_args()
    [case] = find_cases([chosen.case])
    target = Target(name=chosen.name, host=chosen.host, port=chosen.port, socket_dir=Path())
    number = 0
    while True:
        print(run_wave(case, target, number), flush=True)
        number += 1


if __name__ == "__main__":
    sys.exit(main())
