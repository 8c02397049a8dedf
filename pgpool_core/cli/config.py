"""`pgpool-core config --from-env`: the ini that the environment asks for, printed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pgpool_core.cli.from_env import INI, add_arguments, kind_of
from pgpool_core.config.env import Generated, generate
from pgpool_core.config.load import parse_config
from pgpool_core.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """0 when it was printed, 1 when the environment asks for nothing that can be, or for what cannot be used."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.from_env is None:
        parser.error("say --from-env")
    try:
        made = generate(kind_of(arguments.from_env, os.environ), os.environ, arguments.config_dir)
    except ConfigError as error:
        print(f"pgpool-core config: {error}", file=sys.stderr)
        return 1
    for warning in made.warnings:
        print(f"pgpool-core config: warning: {warning}", file=sys.stderr)
    text = (
        made.shell(show_secrets=arguments.show_secrets) if arguments.exports else _files(made, arguments.show_secrets)
    )
    print(text, end="")
    try:
        parse_config(made.ini(show_secrets=True), file=f"{made.folder}/{INI}")
    except ConfigError as error:
        for problem in error.problems:
            print(f"pgpool-core config: error: {problem}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgpool-core config",
        description="Print the pgbouncer.ini, and as comments the userlist, that the environment asks for. `pgpool-core serve "
        "--from-env` writes and uses them.",
    )
    add_arguments(parser)
    parser.add_argument("--show-secrets", action="store_true", help="print passwords instead of asterisks")
    parser.add_argument(
        "--exports", action="store_true", help="print the variables that the application is to see, for a shell to eval"
    )
    return parser


def _files(made: Generated, show_secrets: bool) -> str:
    users = made.userlist(show_secrets=show_secrets).splitlines()
    lines = [f"; {made.folder}/{INI}", made.ini(show_secrets=show_secrets), f"; {made.settings['auth_file']}"]
    return "\n".join([*lines, *(f"; {line}" for line in users), ""])
