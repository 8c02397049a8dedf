"""A child process that the pooler exists for: signals reach it, it hears of our death, and as process 1 we bury its orphans.

Source: prctl(2), PR_SET_PDEATHSIG; waitid(2); the conventions of shells for exit statuses (128 + signal).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import trio

from pgpool_core import logs
from pgpool_core.embedded.pidfd import open_pidfd

FORWARDED: Final = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT")
)

# Runs in the child in place of the command, for a moment: between fork and exec nothing of Python is safe in a process with threads.
_SHIM: Final = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
    signal.signal(number, signal.SIG_DFL)
if os.getppid() != parent:
    os._exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except (FileNotFoundError, ValueError):  # ValueError: an empty name
    sys.stderr.write(f"pgpool-core run: {sys.argv[2]}: command not found\\n")
    os._exit(127)
except OSError as error:
    sys.stderr.write(f"pgpool-core run: {sys.argv[2]}: {error.strerror}\\n")
    os._exit(126)
"""


def heeded() -> tuple[int, ...]:
    """Those of FORWARDED that we were not started to ignore (by nohup, or a shell's &); the command ignores the others as well."""
    return tuple(number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN)


def become(command: Sequence[str]) -> int:
    """Be the command from now on; returns only where it cannot be run, with the status for that, as shells have it."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], [*command])
    except (FileNotFoundError, ValueError):  # ValueError: an empty name
        print(f"pgpool-core run: {command[0]}: command not found", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"pgpool-core run: {command[0]}: {error.strerror}", file=sys.stderr)
        return 126


async def run_command(command: Sequence[str], env: Mapping[str, str], signals: AsyncIterator[int]) -> int:
    """Run `command` to its end; its exit status, 128 + N where signal N ended it, 127 and 126 as shells say that it cannot be run.

    The command shares our process group, so a terminal's Ctrl-C reaches it without us. When we die it gets SIGTERM.

    Args:
        signals: those that come to us, of `heeded()` (and SIGCHLD); from `trio.open_signal_receiver`.
    Raises:
        OSError: no process can be made.
    """
    shim = [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command]
    # To the kernel, the parent that the command hears the death of is the thread that forks: this one, not one of trio's that ends when idle.
    process = subprocess.Popen(shim, env=env)  # noqa: ASYNC220 (as long as an exec takes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, signals, process)
        status = await _ended(process)
        nursery.cancel_scope.cancel(reason="the command has ended")
    return 128 - status if status < 0 else status


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """The status of the process, once it has one."""
    with open_pidfd(process.pid) as pidfd:
        if pidfd is None:
            return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        await trio.lowlevel.wait_readable(pidfd)
    return process.wait()


async def _watch(signals: AsyncIterator[int], process: subprocess.Popen[bytes]) -> None:
    async for number in signals:
        if number == signal.SIGCHLD:
            if os.getpid() == 1:
                bury_orphans(process.pid)
        elif process.returncode is None and not (number == signal.SIGINT and is_at_terminal()):
            try:
                process.send_signal(number)
            except PermissionError:  # sudo, for one, which is told by whoever tells the whole process group
                name = signal.Signals(number).name
                logs.LOGGER.warning(
                    "%s", logs.line("", f"the command is somebody else's by now: it cannot be sent {name}")
                )


def bury_orphans(spared: int) -> None:
    """Take the status of every ended child but `spared`, which somebody else waits for."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == spared:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def is_at_terminal() -> bool:
    """Whether we are in the foreground of our terminal, whose Ctrl-C goes to the command as well; what is read from may be something else."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it has hung up
        return False
    finally:
        os.close(terminal)
