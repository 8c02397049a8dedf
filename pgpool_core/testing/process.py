"""A child process that is heard, waited for by what it says, and never left behind."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO, Any, ClassVar, Protocol

from pgpool_core.testing.account import Account
from pgpool_core.testing.ports import can_connect

__all__ = ["GuardedProcess", "ProcessFailed"]

_LINES_KEPT = 20_000


class ProcessFailed(RuntimeError):
    """A child ended, or did not say what was waited for; the text carries the end of its output."""


class Child(Protocol):
    """What is used of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class GuardedProcess:
    """One child in a session of its own, so that a Ctrl-C at the terminal reaches us and not the child.

    Standard output and error are read by a thread into memory (the last 20,000 lines). Should this process die without
    stopping the child, SIGKILL included, a one-line shell that holds the other end of a pipe sends it `guard_signal`.

    Args:
        command: program and arguments.
        account: the user to run as.
        env: the whole environment; ours when None.
        cwd: where to run; "/" is always allowed to every user.
        guard_signal: what the child gets when we vanish.

    Attributes:
        popen: how the child comes to be, with the arguments of `subprocess.Popen`. Who has to start many can put something faster here.
    """

    popen: ClassVar[Callable[..., Child]] = subprocess.Popen[Any]

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        account: Account,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        guard_signal: Signals = SIGTERM,
    ) -> None:
        self.command = [str(part) for part in command]
        self._lines: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._seen = 0
        self._closed = False
        self._news = threading.Condition()
        credentials = account.credentials()
        self._process = self.popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            **credentials,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -"$1" "$2" 2>/dev/null', "sh", str(int(guard_signal)), str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **credentials,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        """Everything that it has said so far."""
        with self._news:
            return "".join(self._lines)

    def mark(self) -> int:
        """The number of lines said so far, for `wait_for_log(since=...)`."""
        with self._news:
            return self._seen

    def wait_for_log(self, pattern: str, *, since: int = 0, timeout_s: float = 30.0) -> re.Match[str]:
        """The first line after line `since` (counted from the start) in which `pattern` is found.

        Raises:
            ProcessFailed: the output ended, or `timeout_s` passed, without such a line.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        at = since
        with self._news:
            while True:
                first = self._seen - len(self._lines)
                for line in list(self._lines)[max(0, at - first) :]:
                    if found := wanted.search(line):
                        return found
                at = self._seen
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    break
                self._news.wait(left)
        why = "it ended" if self._closed else f"{timeout_s:g} s passed"
        raise ProcessFailed(f"{self.command[0]}: {why} without a line like {pattern!r}:\n{self._tail()}")

    def wait_for_listener(self, address: tuple[str, int] | Path, *, timeout_s: float = 30.0) -> None:
        """Wait until a connection to `address`, (host, port) or a Unix socket's path, is accepted.

        Raises:
            ProcessFailed: the child ended first, or `timeout_s` passed.
        """
        deadline = time.monotonic() + timeout_s
        while not can_connect(address):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.005)  # an end is noticed at once, a listener within 5 ms
                self._reader.join(1.0)
                raise ProcessFailed(f"{self.command[0]} ended with {self.returncode} at start:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{self.command[0]} does not listen at {address} after {timeout_s:g} s:\n{self._tail()}"
                )

    def wait_for_file(self, path: Path, *, timeout_s: float = 30.0) -> None:
        """Wait until there is something at `path`.

        Raises:
            ProcessFailed: the child ended first, or `timeout_s` passed.
        """
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.005)
                raise ProcessFailed(f"{self.command[0]} ended with {self.returncode} without {path}:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.command[0]}: no {path} after {timeout_s:g} s:\n{self._tail()}")

    def signal(self, number: Signals) -> None:
        """Send `number` to the child alone; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def signal_group(self, number: Signals) -> None:
        """Send `number` to the child and everything of its session that kept its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit status.

        Raises:
            ProcessFailed: still running after `timeout_s`.
        """
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(
                f"{self.command[0]} still runs {timeout_s:g} s after it was to end:\n{self._tail()}"
            ) from None
        self._release_guard()
        return status

    def wait_for_silence(self, timeout_s: float = 30.0) -> None:
        """Wait until nobody holds its output any more: the child and all that it forked are gone.

        Raises:
            ProcessFailed: some still live after `timeout_s`.
        """
        self._reader.join(timeout_s)
        if self._reader.is_alive():
            raise ProcessFailed(f"children of {self.command[0]} outlived it by {timeout_s:g} s:\n{self._tail()}")

    def stop(self, number: Signals = SIGTERM, *, timeout_s: float = 30.0) -> int:
        """Ask with `number`, wait `timeout_s`, then kill; the exit status."""
        self.signal(number)
        try:
            return self.wait(timeout_s)
        except ProcessFailed:
            self.signal_group(SIGKILL)
            return self.wait(timeout_s)

    def _release_guard(self) -> None:
        """The child has ended and its number may be used again: the guard must not signal it."""
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                with self._news:
                    self._lines.append(raw.decode("utf-8", "replace"))
                    self._seen += 1
                    self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _tail(self, lines: int = 30) -> str:
        with self._news:
            return "".join(list(self._lines)[-lines:]) or "(it said nothing)"
