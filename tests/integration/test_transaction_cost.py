"""`python -m benchmarks.micro.transaction`, briefly: whether it counts, not how much it counts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_the_instructions_of_a_transaction_are_counted_function_by_function() -> None:
    command = [sys.executable, "-m", "benchmarks.micro.transaction", "--protocol", "simple", "--clients", "4"]
    done = subprocess.run(
        [*command, "--transactions", "40"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    head = re.search(r"## simple: (\d+) instructions a transaction .*, (-?\d+\.\d+) allocations", done.stdout)
    assert head is not None
    shown = dict(re.findall(r"\| (engine\.\S+) \| (\d+) \|", done.stdout))
    assert 0 < int(shown["engine.relay.relay"]) < int(head[1])
    assert 0 < int(shown["engine.server.server_bytes"]) < int(head[1])


def test_without_valgrind_it_says_what_is_missing() -> None:
    command = [sys.executable, "-m", "benchmarks.micro.transaction"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "valgrind" in done.stderr
    assert done.stdout == ""
