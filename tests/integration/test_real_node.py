"""node-postgres in transaction mode as it is: named queries, its pool, settings at connect, notifications."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Target

SITE = Path(__file__).parents[1] / "clients" / "node_site.js"


@pytest.fixture(scope="session")
def node() -> str:
    """The program; it has to find the package `pg` by itself: in a node_modules above, or by NODE_PATH."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed here (apt-get install nodejs)")
    found = subprocess.run([program, "-e", "require('pg')"], cwd=SITE.parent, capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip(
            "node finds no package `pg` (npm install pg in a folder of yours, and its node_modules as NODE_PATH)"
        )
    return program


@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
@pytest.mark.pooler(default_pool_size=2)
def test_a_site(target: Target, node: str) -> None:
    done = subprocess.run(
        [node, str(SITE), target.host, str(target.port)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
