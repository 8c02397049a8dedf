"""What a pooler holds of its program's files: what it needs, not what starting has read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgpool_core.control.slack import BURST
from pgpool_core.testing.process import GuardedProcess
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.watching import until

CRYPTO = "/libcrypto"
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="memory is read from /proc")

_SHED = """
import ssl, decimal
from pgpool_core.engine.memory import shed
from tests.integration.test_footprint import held
code, data = held("self", "r-x"), held("self", "rw-")
shed()
assert held("self", "r-x") < code / 2, (code, held("self", "r-x"))
assert held("self", "rw-") >= data / 2, (data, held("self", "rw-"))
ssl.create_default_context()
assert str(decimal.Decimal(2).sqrt()).startswith("1.414")
print("still right")
"""


def held(pid: int | str, rights: str, name: str = "/") -> int:
    """kB of files mapped with these rights that a process holds, of those with `name` in their path."""
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if found := re.match(r"[0-9a-f]+-[0-9a-f]+ (...)\S \S+ \S+ \d+\s*(.*)", line):
            counts = found[1] == rights and found[2].startswith("/") and name in found[2]
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_code_comes_back_where_it_is_needed_and_data_stays() -> None:
    done = subprocess.run([sys.executable, "-c", _SHED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still right\n"), done.stderr


def test_what_starting_and_a_burst_of_logins_needed_is_held_no_longer(
    pooler: PoolerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedProcess, "popen", subprocess.Popen)  # a program of its own, not one that is forked
    place = pooler(log_connections=False, log_disconnections=False, auth_type="scram-sha-256")
    pid = place.process.pid
    until(lambda: held(pid, "r-x", CRYPTO) < 1024, what="3 MB of OpenSSL, before")
    with Console(place) as console:
        logged_in = held(pid, "r-x", CRYPTO)
        assert logged_in > 0
        for _ in range(BURST):
            Console(place).close()
        until(lambda: held(pid, "r-x", CRYPTO) < logged_in, what=f"{logged_in} kB, with logins")
        assert console.lists()
