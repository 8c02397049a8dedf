"""`pgpool-core run CMD ...`: a pooler of its own beside a command, as the buildpack's start-pgbouncer does it.

The pooler is made from the environment, the command finds it in its DATABASE_URL, and both end together: whichever ends first, the command is
asked to end by SIGTERM, and after it the pooler by SIGINT.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from pgpool_core.cli.from_env import INI, add_arguments, kind_of, prepare_files
from pgpool_core.config.env import generate
from pgpool_core.config.env.generated import folder_of
from pgpool_core.config.env.heroku import is_enabled
from pgpool_core.config.load import load_config
from pgpool_core.config.model import Config
from pgpool_core.errors import ConfigError

START_S: Final = 30.0  # for the pooler to listen
LOOK_S: Final = 0.02  # how often it is looked whether it does


def main(argv: Sequence[str]) -> int:
    """The exit status of the command (128 + N after signal N); 1 when there is no pooler, 127 when there is no such command."""
    arguments = _parser().parse_args(argv)
    command: list[str] = arguments.command
    try:
        if not is_enabled(os.environ):
            os.execvp(command[0], command)
        kind = kind_of(arguments.from_env or "auto", os.environ)
        own = (
            Path(arguments.config_dir or folder_of(kind, os.environ)) / INI
        ).exists()  # then the URLs are its owner's matter
        exports = {} if own else generate(kind, os.environ, arguments.config_dir).exports
        file = prepare_files(kind, os.environ, arguments.config_dir)
        config = load_config(file)
        return trio.run(_run, file, config, command, {**os.environ, **exports})
    except ConfigError as error:
        print(f"pgpool-core run: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError:
        print(f"pgpool-core run: {command[0]}: no such command", file=sys.stderr)
        return 127


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgpool-core run",
        description="Start a pooler from environment variables and, when it listens, COMMAND with URLs that lead to it. Both end together. "
        "PGBOUNCER_ENABLED=0 runs COMMAND alone.",
        usage="pgpool-core run [-h] [--from-env KIND] [--config-dir DIR] -- COMMAND ...",
    )
    add_arguments(parser)
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, with its arguments, behind --")
    return parser


async def _run(file: str, config: Config, command: Sequence[str], env: Mapping[str, str]) -> int:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        pooler = await _start([sys.executable, "-m", "pgpool_core", "serve", file], os.environ, deaf=True)
        try:
            if not await _listens(pooler, config):
                print("pgpool-core run: the pooler did not start", file=sys.stderr)
                return 1
            application = await _start(command, env)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pass_on, signals, application, pooler)
                nursery.start_soon(_end_with, pooler, application)
                status = await application.wait()
                nursery.cancel_scope.cancel(reason="the command has ended")
            return 128 - status if status < 0 else status
        finally:
            with trio.CancelScope(shield=True):
                pooler.send_signal(signal.SIGINT)
                await pooler.wait()


async def _start(command: Sequence[str], env: Mapping[str, str], *, deaf: bool = False) -> trio.Process:
    """Start a child; `deaf` to SIGTERM, which a platform sends to every process at once, before the command has done with us."""

    def prepare() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)

    return await trio.lowlevel.open_process(command, env=env, preexec_fn=prepare)


async def _listens(pooler: trio.Process, config: Config) -> bool:
    """Wait until the pooler accepts connections; False when it does not."""
    with trio.move_on_after(START_S):
        while pooler.poll() is None:
            try:
                stream = await _connect(config)
            except OSError:
                await trio.sleep(LOOK_S)
            else:
                await stream.aclose()
                return True
    return False


async def _connect(config: Config) -> trio.abc.Stream:
    if not config.listen_addr:
        return await trio.open_unix_socket(f"{config.unix_socket_dir}/.s.PGSQL.{config.listen_port}")
    host = config.listen_addr[0]
    return await trio.open_tcp_stream({"*": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host), config.listen_port)


async def _pass_on(signals: object, application: trio.Process, pooler: trio.Process) -> None:
    """Hand the command what we are asked to end by, and the pooler what asks for a reload."""
    async for number in signals:  # type: ignore[attr-defined]
        (pooler if number == signal.SIGHUP else application).send_signal(number)


async def _end_with(pooler: trio.Process, application: trio.Process) -> None:
    """Without its pooler the command cannot go on."""
    await pooler.wait()
    print("pgpool-core run: the pooler has ended, and the command is asked to", file=sys.stderr)
    application.send_signal(signal.SIGTERM)
