"""The plug-in as other projects have it: pytest in a process of its own, with pytest-trio, with anyio's plug-in, and with neither."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgpool_core.testing import PostgresServer

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(
    r"^```python\n(.*?)^```$",
    (ROOT / "docs/embedding.md").read_text().partition("## In tests")[2],
    re.DOTALL | re.MULTILINE,
)
PLAIN, TRIO = SNIPPETS
WITH_ANYIO = TRIO.replace("mark.trio", "mark.anyio") + "\n\n@pytest.fixture\ndef anyio_backend():\n    return 'trio'\n"
BETWEEN_TESTS = """
import pytest
kept = []

@pytest.mark.trio
@pytest.mark.parametrize("turn", range(2))
async def test_each_has_a_pool_of_its_own(pgpool_pool, pgpool_proxy, turn):
    assert all(pool.closed for pool in kept)
    kept.append(pgpool_pool)
    async with pgpool_pool.acquire() as one, pgpool_pool.acquire() as other:
        await one.execute("select 1")
        await other.execute("select 1")
    assert pgpool_proxy.statistics().overall.totals.client_logins >= 2
"""


def pytest_says(folder: Path, test: str, server: PostgresServer | None, *options: str) -> str:
    """The output of pytest over one file of tests."""
    folder.joinpath("test_it.py").write_text(test)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTEST"))}
    if server is not None:
        env["PGPOOL_TEST_DATABASE_URL"] = server.dsn("app", "app")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, "test_it.py"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_with_pytest_trio_a_pool_lives_as_long_as_its_test(tmp_path: Path, postgres: PostgresServer) -> None:
    said = pytest_says(tmp_path, PLAIN + TRIO + BETWEEN_TESTS, postgres, "-p", "no:anyio")
    assert "4 passed" in said, said


def test_plain_pytest_has_all_but_the_pool_and_says_so(tmp_path: Path, postgres: PostgresServer) -> None:
    test = PLAIN + "\n\ndef test_it(pgpool_pool):\n    pass\n"
    said = pytest_says(tmp_path, test, postgres, "-p", "no:trio", "-p", "no:anyio")
    assert "1 passed, 1 error" in said, said
    assert "async fixture 'pgpool_pool'" in said


@pytest.mark.slow
def test_in_trio_mode_no_mark_is_needed(tmp_path: Path, postgres: PostgresServer) -> None:
    said = pytest_says(tmp_path, TRIO.replace("@pytest.mark.trio\n", ""), postgres, "-o", "trio_mode=true")
    assert "1 passed" in said, said


@pytest.mark.slow
def test_with_the_plug_in_of_anyio(tmp_path: Path, postgres: PostgresServer) -> None:
    said = pytest_says(tmp_path, WITH_ANYIO, postgres, "-p", "no:trio")
    assert "1 passed" in said, said


@pytest.mark.slow
def test_without_a_server_one_is_started(tmp_path: Path) -> None:
    test = PLAIN + "\n\ndef test_the_server(pgpool_postgres, pgpool_url):\n    assert pgpool_postgres.sql('select 1')\n"
    said = pytest_says(tmp_path, test, None)
    assert "2 passed" in said, said
