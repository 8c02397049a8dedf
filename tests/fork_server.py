"""Poolers without their start: one process imports `pgpool-core serve` once, and forks for every pooler that a test starts.

Most of what a pooler's start costs is importing, half a second of a processor, and `make test` starts about a thousand. A pooler that is
forked has an environment, a folder, a user, a session and descriptors of its own, as if it had been executed; what it cannot have is an
interpreter of its own, so whoever changes what that looks at (PYTHON..., LD_..., locales) gets one. So does everything else that is no
plain `python -m pgpool_core serve`. With PGPOOL_TEST_FORK=0, as in `make test-all`, every pooler is executed.

As a program, this is the process that forks: `python -m tests.fork_server DESCRIPTOR`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import attrs

__all__ = ["ForkServer", "Forked", "can_fork"]

SERVE: Final = [sys.executable, "-m", "pgpool_core", "serve"]
NUMBER: Final = struct.Struct("!i")
REQUEST_BYTES: Final = 1 << 17
"""A request, environment and all, is one message of at most so many bytes."""
OF_THE_INTERPRETER: Final = (
    "PYTHON",
    "LD_",
    "LC_",
    "LANG",
    "MALLOC_",
    "GLIBC_",
    "OPENSSL_",
    "ASAN_",
    "UBSAN_",
    "LSAN_",
    "TSAN_",
)
"""Variables that are read before any code of ours runs."""


def can_fork() -> bool:
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and os.environ.get("PGPOOL_TEST_FORK") != "0"


class Forked:
    """A child of the fork server's, with what `GuardedProcess` uses of a `subprocess.Popen`."""

    def __init__(self, pid: int, stdout: IO[bytes], status: socket.socket) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs. Its number is not used again before this has told its end."""
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], 0)[0]:
                told = self._status.recv(NUMBER.size)
                if not told:
                    raise RuntimeError("the fork server has ended")
                self.returncode = NUMBER.unpack(told)[0]
                self._status.close()  # so that it is waited for
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("pgpool-core serve", timeout or 0.0)
            with contextlib.suppress(ValueError):  # another thread has been told
                select.select([self._status], [], [], left)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@attrs.define
class ForkServer:
    """Started with the first pooler that can be forked. Takes the place of `subprocess.Popen` for a `GuardedProcess`."""

    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        user: int | None = None,
        group: int | None = None,
        extra_groups: Sequence[int] = (),
        **others: object,
    ) -> Forked | subprocess.Popen[bytes]:
        """`others` are as `GuardedProcess` has them: no input, output and errors to one pipe, a session of its own."""
        given = os.environ if env is None else env
        if list(command[:4]) != SERVE or _early(given) != _early(os.environ):
            identity = {} if user is None else {"user": user, "group": group, "extra_groups": extra_groups}
            return subprocess.Popen(command, env=env, cwd=cwd, **identity, **others)  # type: ignore[call-overload, no-any-return]
        request = json.dumps([command[4:], dict(given), str(cwd), user, group, list(extra_groups)]).encode()
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self._connected(), [request], [writing, theirs.fileno()])
        os.close(writing)
        theirs.close()
        (pid,) = NUMBER.unpack(ours.recv(NUMBER.size))
        return Forked(pid, os.fdopen(reading, "rb"), ours)

    def close(self) -> None:
        if self._process is not None and self._control is not None:
            self._control.close()
            self._process.wait()

    def _connected(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    cwd=Path(__file__).parents[1],
                    start_new_session=True,
                )
        return self._control


def _early(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(OF_THE_INTERPRETER) and name != "PYTHONPATH"}


# -- the process that forks ----------------------------------------------------------------------------------------------


def serve_forks(control: socket.socket) -> list[str] | None:
    """Fork for every request until `control` is closed; in a child, the arguments of its command."""
    children: dict[
        int, tuple[int, socket.socket]
    ] = {}  # by the descriptor that is waited for: first the process's, then the socket's
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while True:
        for number, _ in waiting.poll():
            if number == control.fileno():
                request, passed, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
                if not request:
                    return None
                if not (pid := os.fork()):
                    for other in (control, *(status for _, status in children.values())):
                        other.detach()  # `_become` closes them: they must not close what will have their numbers
                    return _become(passed[0], *json.loads(request))
                os.close(passed[0])
                status = socket.socket(fileno=passed[1])
                status.send(NUMBER.pack(pid))
                watch = os.pidfd_open(pid)
                children[watch] = pid, status
                waiting.register(watch, select.POLLIN)
                continue
            waiting.unregister(number)
            pid, status = children.pop(number)
            if number == status.fileno():  # its end is known where it was started
                os.waitpid(pid, 0)
                status.close()
                continue
            os.close(number)
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert end is not None
            with contextlib.suppress(BrokenPipeError):  # nobody wants to know
                status.send(NUMBER.pack(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status))
            children[status.fileno()] = pid, status
            waiting.register(status, select.POLLIN)


def _become(
    output: int,
    arguments: list[str],
    env: dict[str, str],
    cwd: str,
    user: int | None,
    group: int | None,
    groups: list[int],
) -> list[str]:
    """Be what an executed child would be; nothing of the parent's stays open."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(cwd)
    if user is not None and group is not None:
        os.setgroups(groups)
        os.setgid(group)
        os.setuid(user)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    return arguments


def main() -> int:
    import pgpool_core.cli.serve

    arguments = serve_forks(socket.socket(fileno=int(sys.argv[1])))
    if arguments is None:
        return 0
    sys.argv[:] = ["pgpool-core", "serve", *arguments]
    return pgpool_core.cli.serve.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
