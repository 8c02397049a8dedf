"""The command line: one module per sub-command, imported only when it is called."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, TextIO, cast

from pgpool_core import __version__

COMMANDS: Final = {
    "serve": "run the pooler that a pgbouncer.ini describes",
    "run": "run a command with a pooler of its own, which it finds in DATABASE_URL",
    "check": "tell what is wrong or doubtful with a configuration, without starting",
    "config": "print the configuration that environment variables ask for",
    "audit": "find out which session state a pooler keeps, loses or leaks",
    "check-app": "run a program through a pool that changes servers, and see what it needs",
    "demo": "try it: a PostgreSQL and a pooler in front of it, until Ctrl-C",
}
"""Sub-commands, each in the module of its name with `main(argv) -> exit status`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit status: 0 done, 1 it could not be done (said on standard error), 2 wrong usage.

    141, as of who ended by SIGPIPE, where whoever read standard output has gone.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":  # files and databases have any name
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error
    try:
        try:
            return _carry_out(words)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        if not _is_unread(sys.stdout):
            raise
        return 141


def _is_unread(stream: TextIO | None) -> bool:
    """Whether nobody reads `stream`; what is left in it then goes nowhere, so that Python does not complain at its end."""
    if stream is None:
        return False
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    if not poll.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return True


def _carry_out(words: Sequence[str]) -> int:
    word = words[0] if words else ""
    if word in COMMANDS:
        command = cast("Callable[[Sequence[str]], int]", import_module(f"{__name__}.{word.replace('-', '_')}").main)
        return command(words[1:])
    if word in ("-V", "--version"):
        print(f"pgpool-core {__version__}")
        return 0
    if word in ("-h", "--help", "help"):
        print(usage())
        return 0
    print(f"pgpool-core: {f'unknown command {word!r}' if word else 'no command given'}\n\n{usage()}", file=sys.stderr)
    return 2


def usage() -> str:
    """What `--help` prints."""
    commands = "\n".join(f"  {name:9} {about}" for name, about in COMMANDS.items())
    return (
        "usage: pgpool-core COMMAND [...]\n\n"
        f"A PostgreSQL connection pooler, version {__version__}.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -V, --version  print the version and exit\n  -h, --help     print this and exit\n\n"
        "`pgpool-core COMMAND --help` tells more."
    )
