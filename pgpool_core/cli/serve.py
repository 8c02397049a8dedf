"""`pgpool-core serve FILE.ini`: the pooler as a service, in the foreground, until a signal or SHUTDOWN."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from pgpool_core import logs
from pgpool_core.cli.from_env import add_arguments, named_file
from pgpool_core.config.load import load_config
from pgpool_core.config.model import Config
from pgpool_core.control.signals import signals_received, watch_signals
from pgpool_core.embedded.proxy import open_proxy
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError

SPARE_DESCRIPTORS: Final = 100  # logs, listeners, event loops, cancel requests

_NOT_OFFERED: Final = {
    "-d": "going into the background is left to the service manager (systemd: Type=simple)",
    "-R": "taking over from a running process is not supported by this version of pgpool_core",
    "-u": "changing the user is left to the service manager (systemd: User=)",
}


class _Refuse(argparse.Action):
    """An option of PgBouncer that we do not have: an error that says what to do instead."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        parser.error(f"{option_string}: {_NOT_OFFERED[self.option_strings[0]]}")


def main(argv: Sequence[str]) -> int:
    """Run until stopped; 0 after an orderly end, 1 when it could not start or broke, with the reason on standard error and in the log."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.file = named_file(parser, arguments)
    output = logs.LogOutput(quiet=arguments.quiet, verbose=arguments.verbose)
    try:
        config = load_config(arguments.file)
        try:
            output.apply(config.logfile, config.verbose)
        except OSError as error:
            raise ConfigError(
                [ConfigProblem(_log_problem(config, error), file=arguments.file, key="logfile")]
            ) from error
        _raise_descriptor_limit(config)
        trio.run(_serve, arguments.file, output, restrict_keyboard_interrupt_to_checkpoints=True)
    except KeyboardInterrupt:
        return 0  # before the signals were listened for
    except PgPoolError as error:
        for text in str(error).splitlines():
            logs.LOGGER.critical("%s", logs.line("", text))
        if arguments.quiet:  # then the log may be nowhere
            print(f"pgpool-core serve: {error}", file=sys.stderr)
        return 1
    except Exception:
        logs.LOGGER.critical("internal error, the process ends", exc_info=True)
        return 1
    finally:
        output.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pgpool-core serve", description=__doc__)
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration in PgBouncer's format, or as TOML")
    add_arguments(parser)
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log DEBUG lines too")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not log to standard error, only to logfile")
    for short, long in (("-d", "--daemon"), ("-R", "--reboot"), ("-u", "--user")):
        parser.add_argument(short, long, action=_Refuse, nargs="?" if short == "-u" else 0, help=argparse.SUPPRESS)
    return parser


async def _serve(file: str, output: logs.LogOutput) -> None:
    with signals_received() as received:
        async with open_proxy(Path(file)) as proxy, trio.open_nursery() as nursery:
            proxy.call_after_reload(partial(_use_log_settings, output))

            async def reload() -> None:
                with suppress(PgPoolError):  # it is in the log, and the old configuration stays
                    await proxy.reload()

            nursery.start_soon(partial(watch_signals, received, reload=reload, stop=proxy.begin_shutdown))
            await proxy.wait_closed()
            nursery.cancel_scope.cancel(reason="the pooler has stopped")


def _use_log_settings(output: logs.LogOutput, config: Config) -> None:
    """Open the log file again, which logrotate may have moved; where that fails, go on with what is open."""
    try:
        output.apply(config.logfile, config.verbose)
    except OSError as error:
        logs.LOGGER.error("%s", logs.line("", _log_problem(config, error)))


def _log_problem(config: Config, error: OSError) -> str:
    return f"cannot open the log file {config.logfile}: {error.strerror or error} (logfile)"


def _raise_descriptor_limit(config: Config) -> None:
    """Allow as many descriptors as clients and servers may need; say so where the system does not let us."""
    wanted = config.max_client_conn + servers_at_most(config) + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    if allowed < wanted:
        fields = {"limit": allowed, "max_client_conn": config.max_client_conn, "needed": wanted}
        logs.LOGGER.warning("%s", logs.line("", "too few file descriptors for all clients (ulimit -n)", fields))


def servers_at_most(config: Config) -> int:
    """Server connections that may be open at once if one user uses each database; more users need more."""
    total = 0
    for entry in config.databases.values():
        size = config.default_pool_size if entry.pool_size is None else entry.pool_size
        reserve = config.reserve_pool_size if entry.reserve_pool_size is None else entry.reserve_pool_size
        limit = config.max_db_connections if entry.max_db_connections is None else entry.max_db_connections
        total += min(size + reserve, limit) if limit else size + reserve
    return total
