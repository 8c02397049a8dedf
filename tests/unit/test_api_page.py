"""docs/api.md is what the docstrings say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pgpool_core

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/api_page.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run tools/api_page.py (or `make format`) and look at its changes. {done.stderr}"


def test_every_public_name_stands_there_once() -> None:
    named = re.findall(r"^### (\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(pgpool_core.__all__) - {"__version__"} <= set(named)
