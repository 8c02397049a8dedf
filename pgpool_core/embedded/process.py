"""The pooler in a process of its own, beside any program and all that it forks.

with run_proxy_process("postgresql://app@db/app") as proxy:
    os.environ["DATABASE_URL"] = proxy.url  # for the workers of gunicorn, uWSGI, Celery ...
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.embedded.address import Apart, ProxyAddress
from pgpool_core.embedded.block import sync_block
from pgpool_core.embedded.child import QUESTIONS
from pgpool_core.embedded.errand import Failed, Question, Start, Started, ask, receive
from pgpool_core.embedded.fork import close_in_children
from pgpool_core.embedded.proxy import STOPPED
from pgpool_core.embedded.source import Source
from pgpool_core.errors import ConfigError, InternalError, PoolClosed
from pgpool_core.metrics.features import SessionFeatures
from pgpool_core.metrics.snapshot import Snapshot

EXIT_WAIT_S: Final = 3.0  # for a proxy that is still open when the interpreter ends

# What a terminal or a service manager sends to everybody is left to the program: who is told to stop may still need its database.
_BOOT: Final = """\
import json, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv[1])
from pgpool_core.embedded.child import main
main(int(sys.argv[2]), int(sys.argv[3]))
"""


class ProcessProxy(Apart):
    """A running pooler in a process of its own. All methods may be called from any thread, and in forked children too."""

    def __init__(self, source: Source, listen: str | None, settings: dict[str, object]) -> None:
        """Called by `run_proxy_process`; nothing runs yet."""
        self._pid = os.getpid()
        self._start = Start(source=source, listen=listen, settings=settings, log_level=logs.LOGGER.getEffectiveLevel())
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None  # the process ends when it is closed
        self._started: Started | None = None

    @property
    def address(self) -> ProxyAddress:
        """Host, port and default login; stays known after the end."""
        if self._started is None:
            raise PoolClosed("this proxy was never started")
        return self._started.address

    @property
    def pid(self) -> int:
        """The id of the pooler's process."""
        if self._process is None:
            raise PoolClosed("this proxy was never started")
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it has stopped, by `shutdown`, from the console, or because its process died."""
        try:
            self._connect().close()
        except PoolClosed:
            return True
        return False

    def statistics(self) -> Snapshot:
        """Pools, servers, counters and averages now; no rows of clients, for these ask `snapshot`.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        answer: Snapshot = self._ask("statistics")
        return answer

    def features(self) -> SessionFeatures:
        """Which session features the clients have used since the start: settings, named statements, pins by reason.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        answer: SessionFeatures = self._ask("features")
        return answer

    def snapshot(self) -> Snapshot:
        """As `statistics`, with a row for each client.

        Raises:
            PoolClosed: the proxy has stopped.
        """
        answer: Snapshot = self._ask("snapshot")
        return answer

    def reload(self, config: Config | None = None) -> None:
        """Run with another configuration from now on, all of it or nothing; without one, read files again.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
            PoolClosed: the proxy has stopped.
        """
        self._ask("reload", config)

    def pause(self, database: str | None = None) -> None:
        """Give servers to nobody and close them as they come free, of one database or of all; returns when the last has gone.

        Clients wait meanwhile, each up to its query_wait_timeout. Interrupted: resumes.

        Raises:
            CommandRefused: no such database, or paused already.
            PoolClosed: the proxy has stopped.
        """
        self._ask("pause", database)

    def resume(self, database: str | None = None) -> None:
        """End `pause`.

        Raises:
            CommandRefused: it is not paused.
            PoolClosed: the proxy has stopped.
        """
        self._ask("resume", database)

    def shutdown(self, *, timeout_s: float | None = None) -> None:
        """Stop: clients get FATAL 57P01 `pooler is shutting down`, servers Terminate; wait for that, at most `timeout_s` seconds.

        May be repeated; does nothing in a forked child.
        """
        if self._pid != os.getpid() or self._process is None or self._lifeline is None:
            return
        with suppress(OSError):  # shut down already, or its process has gone
            self._lifeline.shutdown(socket.SHUT_WR)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def start(self) -> None:
        """Return when clients can connect; raises what `open_proxy` raises."""
        first = ask(self._start)
        ours, theirs = socket.socketpair()
        self._lifeline = ours
        with theirs:
            number = theirs.fileno()
            path = json.dumps([str(entry) for entry in sys.path])
            words = [python(), "-P", "-c", _BOOT, path, str(number), str(self._pid)]
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[number], start_new_session=True
            )
        close_in_children(self)
        atexit.register(self._at_exit)
        try:
            ours.sendall(first)
            answer = receive(ours)
        except (OSError, EOFError):
            raise InternalError(f"the proxy's process has ended: status {self._process.wait()}") from None
        if isinstance(answer, Failed):
            raise answer.error
        self._started = answer

    def end(self) -> None:
        """The end of the block after an error: stop."""
        if self._pid != os.getpid():
            return
        atexit.unregister(self._at_exit)
        self.shutdown()
        if self._lifeline is not None:
            self._lifeline.close()
        if self._started is not None:  # where it was killed, it has left its folder behind
            shutil.rmtree(self._started.folder, ignore_errors=True)

    def finish(self) -> None:
        """The end of the block: stop, and raise what the process died of, if that was not a shutdown."""
        self.shutdown()
        died = self._death()
        self.end()
        if died is not None:
            raise died

    def forget_in_child(self) -> None:
        """After a fork, in the child: let go of what keeps the process alive."""
        if self._lifeline is not None:
            self._lifeline.close()
        if self._process is not None and self._process.returncode is None:
            self._process.returncode = 0  # it is the parent's: not ours to wait for

    def _death(self) -> Exception | None:
        if self._pid != os.getpid() or self._process is None or self._lifeline is None or not self._process.returncode:
            return None
        with suppress(OSError, EOFError):
            if isinstance(said := receive(self._lifeline), Failed):
                return said.error
        return InternalError(f"the proxy's process has ended: status {self._process.returncode}")

    def _at_exit(self) -> None:
        self.shutdown(timeout_s=EXIT_WAIT_S)

    def _connect(self) -> socket.socket:
        if self._started is None:
            raise PoolClosed(STOPPED)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(Path(self._started.folder, QUESTIONS)))
        except PermissionError:
            sock.close()
            raise PoolClosed(
                "this proxy belongs to another user, who alone may ask it; its address is good for all"
            ) from None
        except OSError:
            sock.close()
            raise PoolClosed(STOPPED) from None
        return sock

    def _ask(self, name: str, *words: object) -> Any:
        question = ask(Question(name, words))
        with self._connect() as sock:
            try:
                sock.sendall(question)
                answer = receive(sock)
            except (ConnectionError, EOFError):
                raise PoolClosed(STOPPED) from None
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    def __repr__(self) -> str:
        if self._started is None:
            return "<ProcessProxy not started>"
        state = "closed" if self.closed else "running"
        return f"<ProcessProxy {state} on {self.host}:{self.port}, process {self.pid}, password hidden>"


def python() -> str:
    """The interpreter; a program that embeds Python, as uWSGI does, names itself in sys.executable.

    Raises:
        ConfigError: there is none.
    """
    if Path(sys.executable or "").name.startswith("python"):
        return sys.executable
    found = Path(sys.prefix, "bin", "python3")
    if not found.exists():
        raise ConfigError(f"no interpreter to run a process with: {found} does not exist, and {sys.executable} is none")
    return str(found)


@sync_block("run_proxy_process(...)", "proxy")
def run_proxy_process(source: Source, *, listen: str | None = None, **settings: object) -> Iterator[ProcessProxy]:
    """Run a pooler in a process of its own until the block ends; ready for clients when the block begins.

    Forked children (of gunicorn, uWSGI, Celery, multiprocessing) share it: its address is good for them, and its methods too. It shares no
    interpreter with the program, ends with it however that ends, and leaves SIGINT, SIGTERM and SIGHUP to it. What it logs goes to
    standard error, from the level on that the logger `pgpool_core` has here.

    Arguments and errors are those of `open_proxy`; a function in a Config, for a password, must be importable by its name.
    """
    proxy = ProcessProxy(source, listen, settings)
    try:
        proxy.start()
        yield proxy
    except BaseException:
        proxy.end()
        raise
    proxy.finish()
