"""Programs that tests run to their end. One that fails, or that does not end, fails the test with what it said."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pgpool_core.testing import PostgresServer, find_pgbouncer
from pgpool_core.testing.binaries import pgbouncer_release

__all__ = ["NEEDS_TAKEOVER", "ROOT", "node", "of_postgres", "pgbouncer_before", "python", "run"]

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120.0


def run(
    *command: str | Path,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    may_fail: bool = False,
) -> subprocess.CompletedProcess[str]:
    """What `command` said; its status is 0 unless it `may_fail`.

    Args:
        env: the whole environment; ours when None.
    """
    done = subprocess.run(
        command, input=stdin, env=env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert may_fail or done.returncode == 0, f"{command[0]}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def python(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """This interpreter, with the package of this tree; a warning is an error."""
    environment = {**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)}
    return run(sys.executable, "-W", "error", *arguments, env=environment, cwd=cwd)


def of_postgres(
    server: PostgresServer, program: str, *arguments: str | Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """One of the programs that came with `server`, which speaks English."""
    return run(server.binaries.program(program), *arguments, stdin=stdin, env={**os.environ, "LC_ALL": "C"})


@functools.cache
def pgbouncer_before(major: int, minor: int) -> bool:
    """Whether the PgBouncer that tests compare with is older than this release."""
    program = find_pgbouncer()
    return program is not None and pgbouncer_release(program) < (major, minor)


NEEDS_TAKEOVER = pytest.mark.skipif(not pgbouncer_before(1, 26), reason="no PgBouncer with -R here: 1.26 has none")
"""For tests in which PgBouncer takes over, or is taken over from."""


def node(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """node with the package `pg`, which the Makefile puts beside the environment's Python; without either, the test is skipped."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed here (apt-get install nodejs npm)")
    installed = str(Path(sys.prefix, "node_modules"))
    env = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, [installed, os.environ.get("NODE_PATH")]))}
    if run("node", "-e", "require('pg')", env=env, may_fail=True).returncode != 0:
        pytest.skip(
            "node finds no package `pg` (make test installs it where there is npm; or one of yours by NODE_PATH)"
        )
    return run("node", *arguments, stdin=stdin, env=env)
