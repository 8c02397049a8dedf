"""`pgpool-core serve FILE.ini`: the pooler as a service, in the foreground, until a signal or SHUTDOWN."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pgpool_core.cli.from_env import add_arguments, named_file
from pgpool_core.process.service import Start, run


def main(argv: Sequence[str]) -> int:
    """Run until stopped; 0 after an orderly end, 1 when it could not start or broke, with the reason on standard error and in the log."""
    parser = _parser()
    given = parser.parse_args(argv)
    start = Start(
        program="pgpool-core serve",
        file=named_file(parser, given),
        verbose=given.verbose,
        quiet=given.quiet,
        daemon=given.daemon,
        reboot=given.reboot,
        user=given.user,
    )
    return run(start)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pgpool-core serve", description=__doc__)
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration in PgBouncer's format, or as TOML")
    add_arguments(parser)
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log DEBUG lines too")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not log to standard error, only to logfile")
    parser.add_argument(
        "-d", "--daemon", action="store_true", help="go into the background once it runs; needs pidfile"
    )
    parser.add_argument("-R", "--reboot", action="store_true", help="take the place of the one that runs")
    parser.add_argument("-u", "--user", metavar="NAME", default="", help="as root: become this user, before `user=`")
    return parser
