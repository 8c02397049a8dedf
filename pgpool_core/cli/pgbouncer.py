"""`pgpool-core-pgbouncer`: PgBouncer's command line, word for word, so that a link called `pgbouncer` does for scripts and units.

Source: `pgbouncer --help` of 1.25; options and arguments may be mixed, as getopt_long(3) has it.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Sequence
from typing import Final

from pgpool_core import __version__
from pgpool_core.process.service import Start, run

_SHORT: Final = "dqRu:vVh"
_LONG: Final = ("daemon", "quiet", "reboot", "user=", "verbose", "version", "help")

_USAGE: Final = """\
{name} is a connection pooler for PostgreSQL.

Usage:
  {name} [OPTION]... CONFIG_FILE

Options:
  -d, --daemon         run in background (as a daemon)
  -q, --quiet          run quietly
  -R, --reboot         do an online reboot
  -u, --user=USERNAME  assume identity of USERNAME
  -v, --verbose        increase verbosity
  -V, --version        show version, then exit
  -h, --help           show this help, then exit

This is pgpool_core {version}.
"""


def console() -> int:
    """The console script."""
    return main(sys.argv[1:], name=sys.argv[0])


def main(argv: Sequence[str], *, name: str = "pgbouncer") -> int:
    """Run as PgBouncer would; `name` is what we were called. 0 after an orderly end, else 1."""
    try:
        options, files = getopt.gnu_getopt(list(argv), _SHORT, list(_LONG))
    except getopt.GetoptError as error:
        return _misused(name, error.msg)
    verbose, user, chosen = 0, "", set()
    for option, value in options:
        match option:
            case "-V" | "--version":
                print(version())
                return 0
            case "-h" | "--help":
                print(_USAGE.format(name=name, version=__version__), end="")
                return 0
            case "-v" | "--verbose":
                verbose += 1
            case "-u" | "--user":
                user = value
            case _:
                chosen.add(option.lstrip("-")[0])
    if len(files) != 1:
        return _misused(name, "no configuration file specified")
    start = Start(
        program=os.path.basename(name),
        file=files[0],
        verbose=verbose,
        quiet="q" in chosen,
        daemon="d" in chosen,
        reboot="R" in chosen,
        user=user,
        may_be_root=False,
    )
    return run(start)


def version() -> str:
    """What --version prints; the first line is that of SHOW VERSION."""
    import ssl
    import sys

    import trio

    from pgpool_core.admin.reply import version_text

    lines = (
        version_text(__version__),
        f"python {sys.version.split()[0]}, trio {trio.__version__}",
        f"tls: {ssl.OPENSSL_VERSION}",
    )
    return "\n".join((*lines, "systemd: yes"))


def _misused(name: str, text: str) -> int:
    print(f'{name}: {text}\nTry "{name} --help" for more information.', file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(console())
