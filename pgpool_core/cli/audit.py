"""`pgpool-core audit URL`: which session state a pooler keeps for its client, loses, or hands to somebody else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import trio

from pgpool_core.audit.auditor import Audit
from pgpool_core.errors import PgPoolError


def main(argv: Sequence[str]) -> int:
    """0 when nothing leaks or is lost, 1 when something does, 2 when nobody can log in."""
    arguments = _parser().parse_args(argv)
    audit = Audit(url=arguments.url, wait_s=arguments.wait, limit=arguments.connections)
    try:
        report = trio.run(audit.run)
    except KeyboardInterrupt:
        return 130
    except PgPoolError as error:
        print(f"pgpool-core audit: {error}", file=sys.stderr)
        return 2
    print(report.json() if arguments.json else report.table())
    return 1 if report.bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgpool-core audit",
        description="Plant each kind of session state from one client of any pooler (or of PostgreSQL itself) and look for it "
        "from others that are made to use the same server. Exit status: 0 nothing leaks or is lost, 1 something does, 2 no login.",
    )
    parser.add_argument("url", metavar="URL", help="postgresql://user:password@host:port/dbname, or key=value words")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="a client that gets no server for so long has none (default 2)",
    )
    parser.add_argument(
        "--connections",
        type=_count,
        default=25,
        metavar="N",
        help="open at most so many at once: more than the pool has servers (default 25)",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 0 to 3600 seconds")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return value
