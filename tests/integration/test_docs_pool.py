"""Every Python snippet of docs/pool.md runs as it stands there, against a server of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgpool_core.client.pool import open_pool
from pgpool_core.testing import PostgresServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pool.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
URL = "postgresql://app:secret@10.0.0.5/app"


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 6
    assert all(URL in snippet for snippet in SNIPPETS)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number: int, postgres: PostgresServer) -> None:
    program = SNIPPETS[number].replace(URL, postgres.dsn("app", "app"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_snippets_have_the_types_that_they_claim(tmp_path: Path) -> None:
    paths = []
    for number, snippet in enumerate(SNIPPETS):
        paths.append(tmp_path / f"snippet_{number}.py")
        paths[-1].write_text(snippet)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_argument_stands_in_the_table() -> None:
    import inspect

    table = PAGE.partition("## Arguments")[2]
    for name, parameter in inspect.signature(open_pool).parameters.items():
        row = next((line for line in table.splitlines() if f"`{name}`" in line and line.startswith("|")), None)
        assert row is not None, name
        if isinstance(parameter.default, float) and name != "min_size":
            assert f"{parameter.default:g}" in row
