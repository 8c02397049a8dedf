"""`pgpool-core run -- COMMAND`: a pooler for one command, which finds it in its DATABASE_URL; both end together."""

from __future__ import annotations

import argparse
import logging
import math
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.env.generated import unread
from pgpool_core.config.env.heroku import is_enabled, is_variable
from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.config.names import FALLBACK_DATABASE
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.problems import Place, unknown_parameter
from pgpool_core.config.settings import SETTINGS
from pgpool_core.control.connect import open_server
from pgpool_core.control.footprint import forget_start
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.names import Names
from pgpool_core.control.routing import PoolKey, server_target
from pgpool_core.embedded.address import ProxyAddress
from pgpool_core.embedded.command import become, heeded, run_command
from pgpool_core.embedded.proxy import Proxy, open_prepared
from pgpool_core.embedded.source import ANYWHERE, SETTINGS_FROM_URL, Prepared, listening, server_socket_dir
from pgpool_core.embedded.urls import ApplicationUrl
from pgpool_core.embedded.usage import Complaints, Usage
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError
from pgpool_core.policy.secrets import Secret
from pgpool_core.policy.userlist import Userlist

URL_NAMES: Final = "PGBOUNCER_URLS"
DEFAULT_NAME: Final = "DATABASE_URL"
WITHOUT_STATEMENTS: Final = "PGBOUNCER_PREPARED_STATEMENTS"
PREFIX: Final = "PGBOUNCER_"
NO_POOLER: Final = 1
DRAIN_LOOK_S: Final = 0.02
ENDING: Final = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""Signals that end what has no command to pass them on to."""


@attrs.frozen(kw_only=True)
class Rewritten:
    """One variable: what it held, and which entry of the pooler it leads to from now on."""

    name: str
    url: ApplicationUrl = attrs.field(repr=False)
    database: str
    user: str


def main(argv: Sequence[str]) -> int:
    """The exit status of the command (128 + N after signal N, also before it has begun); 1 when there is no pooler or no server, 127 when there
    is no such command."""
    arguments = _parser().parse_args(argv)
    if not is_enabled(os.environ):
        return become(arguments.command)
    try:
        prepared, rewritten = prepare(os.environ, arguments)
        for warning in misspelt(os.environ, rewritten):
            print(f"pgpool-core run: warning: {warning}", file=sys.stderr)
        with _warnings(verbose=arguments.verbose) as complaints:
            return trio.run(
                partial(_run, arguments, prepared, rewritten, complaints),
                restrict_keyboard_interrupt_to_checkpoints=True,
            )
    except KeyboardInterrupt:
        return 130
    except (PgPoolError, OSError) as error:
        for line in str(error).splitlines():
            print(f"pgpool-core run: {line}", file=sys.stderr)
        return NO_POOLER


def prepare(environ: Mapping[str, str], arguments: argparse.Namespace) -> tuple[Prepared, list[Rewritten]]:
    """The pooler that the variables ask for, and what becomes of each.

    Raises:
        ConfigError: a variable is missing or cannot be used; names it and never repeats what it holds.
    """
    names = arguments.url_env or environ.get(URL_NAMES, "").replace(",", " ").split() or [DEFAULT_NAME]
    databases: dict[str, DatabaseConfig] = {}
    rewritten = []
    for name in names:
        url = _read(name, environ.get(name))
        server = url.server
        user = server.user or environ.get("PGUSER") or environ.get("USER") or "postgres"
        dbname = server.dbname or user
        entry = attrs.evolve(server, user=user, dbname=dbname, host=server.host or server_socket_dir())
        database = next(each for each in _names(dbname) if databases.get(each, entry) == entry)
        databases[database] = entry
        rewritten.append(Rewritten(name=name, url=url, database=database, user=user))
    ways = {attrs.evolve(each, dbname=None) for each in databases.values()}
    if len(ways) == 1:  # it is clear which server is meant by the name of another database
        databases.setdefault(FALLBACK_DATABASE, *ways)
    users = {
        each.user: secrets.token_urlsafe(24) for each in rewritten
    }  # of this run only: nobody else on this machine gets in
    values = {**SETTINGS_FROM_URL, **settings_of(environ), **_options(arguments), "admin_users": tuple(users)}
    prepared = Prepared(
        config=Config.of(databases=databases, **values),
        userlist=Userlist({user.encode(): Secret.plain_password(word.encode()) for user, word in users.items()}),
        user=rewritten[0].user,
        database=rewritten[0].database,
        private_dir=False,
    )
    return listening(prepared, arguments.listen), rewritten


def settings_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """Settings in PGBOUNCER_* variables, as the Heroku buildpack names them; its own switches and unknown ones are left alone."""
    ours = {"AUTH_TYPE", "LISTEN_PORT", "LISTEN_ADDR"}  # who may come in and where is settled by this run
    names = {name: name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)}
    return {
        short.lower(): environ[name]
        for name, short in names.items()
        if short not in ours and short.lower() in SETTINGS and environ[name] != ""
    }


def misspelt(environ: Mapping[str, str], rewritten: Sequence[Rewritten]) -> tuple[str, ...]:
    """A warning about PGBOUNCER_* variables that are neither settings nor those of the Heroku buildpack, nor hold a URL."""
    urls = {each.name for each in rewritten}
    return unread(environ, lambda short: is_variable(short) or short.lower() in SETTINGS or PREFIX + short in urls)


def _read(name: str, text: str | None) -> ApplicationUrl:
    if not text:
        raise ConfigError([ConfigProblem(f"{name} is not set: there is no server to stand in front of", key=name)])
    try:
        return ApplicationUrl.parse(text)
    except ConfigError as error:
        raise ConfigError([attrs.evolve(each, text=f"{name}: {each.text}") for each in error.problems]) from None


def _names(dbname: str) -> Iterator[str]:
    """What the entry may be called: as its database, else with a number behind it."""
    yield dbname
    number = 2
    while True:
        yield f"{dbname}_{number}"
        number += 1


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError([ConfigProblem(f"--set {key}: expected name=value", key=key)])
        name = key.strip()
        if name not in SETTINGS and name not in NOT_BUILT:
            raise ConfigError([unknown_parameter(Place(section="pgbouncer"), name)])
        given[name] = value.strip()
    if arguments.mode is not None:
        given["pool_mode"] = arguments.mode
    if arguments.pool_size is not None:
        given["default_pool_size"] = arguments.pool_size
    return given


async def _run(
    arguments: argparse.Namespace, prepared: Prepared, rewritten: Sequence[Rewritten], complaints: Complaints
) -> int:
    with trio.open_signal_receiver(*heeded(), signal.SIGCHLD) as signals:
        async with sole_errors(), open_prepared(prepared) as proxy:
            if not arguments.lazy:
                told = await _unless_told(
                    signals, partial(_try_servers, proxy.config, rewritten, timeout_s=arguments.ready_timeout)
                )
                if told is not None:
                    return 128 + told
            env = environment(os.environ, proxy.address, rewritten, arguments)
            forget_start()
            status = await run_command(arguments.command, env, signals)
            await _unless_told(signals, partial(_drain, proxy, arguments.drain))
            if not arguments.quiet:
                last = proxy.statistics()
                size = proxy.config.default_pool_size
                print(Usage.of(last).report(last, proxy.features(), complaints.counts, pool_size=size), file=sys.stderr)
    return status


def environment(
    environ: Mapping[str, str], address: ProxyAddress, rewritten: Sequence[Rewritten], arguments: argparse.Namespace
) -> dict[str, str]:
    """The command's environment: each variable leads to the pooler now."""
    env = dict(environ)
    for each in rewritten:
        if arguments.keep_original:
            env[each.name + arguments.keep_original] = environ[each.name]
        url = each.url.through(address, database=each.database, user=each.user)
        if environ.get(WITHOUT_STATEMENTS, "").lower() == "false":
            url += ("&" if "?" in url else "?") + "prepared_statements=false"
        env[each.name] = url
        if URL_NAMES in environ:
            env[f"{each.name}_PGBOUNCER"] = url
    if arguments.pg_env:
        env.update(address.way(rewritten[0].database, rewritten[0].user).libpq())
    return env


async def _try_servers(config: Config, rewritten: Sequence[Rewritten], *, timeout_s: float) -> None:
    """Log in once to the server of each variable, so that a wrong one is told now and not to the first client.

    Raises:
        ConfigError: there is no server, or it does not let us in; names the variable.
    """
    for each in rewritten:
        entry = config.databases[each.database]
        target = server_target(
            config, PoolKey(each.database, each.user), entry, lambda user: None, HostOrder(), Names()
        )
        try:
            (await open_server(target, timeout_s=timeout_s, setting="--ready-timeout")).close()
        except PgPoolError as error:
            raise ConfigError([ConfigProblem(f"{each.name}: {error}", key=each.name)]) from None


async def _unless_told(signals: AsyncIterator[int], work: Callable[[], Awaitable[None]]) -> int | None:
    """Do something that a signal of ENDING breaks off; that signal, or None where it came to its end."""
    told = None

    async def hear() -> None:
        nonlocal told
        async for number in signals:
            if number in ENDING:
                told = number
                nursery.cancel_scope.cancel("a signal has come")
                return

    async with sole_errors(), trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        await work()
        nursery.cancel_scope.cancel("it is done")
    return told


async def _drain(proxy: Proxy, patience_s: float) -> None:
    """Let clients that the command has left behind finish, for so long."""
    with trio.move_on_after(patience_s):
        while sum(pool.cl_active + pool.cl_waiting for pool in proxy.statistics().pools):  # noqa: ASYNC110 (nobody tells)
            await trio.sleep(DRAIN_LOOK_S)


@contextmanager
def _warnings(*, verbose: bool) -> Iterator[Complaints]:
    """Count what the pooler warns of, and show it on standard error; with `verbose` all that it logs."""
    complaints = Complaints()
    shown = logging.StreamHandler()
    shown.setLevel(logging.INFO if verbose else logging.WARNING)
    shown.setFormatter(logs.LineFormatter())
    logs.LOGGER.setLevel(logging.INFO)
    for handler in (complaints, shown):
        logs.LOGGER.addHandler(handler)
    try:
        yield complaints
    finally:
        for handler in (complaints, shown):
            logs.LOGGER.removeHandler(handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgpool-core run",
        description="Start a pooler in front of the server that DATABASE_URL names, run COMMAND with DATABASE_URL leading to the pooler,"
        " and end with it and with its exit status. PGBOUNCER_* variables are settings, as with the Heroku buildpack;"
        " PGBOUNCER_ENABLED=0 runs COMMAND alone.",
        usage="pgpool-core run [options] -- COMMAND ...",
    )
    parser.add_argument(
        *("--url-env",),
        action="append",
        metavar="NAME",
        help="a variable that holds a URL (repeatable; default: those named in PGBOUNCER_URLS, else DATABASE_URL)",
    )
    parser.add_argument(
        "--mode", choices=("session", "transaction", "statement"), help="pool_mode (default transaction)"
    )
    parser.add_argument("--pool-size", type=int, metavar="N", help="servers for each database at most (default 20)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting (repeatable)"
    )
    parser.add_argument(
        "--listen", default=ANYWHERE, metavar="WHERE", help="host:port, or unix (default 127.0.0.1 and any free port)"
    )
    parser.add_argument("--pg-env", action="store_true", help="set PGHOST, PGPORT, PGUSER, ... for the first URL too")
    parser.add_argument("--keep-original", metavar="SUFFIX", help="keep what NAME held as NAMESUFFIX")
    parser.add_argument("--lazy", action="store_true", help="do not try the server before COMMAND starts")
    parser.add_argument("--ready-timeout", type=_seconds, default=10.0, metavar="S", help="for that try (default 10)")
    parser.add_argument(
        "--drain", type=_seconds, default=2.0, metavar="S", help="how long clients may outlive COMMAND (default 2)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no report at the end")
    parser.add_argument("-v", "--verbose", action="store_true", help="show all that the pooler logs")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, with its arguments, behind --")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
