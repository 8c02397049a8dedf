"""Where and with what a benchmark ran: without it, figures mean nothing."""

from __future__ import annotations

import datetime
import os
import platform
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def describe(*, postgres: str, pgbouncer: Path | None) -> dict[str, str]:
    """Facts for the report's head, by name, in order. Call it before the first run: it reads the load average.

    Args:
        postgres: PostgreSQL's version.
        pgbouncer: the program, or None where it is not compared.
    """
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores for us of {os.cpu_count()}",
        "memory": f"{memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "PostgreSQL": postgres,
    }
    if pgbouncer is not None:
        place = pgbouncer.relative_to(Path.cwd()) if pgbouncer.is_relative_to(Path.cwd()) else pgbouncer
        release, *libraries = printed([str(pgbouncer), "--version"]) or [""]
        tls = next((line.removeprefix("tls: ") for line in libraries if line.startswith("tls: ")), "TLS not told")
        facts["PgBouncer"] = f"{release} ({place}), {tls}"
    facts["pgpool_core"] = f"{own_version()}, {commit()}, CPython {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}"
    return facts


def cpu_model() -> str:
    """The model name of the first CPU; the architecture where the kernel tells none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_gib() -> float:
    """Memory of the machine in GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def own_version() -> str:
    """Our version, from the tree that is measured."""
    with (ROOT / "pyproject.toml").open("rb") as source:
        return str(tomllib.load(source)["project"]["version"])


def commit() -> str:
    """The commit that is measured, and whether the tree has changes beside it (reports do not count)."""
    head = printed(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    if not head:
        return "no commit"
    changes = printed(["git", "-C", str(ROOT), "status", "--porcelain", "--", ".", ":!benchmarks/RESULTS*"])
    return f"commit {head[0]}{' with uncommitted changes' if changes else ''}"


def printed(command: Sequence[str]) -> list[str]:
    """The lines that a program prints; none where it cannot run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []
