"""A pooler as a process: from its file to its exit status. What `serve` and `pgpool-core-pgbouncer` have in common."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from typing import Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.load import load_config
from pgpool_core.config.model import Config
from pgpool_core.control.footprint import forget_programs, forget_sources, forget_start
from pgpool_core.control.groups import sole_errors
from pgpool_core.control.listeners import Listener, listener_of, open_listeners
from pgpool_core.control.pooler import Pooler
from pgpool_core.control.signals import signals_received, watch_signals
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError
from pgpool_core.policy.userlist import Userlist, load_users
from pgpool_core.process import background
from pgpool_core.process.account import become, is_root
from pgpool_core.process.background import Background
from pgpool_core.process.descriptors import raise_descriptor_limit
from pgpool_core.process.handover import give_all, sockets_of, take_from, take_strangers
from pgpool_core.process.log_output import LogOutput
from pgpool_core.process.packets import VERSION
from pgpool_core.process.pidfile import Pidfile
from pgpool_core.process.predecessor import Predecessor
from pgpool_core.process.syslog import Syslog
from pgpool_core.process.systemd import Notifier, sockets_given
from pgpool_core.process.takeover import Door, Successor, door_path

TEXTS_APART: Final = 1 << 32  # texts of statements that the old process may yet meet

_LATE: Final = (
    "encodings.idna",  # getaddrinfo
    "pgpool_core.admin.commands",
    "pgpool_core.control.endpoint",
    "pgpool_core.control.pages",
    "pgpool_core.engine.memory",
    "pgpool_core.engine.plane",
    "pgpool_core.metrics.prometheus",
)


@attrs.frozen(kw_only=True)
class Start:
    """How the process was called."""

    program: str  # what errors call it
    file: str
    verbose: int = 0
    quiet: bool = False
    daemon: bool = False
    reboot: bool = False  # -R: take the place of the one that runs
    user: str = ""  # -u, goes before `user=`
    may_be_root: bool = True  # else running as root is an error, as with PgBouncer


def run(start: Start) -> int:
    """Run until stopped; 0 after an orderly end, 1 when it could not start or broke, with the reason on standard error and in the log."""
    output = LogOutput(quiet=start.quiet, verbose=start.verbose)
    try:
        return _Service(start, output).run()
    except KeyboardInterrupt:
        return 0  # before the signals were listened for
    except PgPoolError as error:
        for text in str(error).splitlines():
            logs.LOGGER.critical("%s", logs.line("", text))
        if start.quiet:  # then the log may be nowhere
            print(f"{start.program}: {error}", file=sys.stderr)
        return 1
    except Exception:
        logs.LOGGER.critical("internal error, the process ends", exc_info=True)
        return 1
    finally:
        output.close()


class _Service:
    """One run, step by step in the order in which rights are given up and files are touched."""

    def __init__(self, start: Start, output: LogOutput) -> None:
        self._start = start
        self._output = output
        self._background = Background(-1)
        self._door = trio.CancelScope()
        self._takes = False  # clients of another process, and passes cancel requests on to it
        self._conffile = os.path.abspath(start.file)

    def run(self) -> int:
        start = self._start
        forget_sources()
        config = self._read()
        self._notifier = Notifier(os.environ)
        given = sockets_given(os.environ)
        if name := config.user:
            import_all()
            become(name)
        if is_root():
            if not start.may_be_root:
                raise ConfigError([ConfigProblem("PgBouncer should not run as root", section="pgbouncer", key="user")])
            logs.LOGGER.warning("running as root, which nothing here needs (user)")
        if start.daemon and not config.pidfile:
            raise ConfigError([ConfigProblem("daemon needs pidfile configured", section="pgbouncer", key="pidfile")])
        self._use_log(config)
        raise_descriptor_limit(config)
        with ExitStack() as ends:
            ends.callback(self._notifier.close)
            self._pidfile = Pidfile(config.pidfile)
            if not start.reboot:
                self._pidfile.check()
            if start.daemon:
                gone = background.go()
                if isinstance(gone, int):
                    return gone
                self._background = gone
            ends.callback(self._pidfile.remove)
            if not start.reboot:
                self._pidfile.write()
            trio.run(self._serve, config, given, restrict_keyboard_interrupt_to_checkpoints=True)
        return 0

    def _read(self, path: str | None = None) -> Config:
        """The configuration, with what the command line says; `conffile` says afterwards which file the next RELOAD reads."""
        path = path or self._conffile
        config = load_config(path)
        return attrs.evolve(config, conffile=config.conffile or path, user=self._start.user or config.user)

    def _use_log(self, config: Config) -> None:
        try:
            self._output.apply(config.logfile, config.verbose, _syslog(config))
        except OSError as error:
            problem = ConfigProblem(_log_problem(config, error), file=self._start.file, key="logfile")
            raise ConfigError([problem]) from error

    async def _serve(self, config: Config, given: list[socket.socket]) -> None:
        successor = await self._knock(config) if self._start.reboot else None
        try:
            await self._serve_from(config, given, successor)
        finally:
            if isinstance(successor, Predecessor):
                successor.close()  # where it has not ended, it goes on

    async def _serve_from(
        self, config: Config, given: list[socket.socket], successor: Successor | Predecessor | None
    ) -> None:
        taken = successor.sockets.clients if successor else given
        foreign = successor.sockets.foreign if successor else range(len(given))
        if successor:
            self._pidfile.prepare()

        async def listen(config: Config) -> list[Listener]:
            if not taken:
                return await open_listeners(config)
            late = successor is None
            return [listener_of(sock, late=late, foreign=at in foreign) for at, sock in enumerate(taken)]

        def reread() -> tuple[Config, Userlist]:
            fresh = self._read(pooler.config.conffile)
            return fresh, load_users(fresh.auth_file)

        pooler = Pooler(config, reread=reread, listen=listen)
        if successor:
            pooler.use_for_metrics(successor.sockets.metrics_listen, successor.sockets.metrics)
            if successor.sockets.moves == VERSION:
                pooler.first_text = successor.sockets.texts + TEXTS_APART
            pooler.mock_key = successor.sockets.mock_key or pooler.mock_key
        pooler.on_applying = partial(use_log_settings, self._output)
        pooler.on_reloading = self._notifier.reloading
        pooler.on_reloaded = self._notifier.ready
        pooler.on_stats = self._notifier.status
        pooler.on_calm = forget_programs
        pooler.on_stopping = self._notifier.stopping
        with signals_received() as received:
            async with sole_errors(), trio.open_nursery() as nursery:
                await nursery.start(self._run, pooler, nursery)
                if successor:
                    await self._come_up(successor, pooler, nursery)
                self._up()
                nursery.start_soon(self._hand_over, pooler, successor)
                nursery.start_soon(self._hand_out, pooler)
                await watch_signals(
                    received, reload=partial(_reload, pooler), stop=pooler.stop, orders=lambda: pooler.orders
                )

    async def _come_up(self, successor: Successor | Predecessor, pooler: Pooler, nursery: trio.Nursery) -> None:
        """The other one lets go: up to that anything may fail, and nothing afterwards, for nobody else would listen."""
        if isinstance(successor, Successor):
            pooler.succession.pass_cancels_to(successor.pass_on)
        await successor.come_up()
        self._takes = True
        nursery.start_soon(self._take, successor, pooler)
        for step in (pooler.own_unix_socket, self._pidfile.replace):
            try:
                step()
            except ConfigError as error:
                logs.LOGGER.warning("%s", logs.line("", str(error)))

    async def _run(
        self, pooler: Pooler, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await pooler.run(task_status=task_status)
        nursery.cancel_scope.cancel(reason="the pooler has stopped")

    async def _take(self, successor: Successor | Predecessor, pooler: Pooler) -> None:
        if isinstance(successor, Successor):
            await take_from(successor, pooler)
        else:
            await take_strangers(successor, pooler)
        self._takes = False

    async def _knock(self, config: Config) -> Successor | Predecessor | None:
        """The one that runs, where there is one; else we start as usual."""
        path = door_path(config, config.listen_port)
        if path and (successor := await Successor.knock(path)):
            logs.LOGGER.info("%s", logs.line("", "taking over", {"pid": successor.pid}))
            return successor
        if predecessor := await Predecessor.knock(config):
            logs.LOGGER.info("%s", logs.line("", "taking over from PgBouncer", {"pid": predecessor.pid}))
            return predecessor
        logs.LOGGER.info("old process not found, try to continue normally")
        self._pidfile.check()
        self._pidfile.write()
        return None

    async def _hand_out(self, pooler: Pooler) -> None:
        """Wait for a PgBouncer that takes over by SHOW FDS, then for the clients to leave that it could not take."""
        pid = await pooler.succession.handed_out()
        self._door.cancel(reason="another process has the sockets")
        await pooler.hand_over()
        self._pidfile.remove()  # it waits for that
        pooler.succession.let_go()
        self._notifier.main_pid(pid)
        self._notifier.close()
        logs.LOGGER.info("%s", logs.line("", "handed over, serving the clients that are here", {"pid": pid}))
        await pooler.wait_for_clients()
        pooler.stop("handed over, and no client is left")

    async def _hand_over(self, pooler: Pooler, before: Successor | Predecessor | None) -> None:
        """Wait for a process that takes over, then for our clients to leave."""
        if isinstance(before, Successor):
            await before.wait_taken()  # until then the door is its
        path = door_path(pooler.config, pooler.port)
        if not path:
            return

        async def let_go() -> None:
            await pooler.hand_over()
            self._pidfile.leave()

        try:
            door = Door(path, partial(sockets_of, pooler), let_go)
            with self._door:
                pid, connection, moves = await door.serve()
            if self._door.cancelled_caught:
                return
        except OSError as error:
            text = f"cannot be taken over by -R: cannot listen on {path}: {error.strerror or error}"
            logs.LOGGER.warning("%s", logs.line("", text))
            return
        self._notifier.main_pid(pid)
        self._notifier.close()
        logs.LOGGER.info("%s", logs.line("", "handed over, serving the clients that are here", {"pid": pid}))
        await give_all(connection, pooler, moves=moves, others=lambda: self._takes)
        pooler.stop("handed over, and no client is left")

    def _up(self) -> None:
        if self._start.daemon:
            self._output.leave_standard_error()
            try:
                self._background.ready()
            except OSError as error:
                text = f"cannot tell who has started it that it is up: {error.strerror}"
                logs.LOGGER.warning("%s", logs.line("", text))
        self._notifier.ready()
        forget_start()


async def _reload(pooler: Pooler) -> None:
    try:
        await pooler.reload()
    except PgPoolError:
        pass  # it is in the log, and the old configuration stays
    except Exception:
        logs.LOGGER.exception("internal error while reading the configuration again")


def import_all() -> None:
    """Import what is imported late otherwise: the user that we are about to become may not be able to read the interpreter's files."""
    for name in _LATE:
        import_module(name)


def use_log_settings(output: LogOutput, config: Config) -> None:
    """Open the log file again, which logrotate may have moved; where that fails, go on with what is open.

    Raises:
        ConfigError: it is another one than before, and cannot be opened.
    """
    is_other = not output.writes_to(config.logfile)
    try:
        output.apply(config.logfile, config.verbose, _syslog(config))
    except OSError as error:
        if is_other:
            raise ConfigError([ConfigProblem(_log_problem(config, error), key="logfile")]) from error
        logs.LOGGER.error("%s", logs.line("", _log_problem(config, error)))


def _syslog(config: Config) -> Syslog | None:
    return Syslog(config.syslog_ident, config.syslog_facility) if config.syslog else None


def _log_problem(config: Config, error: OSError) -> str:
    return f"cannot open the log file {config.logfile}: {error.strerror or error} (logfile)"
