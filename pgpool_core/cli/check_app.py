"""`pgpool-core check-app URL -- COMMAND`: whether a program can live with transaction pooling, and what it costs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import trio

from pgpool_core.audit.advice import Advice
from pgpool_core.audit.trial import try_command
from pgpool_core.errors import PgPoolError
from pgpool_core.logs import LOGGER


def main(argv: Sequence[str]) -> int:
    """The exit status of the command; 2 when nobody can log in at the URL, 127 when there is no such command, 126 when it cannot be run."""
    arguments = _parser().parse_args(argv)
    LOGGER.addHandler(logging.NullHandler())  # what the pooler has to say is in the report
    try:
        status, advice = trio.run(_run, arguments)
    except KeyboardInterrupt:
        return 130
    except PgPoolError as error:
        print(f"pgpool-core check-app: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pgpool-core check-app: {arguments.command[0]}: {error.strerror or error}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) or not arguments.command[0] else 126
    print(advice.text(), file=sys.stderr)
    return status


async def _run(arguments: argparse.Namespace) -> tuple[int, Advice]:
    return await try_command(
        arguments.url, arguments.command, spare=min(3, arguments.pool_size), pool_size=arguments.pool_size
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgpool-core check-app",
        description="Run a command through a pool in front of URL that changes servers at every transaction, and print (on standard"
        " error) which session features it used, what plain transaction pooling would have broken, and the cheapest safe mode."
        " The command finds the pool in DATABASE_URL, PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.",
        usage="pgpool-core check-app [-h] [--pool-size N] URL -- COMMAND ...",
    )
    parser.add_argument("url", metavar="URL", help="postgresql://user:password@host:port/dbname, or key=value words")
    parser.add_argument("--pool-size", type=int, default=20, metavar="N", help="servers at most (default 20)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, with its arguments, behind --")
    return parser
